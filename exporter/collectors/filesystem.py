"""Size, free space and inodes of the mounted file systems, in node_exporter's units and labels.

A collector of its own: a mount that hangs costs up to two seconds when it is first seen to hang, and nothing but its
own numbers afterwards. What was not asked has no series: whether it is well is not known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import ClassVar, Final

from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.collectors.base import CollectorOptions, HostCollector
from exporter.collectors.container import in_container
from exporter.collectors.filters import check_expressions, left_out
from exporter.collectors.mounts import Mount, mounts
from exporter.collectors.prober import Answer, Prober
from exporter.safe.text import label_text, one_line

NUMBERS: Final[tuple[tuple[Family, Callable[[os.statvfs_result], int]], ...]] = (
    (c.HOST_FILESYSTEM_SIZE, lambda usage: usage.f_blocks * usage.f_frsize),
    (c.HOST_FILESYSTEM_FREE, lambda usage: usage.f_bfree * usage.f_frsize),
    (c.HOST_FILESYSTEM_AVAIL, lambda usage: usage.f_bavail * usage.f_frsize),
    (c.HOST_FILESYSTEM_FILES, lambda usage: usage.f_files),
    (c.HOST_FILESYSTEM_FILES_FREE, lambda usage: usage.f_ffree),
)
"""Families made of the fields of statvfs(3); blocks are counted in f_frsize bytes."""

Labels = tuple[str, ...]


class FilesystemOptions(CollectorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The section `filesystem`. Regular expressions as node_exporter's; an empty one leaves nothing out."""

    mount_points_exclude: str = (
        r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
    )
    """Mount points to leave out."""
    fs_types_exclude: str = (
        r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs"
        r"|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$"
    )
    """Types of file systems to leave out: images, which are always full, and the kernel's own, which have no size."""

    def __post_init__(self) -> None:
        check_expressions(self, "mount_points_exclude", "fs_types_exclude")


class Filesystem(HostCollector):
    """statvfs(2) of each mount that this process can reach."""

    name = "filesystem"
    families: ClassVar[tuple[Family, ...]] = (
        *(family for family, _ in NUMBERS),
        c.HOST_FILESYSTEM_READONLY,
        c.HOST_FILESYSTEM_ERROR,
    )
    Options = FilesystemOptions

    def __init__(
        self,
        options: FilesystemOptions | None = None,
        listed: Callable[[], Collection[Mount]] = mounts,
        prober: Prober | None = None,
    ) -> None:
        options = options or FilesystemOptions()
        super().__init__(options)
        self._listed = listed
        self._before: Collection[Mount] | None = None  # the list that `_wanted` is of
        self._wanted: Mapping[Labels, Mount] = {}
        self._prober = prober or _PROBER
        self._no_mountpoint = left_out(options.mount_points_exclude)
        self._no_type = left_out(options.fs_types_exclude)

    @classmethod
    def enabled_by_default(cls, options: CollectorOptions) -> bool:
        """Not inside a container: what is mounted there are parts of the host's file systems."""
        return not in_container()

    def collect(self) -> Iterable[Metric]:
        mounts = self._wanted_of(self._listed())
        answers = self._prober.look(mounts.values())
        problems = (_problem(mount, answers.get(mount)) for mount in mounts.values())
        self.problems = [problem for problem in problems if problem is not None]
        return list(_metrics(mounts, answers))

    def _wanted_of(self, listed: Collection[Mount]) -> Mapping[Labels, Mount]:
        if listed is not self._before:
            self._wanted = {_labels(mount): mount for mount in listed if self._is_wanted(mount)}
            self._before = listed
        return self._wanted

    def _is_wanted(self, mount: Mount) -> bool:
        return not (self._no_mountpoint(mount.mountpoint) or self._no_type(mount.fstype))


def _problem(mount: Mount, answer: Answer | None) -> str | None:
    """The same words as long as it lasts: else each scrape would be logged."""
    where = one_line(mount.mountpoint, 100)
    if answer is None:
        return f"{where}: not asked, as too many others do not answer"
    # What is not ours to see stays so: device_error tells it, and it is nothing that went wrong.
    if isinstance(answer, OSError) and not isinstance(answer, PermissionError):
        return f"{where}: {answer.strerror}"
    return None


_PROBER: Final = Prober()  # of the process, as a reload must not forget which mounts hang


def _metrics(mounts: Mapping[Labels, Mount], answers: Mapping[Mount, Answer]) -> Iterable[Metric]:
    asked = {labels: answers[mount] for labels, mount in mounts.items() if mount in answers}
    usages = {labels: answer for labels, answer in asked.items() if isinstance(answer, os.statvfs_result)}
    for family, number in NUMBERS:
        yield family.metric((labels, number(usage)) for labels, usage in usages.items())
    yield c.HOST_FILESYSTEM_READONLY.metric((labels, float(mounts[labels].readonly)) for labels in usages)
    yield c.HOST_FILESYSTEM_ERROR.metric((labels, float(labels not in usages)) for labels in asked)


def _labels(mount: Mount) -> Labels:
    return label_text(mount.device), label_text(mount.mountpoint), label_text(mount.fstype)
