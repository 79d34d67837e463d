"""Mounts that do not answer: they cost one waiting time, their own numbers, and one thread each."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from exporter import catalogue as c
from exporter.collectors.filesystem import Filesystem
from exporter.collectors.mounts import Mount
from exporter.collectors.prober import Prober
from tests.servers import wait_until

PATIENCE = 0.3
STAGGER = 0.01


def mount(name: str, number: str = "") -> Mount:
    return Mount(number or name, "0", "/dev/x", name, "nfs", False)


class Hanging:
    """A statvfs that hangs for the paths named, until they are let go."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._gates: dict[str, threading.Event] = {}

    def hang(self, *paths: str) -> None:
        self._gates |= {path: threading.Event() for path in paths}

    def release(self, *paths: str) -> None:
        for path in paths or list(self._gates):
            self._gates.pop(path).set()

    def __call__(self, path: bytes) -> os.statvfs_result:
        name = path.decode()
        self.calls[name] += 1
        if gate := self._gates.get(name):
            gate.wait(60)
        return os.statvfs("/")


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.release()


def prober(hanging: Hanging, threads: int = 4) -> Prober:
    return Prober(hanging, PATIENCE, STAGGER, threads)


def answered(prober: Prober, *names: str) -> set[str]:
    return {mount.mountpoint for mount in prober.look([mount(name) for name in names])}


def probing() -> int:
    return sum(thread.name == "statvfs" for thread in threading.enumerate())


def test_healthy_mounts_all_answer_and_leave_no_thread_behind(hanging: Hanging) -> None:
    asked = [f"/{number}" for number in range(50)]

    began = time.monotonic()
    assert answered(prober(hanging), *asked) == set(asked)

    assert time.monotonic() - began < PATIENCE
    wait_until(lambda: probing() == 0)


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
    wait_until(lambda: probing() == 1)


def test_it_is_back_once_its_thread_is(hanging: Hanging) -> None:
    hanging.hang("/a")
    asking = prober(hanging)
    assert answered(asking, "/a", "/b") == {"/b"}

    hanging.release("/a")

    wait_until(lambda: answered(asking, "/a", "/b") == {"/a", "/b"})
    wait_until(lambda: probing() == 0)


def test_slow_is_not_stuck(hanging: Hanging) -> None:
    hanging.hang("/slow")
    timer = threading.Timer(PATIENCE / 3, hanging.release)
    timer.start()

    assert answered(prober(hanging), "/slow", "/b") == {"/slow", "/b"}
    timer.join()


def test_no_more_threads_than_allowed(hanging: Hanging) -> None:
    # given as many that hang as there are threads, and one more
    names = [f"/{number}" for number in range(5)]
    hanging.hang(*names)
    asking = prober(hanging, threads=4)

    # when
    assert answered(asking, *names, "/good") == set()
    assert probing() == 4
    # then those that are left wait for a thread, at no cost of time
    began = time.monotonic()
    assert answered(asking, *names, "/good") == set()
    assert time.monotonic() - began < PATIENCE / 2
    assert (probing(), hanging.calls.total()) == (4, 4)
    # and when one comes back, the healthy one is asked
    hanging.release("/0")
    wait_until(lambda: answered(asking, "/good") == {"/good"})


def test_what_is_mounted_anew_at_the_same_place_is_asked(hanging: Hanging) -> None:
    # given one that hangs, and was unmounted by force
    hanging.hang("/a")
    asking = prober(hanging)
    asking.look([mount("/a", "1")])
    # when it is mounted again, and its server answers
    hanging._gates["/b"] = hanging._gates.pop("/a")
    # then
    assert asking.look([mount("/a", "2")])


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


def test_the_collector_tells_what_there_was_no_thread_for(hanging: Hanging) -> None:
    hanging.hang("/a")
    collector = Filesystem(None, lambda: [mount("/a"), mount("/b")], prober(hanging, threads=1))

    collector.collect()

    assert [problem.partition(",")[0] for problem in collector.problems] == [
        "/a: no answer from statvfs",
        "/b: not asked",
    ]


def test_a_reload_does_not_forget_what_hangs() -> None:
    assert Filesystem()._prober is Filesystem()._prober
