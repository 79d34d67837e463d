"""More mounts that hang than there may be threads: those that answered before answer still, and new ones wait."""

from __future__ import annotations

import threading
import time

import pytest

from exporter.collectors.prober import AT_ONE_PLACE, Prober
from tests.collectors.hanging import PATIENCE, Hanging, answered, mount, prober, unasked, well
from tests.servers import wait_until


@pytest.mark.parametrize("order", [1, -1])
def test_a_mount_that_answers_does_so_whatever_hangs(order: int, hanging: Hanging) -> None:
    # given one that answers
    asking = prober(hanging, threads=4)
    assert answered(asking, "/good") == {"/good"}
    # when more come that hang than there are threads, before it in the list or after it
    names = [f"/{number}" for number in range(6)]
    hanging.hang(*names)
    # then it answers again and again
    for _ in range(3):
        assert answered(asking, *[*names, "/good"][::order]) == {"/good"}
    assert hanging.calls.total() == 4 + 4  # of those that hang as many as allowed
    assert asking.threads == 5


def test_what_answered_and_hangs_now_does_not_hold_up_what_still_answers(hanging: Hanging) -> None:
    # given many that answered, all more slowly than one
    names = [f"/{number}" for number in range(8)]
    hanging.slow = set(names)
    asking = Prober(hanging, PATIENCE, stagger=PATIENCE / 6, threads=4)  # no look has time for all of them
    assert answered(asking, *names, "/good") == {*names, "/good"}
    # when all but that one hang
    hanging.hang(*names)
    # then it is asked before them
    for _ in range(3):
        assert answered(asking, *names, "/good") == {"/good"}
    # and each of them once
    assert {name: hanging.calls[name] for name in names} == dict.fromkeys(names, 2)
    assert asking.threads == len(names) + 1


def test_what_never_answered_is_not_asked_while_too_many_hang(hanging: Hanging) -> None:
    # given as many that hang as there are threads
    names = [f"/{number}" for number in range(5)]
    hanging.hang(*names)
    asking = prober(hanging, threads=4)
    assert unasked(asking, *names, "/new") == {"/4", "/new"}
    # when it is looked at again, then that costs no time
    began = time.monotonic()
    assert unasked(asking, *names, "/new") == {"/4", "/new"}
    assert time.monotonic() - began < PATIENCE / 2
    assert hanging.calls.total() == 4
    # and when one comes back, the healthy one is asked
    hanging.release("/0")
    wait_until(lambda: answered(asking, "/new") == {"/new"})


def test_what_answered_and_hung_since_waits_for_a_thread_as_a_new_one_does(hanging: Hanging) -> None:
    # given one that answered and hangs now, and all threads gone
    asking = prober(hanging, threads=2)
    answered(asking, "/a")
    hanging.hang("/a", "/b")
    assert answered(asking, "/a", "/b") == set()
    # when it is mounted anew, then nothing is known of that one
    assert well(asking, [mount("/a", "anew"), mount("/b")]) == set()
    assert hanging.calls["/a"] == 2


def test_what_is_mounted_anew_at_the_same_place_is_asked(hanging: Hanging) -> None:
    # given one that hangs, and was unmounted by force
    hanging.hang("/a")
    asking = prober(hanging)
    asking.look([mount("/a", "1")])
    # when it is mounted again, and its server answers
    hanging._gates["/b"] = hanging._gates.pop("/a")
    # then
    assert well(asking, [mount("/a", "2")]) == {"/a"}


def test_what_is_mounted_anew_for_ever_and_hangs_takes_no_threads_from_others(hanging: Hanging) -> None:
    # given one that answers, and one that hangs however often it is mounted anew
    hanging.hang("/a")
    asking = prober(hanging, threads=AT_ONE_PLACE + 1)
    answered(asking, "/old")
    for number in range(20):
        assert well(asking, [mount("/a", str(number)), mount("/old")]) == {"/old"}
    assert hanging.calls["/a"] == AT_ONE_PLACE
    assert asking.threads == AT_ONE_PLACE + 1
    # when a new one comes, then it is asked
    assert answered(asking, "/new", "/old") == {"/new", "/old"}
    # and the first is asked once more when its server is back
    hanging.release("/a")
    wait_until(lambda: well(asking, [mount("/a", "20")]) == {"/a"})


def test_what_is_not_listed_any_more_is_forgotten(hanging: Hanging) -> None:
    # given one that answered, and was unmounted while another took the last thread
    hanging.hang("/b")
    asking = prober(hanging, threads=1)
    assert answered(asking, "/a") == {"/a"}
    assert answered(asking, "/b") == set()
    # when a mount has its number and its place again, then nothing is known of that one
    assert unasked(asking, "/a", "/b") == {"/a"}


def test_a_thread_that_comes_back_after_the_look_asks_nothing_more_of_it(hanging: Hanging) -> None:
    hanging.hang("/a")
    asking = Prober(hanging, patience=0.05, stagger=1, rest=0)
    assert unasked(asking, "/a", "/b") == {"/b"}

    hanging.release("/a")

    wait_until(lambda: asking.threads == 0)
    assert hanging.calls["/b"] == 0


def test_where_no_thread_can_be_started_nothing_is_asked(hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    asking = prober(hanging)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        assert unasked(asking, "/a") == {"/a"}

    assert answered(asking, "/a") == {"/a"}


def test_two_looks_at_once_both_have_their_answers(hanging: Hanging) -> None:
    # given a look that waits for an answer, as one of before a reload
    hanging.hang("/a")
    asking = prober(hanging)
    seen: list[set[str]] = []
    other = threading.Thread(target=lambda: seen.append(answered(asking, "/a")))
    other.start()
    wait_until(lambda: hanging.calls["/a"] == 1)
    # when another one begins, then what is being asked is not taken for what hangs
    threading.Timer(PATIENCE / 10, hanging.release).start()
    assert answered(asking, "/a") == {"/a"}
    other.join()
    assert seen == [{"/a"}]
