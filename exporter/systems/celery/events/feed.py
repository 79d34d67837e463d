"""The feed `events`: what Celery's workers and producers publish on the Redis they use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

from msgspec.structs import replace

from exporter.brokers.access import Access
from exporter.brokers.push import ConnectionLost, Push, PushConnection
from exporter.brokers.turn import Turn
from exporter.model import Sink, Unreadable
from exporter.systems.celery.events.frames import JSON, Event, count_events, read_frame
from exporter.systems.celery.events.gaps import Gaps, Naming
from exporter.systems.celery.events.routed import Route, nowhere, routed
from exporter.systems.celery.events.standstill import Standstill
from exporter.systems.celery.jobs.tasks import Tasks
from exporter.systems.celery.layout import event_channels, queue_name
from exporter.systems.celery.results.results import Results
from exporter.systems.celery.workers.look import Look
from exporter.systems.celery.workers.workers import Workers
from exporter.systems.keys import key_text

TICK_SECONDS: Final = 0.5
"""Between two looks at what is held, and at what is to be forgotten."""
SHORT_TICK_SECONDS: Final = 0.01
"""The same while more is to be let go than one look does."""
_MAX_CHANNELS: Final = 10_000


class EventsFeed:
    """Celery's events by pub/sub (kombu's `transport/redis.py`). Its tables outlive the connection."""

    name = "events"

    def __init__(
        self,
        access: Access,
        turn: Turn,
        clock: Callable[[], float],
        forget_workers_after: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        tasks: Callable[[Workers], Tasks] = Tasks,
        accepted: Collection[str] = JSON,
        only: str | None = None,
        results: Results | None = None,
        naming: Callable[[], Awaitable[Naming]] | None = None,
        route: Route = nowhere,
        inspect: bool = False,
    ) -> None:
        """`accepted` are the formats of events that are read: names of `frames.FORMATS`. `only` is the option
        `global_keyprefix`. For `results` and `naming` see `Gaps`; `route` tells where a message goes; `inspect` whether
        workers are asked, too."""
        self.pattern = event_channels(access.db, only)
        self._only = only
        self._route = route
        self._access = access
        self._turn = turn
        self._clock = clock
        self._monotonic = monotonic
        self._accepted = accepted
        self._workers = Workers(forget_workers_after, asks=inspect)
        self._tasks = tasks(self._workers)
        self._gaps = Gaps(self._tasks, results, clock(), naming)
        self._channels: dict[bytes, tuple[str, str]] = {}
        self._exchange = f"/{access.db}.celeryev/"
        self._sink: Sink

    async def follow(self, sink: Sink) -> None:
        """See `model.Feed`."""
        self._sink = sink
        connection = await PushConnection.open(self._access, self._turn, self._take, self._dropped)
        try:
            await connection.expect(b"psubscribe", "PSUBSCRIBE", self.pattern)
            self._workers.connected(self._monotonic())
            self._tasks.at(self._clock(), self._monotonic())
            self._gaps.connected(self._clock(), self._monotonic())
            sink.connected("pubsub")
            await self._listen(connection)
        finally:
            self._workers.disconnected()
            await connection.close()
            await self._let_go()

    # -- what is known ------------------------------------------------------------------------------------------

    @property
    def workers(self) -> Workers:
        """The workers, for those who ask them, too."""
        return self._workers

    @property
    def tasks(self) -> Tasks:
        """The jobs."""
        return self._tasks

    def look(self) -> Look:
        """The workers as they are now."""
        return self._workers.look(self._monotonic())

    def note_queues(self, names: Collection[str]) -> None:
        """These are the queues there are."""
        self._workers.note_queues(names, self._monotonic())

    @property
    def problems(self) -> Collection[str]:
        """What cannot be done beside following."""
        gaps = [] if self._gaps.problem is None else [self._gaps.problem]
        return [*gaps, *self._workers.problems(self._monotonic())]

    # -- following ----------------------------------------------------------------------------------------------

    async def _listen(self, connection: PushConnection) -> None:
        """Until the connection is lost. Beside that, results tell of the time before it."""
        filling = asyncio.create_task(self._gaps.fill(self._hand_on_results))
        standstill = Standstill(self._clock(), self._monotonic())
        silent = 0.0
        try:
            await self._until_lost(connection, standstill)
        except ConnectionLost as error:
            tick = time.monotonic()
            silent = standstill.silent(max(0.0, tick - error.heard_at), self._clock(), self._monotonic())
            error.heard_at = tick - silent
            raise
        finally:
            filling.cancel()
            await asyncio.wait({filling})
            self._gaps.disconnected(self._clock() - silent, self._monotonic())

    async def _until_lost(self, connection: PushConnection, standstill: Standstill) -> None:
        while True:
            try:
                async with asyncio.timeout(SHORT_TICK_SECONDS if self._tasks.held.overdue else TICK_SECONDS):
                    await connection.lost()
            except TimeoutError:
                standstill.look(self._clock(), self._monotonic())
                self._look_at_clock()

    def _look_at_clock(self) -> None:
        tick = self._monotonic()
        self._tasks.at(self._clock(), tick)
        self._workers.forget(tick)
        self._hand_on()
        if lost := self._gaps.take_losses(tick):
            self._sink.lost(lost)

    def _hand_on_results(self, counted: int) -> None:
        """The jobs that were counted by their results, and the results that could not be read."""
        self._hand_on()
        unreadable = self._gaps.take_unreadable()
        received = counted + sum(count for _, count in unreadable)
        if received:
            self._account("job", counted, dict(unreadable), 0)

    async def _let_go(self) -> None:
        """Of all that is held, as what it waits for may pass unheard. The loop gets its turns."""
        while self._tasks.held.flush():
            self._hand_on()
            await asyncio.sleep(0)
        self._hand_on()

    def _take(self, push: Push) -> None:
        """A message: `pmessage`, pattern, channel, payload."""
        prefix, kind = self._channel(push[2])
        frame = read_frame(push[3], self._accepted)
        now, tick = self._clock(), self._monotonic()
        self._tasks.at(now, tick)
        unnamed = 0
        for event in frame.events:
            unnamed += not self._take_event(event, prefix, now, tick)
        self._hand_on()
        self._account(kind, len(frame.events), frame.unreadable, unnamed)

    def _take_event(self, event: Event, prefix: str, now: float, tick: float) -> bool:
        """Whether the event says what it is of. Those of an application's own types say it to others."""
        if event.hostname:
            if prefix:  # workers under two key prefixes may have one name
                event = replace(event, hostname=prefix + event.hostname)
            self._gaps.take(event)
        if event.type.startswith("task-"):
            return self._tasks.take(routed(event, prefix, self._route) if event.exchange else event, prefix)
        if event.type.startswith("worker-"):
            if event.hostname:
                self._workers.take(event, now, tick, prefix)
            return bool(event.hostname)
        return True

    def _account(self, kind: str, readable: int, unreadable: Mapping[Unreadable, int], unnamed: int) -> None:
        sink = self._sink
        sink.received(kind, readable + sum(unreadable.values()) if unreadable else readable)
        for reason, count in unreadable.items():
            sink.undecodable(reason, count)
        if unnamed:
            sink.undecodable(Unreadable.MALFORMED, unnamed)

    def _hand_on(self) -> None:
        tasks, sink = self._tasks, self._sink
        if events := tasks.take_events():
            sink.record(events)
        if tasks.forgotten:
            sink.forgotten(tasks.forgotten)
            tasks.forgotten = 0

    def _dropped(self, push: Push) -> None:
        """A message that there was no room for."""
        self._sink.lost(count_events(push[3], self._accepted))
        self._workers.missed(self._monotonic())
        self._gaps.losses.missed()

    def _channel(self, channel: bytes) -> tuple[str, str]:
        """What we put before the names of the queues in a channel's events, and the kind of these."""
        known = self._channels.get(channel)
        if known is None:
            prefix, _, routing_key = key_text(channel).partition(self._exchange)
            prefix = queue_name("", prefix, self._only) or ""  # what stands before the names of its queues
            if len(self._channels) >= _MAX_CHANNELS:
                self._channels.clear()
                self._gaps.prefixes.clear()
            self._gaps.prefixes.add(prefix)
            known = self._channels[channel] = prefix, "worker" if routing_key.startswith("worker.") else "job"
        return known
