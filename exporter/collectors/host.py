"""CPU, memory, load, disks and network of the host, in node_exporter's units and labels (by psutil)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

import psutil
from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.collectors.base import HostCollector
from exporter.safe.text import label_text

_MILLISECONDS: Final = 1e-3
# Fields of psutil's disk_io_counters() and net_io_counters(), and the factor to base units.
DISK: Final[tuple[tuple[str, Family, float], ...]] = (
    ("read_bytes", c.HOST_DISK_READ, 1),
    ("write_bytes", c.HOST_DISK_WRITTEN, 1),
    ("read_count", c.HOST_DISK_READS, 1),
    ("write_count", c.HOST_DISK_WRITES, 1),
    ("busy_time", c.HOST_DISK_IO_TIME, _MILLISECONDS),
)
NETWORK: Final[tuple[tuple[str, Family, float], ...]] = (
    ("bytes_recv", c.HOST_NET_RECEIVED, 1),
    ("bytes_sent", c.HOST_NET_SENT, 1),
    ("errin", c.HOST_NET_RECEIVE_ERRORS, 1),
    ("errout", c.HOST_NET_SEND_ERRORS, 1),
)
LOAD: Final = (c.HOST_LOAD1, c.HOST_LOAD5, c.HOST_LOAD15)
# Partitions are part of their disk, and loop devices of the disk that holds their file: node_exporter leaves out these.
_NO_DISK: Final = re.compile(r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+")
# Guest time is part of user and nice already (proc(5)): given too, the modes would add up to more than the time.
_COUNTED_TWICE: Final = frozenset({"guest", "guest_nice"})


class Host(HostCollector):
    """What psutil tells of the machine. Inside a container that is the host, but for the network."""

    name = "host"
    families: ClassVar[tuple[Family, ...]] = (
        c.HOST_CPU,
        *LOAD,
        c.HOST_BOOT_TIME,
        c.HOST_MEMORY_TOTAL,
        c.HOST_MEMORY_AVAILABLE,
        c.HOST_SWAP_TOTAL,
        c.HOST_SWAP_FREE,
        *(family for _, family, _ in (*DISK, *NETWORK)),
    )

    def collect(self) -> Iterable[Metric]:
        yield _cpu()
        for family, load in zip(LOAD, psutil.getloadavg(), strict=True):
            yield family.metric([((), load)])
        yield c.HOST_BOOT_TIME.metric([((), psutil.boot_time())])
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        yield c.HOST_MEMORY_TOTAL.metric([((), memory.total)])
        yield c.HOST_MEMORY_AVAILABLE.metric([((), memory.available)])
        yield c.HOST_SWAP_TOTAL.metric([((), swap.total)])
        yield c.HOST_SWAP_FREE.metric([((), swap.free)])
        yield from _by_device(DISK, _disks())
        yield from _by_device(NETWORK, psutil.net_io_counters(pernic=True) or {})


def _cpu() -> Metric:
    return c.HOST_CPU.metric(
        ((str(number), mode), seconds)
        for number, times in enumerate(psutil.cpu_times(percpu=True))
        for mode, seconds in times._asdict().items()
        if mode not in _COUNTED_TWICE
    )


def _disks() -> Mapping[str, object]:
    disks: Mapping[str, object] = psutil.disk_io_counters(perdisk=True) or {}
    return {name: counters for name, counters in disks.items() if not _NO_DISK.fullmatch(name)}


def _by_device(table: Iterable[tuple[str, Family, float]], counters: Mapping[str, object]) -> Iterator[Metric]:
    for field, family, factor in table:
        found = ((device, getattr(values, field, None)) for device, values in counters.items())
        yield family.metric(
            ((label_text(device),), value * factor)
            for device, value in found
            if value is not None  # busy_time is Linux's and FreeBSD's
        )
