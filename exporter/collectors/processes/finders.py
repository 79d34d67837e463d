"""The ways to find the processes of a group."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Final

from exporter.collectors.processes.look import Key, Look, Process
from exporter.collectors.processes.options import Group
from exporter.safe.text import one_line

_LATER: Final = 10.0
"""Seconds: a process that started so long after its pid file was written is another one. Clocks are corrected by less,
and numbers come round again after more."""
_LONGEST: Final = 256
_SYSTEMDS: Final = r"^(?:0:|\d+:name=systemd):"
"""How the line of systemd's hierarchy begins in proc_pid_cgroup(5)."""


class Unknown(Exception):
    """Who is in the group cannot be known now. The message is one line."""


class Finder(ABC):
    """Finds one group's processes."""

    @abstractmethod
    def find(self, look: Look) -> list[Process]:
        """Those that live. Raises Unknown."""


class ByCommand(Finder):
    """Those whose command line holds the pattern, but for the exporter itself: its own may name what it watches."""

    def __init__(self, pattern: str) -> None:
        self._search = re.compile(pattern).search

    def find(self, look: Look) -> list[Process]:
        own = os.getpid()
        return [
            process
            for process in look.alive
            # Read anew at each look: programs write what they do into it (setproctitle), and exec(2) replaces it.
            if (command := look.command(process)) and self._search(command) and process.pid != own
        ]


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
            return []
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
        set afterwards."""
        if (process.key, written) != self._accepted:
            if look.started(process) > written + _LATER:
                return False
            self._accepted = process.key, written
        return True


class ByUnit(Finder):
    """Those below the unit's control group, in systemd's hierarchy: that of v2, or `name=systemd` of v1."""

    def __init__(self, unit: str) -> None:
        # systemd puts `_` before a name that the kernel could take for a file of its own: `cpu.service` (cg_escape).
        start, at, end = unit.partition("@.")
        name = f"{re.escape(start)}@[^/\\n]+\\.{re.escape(end)}" if at else re.escape(unit)
        self._search = re.compile(rf"{_SYSTEMDS}(?:/[^\n]*)?/_?{name}(?:/|$)".encode(), re.MULTILINE).search

    def find(self, look: Look) -> list[Process]:
        return [process for process in look.alive if self._search(look.cgroups(process))]


def finder(group: Group) -> Finder:
    """The one for what is configured."""
    ways: tuple[tuple[str | None, Callable[[str], Finder]], ...] = (
        (group.command, ByCommand),
        (group.pid_file, lambda path: ByPidFile(Path(path))),
        (group.unit, ByUnit),
    )
    return next(make(value) for value, make in ways if value is not None)
