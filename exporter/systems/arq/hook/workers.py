"""The workers that have the hook, by what they write: who lives, who was lost, and what the live ones are busy with.

Liveness is judged by our own monotonic clock, at each look: a worker's clock may be wrong. `tick` is always the
monotonic time of what is told or asked, `now` the time by our wall clock.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from exporter.model import Unreadable, WorkerState
from exporter.systems.arq.hook.records import Progress, WorkerRecord
from exporter.systems.arq.hook.streams import QUEUES

BEAT: Final = 5.0
"""Seconds between two writes of a worker, where it does not say."""
STALE_BEATS: Final = 2.5
"""A worker is lost when it has written nothing for as many: its record goes after three."""
OTHERS_MEMORY: Final = 600.0
"""Seconds for which an end that no record tells of says that workers without the hook are there."""
ODD_PAUSE: Final = 60.0
"""Seconds until a record that was too long is read again."""


@dataclass(frozen=True, slots=True)
class QueueWorkers:
    """The live workers of one queue that have the hook."""

    workers: int | None = 0
    slots: int | None = 0
    busy: int | None = 0
    progress_jobs: int | None = 0
    """Running jobs that report progress; None where a worker's list of them cannot be read."""
    oldest_progress: float | None = None
    """Of these, when the one that is silent for longest did so last, by our clock."""


NOT_KNOWN: Final = QueueWorkers(None, None, None, None)
"""Of a queue of which it isn't known who works there."""


class Worker:
    """One worker, by its id."""

    __slots__ = (
        *("_offset", "heard", "looked", "name", "progress", "record", "replaced", "unreadable", "unreadable_at"),
        *("up", "written"),
    )

    def __init__(self, worker_id: str, written: float, now: float, tick: float) -> None:
        """It wrote last when its clock showed `written`."""
        self.name = worker_id.rpartition(":")[0] or worker_id
        self.up = False
        self.replaced = False
        """Whether, since it was lost, a later one of its name lived."""
        self.written = written
        self.record: WorkerRecord | None = None
        self.progress: Progress | None = Progress()
        self.unreadable: Unreadable | None = None
        self.unreadable_at = -math.inf
        self.looked = -math.inf  # when its record was asked for last
        # What our monotonic clock shows more than the worker's. Its clock is taken to agree with ours while it can.
        self._offset = tick - now
        self.heard = min(tick, written + self._offset)

    @property
    def beat(self) -> float:
        return BEAT if self.record is None else self.record.beat

    @property
    def since(self) -> float:
        """When it started, by its clock; of one that was lost before we came, when it wrote last."""
        return self.written if self.record is None else self.record.started

    @property
    def reported(self) -> float | None:
        """When that of its running jobs last reported progress which is silent for longest, by our monotonic clock."""
        oldest = None if self.progress is None else self.progress.oldest
        return None if oldest is None else min(oldest + self._offset, self.heard)

    def look(self, record: WorkerRecord | None, asked: float, tick: float, connected: float) -> bool:
        """What its record is, that was asked for at `asked`. Whether it wrote since the last look."""
        new = record is not None and (self.record is None or record.at != self.record.at)
        if record is not None and new:
            # The last look saw nothing of it yet, and what one writes that lives is a beat old at most.
            earliest = max(self.looked, asked - record.beat)
            self._offset = min(max(self._offset, earliest - record.at), tick - record.at)
            self.heard = record.at + self._offset
            self.up, self.written = True, record.at
        elif tick - connected < self.beat:
            pass  # while nothing was read it may have been unable to write, too
        elif record is None or tick - self.heard > STALE_BEATS * self.beat:
            self.up = False
        self.looked = asked
        self.record = record or self.record
        return new


