"""A task table whose clocks the test moves, and what tests look at in it."""

from __future__ import annotations

from typing import Any

from exporter.model import Finished, JobEvent, Outcome
from exporter.systems.celery.jobs.filling import Filling
from exporter.systems.celery.jobs.holding import GRACE
from exporter.systems.celery.jobs.job import Attempt
from exporter.systems.celery.jobs.tasks import Tasks
from exporter.systems.celery.results.metas import Result
from exporter.systems.celery.workers.workers import Workers
from tests.systems.celery_frames import WORKER, event
from tests.systems.observing import START

OTHER = "celery@two"


class Table(Tasks):
    """A table whose clocks run together, with the events of workers given in short."""

    def __init__(self, **limits: Any) -> None:
        self.workers = Workers(3600)
        super().__init__(self.workers, **limits)
        self.moment = 0.0
        self.pass_by(0)

    def pass_by(self, seconds: float) -> None:
        self.moment += seconds
        self.at(START + self.moment, self.moment)

    def tell(self, kind: str, uuid: str = "a", worker: str = WORKER, **more: Any) -> None:
        at = more.pop("at", START + self.moment)
        self.take(event(f"task-{kind}", uuid, at, worker, **more))

    def send(self, uuid: str = "a", **more: Any) -> None:
        self.tell("sent", uuid, "producer", **{"queue": "mail", "name": "charge", "retries": 0} | more)

    def receive(self, uuid: str = "a", worker: str = WORKER, **more: Any) -> None:
        self.tell("received", uuid, worker, **{"name": "charge", "retries": 0} | more)

    def fill(self, result: Result, queue: str | None) -> bool:
        return Filling(self).fill(result, queue)

    def all(self) -> list[JobEvent]:
        return self.take_events()

    def flush(self) -> None:
        while self.held.flush():
            pass

    def last(self) -> JobEvent:
        return self.all()[-1]


def started_at(table: Table, seconds: float = 1.0, **more: Any) -> None:
    """A job is sent, received and, after some seconds, started."""
    table.send(**more)
    table.receive(**more)
    table.pass_by(seconds)
    table.tell("started")
    table.all()


def outcome(table: Table, *kinds: str, **more: Any) -> list[tuple[Outcome, str | None]]:
    """How a job ends after events of some kinds, and a while."""
    for kind in kinds:
        table.tell(kind, **more)
    table.pass_by(GRACE)
    return [(end.outcome, end.exception) for end in table.all() if isinstance(end, Finished)]


def worker_told(table: Table, kind: str, worker: str = WORKER, **more: Any) -> None:
    table.workers.take(event(f"worker-{kind}", worker=worker, **more), START + table.moment, table.moment)


def running(table: Table) -> list[Attempt]:
    """Every attempt that the workers know of."""
    workers = [*table.workers._workers.values(), *table.workers._gone.values()]
    return [attempt for worker in workers for attempt in (*worker.certain, *worker.ghosts)]
