"""The feed `hook`: what workers tell that have the hook, of themselves and of each attempt that ended in them.

Streams keep what was written while nobody read: positions and numbers outlive a connection, so a cut loses nothing.
What a stream was trimmed of, or a worker's buffer, shows as a step in its worker's numbers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, TypeAlias

from exporter.brokers.errors import Command, Refused, naming
from exporter.brokers.pulls import Pulls
from exporter.brokers.push import PushConnection
from exporter.brokers.turn import Turn
from exporter.model import Sink, Unreadable, WorkerState
from exporter.safe.text import one_line
from exporter.systems.arq.ends.ends import Ends
from exporter.systems.arq.feed.beside import first_of
from exporter.systems.arq.feed.reading import decode
from exporter.systems.arq.hook.reading import (
    EntryReply,
    Position,
    as_id,
    as_position,
    read_index,
    read_last_ids,
    read_lists,
    read_through,
    read_workers,
    stream_key,
)
from exporter.systems.arq.hook.records import Entry, read_entry
from exporter.systems.arq.hook.streams import QUEUES, Numbers, Streams
from exporter.systems.arq.hook.workers import QueueWorkers, Workers
from exporter.systems.arq.layout import HOOKED_QUEUES, HOOKED_WORKERS

BLOCK: Final = 0.5
"""Seconds for which a read waits for records. The PING of the connection stands behind it."""
ENTRIES: Final = 500
"""Read in one go, of all streams together: a reply is taken apart in one piece."""
FEWEST: Final = 5
"""Read of each stream all the same, however many there are. Those that have more are read once more, by themselves."""
LOOK_INTERVAL: Final = 1.0
"""Seconds between two looks at the workers."""
BUSY_SHARE: Final = 0.1
"""Of the time, at most this share is spent looking at them, as far as LONGEST_PAUSE has it."""
LONGEST_PAUSE: Final = 3.0
"""Seconds between two looks, however long one took: it may only have waited, for the server or for a turn. Ends that
nobody kept are not counted before the next look, and within a beat it is forgotten which queues have workers."""
LOOKED_AT: Final = 200
"""Workers whose records are read in one look: of more it takes several to look at all."""
WORKERS: Final = 10_000
CHECK_INTERVAL: Final = 10.0
"""Seconds between two looks whether the streams are still the ones that were read."""
STARTED_MARGIN: Final = 60.0
"""Seconds by which a worker's clock may be behind ours, when it is asked whether it started after we came."""

Item: TypeAlias = tuple[str, EntryReply]


