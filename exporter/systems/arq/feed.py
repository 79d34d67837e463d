"""The feed `results`: every kept result of ARQ counted once, from the moment on at which we came.

arq writes a result when a job ended (arq/worker.py, `finish_job`) and keeps it for an hour by default. What happens to
jobs that keep none, cron jobs by default among them, is not seen here.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import suppress
from typing import Final

from exporter.brokers.pulls import SCAN_COUNT, BrokerError, Pulls
from exporter.brokers.push import Push, PushConnection
from exporter.brokers.turn import Turn
from exporter.model import Sink
from exporter.systems.arq import ahead
from exporter.systems.arq.modes import RESULT, FeedMode, Line, connect, pushed_keys
from exporter.systems.arq.reading import LONGEST_KEY, PAGE, Value, decode, pages, read_values
from exporter.systems.arq.tally import MARGIN, Rule, Tally

COALESCE: Final = 0.05
"""Seconds in which pushes may gather: a round trip for each result would cost more than reading it."""
PENDING: Final = 1_000_000
"""Keys that wait to be read; beyond, they are left for a search to find."""
SCAN_INTERVAL: Final = 5.0
BUSY_SHARE: Final = 0.05
"""Of the time, at most this share is spent searching."""
LEARN_INTERVAL: Final = 2.0
"""Seconds. What is deferred by less in a queue that is new is not seen before it is due."""


class ResultsFeed:
    """See `model.Feed`.

    Connect, arm, then search: what was written before we were armed stands there, what is written later is pushed to
    us. After a gap what stands is counted by the ten-minute rule: if it ended after the gap began, less a margin for
    the workers' clocks, and is not remembered.
    """

    name: Final = "results"

    def __init__(
        self,
        pulls: Pulls,
        turn: Turn,
        mode: FeedMode = FeedMode.AUTO,
        queues: Callable[[], Awaitable[Collection[str]]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`queues` gives those in which to look for what gets due."""
        self.tally = Tally(clock)
        self._pulls = pulls
        self._turn = turn
        self._wanted = mode
        self._find_queues = queues
        self._clock = clock
        self._queues: frozenset[str] = frozenset()
        self._pending: dict[bytes, None] = {}  # in the order of the pushes, each once
        self._taken: dict[bytes, None] = {}  # of those the ones that are being read
        self._arrived = asyncio.Event()
        self._search_wanted = asyncio.Event()
        self._pushed: set[bytes] | None = None  # since before a search, while it goes on
        self._armed: float | None = None  # when we were, for the first time
        self._first_cutoff = math.inf  # of the searches until one has come to its end
        self.seeded = False
        """Whether it is known what stood there when we came."""
        self._good = -math.inf  # until then everything that was written has been pushed to us, or was found
        self._missed: float | None = None  # since when it may not have been
        self._sink: Sink

    async def follow(self, sink: Sink) -> None:
        """See `model.Feed`. Raises BrokerError when one of the connections is lost."""
        self._sink = sink
        self._pushed = set(self._pending)
        try:
            async with connect(self._pulls.address, self._turn, self._wanted, self._on_push) as line:
                self._arm(line, sink)
                await _first_of(
                    *line.losses(),
                    self._read_pushed(line, sink),
                    self._search(line, sink) if line.sub else self._search_for_ever(line, sink),
                    self._keep_watch(line),
                    self._learn_queues(),
                )
        finally:
            self._pushed = None
            if self._armed is not None:  # cut off in the first search: the clocks have to tell what is new in the next
                self._first_cutoff = self._armed

    def _arm(self, line: Line, sink: Sink) -> None:
        if self._armed is None:
            self._armed = self._good = self._clock()
        self._want_search()
        self._prune()
        if line.sub or self.seeded:
            sink.connected(line.mode)

    # -- pushed -------------------------------------------------------------------------------------------------

    def _on_push(self, push: Push) -> None:
        keys = pushed_keys(push)
        if keys is None:
            self._want_search()  # a replica that gets a whole new copy says so too, and nothing of what is in it
            return
        for key in keys:
            if len(key) > LONGEST_KEY:
                self.tally.take_pushed(Value(key, None), self._sink)
            else:
                self._pending[key] = None
        if self._pushed is not None and len(self._pushed) < PENDING:
            self._pushed.update(key for key in keys if len(key) <= LONGEST_KEY)
        if len(self._pending) > PENDING:
            self._want_search()
            while len(self._pending) > PENDING:
                self._pending.popitem()
        self._arrived.set()

    async def _read_pushed(self, line: Line, sink: Sink) -> None:
        while True:
            if not self._pending:
                self._arrived.clear()
                await self._arrived.wait()
            if len(self._pending) < PAGE:
                await asyncio.sleep(COALESCE)
            # Taken out before they are read: a key that is pushed meanwhile is to be read again.
            self._taken, self._pending, done = self._pending, {}, 0
            try:
                for page in pages(self._taken):
                    values = await read_values(line.data, page)
                    await decode(self._turn, values, lambda value: self.tally.take_pushed(value, sink))
                    done += len(page)
            finally:  # what was decoded already of the page is remembered
                self._pending = dict.fromkeys(list(self._taken)[done:]) | self._pending
                self._taken = {}

    # -- searched -----------------------------------------------------------------------------------------------

    def _want_search(self) -> None:
        """Results may have been written of which nothing tells us, since all was good for the last time."""
        self._missed = self._good if self._missed is None else self._missed
        self._search_wanted.set()

    async def _search(self, line: Line, sink: Sink) -> None:
        """Whenever something may have been missed, for the first time when the connection was made."""
        while True:
            await self._search_wanted.wait()
            began = time.monotonic()
            await self._search_once(line, sink)
            await asyncio.sleep(_pause(began))

    async def _search_for_ever(self, line: Line, sink: Sink) -> None:
        """All there is, where nothing is pushed."""
        while True:
            self._want_search()
            began, good, first = time.monotonic(), self._clock(), not self.seeded
            await self._search_once(line, sink)
            self._good = good
            if first:  # what came up during the first search stands there for us
                sink.connected(line.mode)
            await asyncio.sleep(_pause(began))

    async def _search_once(self, line: Line, sink: Sink) -> None:
        self._search_wanted.clear()
        if self._pushed is None:
            self._pushed = {*self._pending, *self._taken}
        rule = self._rule(line)
        async for keys in _scan(line.data):
            for page in pages(keys):
                await self._take_standing(line, page, rule, sink)
            self.tally.record_standing(rule, sink)
        self._pushed = None
        self.seeded = True
        if not self._search_wanted.is_set():
            self._missed = None

    def _rule(self, line: Line) -> Rule:
        if not self.seeded:
            return Rule(self._first_cutoff, seeding=True)
        since = self._good if self._missed is None else self._missed
        return Rule(max(since - MARGIN, self.tally.memory.horizon), untimed=line.sub is None)

    async def _take_standing(self, line: Line, keys: list[bytes], rule: Rule, sink: Sink) -> None:
        values = [Value(key, None) for key in keys if len(key) > LONGEST_KEY]
        values += await read_values(line.data, [key for key in keys if len(key) <= LONGEST_KEY])
        await line.barrier()
        pushed = set() if self._pushed is None else self._pushed
        if rule.seeding and len(pushed) >= PENDING and self._armed is not None:
            rule.cutoff = self._armed  # not all that was pushed is known: the clocks have to tell what is new

        def take(value: Value) -> None:
            if value.key not in pushed:  # else it is, or was, read because of that
                self.tally.take_standing(value, rule, sink)

        await decode(self._turn, values, take)

    # -- beside it ----------------------------------------------------------------------------------------------

    async def _keep_watch(self, line: Line) -> None:
        """Makes sure, every second, that both connections are good, and looks ahead for what gets due."""
        while True:
            began, now = time.monotonic(), self._clock()
            queues = self._queues | self.tally.progress.keys()
            interval = ahead.interval(len(queues))
            await self.tally.ahead.look(self._pulls, queues, now, interval)
            await line.confirm()
            if line.sub is not None:
                self._good = now
            self._prune()
            await asyncio.sleep(max(0.0, interval - (time.monotonic() - began)))

    def _prune(self) -> None:
        """Forgets what no search to come would count anyway."""
        since = self._good if self._missed is None else min(self._good, self._missed)
        self.tally.memory.prune(since - MARGIN)

    async def _learn_queues(self) -> None:
        while self._find_queues is not None:
            with suppress(BrokerError):
                self._queues = frozenset(await self._find_queues())
            await asyncio.sleep(LEARN_INTERVAL)
        await asyncio.Event().wait()


async def _scan(data: PushConnection) -> AsyncIterator[list[bytes]]:
    cursor = b"0"
    while True:
        cursor, keys = await data.command("SCAN", cursor, "MATCH", RESULT + b"*", "COUNT", SCAN_COUNT)
        yield keys
        if cursor == b"0":
            return


def _pause(began: float) -> float:
    """Until the next search, in seconds."""
    return max(SCAN_INTERVAL, (time.monotonic() - began) * (1 / BUSY_SHARE - 1))


async def _first_of(*awaitables: Awaitable[object]) -> None:
    """Runs them side by side until the first ends, and ends as it does. None is left running."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
