"""Size and free space of the mounted file systems.

A collector of its own, as a hung mount (NFS without its server) blocks statvfs(2) for ever: then this one fails and
the rest of the host is still seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import ClassVar, Final

import psutil
from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.collectors.base import HostCollector
from exporter.safe.text import label_text

# Images and the kernel's own: always full, or without size (node_exporter leaves out the same).
_LEFT_OUT: Final = frozenset({"squashfs", "iso9660", "overlay", "nsfs", "autofs"})


class Filesystem(HostCollector):
    """statvfs(2) of each mount of a physical device."""

    name = "filesystem"
    families: ClassVar[tuple[Family, ...]] = (c.HOST_FILESYSTEM_SIZE, c.HOST_FILESYSTEM_AVAIL)

    def collect(self) -> Iterable[Metric]:
        usages = dict(_usages())  # a mount over a mount comes twice; the last one is seen
        yield c.HOST_FILESYSTEM_SIZE.metric(
            (labels, usage.f_blocks * usage.f_frsize) for labels, usage in usages.items()
        )
        yield c.HOST_FILESYSTEM_AVAIL.metric(
            (labels, usage.f_bavail * usage.f_frsize) for labels, usage in usages.items()
        )


def _usages() -> Iterable[tuple[tuple[str, str, str], os.statvfs_result]]:
    for mount in psutil.disk_partitions(all=False):
        if mount.fstype in _LEFT_OUT:
            continue
        try:
            usage = os.statvfs(mount.mountpoint)
        except OSError:  # not ours to see, or gone since the list was read
            continue
        if usage.f_blocks:
            yield (label_text(mount.device), label_text(mount.mountpoint), label_text(mount.fstype)), usage
