"""Celery's workers that are heard and asked, with a clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from exporter.model import WorkerState
from exporter.systems.celery.control.answers import (
    Alive,
    Answer,
    Consumes,
)
from exporter.systems.celery.workers.asked import SILENT_ROUNDS
from exporter.systems.celery.workers.staff import Staff
from exporter.systems.celery.workers.worker import FREQ, STALE_BEATS
from exporter.systems.celery.workers.workers import Workers
from tests.systems.celery_frames import event
from tests.systems.observing import START

ONE, TWO = "celery@one", "celery@two"
STALE = FREQ * STALE_BEATS
FORGET = 1000.0
ROUND = 15.0
BELIEVED = 100.0
PREFORK, SOLO = (f"celery.concurrency.{pool}:TaskPool" for pool in ("prefork", "solo"))


class Told(Workers):
    """Workers that are heard and asked, with a clock."""

    def __init__(self, *, connected: bool) -> None:
        super().__init__(FORGET, asks=True)
        self.tick = 0.0
        self.news_seen = 0
        self.asks_under({""})
        if connected:
            self.connected(-STALE)
            self.asked("", -1.0, 0.0, math.inf, 0)

    def beat(self, name: str = ONE, kind: str = "heartbeat", **more: Any) -> None:
        given: dict[str, Any] = {"freq": FREQ, "active": 0, "sw_ver": "5.6.3", "pid": 7} | more
        self.take(event(f"worker-{kind}", worker=name, **given), START + self.tick, self.tick)

    def answer(self, *answers: Answer, name: str = ONE, prefix: str = "", asked_at: float | None = None) -> None:
        for answer in answers:
            at = self.tick if asked_at is None else asked_at
            self.answered(name, answer, prefix, at, self.tick, self.tick + BELIEVED)

    def ask_all(self, *answering: str, listening: int | None = None, prefix: str = "") -> None:
        """A round in which some answer, as they do each interval, a second after they were asked."""
        began = self.tick = self.tick + 0.001
        self.tick += 1
        for name in answering:
            self.answer(Alive(), name=name, prefix=prefix, asked_at=began)
        silent = 0 if listening is None else listening - len(answering)
        self.asked(prefix, began, self.tick, self.tick + SILENT_ROUNDS * ROUND, silent)

    def up_by_name(self) -> dict[str, bool] | None:
        """None while some may live that are not named."""
        if not self.look(self.tick).is_whole:
            return None
        return {state.worker: state.up for state in self.look(self.tick).states() or ()}

    def staff(self, queue: str, tick: float) -> Staff | None:
        return consumers(self, queue, tick)

    def running(self, tick: float) -> Mapping[str, int] | None:
        """By task."""
        running = self.look(tick).running()
        return None if running is None else running.tasks

    def state_of(self, name: str = ONE) -> WorkerState:
        (found,) = [state for state in self.look(self.tick).states() or () if state.worker == name]
        return found


def consumers(workers: Workers, queue: str, tick: float) -> Staff | None:
    """Who consumes a queue."""
    staffing = workers.look(tick).staffing()
    return None if staffing is None else staffing.of(queue)


def consumes(*queues: str) -> Consumes:
    return Consumes(frozenset(queues))
