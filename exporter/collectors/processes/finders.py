"""The ways to find the processes of a group."""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from exporter.collectors.processes.look import Key, Look, Process, Unknown
from exporter.collectors.processes.options import Group
from exporter.safe.text import one_line

_LATER: Final = 10.0
"""Seconds: a process that started so long after its pid file was written may be another one. Clocks that run are
corrected by less, and numbers come round again after more."""
_LONGEST: Final = 256
_PATIENCE: Final = 0.25
"""Seconds of CPU time for the pattern of one group at one look: during a search the exporter does nothing else."""
_SLICES: Final = r"(?:/[^/]+\.slice)*"
_ABOVE: Final = rf"{_SLICES}(?:/(?:user|capsule)@[^/]+\.service{_SLICES})?"
"""What a unit of systemd stands below (systemd.slice(5)): slices, and the manager of a user, which has slices, too.
What is below any other unit is that one's own, as a whole tree of units in a container."""


class Finder(ABC):
    """Finds one group's processes."""

    @abstractmethod
    def find(self, look: Look) -> list[Process]:
        """Those that live. Raises Unknown."""


class ByCommand(Finder):
    """Those whose command line holds the pattern, but for the exporter itself: its own may name what it watches."""

    def __init__(self, pattern: str) -> None:
        self._search = re.compile(pattern).search
        self._known: dict[str, bool] = {}

    def find(self, look: Look) -> list[Process]:
        own = os.getpid()
        # Read anew at each look: programs write what they do into it (setproctitle), and exec(2) replaces it.
        commands = [(process, look.command(process)) for process in look.alive if process.pid != own]
        self._known = known = self._searched(command for _, command in commands)
        if any(command not in known for _, command in commands):
            raise Unknown(f"found no end of searching command lines within {_PATIENCE} s, wanted a simpler pattern")
        return [process for process, command in commands if command and known[command]]

    def _searched(self, commands: Iterable[str]) -> dict[str, bool]:
        """Whether each holds the pattern, as far as there is time; what was known is not searched again."""
        known, begun = {}, time.thread_time()
        for command in commands:
            if command in self._known:
                known[command] = self._known[command]
            elif command not in known and time.thread_time() - begun < _PATIENCE:
                known[command] = self._search(command) is not None
        return known


class ByPidFile(Finder):
    """The process whose number a file holds, with all that descend from it: a master's children are its workers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._accepted: tuple[Key, float] | None = None

    def find(self, look: Look) -> list[Process]:
        try:
            pid, written = self._read()
        except FileNotFoundError:
            return []  # a service that is stopped
        except OSError as error:
            raise Unknown(f"found no file that can be read ({error.strerror}), wanted one") from None
        process = look.processes.get(pid)
        if process is None or not process.alive or not self._is_the_writer(process, written, look):
            return []  # it has ended
        return look.family(process)

    def _read(self) -> tuple[int, float]:
        # A pipe of that name would keep us waiting.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            written = os.fstat(descriptor).st_mtime
            first = os.read(descriptor, _LONGEST).partition(b"\n")[0].strip()
        finally:
            os.close(descriptor)
        if not first.isdigit() or int(first) == 0:
            raise Unknown(f"found {one_line(repr(first), 40)}, wanted the number of a process")
        return int(first), written

    def _is_the_writer(self, process: Process, written: float, look: Look) -> bool:
        """Whether the process was there when the file was written. What was accepted once stays so: the clock may be
        set afterwards. Raises Unknown where it seems to have started later: it may be another one, or the clock was set
        after a boot."""
        accepted, when = self._accepted or (None, 0.0)
        if accepted and (accepted[0], when) == (process.pid, written):
            return accepted == process.key
        if look.started(process) > written + _LATER:
            raise Unknown("found a process that started after the file was written, wanted the one that it is about")
        self._accepted = process.key, written
        return True


class ByUnit(Finder):
    """Those below the control group of a unit of this machine."""

    def __init__(self, unit: str) -> None:
        # systemd puts `_` before a name that the kernel could take for a file of its own: `cpu.service` (cg_escape).
        start, at, end = unit.partition("@.")
        name = f"{re.escape(start)}@[^/]+\\.{re.escape(end)}" if at else re.escape(unit)
        self._match = re.compile(rf"{_ABOVE}/_?{name}(?:/|\Z)").match

    def find(self, look: Look) -> list[Process]:
        return [process for process in look.alive if any(map(self._match, look.units(process)))]


def finder(group: Group) -> Finder:
    """The one for what is configured."""
    ways: tuple[tuple[str | None, Callable[[str], Finder]], ...] = (
        (group.command, ByCommand),
        (group.pid_file, lambda path: ByPidFile(Path(path))),
        (group.unit, ByUnit),
    )
    return next(make(value) for value, make in ways if value is not None)
