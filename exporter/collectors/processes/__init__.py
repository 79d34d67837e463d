"""Groups of processes on this machine, by command line, pid file or systemd unit: are the workers there, what do they
use, do they keep starting anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final

from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.collectors.base import CollectorOptions, HostCollector
from exporter.collectors.processes.finders import finder
from exporter.collectors.processes.look import Look, Process, Unknown
from exporter.collectors.processes.options import Group, ProcessesOptions
from exporter.collectors.processes.tally import Tally
from exporter.collectors.procfs import TICKS
from exporter.safe.text import label_text

_SUMS: Final[tuple[tuple[Family, str], ...]] = (
    (c.PROCESS_RESIDENT, "resident"),
    (c.PROCESS_VIRTUAL, "virtual"),
    (c.PROCESS_THREADS, "threads"),
)
Values = Iterator[tuple[Family, tuple[str, ...], float]]


class _AtWork:
    """One configured group at work."""

    def __init__(self, group: Group) -> None:
        self.name = label_text(group.name)
        self.finder = finder(group)
        self.tally = Tally()


class Processes(HostCollector):
    """Linux only: it reads /proc, whose processes are those of the exporter's pid namespace.

    Errors: a group whose members cannot be known is absent, and a problem. Raises OSError where /proc cannot be read,
    or hides processes.
    """

    name = "processes"
    families: ClassVar[tuple[Family, ...]] = (
        c.PROCESS_MEMBERS,
        c.PROCESS_CPU,
        *(family for family, _ in _SUMS),
        c.PROCESS_FDS,
        c.PROCESS_FD_RATIO,
        c.PROCESS_OLDEST,
        c.PROCESS_NEWEST,
        c.PROCESS_STARTS,
    )
    Options = ProcessesOptions

    @classmethod
    def enabled_by_default(cls, options: CollectorOptions) -> bool:
        """Where there are groups."""
        return isinstance(options, ProcessesOptions) and bool(options.groups)

    def __init__(self, options: CollectorOptions | None = None, proc: Path = Path("/proc")) -> None:
        super().__init__(options)
        groups = self.options.groups if isinstance(self.options, ProcessesOptions) else ()
        self._groups = [_AtWork(group) for group in groups]
        self._proc = proc

    def collect(self) -> Iterable[Metric]:
        if not self._groups:
            return []
        look = Look(self._proc)
        problems: list[str] = []
        samples: dict[Family, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
        for group in self._groups:
            try:
                members = group.finder.find(look)
                group.tally.add(members, look)
                values = list(_values(group, members, look))
            except Unknown as error:
                problems.append(f"{group.name}: {error}")
                continue
            for family, labels, value in values:
                samples[family].append((labels, value))
        self.problems = tuple(problems)
        return [family.metric(values) for family, values in samples.items()]


def _values(group: _AtWork, members: Collection[Process], look: Look) -> Values:
    labels, tally = (group.name,), group.tally
    yield c.PROCESS_MEMBERS, labels, len(members)
    yield c.PROCESS_CPU, (*labels, "user"), tally.user / TICKS
    yield c.PROCESS_CPU, (*labels, "system"), tally.system / TICKS
    for family, field in _SUMS:
        yield family, labels, sum(getattr(process, field) for process in members)
    yield from _descriptors(labels, members, look)
    starts = [tally.started(process) for process in members]
    if starts:
        yield c.PROCESS_OLDEST, labels, min(starts)
        yield c.PROCESS_NEWEST, labels, max(starts)
    yield c.PROCESS_STARTS, labels, tally.starts


def _descriptors(labels: tuple[str, ...], members: Collection[Process], look: Look) -> Values:
    counts = [(process, look.open_fds(process)) for process in members]
    known = [(process, count) for process, count in counts if count is not None]
    if len(known) < len(counts):
        return
    yield c.PROCESS_FDS, labels, sum(count for _, count in known)
    ratios = [count / limit for process, count in known if (limit := look.fd_limit(process))]
    if ratios:
        yield c.PROCESS_FD_RATIO, labels, max(ratios)
