"""The control group that the exporter runs in: limits and use of its container, where psutil shows the host."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from prometheus_client.core import Metric

from exporter.catalogue import Family
from exporter.collectors.base import CollectorOptions, HostCollector
from exporter.collectors.cgroup import tables
from exporter.collectors.cgroup.files import Absent, Files, Unreadable
from exporter.collectors.cgroup.places import UNIFIED, folders
from exporter.safe.text import label_text

T = TypeVar("T")
Groups = dict[str, Files | None]
"""By controller; None where the group cannot be seen."""
_NUMBER: Final = re.compile(r"[0-9]+:[0-9]+")
_ROWS: Final = (*tables.MEMORY_V2, *tables.CPU_USAGE_V2, *tables.CPU_QUOTA_V2, *tables.PIDS, *tables.PRESSURE)


class Cgroup(HostCollector):
    """cgroup v1, v2, or both beside each other: what a controller of v1 gives is taken from there.

    Errors: a file that is missing costs what it gives, as kernels and controllers lack some; one that cannot be read
    or understood is a problem, too. Raises OSError where no group can be found at all.
    """

    name = "cgroup"
    families: ClassVar[tuple[Family, ...]] = (*(family for family, _ in _ROWS), *tables.IO_FAMILIES)

    def __init__(
        self, options: CollectorOptions | None = None, proc: Path = Path("/proc"), sys: Path = Path("/sys")
    ) -> None:
        super().__init__(options)
        self._proc = proc
        self._sys = sys

    @classmethod
    def enabled_by_default(cls, options: CollectorOptions) -> bool:
        """Only where it is asked for: outside a container the group is often all of the machine."""
        return False

    def collect(self) -> Iterable[Metric]:
        places, problems = folders(self._proc, os.getpid())
        if not any(places.values()):
            raise OSError("; ".join(problems) or "found no control group, wanted cgroup v1 or v2 mounted")
        groups = {controller: Files(found) if found else None for controller, found in places.items()}
        metrics = [*_numbers(groups, problems), *self._of_devices(groups, problems)]
        self.problems = tuple(dict.fromkeys(problems))
        return metrics

    def _of_devices(self, groups: Groups, problems: list[str]) -> Iterator[Metric]:
        files = groups.get("blkio" if "blkio" in groups else UNIFIED)
        for family, read in tables.IO_V1 if "blkio" in groups else tables.IO_V2:
            if files is not None and (found := _tried(read, files, problems)) is not None:
                yield family.metric(((device,), value) for device, value in self._by_device(found).items())

    def _by_device(self, rows: Iterable[tuple[str, float]]) -> dict[str, float]:
        """Disks that had one number after each other have a row each. Those that the kernel has no number of any more,
        `(unknown)`, are left out: nobody could tell them apart."""
        values: dict[str, float] = defaultdict(float)
        for number, value in rows:
            if _NUMBER.fullmatch(number):
                values[self._device(number)] += value
        return values

    def _device(self, number: str) -> str:
        """The name of `major:minor`, as the kernel has it; else the number."""
        try:
            return label_text(os.path.basename(os.readlink(self._sys / "dev" / "block" / number)))
        except OSError:
            return label_text(number)


def _numbers(groups: Groups, problems: list[str]) -> Iterator[Metric]:
    unified = groups.get(UNIFIED)
    todo = [(groups[name], v1) if name in groups else (unified, v2) for name, v1, v2 in tables.OF_CONTROLLER]
    for files, rows in (*todo, (unified, tables.PRESSURE)):
        for family, read in rows:
            if files is not None and (value := _tried(read, files, problems)) is not None:
                yield family.metric([((), value)])


def _tried(read: Callable[[Files], T], files: Files, problems: list[str]) -> T | None:
    try:
        return read(files)
    except Absent:
        return None
    except Unreadable as error:
        problems.append(str(error))
        return None
