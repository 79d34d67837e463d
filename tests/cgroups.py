"""Control groups for tests: made-up machines in a folder, and real groups of cgroup v1.

Real ones need Linux with v1 hierarchies mounted below /sys/fs/cgroup, and the right to make groups (root, as a rule).
A pytest plugin's fixture may use `real_groups`; whoever puts a process into a group ends it first.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.servers import wait_until

MOUNTED: Final = Path("/sys/fs/cgroup")
_NUMBERS: Final = itertools.count()


class Machine:
    """What a process sees of its control groups: /proc/self, /sys and mounted hierarchies, all below a folder."""

    def __init__(self, directory: Path) -> None:
        self.proc = directory / "proc"
        self.sys = directory / "sys"
        self._mounted = directory / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        (self.sys / "dev" / "block").mkdir(parents=True)
        self._mounts = ["22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"]
        self.groups()
        self._tell()

    def groups(self, *lines: str) -> None:
        """What /proc/self/cgroup holds."""
        (self.proc / "self" / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def mount(self, name: str, *, root: str = "/", kind: str = "cgroup", options: str = "rw") -> Path:
        """Mounts the group `root` of a hierarchy; with v1 its controllers are among `options`."""
        point = self._mounted / name
        point.mkdir(parents=True, exist_ok=True)
        shown = re.sub(r"[ \t\n\\]", lambda found: f"\\{ord(found[0]):03o}", str(point))
        self._mounts.append(f"31 22 0:27 {root} {shown} ro,nosuid shared:9 master:1 - {kind} {kind} {options}")
        self._tell()
        return point

    def _tell(self) -> None:
        (self.proc / "self" / "mountinfo").write_text("".join(f"{line}\n" for line in self._mounts))


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Puts files into a group, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


class NotPermitted(Exception):
    """This machine lets us make no group of cgroup v1; the message says why."""


@contextmanager
def real_groups(*hierarchies: str, below_root: bool = False) -> Iterator[dict[str, Path]]:
    """By hierarchy a new group of cgroup v1, a slice by its name, below the one that this process is in (or the root
    of what is mounted), removed afterwards.

    Raises NotPermitted.
    """
    name = f"tqe-{os.getpid()}-{next(_NUMBERS)}.slice"
    made: dict[str, Path] = {}
    try:
        for hierarchy in hierarchies:
            folder = MOUNTED / hierarchy / ("" if below_root else _own(hierarchy).lstrip("/")) / name
            try:
                folder.mkdir()
            except OSError as error:
                raise NotPermitted(f"{hierarchy}: {error.strerror}") from None
            made[hierarchy] = folder
        yield made
    finally:
        for folder in made.values():
            remove(folder)


def remove(folder: Path) -> None:
    """Removes a group; what is in it has been ended, and goes when the kernel is done with it."""

    def removed() -> bool:
        with suppress(OSError):
            folder.rmdir()
        return not folder.exists()

    wait_until(removed)


def enter(folder: Path, pid: int) -> None:
    """Puts a process into a group."""
    (folder / "cgroup.procs").write_text(str(pid))


def not_permitted(error: NotPermitted) -> None:
    """What becomes of a test without groups: with CI=true it fails, but where the kernel has no v1 (no package brings
    it), and is skipped elsewhere."""
    if os.environ.get("CI") == "true" and "cgroup" in (line.split()[2] for line in _mounts()):
        pytest.fail(f"no control group can be made: {error}", pytrace=False)
    pytest.skip(f"no control group can be made: {error}")


def _own(hierarchy: str) -> str:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if hierarchy in controllers.removeprefix("name=").split(","):
            return path
    raise NotPermitted(f"{hierarchy}: not mounted")


def _mounts() -> list[str]:
    return Path("/proc/mounts").read_text().splitlines()
