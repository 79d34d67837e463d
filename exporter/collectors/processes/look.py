"""One look at all processes of the machine, straight from /proc: psutil makes an object of each and takes ten times as
long. Fields are those of proc_pid_stat(5)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

TICKS: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
"""So many are a second in /proc."""
PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_LONGEST: Final = 32 * 1024
"""Bytes of any file that are looked at: command lines may have megabytes."""
_ENDED: Final = frozenset({b"Z", b"X", b"x"})

Key = tuple[int, int]
"""Number and start of a process: numbers are used again."""


class Hidden(OSError):
    """/proc does not show us the processes of others (its option `hidepid`): a number of members would be a guess."""


class Process(msgspec.Struct, frozen=True, gc=False):
    """One line of /proc/PID/stat."""

    pid: int
    parent: int
    start: int
    """Ticks after the boot."""
    user: int
    system: int
    """CPU time in ticks."""
    threads: int
    virtual: int
    resident: int
    """Bytes."""
    alive: bool
    """A zombie is not."""

    @property
    def key(self) -> Key:
        return self.pid, self.start


class Look:
    """All processes at one moment; what else of one is asked for is read when it is asked for. Raises Hidden."""

    def __init__(self, proc: Path) -> None:
        self._proc = str(proc)
        self._booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        self.processes = {process.pid: process for process in self._all()}
        if 1 not in self.processes:  # there is always one
            raise Hidden("found no process 1 in /proc, wanted all processes to be shown (hidepid=0)")
        self._commands: dict[int, str] = {}

    def _all(self) -> Iterator[Process]:
        for name in os.listdir(self._proc):
            if name.isdigit():
                try:
                    yield parsed(int(name), self._read(name, "stat"))
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it has ended since the list was made
                except PermissionError:
                    raise Hidden("found a process of others that cannot be read in /proc, wanted hidepid=0") from None

    @cached_property
    def alive(self) -> list[Process]:
        return [process for process in self.processes.values() if process.alive]

    @cached_property
    def by_key(self) -> dict[Key, Process]:
        """Zombies included."""
        return {process.key: process for process in self.processes.values()}

    @cached_property
    def _children(self) -> dict[int, list[Process]]:
        children: dict[int, list[Process]] = {}
        for process in self.alive:
            children.setdefault(process.parent, []).append(process)
        return children

    def family(self, process: Process) -> list[Process]:
        """The process and all that descend from it."""
        found = {process.pid: process}
        todo = [process]
        while todo:
            # One that was found is not taken again: numbers used anew while /proc was read may make a ring.
            new = [child for child in self._children.get(todo.pop().pid, ()) if child.pid not in found]
            found |= {child.pid: child for child in new}
            todo += new
        return list(found.values())

    def started(self, process: Process) -> float:
        """When it started, by the clock as it is now."""
        return self._booted + process.start / TICKS

    def command(self, process: Process) -> str:
        """Its arguments with a blank between them; empty for the kernel's own, and for one that has ended."""
        if process.pid not in self._commands:
            line = self._read_of(process, "cmdline")
            self._commands[process.pid] = line.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
        return self._commands[process.pid]

    def cgroups(self, process: Process) -> bytes:
        """Its /proc/PID/cgroup."""
        return self._read_of(process, "cgroup")

    def open_fds(self, process: Process) -> int | None:
        """How many file descriptors it has open; None where we may not know."""
        folder = f"{self._proc}/{process.pid}/fd"
        try:
            # The size of the folder is their number from Linux 6.2 on, for anybody to see.
            return os.stat(folder).st_size or len(os.listdir(folder))
        except PermissionError:
            return None
        except OSError:  # it has ended
            return 0

    def fd_limit(self, process: Process) -> int | None:
        """How many it may open (the soft limit); None if there is no limit, or it has ended."""
        for line in self._read_of(process, "limits").splitlines():
            if line.startswith(b"Max open files"):
                soft = line.split()[3]
                return int(soft) if soft.isdigit() else None
        return None

    def _read_of(self, process: Process, name: str) -> bytes:
        """A file of it; empty where it has ended, or is the kernel's (which has no memory)."""
        if not process.virtual:
            return b""
        try:
            return self._read(str(process.pid), name)
        except (FileNotFoundError, ProcessLookupError):
            return b""

    def _read(self, pid: str, name: str) -> bytes:
        descriptor = os.open(f"{self._proc}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, _LONGEST)
        finally:
            os.close(descriptor)


def parsed(pid: int, stat: bytes) -> Process:
    """The name, second field, may hold blanks and brackets: all others follow its last bracket."""
    fields = stat[stat.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        alive=fields[0] not in _ENDED,
        parent=int(fields[1]),
        user=int(fields[11]),
        system=int(fields[12]),
        threads=int(fields[17]),
        start=int(fields[19]),
        virtual=int(fields[20]),
        resident=int(fields[21]) * PAGE,
    )
