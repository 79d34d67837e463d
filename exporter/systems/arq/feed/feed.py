"""The feed `results`: every kept result of ARQ counted once, from the moment on at which we came.

arq writes a result when a job ended (arq/worker.py, `finish_job`) and keeps it for an hour by default. Jobs that keep
none, cron jobs by default among them, are watched in `unkept`, over the same connections.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Set
from contextlib import suppress
from functools import partial
from typing import Final

import structlog

from exporter.brokers.errors import BrokerError, ReplyTooLarge
from exporter.brokers.pulls import Pulls
from exporter.brokers.push import Push
from exporter.brokers.turn import Turn
from exporter.model import Sink
from exporter.systems.arq.feed import ahead
from exporter.systems.arq.feed.beside import first_of
from exporter.systems.arq.feed.modes import FeedMode, Line, allows_other, connect, pushed_keys
from exporter.systems.arq.feed.reading import LONGEST_KEY, PAGE, Value, decode, read_values
from exporter.systems.arq.feed.seen import Seen, steady
from exporter.systems.arq.feed.tally import Rule, Tally
from exporter.systems.arq.feed.unkept import Unkept, UnkeptJobs
from exporter.systems.arq.layout import RESULT
from exporter.systems.arq.records.serializers import Serializer
from exporter.systems.keys import pages

COALESCE: Final = 0.05
"""Seconds in which pushes may gather: a round trip for each result would cost more than reading it."""
PENDING: Final = 250_000
"""Keys that wait to be read, 1 KiB each at most; beyond, they are left for a search to find."""
SCAN_INTERVAL: Final = 5.0
BUSY_SHARE: Final = 0.05
"""Of the time, at most this share is spent searching."""
LONGEST_PAUSE: Final = 300.0
"""Seconds between two searches while none succeeds."""
CHECK_INTERVAL: Final = 5.0
"""Seconds between two looks whether the server still pushes."""
HOPE_INTERVAL: Final = 300.0
"""Seconds between two attempts at a mode that was refused."""
LEARN_INTERVAL: Final = 2.0
"""Seconds. What is deferred by less in a queue that is new is not seen before it is due."""

log = structlog.get_logger("exporter.systems.arq")


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
        monotonic: Callable[[], float] = steady,
        serializer: Serializer = Serializer.AUTO,
        unkept: Unkept = Unkept.AUTO,
        only_those: bool = False,
    ) -> None:
        """`queues` gives those in which to look for what gets due; beside them those that results tell of, unless
        `only_those` are ours to read. `monotonic` tells when `clock` was set."""
        self.tally = Tally(clock, serializer)
        self.tally.ahead.only = () if only_those else None
        self._unkept = UnkeptJobs(pulls, unkept, serializer, self.tally, self._known_queues, clock)
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
        self._seen = Seen(self.tally, clock, monotonic)
        self.seeded = False
        """Whether it is known what stood there when we came."""
        self._given_up = 0  # searches in a row
        self._search_problem: str | None = None
        self._refused = ""
        self._sink: Sink

    @property
    def problems(self) -> Collection[str]:
        """Why not everything is counted, if so: one line each."""
        problems = (self._search_problem, self.tally.problem, self.tally.ahead.problem, self._unkept.problem)
        return [problem for problem in problems if problem]

    async def follow(self, sink: Sink) -> None:
        """See `model.Feed`. Raises BrokerError when one of the connections is lost."""
        self._sink = sink
        while True:  # with new connections when `unkept` wants to be told of more: nothing of what stands is missed
            try:
                await self._follow_once(sink)
            finally:
                self.tally.kept.forget()
                if self._seen.armed is not None:  # cut off in the first search: the clocks have to tell what is new
                    self._seen.first_cutoff = self._seen.armed

    async def _follow_once(self, sink: Sink) -> None:
        scope = self._unkept.scope
        async with connect(self._pulls.access, self._turn, self._wanted, scope, self._on_push) as line:
            self._arm(line, sink)
            self._note_refusals(line)
            await first_of(
                *line.losses(),
                self._read_pushed(line, sink),
                self._search(line, sink) if line.sub else self._search_for_ever(line, sink),
                self._keep_watch(line),
                self._learn_queues(),
                self._unkept.follow(line, sink),
                self._hope_for_more(line),
            )

    def _note_refusals(self, line: Line) -> None:
        if line.refused != self._refused:
            self._refused = line.refused
            log.info("feed mode", mode=line.mode, refused=line.refused, server=self._pulls.access.server)

    async def _hope_for_more(self, line: Line) -> None:
        """Returns when the server does what it refused: rights are given without a connection's being cut."""
        while True:
            await asyncio.sleep(HOPE_INTERVAL)
            if line.mode is FeedMode.KEYSPACE:  # in which a flush is not told
                self._want_search()
                self._unkept.doubt()
            if line.refused and await allows_other(line, self._pulls.access, self._turn):
                return

    def _arm(self, line: Line, sink: Sink) -> None:
        self._seen.arm()
        self.tally.ends.results_take = 0.0 if line.sub else SCAN_INTERVAL
        self._search_wanted.set()
        self._prune()
        if line.sub or self.seeded:
            sink.connected(line.mode)

    # -- pushed -------------------------------------------------------------------------------------------------

    def _on_push(self, push: Push) -> None:
        keys = pushed_keys(push)
        if keys is None:
            self._want_search()  # a replica that gets a whole new copy says so too, and nothing of what is in it
            self._unkept.doubt()
            return
        results = []
        for key in keys:
            if key.startswith(RESULT):
                results.append(key)
            else:
                self._unkept.pushed(key)
        if results:
            self._on_results(results)

    def _on_results(self, keys: list[bytes]) -> None:
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
                for page in pages(self._taken, PAGE):
                    values = await read_values(line.data, page)
                    for key in {*page} - {value.key for value in values}:
                        self.tally.kept.gone(key)
                    self._seen.check()
                    await decode(self._turn, values, lambda value: self.tally.take_pushed(value, sink))
                    done += len(page)
            finally:  # what was decoded already of the page is remembered
                self._pending = dict.fromkeys(list(self._taken)[done:]) | self._pending
                self._taken = {}

    # -- searched -----------------------------------------------------------------------------------------------

    def _want_search(self) -> None:
        self._seen.doubt()
        self._search_wanted.set()

    async def _search(self, line: Line, sink: Sink) -> None:
        """Whenever something may have been missed, for the first time when the connection was made."""
        while True:
            await self._search_wanted.wait()
            began = time.monotonic()
            await self._search_once(line, sink)
            await asyncio.sleep(self._pause(began))

    async def _search_for_ever(self, line: Line, sink: Sink) -> None:
        """All there is, where nothing is pushed."""
        while True:
            began, mark, first = time.monotonic(), self._seen.mark(), not self.seeded
            self._want_search()
            if await self._search_once(line, sink):
                self._seen.confirm(mark)
                if first:  # what came up during the first search stands there for us
                    sink.connected(line.mode)
            took, pause = time.monotonic() - began, self._pause(began)
            self.tally.ends.results_take = took + pause + took  # of one that was written just behind this search
            await asyncio.sleep(pause)

    async def _search_once(self, line: Line, sink: Sink) -> bool:
        """Whether it came to its end: one key of many megabytes keeps it from that. Pushes are counted all the same."""
        self._search_wanted.clear()
        self._pushed = pushed = {*self._pending, *self._taken}
        self.tally.kept.begin()
        try:
            await self._search_through(line, pushed, sink)
        except ReplyTooLarge as error:
            self._given_up += 1
            self._search_problem = f"results cannot be searched, a key may be too long: {error}"
            self._search_wanted.set()
            return False
        finally:
            self._pushed = None
        self._given_up, self._search_problem = 0, None
        self.seeded = True
        if line.removals or line.sub is None:  # else nothing would tell which of them go
            self.tally.kept.end()
        if not self._search_wanted.is_set():
            self._seen.caught_up()
        return True

    async def _search_through(self, line: Line, pushed: Set[bytes], sink: Sink) -> None:
        rule = self._rule(line)
        # Not over `data`: a reply that is too large ends its connection.
        async for keys in self._pulls.scan("MATCH", RESULT.decode() + "*"):
            for page in pages(keys, PAGE):
                values = await self._read_standing(line, page)
                if rule.seeding and len(pushed) >= PENDING and self._seen.armed is not None:
                    rule.cutoff = self._seen.armed  # not all that was pushed is known: the clocks tell what is new
                await decode(self._turn, values, partial(self._take_standing, pushed, rule))
            self.tally.record_standing(rule, sink)

    def _rule(self, line: Line) -> Rule:
        self._seen.check()
        if not self.seeded:
            return Rule(self._seen.first_cutoff, seeding=True)
        return Rule(self._seen.cutoff, untimed=line.sub is None)

    async def _read_standing(self, line: Line, keys: list[bytes]) -> list[Value]:
        """What stands at the keys. Those of them that had been pushed by then are known as such."""
        values = [Value(key, None) for key in keys if len(key) > LONGEST_KEY]
        values += await read_values(line.data, [key for key in keys if len(key) <= LONGEST_KEY])
        await line.barrier()
        return values

    def _take_standing(self, pushed: Set[bytes], rule: Rule, value: Value) -> None:
        if value.key in pushed:  # it is, or was, read because of that
            self.tally.note_kept(value)
        else:
            self.tally.take_standing(value, rule, self._sink)

    def _pause(self, began: float) -> float:
        """Until the next search, in seconds."""
        least = SCAN_INTERVAL * 2.0 ** min(self._given_up, 16)
        return max(min(least, LONGEST_PAUSE), (time.monotonic() - began) * (1 / BUSY_SHARE - 1))

    # -- beside it ----------------------------------------------------------------------------------------------

    async def _keep_watch(self, line: Line) -> None:
        """Makes sure, every second, that all is good, and looks ahead for what gets due."""
        checking, checked = line.sub is not None, time.monotonic()
        while True:
            began, mark = time.monotonic(), self._seen.mark()
            queues = self._known_queues()
            interval = ahead.interval(len(queues))
            await self.tally.ahead.look(self._pulls, queues, self._clock(), interval)
            if checking and began - checked >= CHECK_INTERVAL:
                checking, checked = await line.check(), began
            await line.confirm()
            if line.sub is not None:
                self._seen.confirm(mark)
            self._prune()
            # Never in step with a producer, whose short jobs would be gone at each look.
            pause = interval * random.uniform(0.6, 1)  # noqa: S311  no secret
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - began)))

    def _known_queues(self) -> Collection[str]:
        return self._queues | self.tally.progress.keys() if self.tally.ahead.only is None else self._queues

    def _prune(self) -> None:
        self._seen.prune(searching=not self._given_up)

    async def _learn_queues(self) -> None:
        while self._find_queues is not None:
            with suppress(BrokerError):
                queues = frozenset(await self._find_queues())
                if not queues <= self._queues:
                    self._unkept.look_for_queues()
                self._queues = queues
                if self.tally.ahead.only is not None:
                    self.tally.ahead.only = self._queues
            await asyncio.sleep(LEARN_INTERVAL)
        await asyncio.Event().wait()
