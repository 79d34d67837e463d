"""Mounts that do not answer: they cost one waiting time, their own numbers, and one thread each."""

from __future__ import annotations

import threading
import time

import pytest

from exporter import catalogue as c
from exporter.collectors.filesystem import Filesystem
from exporter.collectors.prober import NoAnswer
from tests.collectors.hanging import PATIENCE, Hanging, answered, mount, prober
from tests.servers import wait_until


def started() -> int:
    return sum(thread.name == "statvfs" for thread in threading.enumerate())


def test_healthy_mounts_all_answer_by_one_thread_that_stays(hanging: Hanging) -> None:
    asked, asking, before = [f"/{number}" for number in range(50)], prober(hanging), started()

    began = time.monotonic()
    for _ in range(3):
        assert answered(asking, *asked) == set(asked)

    assert time.monotonic() - began < PATIENCE
    assert asking.threads == 1
    assert started() - before == 1


def test_a_thread_without_work_ends_and_the_next_look_has_another(hanging: Hanging) -> None:
    asking = prober(hanging, rest=0.01)

    for _ in range(2):
        assert answered(asking, "/a") == {"/a"}
        wait_until(lambda: asking.threads == 0)


def test_nothing_to_ask(hanging: Hanging) -> None:
    assert answered(prober(hanging)) == set()


@pytest.mark.parametrize("order", [("/a", "/b", "/c"), ("/b", "/a", "/c"), ("/c", "/a", "/b")])
def test_one_that_hangs_costs_its_own_answer_only(order: tuple[str, ...], hanging: Hanging) -> None:
    hanging.hang("/b")

    assert answered(prober(hanging), *order) == {"/a", "/c"}


def test_several_that_hang_share_one_waiting_time(hanging: Hanging) -> None:
    hanging.hang("/a", "/b", "/c")

    began = time.monotonic()
    assert answered(prober(hanging), "/a", "/b", "/c", "/d") == {"/d"}

    assert PATIENCE <= time.monotonic() - began < 2 * PATIENCE


def test_what_hangs_is_not_asked_again_and_costs_no_more_time(hanging: Hanging) -> None:
    hanging.hang("/a")
    asking = prober(hanging)
    answered(asking, "/a", "/b")

    began = time.monotonic()
    for _ in range(50):
        assert answered(asking, "/a", "/b") == {"/b"}

    assert time.monotonic() - began < PATIENCE
    assert hanging.calls["/a"] == 1
    assert asking.threads == 2  # the one that hangs, and the one that asks


def test_it_is_back_once_its_thread_is(hanging: Hanging) -> None:
    hanging.hang("/a")
    asking = prober(hanging)
    assert answered(asking, "/a", "/b") == {"/b"}

    hanging.release("/a")

    wait_until(lambda: answered(asking, "/a", "/b") == {"/a", "/b"})
    wait_until(lambda: asking.threads == 1)


def test_slow_is_not_stuck(hanging: Hanging) -> None:
    hanging.hang("/slow")
    timer = threading.Timer(PATIENCE / 3, hanging.release)
    timer.start()

    assert answered(prober(hanging), "/slow", "/b") == {"/slow", "/b"}
    timer.join()


def test_a_call_that_is_cut_off_is_told_from_one_that_was_never_made(hanging: Hanging) -> None:
    hanging.hang("/a")
    asking = prober(hanging, threads=1)

    for _ in range(2):
        answers = {mount.mountpoint: answer for mount, answer in asking.look([mount("/a"), mount("/b")]).items()}

        assert answers.keys() == {"/a"}
        assert isinstance(answers["/a"], NoAnswer)


# -- what the collector makes of it -----------------------------------------------------------------------------


def test_the_collector_tells_what_hangs(hanging: Hanging) -> None:
    hanging.hang("/a")
    collector = Filesystem(None, lambda: [mount("/a"), mount("/b")], prober(hanging))

    for _ in range(2):
        families = {metric.name: metric for metric in collector.collect()}

        errors = [(s.labels["mountpoint"], s.value) for s in families[c.HOST_FILESYSTEM_ERROR.name].samples]
        assert errors == [("/a", 1), ("/b", 0)]
        assert [s.labels["mountpoint"] for s in families[c.HOST_FILESYSTEM_SIZE.name].samples] == ["/b"]
        # the same words at each scrape, else each would be logged
        assert list(collector.problems) == ["/a: no answer from statvfs, and it is not asked again before it answers"]


def test_of_what_was_not_asked_the_collector_has_no_series(hanging: Hanging) -> None:
    hanging.hang("/a")
    collector = Filesystem(None, lambda: [mount("/a"), mount("/b")], prober(hanging, threads=1))

    for _ in range(2):
        families = collector.collect()

        told = {(metric.name, s.labels["mountpoint"]): s.value for metric in families for s in metric.samples}
        assert told == {(c.HOST_FILESYSTEM_ERROR.name, "/a"): 1}
        assert list(collector.problems) == [
            "/a: no answer from statvfs, and it is not asked again before it answers",
            "/b: not asked, as too many others do not answer",
        ]


def test_a_reload_does_not_forget_what_hangs() -> None:
    assert Filesystem()._prober is Filesystem()._prober
