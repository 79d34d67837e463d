"""Asks the workers in the background: one question to all of them in an interval, whoever scrapes how often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from itertools import cycle
from typing import Final

from exporter.brokers.errors import BrokerError
from exporter.safe.text import one_line
from exporter.systems.celery.control.answers import Method, read_answer
from exporter.systems.celery.control.mailbox import Mailbox
from exporter.systems.celery.control.messages import Reply
from exporter.systems.celery.features import Feature
from exporter.systems.celery.layout import queue_name
from exporter.systems.celery.options import CeleryOptions
from exporter.systems.celery.workers.asked import SILENT_ROUNDS
from exporter.systems.celery.workers.workers import Workers

TURNS: Final = (Method.QUEUES, Method.STATS, Method.RESERVED, Method.ACTIVE, Method.REGISTERED, Method.ENABLE_EVENTS)
"""What is asked one after the other."""
BELIEVED_TURNS: Final = 2
"""An answer is believed until the same question would have been asked so often again."""
MOST_PREFIXES: Final = 100
_SLACK: Final = 2.0  # seconds that a round may take


class Inspector:
    """Keeps asking from `start()` to `close()`, and tells the workers what they answered."""

    def __init__(
        self,
        mailbox: Mailbox,
        workers: Workers,
        options: CeleryOptions,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mailbox = mailbox
        self._workers = workers
        self._interval = options.inspect_interval
        self._turns = [turn for turn in TURNS if turn is not Method.ENABLE_EVENTS or options.enable_events]
        self._next = cycle(self._turns)
        self._last: Method | None = None
        self._news = 0  # of the workers, when they were asked for their queues last
        self._only = options.global_keyprefix
        self._monotonic = monotonic
        self._prefixes: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self.problems: Collection[str] = ()
        """What the last question failed in, one line each."""

    def start(self, prefixes: Collection[str]) -> None:
        """Celery is in use under these key prefixes, of which none means nowhere: nobody is asked then."""
        self._prefixes = sorted(prefixes)[:MOST_PREFIXES]
        self._workers.asks_under({self._named(prefix) for prefix in prefixes})  # of those beyond, nobody is known
        if self._task is None and prefixes:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Asks no more. Returns once nothing is left of the last question."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            began = self._monotonic()
            if self._prefixes:
                await self._round(self._turn(began))
            await asyncio.sleep(max(0.0, began + self._interval - self._monotonic()))

    def _turn(self, tick: float) -> Method:
        """What is asked now. Where workers or queues came since, queues are asked for first: until then nobody knows
        who serves which. Not twice in a row, as some may come all the time."""
        turn = Method.QUEUES
        if self._last is Method.QUEUES or self._workers.news == self._news:
            turn = next(self._next)
        if turn is self._last is Method.QUEUES:
            turn = next(self._next)
        if turn is Method.ACTIVE and self._workers.look(tick).told_running() is not None:
            turn = next(self._next)  # events tell, and sooner
        self._last = turn
        return turn

    async def _round(self, method: Method) -> None:
        """One question under each key prefix."""
        news = self._workers.news
        problems: list[str] = []
        for prefix in self._prefixes:
            try:
                await self._ask(prefix, method, problems)
            except Exception as error:  # whatever it is: the next question may do better
                kind = "" if isinstance(error, BrokerError) else f"{type(error).__name__}: "
                problems.append(one_line(f"{Feature.INSPECT}: {kind}{error}"))
                break
        else:
            if method is Method.QUEUES:
                self._news = news
        self.problems = tuple(dict.fromkeys(problems))

    async def _ask(self, prefix: str, method: Method, problems: list[str]) -> None:
        named, asked_at = self._named(prefix), self._monotonic()

        def take(reply: Reply) -> None:
            answer = read_answer(method, reply.answer)
            tick, until = self._monotonic(), self._until(BELIEVED_TURNS * len(self._turns))
            self._workers.answered(reply.worker, answer, named, asked_at, tick, until)

        done = await self._mailbox.ask(prefix, method, take)
        if done.unreadable:
            problems.append(one_line(f"{Feature.INSPECT}: {done.unreadable} not read: {done.reason}"))
        tick, unanswered = self._monotonic(), done.unanswered
        self._workers.asked(named, asked_at, tick, self._until(SILENT_ROUNDS), unanswered)

    def _named(self, prefix: str) -> str:
        """What stands before the names of queues under a key prefix."""
        return queue_name("", prefix, self._only) or ""

    def _until(self, rounds: int) -> float:
        return self._monotonic() + rounds * self._interval + _SLACK
