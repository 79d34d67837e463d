"""What is read of a control group, by version: for each family the file and the field that give it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.collectors.cgroup.files import NO_LIMIT, Absent, Files, whole
from exporter.collectors.procfs import TICKS

Read = Callable[[Files], float]
"""Gives a number; raises Absent, Unreadable."""
Rows = tuple[tuple[Family, Read], ...]

# So many of them are a second.
_MICRO: Final = 1_000_000
_NANO: Final = 1_000_000_000


# -- ways to read a number --------------------------------------------------------------------------------------


def _number(name: str, of_unit: int = 1) -> Read:
    return lambda files: files.number(name) / of_unit


def _field(name: str, key: str, of_unit: int = 1) -> Read:
    return lambda files: files.field(name, key) / of_unit


def _less(whole: Read, part: Read) -> Read:
    """The kernel updates the two at different times: their difference may be below 0."""
    return lambda files: max(0.0, whole(files) - part(files))


def _limit(name: str) -> Read:
    """A file that holds a number or `max`; with v1 a number so large that it is none."""

    def read(files: Files) -> float:
        def limit(folder: Path) -> float | None:
            text = files.text(name, folder).strip()
            found = None if text == "max" else whole(text, name)
            return None if found is None or found >= NO_LIMIT else found

        return files.lowest(limit)

    return read


def _memory_limit_v1(files: Files) -> float:
    """The lowest limit, of parents too that cannot be seen; old kernels do not tell it in memory.stat."""
    try:
        told = files.field("memory.stat", "hierarchical_memory_limit")
    except Absent:
        return _limit("memory.limit_in_bytes")(files)
    if told >= NO_LIMIT:
        raise Absent("limit")
    return told


def _cores_v2(files: Files) -> float:
    def cores(folder: Path) -> float | None:
        quota, _, period = files.text("cpu.max", folder).strip().partition(" ")
        return None if quota == "max" else whole(quota, "cpu.max") / (whole(period, "cpu.max") or 1)

    return files.lowest(cores)


def _cores_v1(files: Files) -> float:
    def cores(folder: Path) -> float | None:
        quota = files.text("cpu.cfs_quota_us", folder).strip()
        if quota.startswith("-"):
            return None
        period = whole(files.text("cpu.cfs_period_us", folder).strip(), "cpu.cfs_period_us")
        return whole(quota, "cpu.cfs_quota_us") / (period or 1)

    return files.lowest(cores)


def _pressure(name: str, share: str) -> Read:
    def read(files: Files) -> float:
        found = dict(files.pairs(name)).get(share)  # `full` of cpu.pressure came with Linux 5.13
        if found is None:
            raise Absent(share)
        return whole(found.get("total", ""), f"{name}: {share} total") / _MICRO

    return read


# -- the tables -------------------------------------------------------------------------------------------------

MEMORY_V2: Final[Rows] = (
    (c.CGROUP_MEMORY_USAGE, _number("memory.current")),
    (c.CGROUP_MEMORY_MAX_USAGE, _number("memory.peak")),
    (c.CGROUP_MEMORY_WORKING_SET, _less(_number("memory.current"), _field("memory.stat", "inactive_file"))),
    (c.CGROUP_MEMORY_RSS, _field("memory.stat", "anon")),
    (c.CGROUP_MEMORY_CACHE, _field("memory.stat", "file")),
    (c.CGROUP_MEMORY_SWAP, _number("memory.swap.current")),
    (c.CGROUP_MEMORY_LIMIT, _limit("memory.max")),
    (c.CGROUP_MEMORY_HIGH, _limit("memory.high")),
    (c.CGROUP_MEMORY_SWAP_LIMIT, _limit("memory.swap.max")),
    (c.CGROUP_MEMORY_FAILCNT, _field("memory.events", "max")),
    (c.CGROUP_OOM_EVENTS, _field("memory.events", "oom_kill")),
)
MEMORY_V1: Final[Rows] = (
    (c.CGROUP_MEMORY_USAGE, _number("memory.usage_in_bytes")),
    (c.CGROUP_MEMORY_MAX_USAGE, _number("memory.max_usage_in_bytes")),
    (
        c.CGROUP_MEMORY_WORKING_SET,
        _less(_number("memory.usage_in_bytes"), _field("memory.stat", "total_inactive_file")),
    ),
    (c.CGROUP_MEMORY_RSS, _field("memory.stat", "total_rss")),
    (c.CGROUP_MEMORY_CACHE, _field("memory.stat", "total_cache")),
    (c.CGROUP_MEMORY_SWAP, _field("memory.stat", "total_swap")),
    (c.CGROUP_MEMORY_LIMIT, _memory_limit_v1),
    (c.CGROUP_MEMORY_FAILCNT, _number("memory.failcnt")),
    (c.CGROUP_OOM_EVENTS, _field("memory.oom_control", "oom_kill")),
)

CPU_USAGE_V2: Final[Rows] = (
    (c.CGROUP_CPU_USAGE, _field("cpu.stat", "usage_usec", _MICRO)),
    (c.CGROUP_CPU_USER, _field("cpu.stat", "user_usec", _MICRO)),
    (c.CGROUP_CPU_SYSTEM, _field("cpu.stat", "system_usec", _MICRO)),
)
# cpuacct.usage_user and cpuacct.usage_sys count whole ticks, and do not add up to cpuacct.usage; these do.
CPU_USAGE_V1: Final[Rows] = (
    (c.CGROUP_CPU_USAGE, _number("cpuacct.usage", _NANO)),
    (c.CGROUP_CPU_USER, _field("cpuacct.stat", "user", TICKS)),
    (c.CGROUP_CPU_SYSTEM, _field("cpuacct.stat", "system", TICKS)),
)

_PERIODS: Final[Rows] = (
    (c.CGROUP_CPU_PERIODS, _field("cpu.stat", "nr_periods")),
    (c.CGROUP_CPU_THROTTLED_PERIODS, _field("cpu.stat", "nr_throttled")),
)
CPU_QUOTA_V2: Final[Rows] = (
    *_PERIODS,
    (c.CGROUP_CPU_THROTTLED, _field("cpu.stat", "throttled_usec", _MICRO)),
    (c.CGROUP_CPU_LIMIT, _cores_v2),
)
CPU_QUOTA_V1: Final[Rows] = (
    *_PERIODS,
    (c.CGROUP_CPU_THROTTLED, _field("cpu.stat", "throttled_time", _NANO)),
    (c.CGROUP_CPU_LIMIT, _cores_v1),
)

PIDS: Final[Rows] = (
    (c.CGROUP_THREADS, _number("pids.current")),
    (c.CGROUP_THREADS_MAX, _limit("pids.max")),
)

PRESSURE: Final[Rows] = (
    (c.CGROUP_PRESSURE_CPU_WAITING, _pressure("cpu.pressure", "some")),
    (c.CGROUP_PRESSURE_CPU_STALLED, _pressure("cpu.pressure", "full")),
    (c.CGROUP_PRESSURE_MEMORY_WAITING, _pressure("memory.pressure", "some")),
    (c.CGROUP_PRESSURE_MEMORY_STALLED, _pressure("memory.pressure", "full")),
    (c.CGROUP_PRESSURE_IO_WAITING, _pressure("io.pressure", "some")),
    (c.CGROUP_PRESSURE_IO_STALLED, _pressure("io.pressure", "full")),
)

OF_CONTROLLER: Final[tuple[tuple[str, Rows, Rows], ...]] = (
    ("memory", MEMORY_V1, MEMORY_V2),
    ("cpuacct", CPU_USAGE_V1, CPU_USAGE_V2),
    ("cpu", CPU_QUOTA_V1, CPU_QUOTA_V2),
    ("pids", PIDS, PIDS),
)
"""For each controller of v1 what it gives, and what v2 gives of the same."""


# -- disks, which have a number for each device ------------------------------------------------------------------

_IO_V2: Final = (
    (c.CGROUP_FS_READ, "rbytes"),
    (c.CGROUP_FS_WRITTEN, "wbytes"),
    (c.CGROUP_FS_READS, "rios"),
    (c.CGROUP_FS_WRITES, "wios"),
)
_IO_V1: Final = (
    (c.CGROUP_FS_READ, "blkio.throttle.io_service_bytes_recursive", "Read"),
    (c.CGROUP_FS_WRITTEN, "blkio.throttle.io_service_bytes_recursive", "Write"),
    (c.CGROUP_FS_READS, "blkio.throttle.io_serviced_recursive", "Read"),
    (c.CGROUP_FS_WRITES, "blkio.throttle.io_serviced_recursive", "Write"),
)
IO_FAMILIES: Final = tuple(family for family, _ in _IO_V2)
DeviceRead = Callable[[Files], Iterable[tuple[str, float]]]
"""Gives a number for each row of a device, which goes by `major:minor`; raises Absent, Unreadable."""


def _io_v2(key: str) -> DeviceRead:
    def read(files: Files) -> Iterable[tuple[str, float]]:
        rows = files.pairs("io.stat")
        return [(device, whole(found[key], f"io.stat: {key}")) for device, found in rows if key in found]

    return read


def _io_v1(name: str, way: str) -> DeviceRead:
    def read(files: Files) -> Iterable[tuple[str, float]]:
        lines = [line.split() for line in files.text(name).splitlines()]
        return [(words[0], whole(words[2], name)) for words in lines if len(words) == 3 and words[1] == way]

    return read


IO_V2: Final = tuple((family, _io_v2(key)) for family, key in _IO_V2)
IO_V1: Final = tuple((family, _io_v1(name, way)) for family, name, way in _IO_V1)