class Workers:
    """All of a database. `only` are the queues that are ours to watch, if not all are."""

    def __init__(self, forget_after: float, only: Collection[str] | None = None) -> None:
        """Lost workers are forgotten `forget_after` seconds after they wrote last."""
        self._forget_after = forget_after
        self._only = None if only is None else frozenset(only)
        self._workers: dict[str, Worker] = {}
        self._connected: float | None = None
        self._by_queue: dict[str, QueueWorkers] = {}
        self._went: dict[str, float] = {}  # since when a queue has no live workers
        self._queues: Collection[str] = ()
        self._seen_all = False
        self.longest_beat = 0.0
        """Of the live workers, in seconds."""

    @property
    def ids(self) -> frozenset[str]:
        """Those of all that the index names."""
        return frozenset(self._workers)

    # -- what the feed tells ------------------------------------------------------------------------------------

    def connected(self, tick: float) -> None:
        """Records are read from now on."""
        self._connected = tick

    def disconnected(self) -> None:
        """They are not."""
        self._connected = None

    def index(self, written: Mapping[str, float], now: float, tick: float) -> None:
        """The workers that there are by their index, and when they wrote last by their clocks; `now` is the time by
        ours. Who is not there said goodbye, or is to be forgotten."""
        for worker_id in self._workers.keys() - written.keys():
            del self._workers[worker_id]
        for worker_id, at in written.items():
            if worker_id not in self._workers:
                self._workers[worker_id] = Worker(worker_id, at, now, tick)

    def to_look_at(self, tick: float) -> list[str]:
        """The workers whose records are to be read."""
        return [
            worker_id
            for worker_id, worker in self._workers.items()
            if worker.unreadable is not Unreadable.BOUNDS or tick - worker.unreadable_at > ODD_PAUSE
        ]

    def look(self, worker_id: str, record: WorkerRecord | None, asked: float, tick: float) -> bool:
        """The record of a worker, if it has one, that was asked for at `asked`. Returns whether it wrote since the last
        look."""
        worker = self._workers[worker_id]
        worker.unreadable = None
        return worker.look(record, asked, tick, self._connected_at(tick))

    def refuse(self, worker_id: str, reason: Unreadable, tick: float) -> bool:
        """The record of a worker cannot be read. Returns whether that is new."""
        worker = self._workers[worker_id]
        new = worker.unreadable is not reason
        worker.unreadable, worker.unreadable_at = reason, tick
        worker.look(worker.record, worker.looked, tick, self._connected_at(tick))  # no news of it
        return new

    def progress(self, worker_id: str, progress: Progress | None) -> None:
        """What the running jobs of a worker report."""
        self._workers[worker_id].progress = progress

    def looked(self, queues: Collection[str], tick: float) -> None:
        """Everything was looked at; `queues` are those of the index."""
        self._seen_all = True
        self._note_replaced()
        live: dict[str, list[Worker]] = {}
        for _, worker in self._ours():
            if worker.up and worker.record is not None:
                live.setdefault(worker.record.queue, []).append(worker)
        self.longest_beat = max((worker.beat for workers in live.values() for worker in workers), default=0.0)
        self._queues = dict.fromkeys(islice(dict.fromkeys([*queues, *live]), QUEUES))
        self._by_queue = {queue: _together(live[queue]) for queue in self._queues if queue in live}
        self._went = {queue: self._went.get(queue, tick) for queue in self._queues if queue not in live}

    def _note_replaced(self) -> None:
        latest: dict[str, float] = {}
        for worker in self._workers.values():
            if worker.up:
                latest[worker.name] = max(worker.since, latest.get(worker.name, worker.since))
        for worker in self._workers.values():
            later = worker.since < latest.get(worker.name, -math.inf)
            worker.replaced = not worker.up and (worker.replaced or later)

    # -- what is asked ------------------------------------------------------------------------------------------

    @property
    def queues(self) -> Collection[str]:
        """Those that have, or had of late, workers with the hook."""
        return self._queues

    @property
    def live_queues(self) -> Collection[str]:
        """Those that have live ones."""
        return self._by_queue.keys()

    def started(self, worker_id: str) -> float | None:
        """When a worker started, by its clock; None where nothing is known of it."""
        worker = self._workers.get(worker_id)
        return None if worker is None or worker.record is None else worker.record.started

    def queue(self, queue: str, untold: float | None, now: float, tick: float) -> QueueWorkers:
        """The live workers of a queue; NOT_KNOWN where that is not known. `untold` is when (monotonic) the last end
        came that no record told of: if none with the hook lived by then, others work there."""
        if self._connected is None or queue not in self._queues:
            return NOT_KNOWN
        went = self._went.get(queue)
        if went is not None and untold is not None and untold > went and tick - untold < OTHERS_MEMORY:
            return NOT_KNOWN
        workers = self._by_queue.get(queue, QueueWorkers())
        oldest = workers.oldest_progress
        return workers if oldest is None else replace(workers, oldest_progress=now - (tick - oldest))

    def states(self, now: float, tick: float) -> Collection[WorkerState] | None:
        """Every worker; None while that is not known, or where nothing is left of any: the hook may be gone, or what
        they wrote."""
        if self._connected is None or not self._seen_all or not (self._queues or any(True for _ in self._ours())):
            return None
        shown = {}
        for worker_id, worker in self._by_age():
            if worker.up and worker.name in shown:  # of two that live the later one goes by its whole id
                shown[worker_id] = worker
            elif worker.up or (not worker.replaced and tick - worker.heard <= self._forget_after):
                shown.setdefault(worker.name, worker)
        return [_state(name, worker, now - (tick - worker.heard)) for name, worker in shown.items()]

    def _connected_at(self, tick: float) -> float:
        return tick if self._connected is None else self._connected

    def _by_age(self) -> list[tuple[str, Worker]]:
        """The live ones by when they started, then the lost ones, the last first."""
        return sorted(
            self._ours(),
            key=lambda item: (not item[1].up, item[1].since if item[1].up else -item[1].heard, item[0]),
        )

    def _ours(self) -> Iterator[tuple[str, Worker]]:
        for worker_id, worker in self._workers.items():
            if worker.record is None:
                # Of one that was lost before we came, not even the queue is known.
                if self._only is None and worker.unreadable is None and worker.looked > -math.inf:
                    yield worker_id, worker
            elif self._only is None or worker.record.queue in self._only:
                yield worker_id, worker


def _together(workers: Collection[Worker]) -> QueueWorkers:
    """The live workers of a queue, taken together; `oldest_progress` by our monotonic clock."""
    records = [worker.record for worker in workers if worker.record is not None]
    reports = [worker.progress for worker in workers]
    known = [report for report in reports if report is not None]
    return QueueWorkers(
        workers=len(records),
        slots=sum(record.slots for record in records),
        busy=sum(record.busy for record in records),
        progress_jobs=sum(report.jobs for report in known) if len(known) == len(reports) else None,
        oldest_progress=min((at for at in (worker.reported for worker in workers) if at is not None), default=None),
    )


def _state(name: str, worker: Worker, heard: float) -> WorkerState:
    record = worker.record
    if record is None:
        return WorkerState(name, up=False, last_heartbeat=heard)
    return WorkerState(
        worker=name,
        up=worker.up,
        queues=(record.queue,),
        last_heartbeat=heard,
        slots=record.slots,
        busy_slots=record.busy if worker.up else None,
        registered_tasks=record.functions,
        version=record.version or None,
    )
