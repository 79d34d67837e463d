"""What is mounted, from /proc/self/mountinfo (proc(5)). Nothing here touches a mount.

This process's own list, not that of the first process: paths are looked up where this process runs, and a list of
another mount namespace would put its names to other file systems.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from exporter.collectors import procfs

_MOUNTINFO: Final = procfs.PROC / "self/mountinfo"
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")  # of space, tab, newline, backslash and #


class Mount(NamedTuple):
    """One mount. `id` and `parent` are the kernel's numbers: a file system mounted anew has another one."""

    id: str
    parent: str
    device: str
    mountpoint: str
    fstype: str
    readonly: bool


def mounts(mountinfo: Path = _MOUNTINFO) -> list[Mount]:
    """What can be reached by its path: a mount that another one hides is left out, as its path shows the other's
    numbers. Raises OSError."""
    if sys.platform != "linux":
        return list(_of_psutil())
    return _visible(parsed(procfs.text(mountinfo)))


def parsed(mountinfo: str) -> list[Mount]:
    """The lines that are as proc(5) has them."""
    return [mount for line in mountinfo.split("\n") if (mount := _parsed_line(line)) is not None]


def _parsed_line(line: str) -> Mount | None:
    before, dash, after = line.partition(" - ")
    own, of_filesystem = before.split(" "), after.split(" ")
    if not dash or len(own) < 6 or len(of_filesystem) < 3:
        return None
    readonly = "ro" in own[5].split(",") or "ro" in of_filesystem[2].split(",")
    fstype, device = map(_plain, of_filesystem[:2])
    return Mount(own[0], own[1], device, _plain(own[4]), fstype, readonly)


def _visible(listed: list[Mount]) -> list[Mount]:
    by_id = {mount.id: mount for mount in listed}
    on: dict[str, list[Mount]] = {}
    for mount in listed:
        on.setdefault(mount.parent, []).append(mount)
    return [mount for mount in listed if not _hidden(mount, by_id, on)]


def _hidden(mount: Mount, by_id: dict[str, Mount], on: dict[str, list[Mount]]) -> bool:
    """Whether on the way to it another mount stands: on it, or on something that it is mounted on."""
    path, way = mount.mountpoint, [mount.id]
    here: Mount | None = mount
    while here is not None:
        if any(other.id not in way and _holds(other, path) for other in on.get(here.id, ())):
            return True
        path, here = here.mountpoint, by_id.get(here.parent)
        if here is None or here.id in way:  # the first of all is its own parent
            return False
        way.append(here.id)
    return False


def _holds(mount: Mount, path: str) -> bool:
    return path == mount.mountpoint or path.startswith(mount.mountpoint.rstrip("/") + "/")


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)


def _of_psutil() -> Iterator[Mount]:
    for number, part in enumerate(psutil.disk_partitions(all=False)):
        yield Mount(str(number), "", part.device, part.mountpoint, part.fstype, "ro" in part.opts.split(","))
