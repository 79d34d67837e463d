"""CPU, memory, load, disks, network and pressure of the host, in node_exporter's units and labels.

Linux's /proc is read directly: psutil numbers the CPUs anew where one is offline, joins fields (cached), and takes
twice as long. Elsewhere psutil gives what it has.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.collectors import host_psutil, procfs
from exporter.collectors.base import CollectorOptions, HostCollector
from exporter.collectors.container import in_container
from exporter.collectors.filters import check_expressions, left_out
from exporter.safe.text import label_text, one_line

STAT: Final[tuple[tuple[str, Family], ...]] = (
    ("btime", c.HOST_BOOT_TIME),
    ("ctxt", c.HOST_CONTEXT_SWITCHES),
    ("processes", c.HOST_FORKS),
    ("procs_running", c.HOST_PROCS_RUNNING),
    ("procs_blocked", c.HOST_PROCS_BLOCKED),
)
"""Fields of /proc/stat."""
LOAD: Final = (c.HOST_LOAD1, c.HOST_LOAD5, c.HOST_LOAD15)
MEMORY: Final[tuple[tuple[str, Family], ...]] = (
    ("MemTotal", c.HOST_MEMORY_TOTAL),
    ("MemFree", c.HOST_MEMORY_FREE),
    ("MemAvailable", c.HOST_MEMORY_AVAILABLE),
    ("Buffers", c.HOST_MEMORY_BUFFERS),
    ("Cached", c.HOST_MEMORY_CACHED),
    ("SReclaimable", c.HOST_MEMORY_SRECLAIMABLE),
    ("Shmem", c.HOST_MEMORY_SHMEM),
    ("Dirty", c.HOST_MEMORY_DIRTY),
    ("Writeback", c.HOST_MEMORY_WRITEBACK),
    ("Committed_AS", c.HOST_MEMORY_COMMITTED),
    ("CommitLimit", c.HOST_MEMORY_COMMIT_LIMIT),
    ("SwapTotal", c.HOST_SWAP_TOTAL),
    ("SwapFree", c.HOST_SWAP_FREE),
)
"""Fields of /proc/meminfo."""
VMSTAT: Final[tuple[tuple[str, Family], ...]] = (
    ("oom_kill", c.HOST_OOM_KILLS),
    ("pswpin", c.HOST_SWAPPED_IN),
    ("pswpout", c.HOST_SWAPPED_OUT),
    ("pgmajfault", c.HOST_MAJOR_FAULTS),
)
"""Fields of /proc/vmstat."""
FILE_HANDLES: Final[tuple[tuple[int, Family], ...]] = ((0, c.HOST_FD_ALLOCATED), (2, c.HOST_FD_MAXIMUM))
"""Columns of /proc/sys/fs/file-nr."""
PRESSURE: Final[tuple[tuple[str, str, Family], ...]] = (
    ("cpu", "some", c.HOST_PRESSURE_CPU),
    ("memory", "some", c.HOST_PRESSURE_MEMORY),
    ("memory", "full", c.HOST_PRESSURE_MEMORY_ALL),
    ("io", "some", c.HOST_PRESSURE_IO),
    ("io", "full", c.HOST_PRESSURE_IO_ALL),
)
"""Files of /proc/pressure and their lines."""
_SECTOR: Final = 512  # whatever the device's own are (iostats.rst)
_MILLISECONDS: Final = 1e-3
DISK: Final[tuple[tuple[int, Family, float], ...]] = (
    (0, c.HOST_DISK_READS, 1),
    (2, c.HOST_DISK_READ, _SECTOR),
    (3, c.HOST_DISK_READ_TIME, _MILLISECONDS),
    (4, c.HOST_DISK_WRITES, 1),
    (6, c.HOST_DISK_WRITTEN, _SECTOR),
    (7, c.HOST_DISK_WRITE_TIME, _MILLISECONDS),
    (8, c.HOST_DISK_IO_NOW, 1),
    (9, c.HOST_DISK_IO_TIME, _MILLISECONDS),
    (10, c.HOST_DISK_IO_WEIGHTED, _MILLISECONDS),
    (15, c.HOST_DISK_FLUSHES, 1),
    (16, c.HOST_DISK_FLUSH_TIME, _MILLISECONDS),
)
"""Columns of /proc/diskstats after the name, and the factor to base units."""
NETWORK: Final[tuple[tuple[int, Family, float], ...]] = (
    (0, c.HOST_NET_RECEIVED, 1),
    (1, c.HOST_NET_RECEIVED_PACKETS, 1),
    (2, c.HOST_NET_RECEIVE_ERRORS, 1),
    (3, c.HOST_NET_RECEIVE_DROPS, 1),
    (8, c.HOST_NET_SENT, 1),
    (9, c.HOST_NET_SENT_PACKETS, 1),
    (10, c.HOST_NET_SEND_ERRORS, 1),
    (11, c.HOST_NET_SEND_DROPS, 1),
)
"""Columns of /proc/net/dev."""

_CPU_TIMES: Final = procfs.NeverFalling()  # of the process, as no counter may fall when a reload makes a new collector
# The kernel has no such file, or pressure is turned off (psi=0).
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.EOPNOTSUPP})


class HostOptions(CollectorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The section `host`. Regular expressions as node_exporter's; an empty one leaves nothing out."""

    disk_exclude: str = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"
    """Block devices to leave out. Partitions are part of their disk, loop devices of the disk that holds their file."""
    network_exclude: str = ""
    """Network interfaces to leave out."""

    def __post_init__(self) -> None:
        check_expressions(self, "disk_exclude", "network_exclude")


