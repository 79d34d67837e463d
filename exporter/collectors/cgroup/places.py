"""Where in the file system the exporter's own control group stands: proc_pid_cgroup(5), proc_pid_mountinfo(5)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exporter.collectors.procfs import unescaped
from exporter.safe.text import one_line

UNIFIED: Final = ""
"""The key of cgroup v2, which has one hierarchy for all controllers."""
CONTROLLERS: Final = ("memory", "cpuacct", "cpu", "pids", "blkio")
"""Those of cgroup v1 that are read."""
_DELETED: Final = " (deleted)"


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted hierarchy, or a part of it: the group `root` is seen at `point`."""

    root: str
    point: str
    unified: bool
    options: frozenset[str]
    """Of the super block: with v1 they name the controllers."""

    def has(self, controller: str) -> bool:
        return self.unified if controller == UNIFIED else not self.unified and controller in self.options

    def path(self, group: str) -> str | None:
        """Where the group is seen; None if it does not stand below the root of the mount."""
        inside = group.removeprefix(self.root.rstrip("/"))
        if not group.startswith(self.root.rstrip("/")) or ".." in group.split("/"):
            return None
        return self.point + inside.rstrip("/") if inside == "" or inside.startswith("/") else None


def folders(proc: Path, pid: int) -> tuple[dict[str, tuple[Path, ...]], list[str]]:
    """By controller the folder of the group, followed by those of its parents as far as they are mounted; and what was
    not found, one line each. A controller that v1 has, but not where we can see it, has no folder: what v2 tells of it
    is of another group. Raises OSError where the kernel has no control groups."""
    mounts = list(_mounts((proc / "self" / "mountinfo").read_text(errors="surrogateescape")))
    found: dict[str, tuple[Path, ...]] = {}
    problems = []
    for controller, group in _groups((proc / "self" / "cgroup").read_text(errors="surrogateescape")).items():
        places = [place for mount in mounts if mount.has(controller) for place in _places(mount, group, pid)]
        if places or controller != UNIFIED:
            found[controller] = places[0] if places else ()
        # Of v2 the kernel lists a group even where nobody has mounted it.
        if not places and (controller != UNIFIED or any(mount.unified for mount in mounts)):
            problems.append(f"found no folder of the group {one_line(group)} ({controller or 'v2'}), wanted its mount")
    return found, problems


def _groups(text: str) -> Mapping[str, str]:
    """By controller the path of the process's group, as seen from its cgroup namespace."""
    groups = {}
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        path = path.removesuffix(_DELETED)
        if number == "0":
            groups[UNIFIED] = path
        groups |= {name: path for name in controllers.split(",") if name in CONTROLLERS}
    return groups


def _mounts(text: str) -> Iterator[Mount]:
    lines = [line.partition(" - ") for line in text.splitlines()]
    # Of several mounts at one point the last is seen, whatever it is.
    for fields, after in {(fields := before.split(" "))[4]: (fields, after) for before, _, after in lines}.values():
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            yield Mount(unescaped(fields[3]), unescaped(fields[4]), kind == "cgroup2", frozenset(options.split(",")))


def _places(mount: Mount, group: str, pid: int) -> Iterable[tuple[Path, ...]]:
    """The folder of the group in this mount and those above it, if it is there.

    A mount that was made in another cgroup namespace may show our group at its point without telling so: it is ours if
    we are in it, and of nobody known if not.
    """
    path = mount.path(group)
    point = Path(mount.point)
    if path is not None and (own := Path(path)).is_dir():
        above = [parent for parent in own.parents if parent == point or point in parent.parents]
        return [(own, *above)]
    return [(point,)] if str(pid) in _members(point) else []


def _members(folder: Path) -> Collection[str]:
    try:
        return (folder / "cgroup.procs").read_text().split()
    except OSError:
        return ()
