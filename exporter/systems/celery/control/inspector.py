"""Asks the workers in the background: one question to all of them in an interval, whoever scrapes how often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from itertools import cycle
from typing import Final

from exporter.brokers.pulls import BrokerError
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
        self._only = options.global_keyprefix
        self._monotonic = monotonic
        self._prefixes: list[str] = []
        self._all_prefixes = True
        self._task: asyncio.Task[None] | None = None
        self.problems: Collection[str] = ()
        """What the last question failed in, one line each."""

    def start(self, prefixes: Collection[str]) -> None:
        """Celery is in use under these key prefixes, of which none means nowhere: nobody is asked then."""
        self._prefixes = sorted(prefixes)[:MOST_PREFIXES]
        self._all_prefixes = len(prefixes) <= MOST_PREFIXES
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
        """What is asked now. Those who came since are asked for their queues first: until they answer, nobody knows who
        serves which. Not twice in a row, as some may come all the time."""
        turn = Method.QUEUES if self._workers.take_new() and self._last is not Method.QUEUES else next(self._next)
        if turn is Method.ACTIVE and self._workers.told_running(tick) is not None:
            turn = next(self._next)  # events tell, and sooner
        self._last = turn
        return turn

    async def _round(self, method: Method) -> None:
        """One question under each key prefix."""
        asked_at = self._monotonic()
        complete = self._all_prefixes
        problems: list[str] = []
        for prefix in self._prefixes:
            try:
                complete = await self._ask(prefix, method, asked_at, problems) and complete
            except Exception as error:  # whatever it is: the next question may do better
                kind = "" if isinstance(error, BrokerError) else f"{type(error).__name__}: "
                problems.append(one_line(f"{Feature.INSPECT}: {kind}{error}"))
                break
        else:
            self._workers.asked(asked_at, self._until(SILENT_ROUNDS), complete=complete)
        self.problems = tuple(dict.fromkeys(problems))

    async def _ask(self, prefix: str, method: Method, asked_at: float, problems: list[str]) -> bool:
        """Whether all that were listening answered."""

        def take(reply: Reply) -> None:
            answer = read_answer(method, reply.answer)
            tick, until = self._monotonic(), self._until(BELIEVED_TURNS * len(self._turns))
            self._workers.answered(reply.worker, answer, named, asked_at, tick, until)

        named = queue_name("", prefix, self._only) or ""
        done = await self._mailbox.ask(prefix, method, take)
        if done.unreadable:
            problems.append(one_line(f"{Feature.INSPECT}: {done.unreadable} not read: {done.reason}"))
        return done.complete

    def _until(self, rounds: int) -> float:
        return self._monotonic() + rounds * self._interval + _SLACK
