"""How many starts nobody heard, by what workers say in their heartbeats.

A worker counts the jobs that it started (`processed`: celery's `worker/state.py`, `all_total_count`) in the same
moment in which it says so of each (`worker/request.py`, `on_accepted`). So `processed` minus the starts that were
heard stays as it is while everything is heard, and what it rises by over a gap was not. Its heartbeats may run ahead
of its task events, which it gathers; so the least of a few is right, once it is said twice.

What it rises by without a gap are jobs of tasks that send no events, or events that the worker itself lost (the pool
`threads` of celery 5.4 to 5.6: `events/dispatcher.py`, `flush`, drops what is put in meanwhile). Where a job is said to
end and was not said to start, it is the latter.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import Final

from exporter.systems.celery.events.frames import Event

BEATS: Final = 3
"""Heartbeats after which a worker is believed."""
AHEAD: Final = 24
"""Events that a worker gathers at most, by which its heartbeats may be ahead."""
MOST_WORKERS: Final = 10_000
FAMILIAR_SECONDS: Final = 10.0
"""Connected for as long, every worker was heard, if its heartbeats are not rarer: one that is new after a gap began in
it."""
ENDS: Final = frozenset({"task-succeeded", "task-failed", "task-retried"})
"""What a job has to start for, but where its worker does not know it."""


class _Life:
    """One worker's account."""

    __slots__ = (
        *("base", "based_at", "beats", "drifts", "heard", "known", "listened", "offsets", "pid", "processed"),
        *("proven", "silent", "tells", "unstarted"),
    )

    def __init__(self, listened: float) -> None:
        self.listened = listened
        """Seconds that were listened at a stretch before it was heard of, until it is known if they were enough."""
        self.known: int | None = 0 if listened >= FAMILIAR_SECONDS else None
        """What it had processed by the starts that were heard before this connection; None where that is not known."""
        self.heard = 0
        """Starts in this connection."""
        self.base: int | None = None
        """What it had processed when this connection began."""
        self.based_at = math.inf
        """When that was known, by its clock."""
        self.unstarted = 0
        """Jobs that started since, and were heard to end but not to start."""
        self.proven = 0
        """As many of them as it says to have started."""
        self.offsets: deque[int] = deque(maxlen=BEATS)
        self.beats = 0
        self.pid: int | None = None
        self.processed = 0
        self.tells = False
        """Whether it was heard to say of any job that it started."""
        self.silent = False
        """It was not, though it started some."""
        self.drifts = False
        """It runs jobs of which it does not say so: then what it processed tells nothing."""

    def begin_anew(self, pid: int | None) -> None:
        """It is another process. In a gap, what it started since it began was not heard, but for what was in this
        connection; before our eyes it lost nothing."""
        if self.beats:
            self.heard, self.known = 0, None
        else:
            self.known = 0
        self.pid, self.drifts, self.processed = pid, False, 0
        self.rebase()

    def tell(self) -> None:
        """It says of a job that it started."""
        self.tells = True
        if self.silent:  # it was told to say so: what was before is no loss
            self.silent, self.known, self.drifts = False, None, False
            self.rebase()

    def rebase(self) -> None:
        """What it had processed when this connection began is to be found out."""
        self.base, self.based_at, self.unstarted, self.proven = None, math.inf, 0, 0
        self.offsets.clear()

    def is_familiar(self, freq: float | None) -> None:
        """Its heartbeats come that often. Where they are rare, it may have lived unheard."""
        if self.listened < BEATS * (freq or 0.0):
            self.known = None
        self.listened = math.inf

    def prove(self) -> int:
        """How many more starts than before were lost while we listened."""
        if self.base is None or len(self.offsets) < BEATS:
            return 0
        rise = min(self.offsets) - self.base
        if self.believable() is None:
            rise -= AHEAD
        more = max(0, min(self.unstarted, rise) - self.proven)
        self.proven += more
        return more

    def believable(self) -> int | None:
        """What it had processed when this connection began, once it says so."""
        offsets = self.offsets
        if len(offsets) < BEATS or offsets[-1] != offsets[-2] or offsets[-1] != min(offsets):
            return None
        return offsets[-1]

    def part(self) -> None:
        """The connection ended."""
        if self.drifts or self.silent:
            self.known = None
        elif self.base is not None:
            self.known = self.base + self.heard + self.proven
        elif self.known is not None:
            self.known += self.heard
        self.settle_anew()

    def settle_anew(self) -> None:
        """What it said is of no use any more."""
        self.heard, self.beats, self.drifts = 0, 0, False
        self.rebase()


