"""Who was there when all workers were asked, and what that tells of those that are silent.

Redis says how many got a question. A worker that got it and whose answer did not come, or could not be read, lives all
the same: where heartbeats do not tell who that is, nobody knows how many workers there are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from exporter.systems.celery.workers.asked import SILENT_ROUNDS
from exporter.systems.celery.workers.worker import FREQ, STALE_BEATS, Worker


class Roll(msgspec.Struct):
    """One question to all workers under a key prefix. Times are monotonic."""

    began: float
    until: float
    """When it is believed no more."""
    unanswered: int
    """How many got it, less the answers that were read."""
    silent: list[Worker]
    """Those known when it began that did not answer."""

    def missing(self, tick: float) -> int:
        """How many of those that did not answer are not told by heartbeats, or goodbyes; less than 0 where some that
        sent heartbeats did not get the question."""
        return self.unanswered - sum(worker.told_of(self.began, tick) for worker in self.silent)

    def without_heartbeats(self, tick: float) -> int:
        """How many that answered before, and send no heartbeats, did not."""
        return sum(worker.lives_by_answers and not worker.told_of(self.began, tick) for worker in self.silent)


def is_silent(worker: Worker, prefix: str, asked_at: float) -> bool:
    """Whether it was there when all were asked, and did not answer."""
    answered = worker.asked.answered
    there = worker.asked.prefix == prefix and worker.came <= asked_at
    return there and (answered is None or answered < asked_at)


class Rolls:
    """The last question under each key prefix."""

    def __init__(self, *, asks: bool) -> None:
        self.asks = asks
        """Whether anybody is asked at all."""
        self.prefixes: Collection[str] = ()
        """Those under which workers are asked."""
        self.last: dict[str, Roll] = {}


class Look:
    """Who lives, at one moment."""

    def __init__(self, workers: Mapping[str, Worker], rolls: Rolls, connected: float | None, tick: float) -> None:
        """`connected` is since when heartbeats are heard; None where they are not."""
        self._workers = workers
        self._rolls = rolls
        self._connected = connected
        self._tick = tick
        self._missing = {
            prefix: (roll.began, roll.missing(tick), roll.without_heartbeats(tick))
            for prefix, roll in rolls.last.items()
            if tick <= roll.until
        }
        self.ups: Final = {name: self._up(worker) for name, worker in workers.items()}
        """Whether each lives; None where nothing tells."""

    def live(self) -> list[Worker]:
        """Those that do."""
        return [worker for name, worker in self._workers.items() if self.ups[name]]

    def is_whole(self, *, heard_any: bool) -> bool:
        """Whether those are all there are: nobody is in doubt, every heartbeat must have been heard by now, and of
        those that were asked each is known. Where nobody is asked, `heard_any` worker must have been."""
        if None in self.ups.values() or any(worker.doubled(self._tick) for worker in self._workers.values()):
            return False
        if not self._rolls.asks:
            return heard_any and self._heard_for_long()
        return (self._connected is None or self._heard_for_long()) and self._all_accounted()

    def _heard_for_long(self) -> bool:
        longest = max((worker.freq for worker in self._workers.values()), default=FREQ)
        return self._connected is not None and self._tick - self._connected >= STALE_BEATS * max(FREQ, longest)

    def _all_accounted(self) -> bool:
        prefixes = self._rolls.prefixes
        rolls = [self._missing.get(prefix, (0.0, math.inf, 0)) for prefix in prefixes]
        return bool(rolls) and all(missing <= beatless for _, missing, beatless in rolls)

    def _up(self, worker: Worker) -> bool | None:
        if worker.beats(self._tick):
            return True
        could_be_heard = self._connected is not None and self._tick - self._connected >= worker.patience
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