class HookFeed:
    """See `model.Feed`."""

    name: Final = "hook"

    def __init__(
        self,
        pulls: Pulls,
        turn: Turn,
        ends: Ends,
        forget_workers_after: float,
        only: Collection[str] | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ends` counts what is told. `only` are the queues that are ours to read, if not all are."""
        self._pulls = pulls
        self._turn = turn
        self._ends = ends
        self._only = only
        self._clock = clock
        self._monotonic = monotonic
        self._workers = Workers(forget_workers_after, only)
        self._streams = Streams()
        self._numbers = Numbers()
        self._armed_at: float | None = None  # since when records count, by our wall clock; None: they were never read
        self._standing: frozenset[str] = frozenset()  # the workers that there were then
        self._doubts: Mapping[str, int] = {}
        self._to_look_at: list[str] = []
        self._queues_at = 0.0  # when the index of queues was read last
        self._checked = 0.0
        self._sink: Sink

    # -- what is known ------------------------------------------------------------------------------------------

    @property
    def problems(self) -> Collection[str]:
        """Why not everything is read, if so: one line each."""
        return [problem for problem in (self._streams.problem,) if problem]

    @property
    def queues(self) -> Collection[str]:
        """Those that have, or had of late, workers with the hook."""
        return self._workers.queues

    def workers(self) -> Collection[WorkerState] | None:
        """The workers; None while they are not known, or where none has the hook."""
        return self._workers.states(self._clock(), self._monotonic())

    def queue(self, queue: str) -> QueueWorkers:
        """The workers of a queue, as far as they are known."""
        untold = self._ends.last_untold.get(queue)
        return self._workers.queue(queue, untold, self._clock(), self._monotonic())

    # -- following ----------------------------------------------------------------------------------------------

    async def follow(self, sink: Sink) -> None:
        """See `model.Feed`. Raises BrokerError when the connection is lost, or reading is refused."""
        self._sink = sink
        connection = await PushConnection.open(self._pulls.access, self._turn)
        try:
            await first_of(connection.lost(), self._follow(connection))
        finally:
            self._workers.disconnected()
            await connection.close()

    async def _follow(self, connection: PushConnection) -> None:
        self._workers.connected(self._monotonic())
        self._ends.listen()
        try:
            await self._arm(connection)
        finally:
            if self._armed_at is None:
                self._ends.ignore()
        self._watch()
        self._sink.connected("stream")
        await first_of(self._read(connection), self._keep_looking())

    async def _arm(self, connection: PushConnection) -> None:
        """What stands in the streams is passed over, until they could be read for the first time; after a gap, it is
        what was written meanwhile."""
        now, first = self._clock(), self._armed_at is None
        await self._look_for_queues()
        await (self._pass_over() if first else self._check_streams())
        self._to_look_at = []
        await self._look(WORKERS)
        if first:
            self._standing = self._workers.ids
        else:
            await self._catch_up()
        await self._read_once(connection, block=None)  # denied it would be now
        if first:
            self._armed_at = now

    # -- records ------------------------------------------------------------------------------------------------

    async def _read(self, connection: PushConnection) -> None:
        while True:
            # A queue that is new since the last look at the index may have records that this read does not bring.
            indexed = self._queues_at
            if not self._streams.readable:
                await asyncio.sleep(BLOCK)
                self._ends.release(indexed)
            elif await self._read_once(connection, BLOCK):
                self._ends.release(indexed)

    async def _read_once(self, connection: PushConnection, block: float | None) -> bool:
        """Reads a page of each stream, for which it waits if need be. Whether nothing is left unread that stood there
        when it began."""
        full = await self._read_page(connection, self._streams.readable, block)
        if full and len(full) < len(self._streams.readable):
            rest = {queue: position for queue, position in self._streams.readable.items() if queue in full}
            full = await self._read_page(connection, rest, None)
        return not full

    async def _read_page(
        self, connection: PushConnection, streams: Mapping[str, Position], block: float | None
    ) -> Collection[str]:
        """Reads a page of each stream. Returns the queues that may have more."""
        if not streams:
            return ()
        keys = {stream_key(queue): queue for queue in streams}
        count = max(FEWEST, ENTRIES // len(streams))
        waiting = () if block is None else ("BLOCK", int(block * 1000))
        command: Command = ("XREAD", "COUNT", count, *waiting, "STREAMS", *keys, *map(as_id, streams.values()))
        (reply,) = await connection.many([command])
        if isinstance(reply, Exception):
            await self._take_refusal(str(reply), command)
            return streams.keys()
        pages = {keys[key]: entries for key, entries in reply or ()}
        await self._take_pages(pages)
        return {queue for queue, entries in pages.items() if len(entries) >= count}

    async def _take_refusal(self, text: str, command: Command) -> None:
        """Of all streams together, for the sake of one key."""
        if not text.startswith("WRONGTYPE"):
            raise Refused(one_line(f"records cannot be read: {naming(text, command)}"))
        await self._check_streams()
        await asyncio.sleep(BLOCK)  # whoever writes such keys may go on with it

    async def _catch_up(self) -> None:
        """Reads what was written in a gap. An entry that is too long may be what ended the connection: it is passed
        over."""
        for queue, position in self._streams.readable.items():
            async for page in read_through(self._pulls, queue, position):
                if isinstance(page, list):
                    await self._take_pages({queue: page})
                else:
                    self._streams.read(queue, page)
                    self._sink.received("job", 1)
                    self._sink.undecodable(Unreadable.BOUNDS, 1)

    async def _take_pages(self, pages: Mapping[str, list[EntryReply]]) -> None:
        await decode(self._turn, [*_items(pages)], self._take)

    def _take(self, item: Item) -> None:
        """One entry, without a pause in which it could be cancelled: none counts twice."""
        queue, (entry_id, fields) = item
        found = read_entry(queue, fields)
        self._streams.read(queue, as_position(entry_id))
        self._sink.received("job", 1)
        if isinstance(found, Unreadable):
            self._sink.undecodable(found, 1)
        else:
            self._take_entry(queue, found)

    def _take_entry(self, queue: str, entry: Entry) -> None:
        told = entry.told
        if not self._numbers.credible(entry.worker, entry.n):
            self._sink.undecodable(Unreadable.MALFORMED, 1)
            return
        if not isinstance(told, Unreadable) and self._stood_before(queue, entry.worker, told.written):
            self._numbers.note(entry.worker, entry.n)
            return
        missing = self._numbers.take(entry.worker, entry.n)
        if missing is None:
            return
        if missing:
            self._sink.lost(missing)
        if isinstance(told, Unreadable):
            self._sink.undecodable(told, 1)
        else:
            self._ends.told(told, self._sink)

    def _stood_before(self, queue: str, worker: str, written: float) -> bool:
        """Whether an entry stood there when we came, and shows again as its stream is read anew."""
        if not self._streams.rewound(queue) or worker in self._numbers:
            return False
        return self._armed_at is not None and written < self._armed_at

    # -- workers ------------------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        pause = LOOK_INTERVAL
        while True:
            await asyncio.sleep(pause)
            began = self._monotonic()
            await self._look_for_queues()
            await self._look(LOOKED_AT)
            self._watch()
            if began - self._checked >= CHECK_INTERVAL:
                await self._check_streams()
            took = self._monotonic() - began
            pause = max(LOOK_INTERVAL - took, min(took * (1 / BUSY_SHARE - 1), LONGEST_PAUSE))

    def _watch(self) -> None:
        """Ends of jobs wait for their records from now on. Not before these can be read."""
        self._ends.watch(self._workers.live_queues, self._workers.longest_beat)

    async def _look_for_queues(self) -> None:
        began = self._monotonic()
        queues = await read_index(self._pulls, HOOKED_QUEUES, QUEUES)
        if self._only is not None:
            queues = {queue: at for queue, at in queues.items() if queue in self._only}
        self._streams.want([*queues])
        self._queues_at = began

    async def _check_streams(self) -> None:
        self._checked = self._monotonic()
        positions = self._streams.positions()  # before they are asked for: records are read meanwhile
        self._streams.check(await read_last_ids(self._pulls, self._streams.wanted), positions)

    async def _pass_over(self) -> None:
        last_ids = await read_last_ids(self._pulls, self._streams.wanted)
        self._streams.pass_over(last_ids, int(self._clock() * 1000))

    async def _look(self, most: int) -> None:
        """Looks at so many workers: the next ones of those that there were when all had been looked at."""
        if not self._to_look_at:
            self._doubts = self._numbers.doubts()
            written = await read_index(self._pulls, HOOKED_WORKERS, WORKERS)
            self._workers.index(written, self._clock(), self._monotonic())
            self._to_look_at = self._workers.to_look_at(self._monotonic())
        part, self._to_look_at = self._to_look_at[:most], self._to_look_at[most:]
        await self._look_at(part)
        if not self._to_look_at:
            self._workers.looked(self._streams.wanted, self._monotonic())
            self._resolve_doubts()

    async def _look_at(self, workers: Collection[str]) -> None:
        asked = self._monotonic()
        found, lengths = await read_workers(self._pulls, workers)
        tick = self._monotonic()
        new = []
        for worker, record in found.items():
            if isinstance(record, Unreadable):
                if self._workers.refuse(worker, record, tick):
                    self._sink.undecodable(record, 1)
            elif self._workers.look(worker, record, asked, tick) and record is not None:
                new.append(worker)
                self._numbers.made(worker, record.records)
        if new:
            self._sink.received("worker", len(new))
        for worker, progress in (await read_lists(self._pulls, {worker: lengths[worker] for worker in new})).items():
            self._workers.progress(worker, progress)

    def _resolve_doubts(self) -> None:
        """Records that are missing before the first one of a worker are lost if it started after we came."""
        for worker, missing in self._doubts.items():
            started = self._workers.started(worker)  # None: it has said goodbye since
            before = started is not None and self._armed_at is not None and started < self._armed_at - STARTED_MARGIN
            if not before and worker not in self._standing:
                self._sink.lost(missing)
        self._doubts = {}


def _items(pages: Mapping[str, list[EntryReply]]) -> Iterator[Item]:
    return ((queue, entry) for queue, entries in pages.items() for entry in entries)
