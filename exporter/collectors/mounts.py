"""What is mounted, from /proc/self/mountinfo (proc(5)). Nothing here touches a mount.

This process's own list, not that of the first process: paths are looked up where this process runs, and a list of
another mount namespace would put its names to other file systems.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from exporter.collectors import procfs

_MOUNTINFO: Final = procfs.PROC / "self/mountinfo"


class Mount(NamedTuple):
    """One mount. `id` and `parent` are the kernel's numbers: a file system mounted anew has another one."""

    id: str
    parent: str
    device: str
    mountpoint: str
    fstype: str
    readonly: bool
    """Of the whole file system."""


def mounts(mountinfo: Path = _MOUNTINFO) -> Sequence[Mount]:
    """What can be reached by its path: a mount that another one hides is left out, as its path shows the other's
    numbers. The same object as the last time where nothing changed. Raises OSError."""
    if sys.platform != "linux":
        return list(_of_psutil())
    return _reachable(procfs.text(mountinfo))


@lru_cache(maxsize=1)
def _reachable(mountinfo: str) -> Sequence[Mount]:
    return visible(parsed(mountinfo))


def parsed(mountinfo: str) -> list[Mount]:
    """The lines that are as proc(5) has them."""
    return [mount for line in mountinfo.split("\n") if (mount := _parsed_line(line)) is not None]


def _parsed_line(line: str) -> Mount | None:
    before, dash, after = line.partition(" - ")
    own, of_filesystem = before.split(" "), after.split(" ")
    if not dash or len(own) < 6 or len(of_filesystem) < 3:
        return None
    # Of the file system, not of this mount of it: in a container, or under a systemd unit that may write nowhere, our
    # mounts are read-only while the file system fills up.
    readonly = "ro" in of_filesystem[2].split(",")
    fstype, device = map(procfs.unescaped, of_filesystem[:2])
    return Mount(own[0], own[1], device, procfs.unescaped(own[4]), fstype, readonly)


def visible(listed: Sequence[Mount]) -> Sequence[Mount]:
    """Those of `listed` that no other one hides."""
    by_id = {mount.id: mount for mount in listed}
    on: dict[str, dict[str, set[str]]] = {}
    for mount in listed:
        on.setdefault(mount.parent, {}).setdefault(mount.mountpoint.rstrip("/"), set()).add(mount.id)
    return tuple(mount for mount in listed if not _hidden(mount, by_id, on))


def _hidden(mount: Mount, by_id: Mapping[str, Mount], on: Mapping[str, Mapping[str, set[str]]]) -> bool:
    """Whether on the way to it another mount stands: on it, or on something that it is mounted on. `on` is what is
    mounted on each mount, by path."""
    path, way = mount.mountpoint, {mount.id}
    here: Mount | None = mount
    while here is not None:
        if (places := on.get(here.id)) and any(places[place] - way for place in _holders(path) if place in places):
            return True
        path, here = here.mountpoint, by_id.get(here.parent)
        if here is None or here.id in way:  # the first of all is its own parent
            return False
        way.add(here.id)
    return False


def _holders(path: str) -> Iterator[str]:
    """Where a mount would hold `path`: there, and in each folder above it. Without the last slash."""
    place = path.rstrip("/")
    while place:
        yield place
        place = place.rpartition("/")[0]
    yield ""


def _of_psutil() -> Iterator[Mount]:
    for number, part in enumerate(psutil.disk_partitions(all=False)):
        yield Mount(str(number), "", part.device, part.mountpoint, part.fstype, "ro" in part.opts.split(","))
