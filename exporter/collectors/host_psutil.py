"""What psutil gives of the host, on systems without Linux's /proc."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import psutil
from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.safe.text import label_text

_MILLISECONDS: Final = 1e-3
LOAD: Final = (c.HOST_LOAD1, c.HOST_LOAD5, c.HOST_LOAD15)
MEMORY: Final[tuple[tuple[str, Family], ...]] = (
    ("total", c.HOST_MEMORY_TOTAL),
    ("free", c.HOST_MEMORY_FREE),
    ("available", c.HOST_MEMORY_AVAILABLE),
)
SWAP: Final[tuple[tuple[str, Family], ...]] = (("total", c.HOST_SWAP_TOTAL), ("free", c.HOST_SWAP_FREE))
DISK: Final[tuple[tuple[str, Family, float], ...]] = (
    ("read_bytes", c.HOST_DISK_READ, 1),
    ("write_bytes", c.HOST_DISK_WRITTEN, 1),
    ("read_count", c.HOST_DISK_READS, 1),
    ("write_count", c.HOST_DISK_WRITES, 1),
    ("read_time", c.HOST_DISK_READ_TIME, _MILLISECONDS),
    ("write_time", c.HOST_DISK_WRITE_TIME, _MILLISECONDS),
    ("busy_time", c.HOST_DISK_IO_TIME, _MILLISECONDS),
)
NETWORK: Final[tuple[tuple[str, Family, float], ...]] = (
    ("bytes_recv", c.HOST_NET_RECEIVED, 1),
    ("packets_recv", c.HOST_NET_RECEIVED_PACKETS, 1),
    ("errin", c.HOST_NET_RECEIVE_ERRORS, 1),
    ("dropin", c.HOST_NET_RECEIVE_DROPS, 1),
    ("bytes_sent", c.HOST_NET_SENT, 1),
    ("packets_sent", c.HOST_NET_SENT_PACKETS, 1),
    ("errout", c.HOST_NET_SEND_ERRORS, 1),
    ("dropout", c.HOST_NET_SEND_DROPS, 1),
)
"""Fields of psutil's functions, and the factor to base units. Not every system has each."""
# Linux's guests are part of user and nice already (proc(5)).
_COUNTED_TWICE: Final = frozenset({"guest", "guest_nice"})


def families(no_disk: Callable[[str], bool], no_interface: Callable[[str], bool]) -> Iterator[Metric]:
    """All that there is, but the devices that are to be left out."""
    yield c.HOST_CPU.metric(
        ((str(number), mode), seconds)
        for number, times in enumerate(psutil.cpu_times(percpu=True))
        for mode, seconds in times._asdict().items()
        if mode not in _COUNTED_TWICE
    )
    for family, load in zip(LOAD, psutil.getloadavg(), strict=True):
        yield family.metric([((), load)])
    yield c.HOST_BOOT_TIME.metric([((), psutil.boot_time())])
    for table, values in ((MEMORY, psutil.virtual_memory()), (SWAP, psutil.swap_memory())):
        for field, family in table:
            yield family.metric([((), getattr(values, field))])
    yield from _by_device(DISK, psutil.disk_io_counters(perdisk=True) or {}, no_disk)
    yield from _by_device(NETWORK, psutil.net_io_counters(pernic=True) or {}, no_interface)


def _by_device(
    table: Iterable[tuple[str, Family, float]], counters: Mapping[str, Any], exclude: Callable[[str], bool]
) -> Iterator[Metric]:
    for field, family, factor in table:
        yield family.metric(
            ((label_text(device),), getattr(values, field) * factor)
            for device, values in counters.items()
            if hasattr(values, field) and not exclude(device)
        )
