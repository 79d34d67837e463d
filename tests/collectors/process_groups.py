"""Real processes to be found, and a collector that looks for them time and again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.collectors.processes import Processes
from exporter.collectors.processes.options import Group, ProcessesOptions
from exporter.sources import checked
from tests.servers import Series, series

Start = Callable[..., psutil.Popen]
"""The fixture `start`: the Python code to be run."""
BURN = "import time\nwhile time.process_time() < {seconds}: pass\nprint('burnt', flush=True)\ntime.sleep(100)"
"""Python that uses so many CPU seconds, says so and waits."""


def mark(request: pytest.FixtureRequest) -> str:
    return f"tqe-{os.getpid()}-{abs(hash(request.node.nodeid))}"


def end(process: psutil.Popen) -> None:
    """Kills a process and those below it, and reaps it."""
    children = process.children(recursive=True) if process.is_running() else []
    for one in (process, *children):
        if one.is_running():
            one.send_signal(signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


@contextmanager
def waiting(command: list[str]) -> Iterator[tuple[psutil.Popen, Callable[[], None]]]:
    """A process that said it is up, and what lets it go on."""
    process = psutil.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def go() -> None:
        process.stdin.write("go\n")
        process.stdin.flush()

    try:
        assert process.stdout.readline()
        yield process, go
    finally:
        end(process)
        process.stdin.close()


class Watch:
    """A collector, looked at time and again: its counters must never fall."""

    def __init__(self, *groups: Group, proc: Path = Path("/proc")) -> None:
        self._collector = Processes(ProcessesOptions(groups=groups), proc)
        self._counted: dict[Series, float] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(self._collector.problems)

    def look(self) -> dict[Series, float]:
        families = checked(self._collector.collect(), self._collector.families)
        found = {series(s.name, **s.labels): s.value for family in families for s in family.samples}
        counted = {key: value for key, value in found.items() if key[0].endswith("_total")}
        for key, value in counted.items():
            assert value >= self._counted.get(key, 0), key
        self._counted |= counted
        return found


def of(found: dict[Series, float], family: Family, group: str = "g", **labels: str) -> float:
    return found[series(family.name, group=group, **labels)]


def cpu(found: dict[Series, float], group: str = "g") -> float:
    return sum(of(found, c.PROCESS_CPU, group, mode=mode) for mode in ("user", "system"))


def used(process: psutil.Popen) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def by_command(pattern: str, name: str = "g") -> Group:
    return Group(name=name, command=pattern)