class Losses:
    """The accounts of all workers. `tick` is monotonic time."""

    def __init__(self) -> None:
        self.unheard = 0
        """Starts of gaps that nobody heard, all in all."""
        self.proven = 0
        """Starts that nobody heard though we listened."""
        self._lives: OrderedDict[str, _Life] = OrderedDict()  # the one heard of last stands last
        self._connected: float | None = None
        self._listened = 0.0

    def connected(self, tick: float) -> None:
        """Everything is heard from now on."""
        self._connected = tick

    def disconnected(self, tick: float) -> None:
        """Nothing is."""
        if self._connected is not None:
            self._listened = max(self._listened, tick - self._connected)
            self._connected = None
            for life in self._lives.values():
                life.part()

    def settled(self, tick: float) -> bool:
        """Whether all that is to be told of the last gap is told by now, but by workers that are gone."""
        if self._connected is None or tick - self._connected < FAMILIAR_SECONDS:
            return False
        return all(life.base is not None or life.known is None for life in self._lives.values() if life.beats)

    def missed(self) -> None:
        """Some events were lost, and counted as such."""
        for life in self._lives.values():
            life.known = None
            life.settle_anew()

    def hears(self, worker: str) -> bool:
        """Whether a worker is one that says of its jobs when they start, as far as that is known."""
        life = self._lives.get(worker)
        return life is not None and not life.silent

    def take(self, event: Event) -> None:
        """An event of a worker: what says that a job started, or what it processed."""
        if event.type == "task-started":
            life = self._life(event.hostname)
            self._is_process(life, event.pid)
            life.heard += 1
            life.tell()
        elif event.processed is not None and event.type in ("worker-heartbeat", "worker-online"):
            self._beat(self._life(event.hostname), event, event.processed)

    def take_unstarted(self, event: Event, received_at: float | None) -> None:
        """One of `ENDS`, of a job of which no start was heard. `received_at` is when its worker received it."""
        life = self._lives.get(event.hostname)
        if life is not None:
            began = received_at if event.runtime is None else event.timestamp - event.runtime
            life.unstarted += began is not None and began > life.based_at

    def _beat(self, life: _Life, event: Event, processed: int) -> None:
        self._is_process(life, event.pid)
        life.is_familiar(event.freq)
        if processed < max(life.processed, (life.known or 0) - AHEAD):  # in containers a new process has the same id
            life.begin_anew(event.pid)
        life.processed = processed
        if processed == 0:
            life.known = 0
            if not life.heard and life.base is None:
                life.base, life.based_at = 0, event.timestamp
        offset = processed - life.heard
        if not life.tells and life.offsets and offset > life.offsets[-1]:
            life.silent = True
        life.offsets.append(offset)
        life.beats += 1
        offset_now = life.believable()
        self.proven += life.prove()
        if offset_now is not None:
            self._settle(life, offset_now, event.timestamp)

    def _settle(self, life: _Life, offset: int, at: float) -> None:
        if life.base is not None:
            life.drifts = life.drifts or offset > life.base + life.proven
            life.base = min(life.base, offset)
            return
        if life.known is not None and offset > life.known:
            if not life.tells or life.silent:
                return  # it may be one that says nothing of its jobs
            self.unheard += offset - life.known
        life.base, life.based_at = offset, at

    def _is_process(self, life: _Life, pid: int | None) -> None:
        if pid is not None and pid != life.pid:
            if life.pid is not None:
                life.begin_anew(pid)
            life.pid = pid

    def _life(self, name: str) -> _Life:
        life = self._lives.get(name)
        if life is None:
            life = self._lives[name] = _Life(self._listened)
            if len(self._lives) > MOST_WORKERS:
                self._lives.popitem(last=False)
        self._lives.move_to_end(name)
        return life