class _Part(NamedTuple):
    """A file of /proc and what is made of it. Where one that is `optional` is not there, its families are absent."""

    path: Path
    make: Callable[[str], Iterable[Metric]]
    optional: bool = False


class Host(HostCollector):
    """What the kernel tells of the machine. Inside a container that is the host, but for the network."""

    name = "host"
    families: ClassVar[tuple[Family, ...]] = (
        c.HOST_CPU,
        *LOAD,
        *(family for _, family in (*STAT, *MEMORY, *VMSTAT, *FILE_HANDLES)),
        *(family for _, _, family in PRESSURE),
        *(family for _, family, _ in (*DISK, *NETWORK)),
    )
    Options = HostOptions

    def __init__(self, options: HostOptions | None = None, proc: Path | None = None) -> None:
        options = options or HostOptions()
        super().__init__(options)
        self._cpu_times = _CPU_TIMES if proc is None else procfs.NeverFalling()
        self._no_disk = left_out(options.disk_exclude)
        self._no_interface = left_out(options.network_exclude)
        proc = proc or procfs.PROC
        self._parts = (
            _Part(proc / "stat", self._stat),
            _Part(proc / "loadavg", _load),
            _Part(proc / "meminfo", lambda text: _by_field(MEMORY, text, procfs.meminfo)),
            _Part(proc / "vmstat", lambda text: _by_field(VMSTAT, text, procfs.fields), optional=True),
            _Part(proc / "sys/fs/file-nr", _file_handles, optional=True),
            _Part(proc / "pressure/cpu", lambda text: _pressure("cpu", text), optional=True),
            _Part(proc / "pressure/memory", lambda text: _pressure("memory", text), optional=True),
            _Part(proc / "pressure/io", lambda text: _pressure("io", text), optional=True),
            _Part(proc / "diskstats", self._disks, optional=True),
            _Part(proc / "net/dev", self._network, optional=True),
        )

    @classmethod
    def enabled_by_default(cls, options: CollectorOptions) -> bool:
        """Not inside a container: what is seen there belongs to the host and all of its containers."""
        return not in_container()

    def collect(self) -> Iterable[Metric]:
        if sys.platform != "linux":
            return host_psutil.families(self._no_disk, self._no_interface)
        problems: list[str] = []
        found = [metric for part in self._parts for metric in self._read(part, problems)]
        if not found:
            raise OSError("; ".join(problems))
        self.problems = problems
        return found

    def _read(self, part: _Part, problems: list[str]) -> list[Metric]:
        try:
            return list(part.make(procfs.text(part.path)))
        except OSError as error:
            if not (part.optional and error.errno in _NOT_THERE):
                problems.append(f"{part.path}: {error.strerror}")
        except (ValueError, IndexError) as error:
            problems.append(f"{part.path}: not as the kernel documents it ({one_line(str(error), 100)})")
        return []

    def _stat(self, text: str) -> Iterator[Metric]:
        times = self._cpu_times.of(procfs.cpu_times(text))
        yield c.HOST_CPU.metric(
            ((cpu, mode), seconds)
            for cpu, modes in times.items()
            for mode, seconds in zip(procfs.CPU_MODES, modes, strict=False)  # older kernels have fewer
        )
        yield from _by_field(STAT, text, procfs.fields)

    def _disks(self, text: str) -> Iterator[Metric]:
        return _by_device(DISK, procfs.disks(text), self._no_disk)

    def _network(self, text: str) -> Iterator[Metric]:
        return _by_device(NETWORK, procfs.interfaces(text), self._no_interface)


def _load(text: str) -> Iterator[Metric]:
    for family, load in zip(LOAD, text.split()[:3], strict=True):
        yield family.metric([((), float(load))])


def _file_handles(text: str) -> Iterator[Metric]:
    numbers = text.split()
    for column, family in FILE_HANDLES:
        yield family.metric([((), int(numbers[column]))])


def _pressure(of: str, text: str) -> Iterator[Metric]:
    seconds = procfs.pressure(text)
    for resource, line, family in PRESSURE:
        if resource == of and line in seconds:
            yield family.metric([((), seconds[line])])


def _by_field(
    table: Collection[tuple[str, Family]], text: str, read: Callable[[str, Collection[str]], Mapping[str, int]]
) -> Iterator[Metric]:
    families = dict(table)
    for field, value in read(text, families.keys()).items():
        yield families[field].metric([((), value)])


def _by_device(
    table: Iterable[tuple[int, Family, float]], rows: Mapping[str, list[int]], exclude: Callable[[str], bool]
) -> Iterator[Metric]:
    wanted = {label_text(name): numbers for name, numbers in rows.items() if not exclude(name)}
    for column, family, factor in table:
        yield family.metric(((name,), value * factor) for name, value in procfs.columns(wanted, column))
