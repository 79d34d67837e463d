"""Who was there when all workers were asked, and what that tells of those that are silent.

Redis says how many got a question. A worker that got it and whose answer did not come, or could not be read, lives all
the same: where heartbeats do not tell who that is, nobody knows how many workers there are.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from exporter.systems.celery.workers.worker import Worker


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
