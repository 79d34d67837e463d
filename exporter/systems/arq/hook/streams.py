"""How far the streams of the queues were read, and which of their records were seen."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from exporter.brokers.errors import ReplyTooLarge
from exporter.systems.arq.hook.reading import START, LastId, NoStream, Position

QUEUES: Final = 1000
"""Streams that are read: those that were written to last. Of as many others the positions are remembered."""
WORKERS: Final = 10_000
"""Whose numbers are remembered; beyond, the one not heard of for longest makes room."""
STEP: Final = 1_000_000
"""Records that a worker may have made beyond those that it is known to have made: what claims more is not believed."""


class Streams:
    """The streams of queues. Outlives connections."""

    def __init__(self) -> None:
        self._positions: OrderedDict[str, Position] = OrderedDict()  # of the queues that are wanted at the end
        self._rewound: set[str] = set()
        self._odd: set[str] = set()
        self._wanted: tuple[str, ...] = ()

    @property
    def wanted(self) -> Collection[str]:
        """The queues whose streams are to be read."""
        return self._wanted

    @property
    def readable(self) -> Mapping[str, Position]:
        """Those that can be, and the positions up to which they were read."""
        return {queue: self._positions[queue] for queue in self._wanted if queue not in self._odd}

    @property
    def problem(self) -> str | None:
        """Why not all of them are read, if so."""
        if not self._odd:
            return None
        return f"hook: no stream at taskqueue:arq:events: of {len(self._odd)} queues, but another type of value"

    def want(self, queues: Collection[str]) -> None:
        """The queues of the index by now. The stream of one that is new is read from its start."""
        self._wanted = tuple(queues)[-QUEUES:]
        for queue in self._wanted:
            self._positions.setdefault(queue, START)
            self._positions.move_to_end(queue)
        while len(self._positions) > 2 * QUEUES:
            forgotten, _ = self._positions.popitem(last=False)
            self._rewound.discard(forgotten)
        self._odd &= {*self._wanted}

    def positions(self) -> Mapping[str, Position]:
        """Up to where each was read by now."""
        return dict(self._positions)

    def pass_over(self, last_ids: Mapping[str, LastId], now_ms: int) -> None:
        """Nothing counts of what stands in the streams: all up to their last ids or, where one is not known, to what
        our clock shows."""
        for queue, last in self._true(last_ids):
            self._positions[queue] = last or (now_ms, 0)

    def check(self, last_ids: Mapping[str, LastId], positions: Mapping[str, Position]) -> None:
        """What the streams gave as their last ids when they had been read up to `positions`, or further."""
        for queue, last in self._true(last_ids):
            if last is not None and last < positions.get(queue, START):
                self._positions[queue] = START  # flushed, or replaced by an older copy: ids begin anew
                self._rewound.add(queue)

    def _true(self, last_ids: Mapping[str, LastId]) -> Iterator[tuple[str, Position | None]]:
        """The queues whose streams are some, with their last ids where these are known."""
        for queue, last in last_ids.items():
            if isinstance(last, NoStream):
                self._odd.add(queue)
            else:
                self._odd.discard(queue)
                yield queue, None if isinstance(last, ReplyTooLarge) else last

    def read(self, queue: str, position: Position) -> None:
        """Its stream was read so far."""
        self._positions[queue] = position

    def rewound(self, queue: str) -> bool:
        """Whether its stream may show again what stood there before we came."""
        return queue in self._rewound


class Numbers:
    """The numbers of the records that each worker made: seen ones are told from new ones, and missing ones noticed."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, int] = OrderedDict()
        self._made: OrderedDict[str, int] = OrderedDict()
        self._doubts: dict[str, int] = {}

    def __contains__(self, worker: str) -> bool:
        return worker in self._last

    def made(self, worker: str, records: int) -> None:
        """How many records a worker has made, it says. Remembered beyond its goodbye: its last ones are read later."""
        self._made[worker] = records
        self._made.move_to_end(worker)
        if len(self._made) > WORKERS:
            self._made.popitem(last=False)

    def credible(self, worker: str, n: int) -> bool:
        """Whether a worker can have made so many records by now."""
        return n <= STEP + max(self._last.get(worker, 0), self._made.get(worker, 0))

    def take(self, worker: str, n: int) -> int | None:
        """The n-th record of a worker was read. Returns how many are missing before it; None if it was seen before.

        Of a worker that nothing was read of it may be all those before we came: see `doubts`.
        """
        last = self._last.get(worker)
        if last is None:
            if n > 1:
                self._doubts[worker] = n - 1
            self.note(worker, n)
            return 0
        if n <= last:
            return None
        self.note(worker, n)
        return n - last - 1

    def note(self, worker: str, n: int) -> None:
        """Records of a worker up to the n-th are not to be counted any more."""
        self._last[worker] = max(n, self._last.get(worker, n))
        self._last.move_to_end(worker)
        if len(self._last) > WORKERS:
            forgotten, _ = self._last.popitem(last=False)
            self._doubts.pop(forgotten, None)

    def doubts(self) -> Mapping[str, int]:
        """How many records of each worker may be missing before the first that was read; told once."""
        doubts, self._doubts = self._doubts, {}
        return doubts
