"""Sources: what a scrape runs. One run in flight at most, timed, checked, and failing alone."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from exporter.brokers.errors import BrokerError
from exporter.catalogue import Family
from exporter.safe.text import one_line

RUN_LIMIT: Final = 30.0
"""Seconds after which a run is cancelled, whoever waits for it. A thread cannot be cancelled: no second one is started
while it runs, and what it brings after this time is too old to be shown."""

log = structlog.get_logger("exporter.sources")


class BadFamilies(ValueError):
    """A collector gave something else than it declared."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a source's function returns: its families, and what it could not get, one line each."""

    families: Collection[Metric]
    problems: Collection[str] = ()
    about: str = ""
    """What the families are of, where several brokers may share it."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run that ended. `problem` is None where everything was got."""

    families: Collection[Metric]
    problem: str | None
    duration: float


class Source:
    """One (collector, broker). `broker` is empty for what belongs to the host."""

    def __init__(
        self, collector: str, broker: str, gather: Callable[[], Awaitable[Gathered]], limit: float | None = RUN_LIMIT
    ) -> None:
        self.collector = collector
        self.broker = broker
        self.ended_once = False
        """Whether a run has ended, well or badly."""
        self.closed = False
        self.about = ""
        """What the last run that ended was about; empty where it failed, or shares nothing with other brokers."""
        self._gather = gather
        self._limit = limit
        self._task: asyncio.Task[Result] | None = None
        self._began = 0.0
        self._last_problem: str | None = None

    def join(self) -> asyncio.Task[Result]:
        """The run that is in flight, or a new one."""
        if self._task is None or self._task.done():
            self._began = time.perf_counter()
            self._task = asyncio.create_task(self._run())
        return self._task

    def running_for(self) -> float:
        """Seconds since the run in flight began."""
        return time.perf_counter() - self._began

    def result(self, task: asyncio.Task[Result]) -> Result | None:
        """What a scrape gets of the run that it joined: None where that did not end in time."""
        if task.done() and not task.cancelled():
            result = task.result()
            if result.problem is None:
                self._note(None)
            return result
        if self._last_problem is None and not self.closed:  # else the run tells why, when it ends
            self._note("still running at the deadline of a scrape")
        return None

    def cancel(self) -> None:
        """Ends the run in flight, for all who wait for it."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Cancels the run in flight; the source is not to be used any more."""
        self.closed = True
        self.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> Result:
        problem: str | None
        gathered = Gathered(())
        try:
            async with asyncio.timeout(self._limit) as limit:
                gathered = await self._gather()
            problem = one_line("; ".join(gathered.problems), 1000) or None
            if self.running_for() > RUN_LIMIT:
                gathered, problem = Gathered(()), f"ended after {self.running_for():.0f} s: what it saw is too old"
        except BrokerError as error:
            problem = str(error)
        except asyncio.CancelledError:
            if _being_cancelled():
                raise
            problem = "cancelled by itself"
        except (Exception, SystemExit) as error:  # a collector of any kind must not take the others with it
            problem = f"no end within {self._limit} s" if limit.expired() else _described(error)
            log.debug("collector raised", collector=self.collector, broker=self.broker, exc_info=error)
        self.ended_once = True
        if problem is not None:  # that it has gone is for a scrape to say, which may have given up on this run
            self._note(problem)
        self.about = gathered.about
        return Result(gathered.families, problem, self.running_for())

    def _note(self, problem: str | None) -> None:
        """Logs a problem when it comes, and when it has gone: not at every scrape in between."""
        if problem == self._last_problem:
            return
        self._last_problem = problem
        if problem is None:
            log.info("collector recovered", collector=self.collector, broker=self.broker)
        else:
            log.warning("collector failed", collector=self.collector, broker=self.broker, problem=problem)


def checked(families: object, declared: Collection[Family], base: tuple[str, ...] = ()) -> list[Metric]:
    """One new metric for each of `families`, if they are what was `declared`: else one bad collector would spoil the
    whole answer. `base` are the values that the first labels must have.

    Raises BadFamilies.
    """
    known = {family.metric_name: family for family in declared}
    if not isinstance(families, Iterable):
        raise BadFamilies(f"found {type(families).__name__}, wanted families")
    samples: dict[Family, dict[tuple[str, ...], Sample]] = {}
    for metric in families:
        if not isinstance(metric, Metric):
            raise BadFamilies(f"found {type(metric).__name__} among the families, wanted Metric")
        family = known.get(metric.name)
        if family is None or metric.type != family.kind:
            raise BadFamilies(f"found the family {one_line(str(metric.name))!r} ({metric.type}), which is not declared")
        _take_samples(metric, family, base, samples.setdefault(family, {}))
    return [_filled(family, taken.values()) for family, taken in samples.items()]


def _take_samples(metric: Metric, family: Family, base: tuple[str, ...], taken: dict[tuple[str, ...], Sample]) -> None:
    for sample in metric.samples:
        if sample.name != family.name or tuple(sample.labels) != family.labels:
            raise BadFamilies(f"found {sample.name} {list(sample.labels)}, wanted {family.name} {list(family.labels)}")
        values = tuple(sample.labels.values())
        if not all(isinstance(value, str) and _encodes(value) for value in values):
            raise BadFamilies(f"found a label of {family.name} that is no UTF-8 text")
        if values[: len(base)] != base:
            raise BadFamilies(f"found {family.name} {one_line(repr(values))}, wanted {base} first")
        if not _is_number(sample.value):
            raise BadFamilies(f"found the value {one_line(repr(sample.value), 60)} of {family.name}, wanted a number")
        if sample.timestamp is not None or sample.exemplar is not None:
            raise BadFamilies(f"found a timestamp or an exemplar in {family.name}, wanted none")
        if values in taken:
            raise BadFamilies(f"found {family.name} {one_line(repr(values))} a second time")
        taken[values] = sample


def _filled(family: Family, samples: Iterable[Sample]) -> Metric:
    metric = family.metric()
    metric.samples = list(samples)
    return metric


def _is_number(value: object) -> bool:
    """Whether `value` can be shown: an integer beyond the range of floats cannot."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= sys.float_info.max)


def _encodes(text: str) -> bool:
    """Whether `text` can be sent: a lone surrogate cannot, and would fail the whole answer."""
    return text.isascii() or text == text.encode("utf-8", "replace").decode()


def _being_cancelled() -> bool:
    """Whether it was this task that someone cancelled, and not something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _described(error: BaseException) -> str:
    try:
        return one_line(f"{type(error).__name__}: {error}")
    except Exception:  # an error whose text is an error
        return type(error).__name__
