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

from exporter.collectors.procfs import TICKS

PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_LONGEST: Final = 32 * 1024
"""Bytes of any file that are looked at: command lines may have megabytes."""
_LONGEST_COMMAND: Final = 2048
"""Bytes of a command line that are searched: what anybody may write into his own must not keep a pattern busy."""
_GONE: Final = (FileNotFoundError, ProcessLookupError)
_CUT: Final = "\N{HORIZONTAL ELLIPSIS}"
_ENDED: Final = frozenset({b"Z", b"X", b"x"})
_SYSTEMDS: Final = frozenset({"", "name=systemd"})
"""The hierarchies that systemd may keep its units in, as proc_pid_cgroup(5) names them: v2, and one of v1."""
_MANAGER: Final = "/init.scope"
"""Where process 1 is below the root of its own units, if it is systemd."""

Key = tuple[int, int]
"""Number and start of a process: numbers are used again."""


class Hidden(OSError):
    """/proc does not show us the processes of others (its option `hidepid`): a number of members would be a guess."""


class Unknown(Exception):
    """Who is in a group, or what one of it uses, cannot be known now. The message is one line, and tells no number of
    a process: each would be a problem of its own."""


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
    """A zombie is not, unless only its main thread has ended."""
    folder: str
    """Where /proc tells of it."""

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
        self._units: dict[int, tuple[str, ...]] = {}

    def _all(self) -> Iterator[Process]:
        for name in os.listdir(self._proc):
            if name.isdigit():
                try:
                    stat = self._read(name, "stat")
                except PermissionError:
                    raise Hidden("found a process of others that cannot be read in /proc, wanted hidepid=0") from None
                if stat:
                    process = parsed(int(name), stat, name)
                    yield process if process.virtual or process.threads < 2 else self._by_thread(process)

    def _by_thread(self, process: Process) -> Process:
        """As one of its threads tells of it, if one is left: the main one has ended (pthread_exit(3)), and its memory
        is gone with it."""
        for thread in self._threads(process):
            folder = f"{process.pid}/task/{thread}"
            stat = self._read(folder, "stat")
            if stat and (told := parsed(process.pid, stat, folder)).virtual:
                return msgspec.structs.replace(process, folder=folder, virtual=told.virtual, resident=told.resident)
        return msgspec.structs.replace(process, alive=False)

    def _threads(self, process: Process) -> list[str]:
        try:
            return os.listdir(f"{self._proc}/{process.pid}/task")
        except _GONE:
            return []

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
        """Its arguments with a blank between them, the beginning if it is long (so marked: `$` is not there); empty for
        the kernel's own, and for one that has ended. Raises Unknown."""
        if process.pid not in self._commands:
            line = self._read_of(process, "cmdline").rstrip(b"\0").replace(b"\0", b" ")
            text = line[:_LONGEST_COMMAND].decode("utf-8", "replace")
            self._commands[process.pid] = text + _CUT if len(line) > _LONGEST_COMMAND else text
        return self._commands[process.pid]

    def units(self, process: Process) -> tuple[str, ...]:
        """Paths of its control group from the root of systemd's units on: those of the machine's own systemd, not of
        one in a container. Raises Unknown."""
        if process.pid not in self._units:
            found = [(path, self._roots.get(name, "")) for name, path in self._groups(process)]
            self._units[process.pid] = tuple(path[len(root) :] for path, root in found if path.startswith(root))
        return self._units[process.pid]

    @cached_property
    def _roots(self) -> dict[str, str]:
        """By hierarchy the group that systemd, process 1, has all units below."""
        return {name: path.removesuffix(_MANAGER).rstrip("/") for name, path in self._groups(self.processes[1])}

    def _groups(self, process: Process) -> Iterator[tuple[str, str]]:
        """Its group in each hierarchy that systemd may use."""
        for line in self._read_of(process, "cgroup").decode("utf-8", "replace").split("\n"):
            _, name, path = line.split(":", 2) if line else ("", "", "")
            if path and name in _SYSTEMDS:
                yield name, path

    def open_fds(self, process: Process) -> int | None:
        """How many file descriptors it has open; None where we may not know."""
        folder = f"{self._proc}/{process.folder}/fd"
        try:
            # The size of the folder is their number from Linux 6.2 on, for anybody to see.
            return os.stat(folder).st_size or len(os.listdir(folder))
        except _GONE:
            return 0
        except OSError:
            return None

    def fd_limit(self, process: Process) -> int | None:
        """How many it may open (the soft limit); None if there is no limit, or it has ended. Raises Unknown."""
        for line in self._read_of(process, "limits").splitlines():
            if line.startswith(b"Max open files"):
                soft = line.split()[3]
                return int(soft) if soft.isdigit() else None
        return None

    def _read_of(self, process: Process, name: str) -> bytes:
        """A file of it; empty where it has ended, or is the kernel's (which has no memory). Raises Unknown."""
        try:
            return self._read(process.folder, name) if process.virtual else b""
        except PermissionError as error:
            raise Unknown(f"found a {name} in /proc that cannot be read ({error.strerror}), wanted all") from None

    def _read(self, folder: str, name: str) -> bytes:
        """Empty where the process has ended."""
        try:
            descriptor = os.open(f"{self._proc}/{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.read(descriptor, _LONGEST)
            finally:
                os.close(descriptor)
        except _GONE:
            return b""
        except OSError as error:
            raise OSError(error.errno, error.strerror) from None  # without the path, which has a number in it


def parsed(pid: int, stat: bytes, folder: str) -> Process:
    """The name, second field, may hold blanks and brackets: all others follow its last bracket."""
    fields = stat[stat.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        folder=folder,
        alive=fields[0] not in _ENDED or int(fields[17]) > 1,
        parent=int(fields[1]),
        user=int(fields[11]),
        system=int(fields[12]),
        threads=int(fields[17]),
        start=int(fields[19]),
        virtual=int(fields[20]),
        resident=int(fields[21]) * PAGE,
    )
