"""The files of /proc that the host's numbers stand in, read into plain numbers (proc(5), the kernel's
Documentation/admin-guide/iostats.rst and Documentation/accounting/psi.rst).

A line that is shorter than what is wanted of it (an older kernel) is left out; one that holds no numbers where there
must be some raises ValueError.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
CPU_MODES: Final = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
"""The columns of a CPU's line. The two of guests follow: they are part of user and nice already."""
TICKS: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
"""So many are a second, wherever the kernel writes CPU time in them."""
_MICROSECONDS: Final = 1e-6
_KIB: Final = 1024
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")  # of space, tab, newline, backslash and #
# Hot-plugging a CPU begins its idle time anew; falling by less is the kernel's correction (node_exporter's limit).
_BEGUN_ANEW: Final = 3.0

Times = tuple[float, ...]


def text(path: Path) -> str:
    """A file of /proc. Names in it may be any bytes: what is no UTF-8 becomes lone surrogates. Raises OSError."""
    with open(path, "rb", buffering=0) as file:  # read at once: a buffer would only cost
        return file.read().decode("utf-8", "surrogateescape")


def unescaped(field: str) -> str:
    """A field of mountinfo as it was before the kernel wrote blanks and the like as octal numbers."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), field) if "\\" in field else field


def cpu_times(stat: str) -> dict[str, Times]:
    """Seconds by mode, in the order of CPU_MODES, for each CPU by its number (/proc/stat)."""
    rows = (line[3:].split() for line in stat.split("\n") if line.startswith("cpu") and line[3:4].isdigit())
    return {row[0]: tuple(int(ticks) / TICKS for ticks in row[1 : len(CPU_MODES) + 1]) for row in rows}


def fields(table: str, wanted: Collection[str]) -> dict[str, int]:
    """Of lines of a name and one number those that are wanted (/proc/vmstat, and among others /proc/stat)."""
    rows = (line.partition(" ") for line in table.split("\n"))
    return {name: int(number) for name, _, number in rows if name in wanted}


def meminfo(table: str, wanted: Collection[str]) -> dict[str, int]:
    """Bytes of the fields that are wanted (/proc/meminfo; its kB are KiB)."""
    rows = (line.partition(":") for line in table.split("\n"))
    return {name: int(number.removesuffix(" kB")) * _KIB for name, _, number in rows if name in wanted}


def disks(table: str) -> dict[str, list[int]]:
    """The counters of each block device, as many as the kernel has (/proc/diskstats)."""
    rows = (line.split() for line in table.split("\n"))
    return {row[2]: [int(number) for number in row[3:]] for row in rows if len(row) > 3}


def interfaces(table: str) -> dict[str, list[int]]:
    """The counters of each network interface (/proc/net/dev)."""
    rows = (line.rpartition(":") for line in table.split("\n")[2:])
    return {name.strip(): [int(number) for number in numbers.split()] for name, _, numbers in rows if name.strip()}


def pressure(table: str) -> dict[str, float]:
    """Seconds of pressure by `some` and `full` (/proc/pressure/*, total)."""
    found = {}
    for kind, *pairs in (line.split() for line in table.split("\n") if line):
        values = dict(pair.split("=", 1) for pair in pairs)
        if "total" in values:
            found[kind] = int(values["total"]) * _MICROSECONDS
    return found


class NeverFalling:
    """CPU times as counters: the kernel takes some iowait and idle back at times (proc_stat(5)), and a counter that
    falls by a hundredth would look as if it had begun anew."""

    def __init__(self) -> None:
        self._highest: dict[str, Times] = {}

    def of(self, times: Mapping[str, Times]) -> dict[str, Times]:
        """`times`, none lower than what was given before, but for a CPU whose times began anew."""
        now = {cpu: self._kept(self._highest.get(cpu), modes) for cpu, modes in times.items()}
        self._highest = {**self._highest, **now}
        return now

    @staticmethod
    def _kept(before: Times | None, modes: Times) -> Times:
        idle = CPU_MODES.index("idle")
        if before is None or len(before) != len(modes) or before[idle] - modes[idle] >= _BEGUN_ANEW:
            return modes
        return tuple(map(max, before, modes))


def columns(rows: Mapping[str, list[int]], column: int) -> Iterator[tuple[str, int]]:
    """One column of the rows that have it."""
    return ((name, numbers[column]) for name, numbers in rows.items() if column < len(numbers))
