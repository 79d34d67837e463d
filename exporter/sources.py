"""Sources: what a scrape runs. One run in flight at most, timed, checked, and failing alone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client.core import Metric

from exporter.brokers.pulls import BrokerError
from exporter.catalogue import Family
from exporter.safe.text import one_line

RUN_LIMIT: Final = 30.0
"""Seconds after which a run is cancelled, whoever waits for it. A thread cannot be cancelled: it has no limit, and
no second one is started while it runs."""

log = structlog.get_logger("exporter.sources")


class BadFamilies(ValueError):
    """A collector gave something else than it declared."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a source's function returns: its families, and what it could not get, one line each."""

    families: Collection[Metric]
    problems: Collection[str] = ()


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

    def note(self, problem: str | None) -> None:
        """Logs a problem when it comes, and when it has gone: not at every scrape in between."""
        if problem == self._last_problem:
            return
        self._last_problem = problem
        if problem is None:
            log.info("collector recovered", collector=self.collector, broker=self.broker)
        else:
            log.warning("collector failed", collector=self.collector, broker=self.broker, problem=problem)

    async def close(self) -> None:
        """Cancels the run in flight."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> Result:
        problem: str | None
        families: Collection[Metric] = ()
        try:
            async with asyncio.timeout(self._limit):
                gathered = await self._gather()
            families, problem = gathered.families, "; ".join(gathered.problems) or None
        except TimeoutError:
            problem = f"no end within {self._limit} s"
        except BrokerError as error:
            problem = str(error)
        except Exception as error:  # a collector of any kind must not take the others with it
            problem = one_line(f"{type(error).__name__}: {error}")
            log.debug("collector raised", collector=self.collector, broker=self.broker, exc_info=error)
        self.ended_once = True
        self.note(problem)
        return Result(families, problem, self.running_for())


async def in_thread(function: Callable[[], Iterable[Metric]], name: str) -> list[Metric]:
    """Runs a blocking `function` in a thread of its own, its generator included.

    A daemon thread, and none of a pool: one that hangs must keep neither the others waiting nor the process alive.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[Metric] | BaseException] = loop.create_future()

    def tell(outcome: list[Metric] | BaseException) -> None:
        if not future.done():  # whoever waited may have been cancelled
            future.set_result(outcome)

    def work() -> None:
        outcome: list[Metric] | BaseException
        try:
            outcome = list(function())
        except BaseException as error:
            outcome = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(tell, outcome)

    threading.Thread(target=work, name=f"collector-{name}", daemon=True).start()
    outcome = await future
    if isinstance(outcome, Exception):
        raise outcome
    if isinstance(outcome, BaseException):  # SystemExit in a collector ends the collector, not the exporter
        raise RuntimeError(repr(outcome))
    return outcome


def checked(families: object, declared: Collection[Family]) -> list[Metric]:
    """`families` as a list, if it is what was `declared`: else one bad collector would spoil the whole answer.

    Raises BadFamilies.
    """
    known = {family.metric().name: family for family in declared}
    if not isinstance(families, Iterable):
        raise BadFamilies(f"found {type(families).__name__}, wanted families")
    metrics = list(families)
    for metric in metrics:
        if not isinstance(metric, Metric):
            raise BadFamilies(f"found {type(metric).__name__} among the families, wanted Metric")
        family = known.get(metric.name)
        if family is None or metric.type != family.kind:
            raise BadFamilies(f"found the family {one_line(str(metric.name))!r} ({metric.type}), which is not declared")
        _check_samples(metric, family)
    return metrics


def _check_samples(metric: Metric, family: Family) -> None:
    seen: set[tuple[str, ...]] = set()
    for sample in metric.samples:
        if sample.name != family.name or tuple(sample.labels) != family.labels:
            raise BadFamilies(f"found {sample.name} {list(sample.labels)}, wanted {family.name} {list(family.labels)}")
        values = tuple(sample.labels.values())
        if not all(isinstance(value, str) and _encodes(value) for value in values):
            raise BadFamilies(f"found a label of {family.name} that is no UTF-8 text")
        if not isinstance(sample.value, int | float):
            raise BadFamilies(f"found the value {one_line(repr(sample.value), 60)} of {family.name}, wanted a number")
        if values in seen:
            raise BadFamilies(f"found {family.name} {one_line(repr(values))} a second time")
        seen.add(values)


def _encodes(text: str) -> bool:
    """Whether `text` can be sent: a lone surrogate cannot, and would fail the whole answer."""
    return text.isascii() or text == text.encode("utf-8", "replace").decode()
