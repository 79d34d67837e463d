"""All workers at one moment: who lives, who consumes what, and what runs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Final

import msgspec

from exporter.model import WorkerState
from exporter.systems.celery.control.answers import Active, Consumes
from exporter.systems.celery.workers.asked import SILENT_ROUNDS
from exporter.systems.celery.workers.rolls import Rolls
from exporter.systems.celery.workers.running import One, Running, answered, gather, told
from exporter.systems.celery.workers.staff import Staffing
from exporter.systems.celery.workers.worker import FREQ, STALE_BEATS, Worker


class Hearing(msgspec.Struct):
    """How well the events of workers are heard."""

    since: float | None = None
    """Since when they are, by the monotonic clock; None while they are not."""
    doubts: int = 0
    """How often some may have been missed, all in all."""
    anybody: bool = False
    """Whether a worker was ever heard."""


class Look:
    """The workers as they stand; once they tell more, it takes another look. What several questions share is found
    once, as there may be thousands of workers."""

    def __init__(
        self,
        workers: Mapping[str, Worker],
        gone: Collection[Worker],
        queues: Mapping[str, float],
        rolls: Rolls,
        hearing: Hearing,
        tick: float,
    ) -> None:
        """`gone` are those that said goodbye, `queues` tells since when each is known. `tick` is the monotonic time."""
        self._workers = workers
        self._gone = gone
        self._queues = queues
        self._rolls = rolls
        self._hearing = hearing
        self._tick = tick
        self._missing = {
            prefix: (roll.began, roll.missing(tick), roll.without_heartbeats(tick))
            for prefix, roll in rolls.last.items()
            if tick <= roll.until
        }
        self._ups: Final = {name: self._up(worker) for name, worker in workers.items()}
        """Whether each lives; None where nothing tells."""
        self._live: Final = [worker for name, worker in workers.items() if self._ups[name]]

    # -- who lives ----------------------------------------------------------------------------------------------

    @cached_property
    def is_whole(self) -> bool:
        """Whether those that live are known, all of them: nobody is in doubt, every heartbeat must have been heard by
        now, and of those that were asked each is known. Where nobody is asked, any worker must have been heard."""
        if None in self._ups.values() or any(worker.doubled(self._tick) for worker in self._workers.values()):
            return False
        if not self._rolls.asks:
            return self._hearing.anybody and self._heard_for_long()
        return (self._hearing.since is None or self._heard_for_long()) and self._all_accounted()

    def states(self) -> Collection[WorkerState] | None:
        """Every worker of which it is known whether it lives; None where it is of none, and there may be some."""
        return self._states if self._states or self.is_whole else None

    @cached_property
    def _states(self) -> list[WorkerState]:
        return [
            worker.state(name, self._tick, up=up)
            for name, worker in self._workers.items()
            if (up := self._ups[name]) is not None
        ]

    # -- what they do -------------------------------------------------------------------------------------------

    def consumed(self) -> frozenset[str]:
        """The queues that live workers are known to consume."""
        return frozenset().union(*(worker.asked.queues(self._tick) or () for worker in self._live))

    def staffing(self) -> Staffing | None:
        """Who consumes what; None unless it is known of every live worker what it consumes."""
        if not self.is_whole or any(worker.asked.latest(Consumes, self._tick) is None for worker in self._live):
            return None
        asked_at = min((worker.asked.queues_asked_at for worker in self._live), default=math.inf)
        staffing = Staffing({name for name, since in self._queues.items() if since > asked_at})
        for state in self._states:
            for queue in state.queues:
                staffing.add(queue, state.slots, state.busy_slots)
        return staffing

    def running(self) -> Running | None:
        """What runs: by the events, else by what all live workers answered."""
        return self.told_running() or self._answered_running()

    def told_running(self) -> Running | None:
        """What runs, by the events of jobs. None unless every live worker agrees: a job that was started before we came
        leaves it unknown until it ended. So does one that runs in a worker that is gone, as it may be killed."""
        if self._hearing.since is None or not self._is_in_live:
            return None
        if not all(worker.agrees(self._hearing.doubts) for worker in self._live):
            return None
        return gather(one for worker in self._live for one in told(worker.certain))

    def _answered_running(self) -> Running | None:
        if not self._is_in_live:
            return None
        running: list[One] = []
        for worker in self._live:
            active = worker.asked.latest(Active, self._tick)
            if active is None:
                return None
            running += answered(worker.asked, active, worker.skew.behind)
        return gather(running)

    @cached_property
    def _is_in_live(self) -> bool:
        """Whether what runs does in workers that are known to live."""
        return self.is_whole and not any(worker.runs for worker in self._gone)

    # -- within -------------------------------------------------------------------------------------------------

    def _heard_for_long(self) -> bool:
        since = self._hearing.since
        longest = max((worker.freq for worker in self._workers.values()), default=FREQ)
        return since is not None and self._tick - since >= STALE_BEATS * max(FREQ, longest)

    def _all_accounted(self) -> bool:
        prefixes = self._rolls.prefixes
        rolls = [self._missing.get(prefix, (0.0, math.inf, 0)) for prefix in prefixes]
        return bool(rolls) and all(missing <= beatless for _, missing, beatless in rolls)

    def _up(self, worker: Worker) -> bool | None:
        if worker.beats(self._tick):
            return True
        since = self._hearing.since
        could_be_heard = since is not None and self._tick - since >= worker.patience
        if worker.heard is None or worker.lives_by_answers or not could_be_heard:
            return self._up_by_answers(worker)
        if not self._rolls.asks or worker.beats_while_it_runs:
            return False
        began, missing, _ = self._missing.get(worker.asked.prefix, (-math.inf, 0, 0))
        return False if missing <= 0 and began > worker.touched else None

    def _up_by_answers(self, worker: Worker) -> bool | None:
        """One that answered the last question lives; one that did not may, if somebody else got it."""
        asked = worker.asked
        roll = self._missing.get(asked.prefix)
        if roll is None or asked.answered is None:
            return None
        if not asked.silent:
            return True
        _, missing, beatless = roll
        if missing <= 0:
            return False
        return True if asked.silent < SILENT_ROUNDS and missing >= beatless else None
