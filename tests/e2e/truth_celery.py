"""A Celery application whose tasks record what happens to them, for workers of three queues.

A task's plan is a list of acts, one for each attempt; the last one stands for all further attempts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import celery

from tests.e2e.apps import WORKER_URL
from tests.e2e.truth_record import FAILURES, Recorder, recorder

QUEUES = ("celery", "letters", "payments")
PRIORITIES = (0, 3, 9)
TASKS = ("shop.deliver", "shop.charge", "shop.synchronize", "shop.render")
QUICK, HOLD = "shop.quick", "shop.hold"
RUN = 0.4
"""Seconds: long beside what a worker on a busy machine adds to a task, some 10 ms, in its own account of the run."""
RETRY_AFTER = 0.2
MAX_RETRIES = 2
STRANGER = "shop.nobody_knows"
"""A task that no worker has."""

_record = recorder()


def make_app(url: str) -> Any:
    """The application, as producers and workers have it."""
    app = celery.Celery("shop", broker=url, set_as_current=False)
    app.conf.update(task_send_sent_event=True, worker_send_task_events=True, task_ignore_result=True)
    app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=4)
    app.conf.update(task_default_queue=QUEUES[0])
    retries = {"max_retries": MAX_RETRIES, "countdown": RETRY_AFTER}
    for name in TASKS:
        app.task(
            perform,
            name=name,
            bind=True,
            max_retries=MAX_RETRIES,
            autoretry_for=(ConnectionError,),
            retry_kwargs=retries,
        )
    app.task(quick, name=QUICK, bind=True)
    app.task(hold, name=HOLD, bind=True)
    return app


def perform(self: Any, plan: list[str]) -> str:
    """One attempt: does what its plan says."""
    job_id, attempt = self.request.id, self.request.retries
    act, _, detail = plan[min(attempt, len(plan) - 1)].partition(" ")
    _record.started(job_id)
    time.sleep(RUN)
    if act == "linger":  # until it is terminated
        time.sleep(60)
    if act == "retry" and attempt < MAX_RETRIES:
        _record.ended(job_id, "retried")
        raise self.retry(countdown=float(detail))
    if act == "disconnect":  # retried by Celery itself, as the task's options say
        _record.ended(job_id, "retried" if attempt < MAX_RETRIES else "failed/ConnectionError")
        raise ConnectionError("not reachable")
    if act in ("fail", "retry"):
        error = FAILURES[detail if act == "fail" else "ValueError"]()
        _record.ended(job_id, f"failed/{type(error).__name__}")
        # Celery raises the given exception once the retries are used up.
        raise error if act == "fail" else self.retry(exc=error, countdown=0)
    _record.ended(job_id, "succeeded")
    return "done as planned"


def quick(self: Any) -> None:
    """Nothing but the record of it."""
    _record.started(self.request.id)
    _record.ended(self.request.id, "succeeded")


def hold(self: Any, gate: str) -> None:
    """Runs until the file `gate` is there."""
    _record.started(self.request.id)
    while not os.path.exists(gate):
        time.sleep(0.02)
    _record.ended(self.request.id, "succeeded")


worker_app = make_app(os.environ.get(WORKER_URL, "redis://"))


def worker_command(name: str, *options: str, pool: str = "prefork", concurrency: int = 8) -> tuple[str, ...]:
    """A worker of all queues that sends events; heartbeats are on."""
    return (
        *("celery", "--app", "tests.e2e.truth_celery:worker_app", "worker", "--hostname", f"{name}@e2e"),
        *("--pool", pool, "--concurrency", str(concurrency), "--task-events", "--queues", ",".join(QUEUES)),
        *("--without-gossip", "--without-mingle", "--loglevel", "warning", *options),
    )


WORKERS = (worker_command("first", concurrency=16), worker_command("second", concurrency=16))


# -- sending ----------------------------------------------------------------------------------------------------


class Sender:
    """Sends tasks over one connection and records what it sends."""

    def __init__(self, app: Any, record: Recorder) -> None:
        self.app, self.record = app, record

    def send(
        self,
        task: str,
        queue: str,
        *args: object,
        priority: int = 0,
        delay: float = 0.0,
        fate: str | None = None,
        job_id: str | None = None,
        **options: object,
    ) -> str:
        job_id = job_id or uuid4().hex
        self.record.enqueued(job_id, task, queue, delay=delay, fate=fate)
        # Without a priority kombu takes the queue's plain list, as with 0.
        self.app.send_task(
            task, args, task_id=job_id, queue=queue, priority=priority, countdown=delay or None, **options
        )
        return job_id

    def revoke(self, *job_ids: str) -> None:
        """Tell all workers that these must not run, whether or not they were sent yet; returns once they know."""
        answers = self.app.control.revoke(list(job_ids), reply=True, timeout=10.0, limit=len(WORKERS))
        assert len(answers) == len(WORKERS), answers

    def terminate(self, *job_ids: str) -> None:
        """End tasks that run, as an operator does."""
        for job_id in job_ids:
            self.record.ended(job_id, "aborted")
            self.app.control.revoke(job_id, terminate=True)


@contextmanager
def sender(url: str, record: Recorder) -> Iterator[Sender]:
    """A sender of an application that only sends."""
    app = make_app(url)
    try:
        yield Sender(app, record)
    finally:
        app.close()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one task goes."""

    sender: Sender
    task: str
    queue: str
    priority: int
    revoked: Iterator[str]  # ids that every worker was told to revoke


Send = Callable[[Place], object]


def planned(*plan: str, **options: Any) -> Send:
    """A task that does as planned, or meets its fate."""
    return lambda place: place.sender.send(place.task, place.queue, list(plan), priority=place.priority, **options)


def _unknown(place: Place) -> None:
    place.sender.send(STRANGER, place.queue, priority=place.priority, fate="not_found")


def _revoked(place: Place) -> None:
    planned("never runs", job_id=next(place.revoked), fate="aborted")(place)


def _revoked_while_waiting(place: Place) -> None:
    """It is in a worker's hands when it is revoked, as it is due only later."""
    planned("never runs", job_id=next(place.revoked), fate="aborted", delay=1.0)(place)


KINDS: tuple[Send, ...] = (
    *[planned("succeed")] * 7,
    planned("fail ValueError"),
    planned("fail KeyError"),
    planned("fail Refused"),
    planned(f"retry {RETRY_AFTER}", "succeed"),
    planned("retry 0"),
    planned("disconnect", "succeed"),
    planned("disconnect"),
    planned("succeed", delay=1.5),
    planned("fail KeyError", delay=3.0),
    _revoked,
    _revoked_while_waiting,
    planned("never runs", delay=1.0, expires=0.5, fate="expired"),
    _unknown,
)
"""What becomes of twenty tasks."""


def places(sender: Sender, count: int) -> Iterator[tuple[Send, Place]]:
    """Each kind with each name, queue and priority, in turn."""
    revoked = [uuid4().hex for _ in range(count)]
    sender.revoke(*revoked)
    ids = iter(revoked)
    for number in range(count):
        place, kind = divmod(number, len(KINDS))
        place, task = divmod(place, len(TASKS))
        place, queue = divmod(place, len(QUEUES))
        yield KINDS[kind], Place(sender, TASKS[task], QUEUES[queue], PRIORITIES[place % len(PRIORITIES)], ids)


def send(sender: Sender, count: int) -> None:
    """Send `count` tasks of all kinds."""
    for kind, place in places(sender, count):
        kind(place)


def send_lingering(sender: Sender) -> list[str]:
    """Send one task into each queue that runs until it is terminated."""
    return [sender.send(TASKS[0], queue, ["linger"]) for queue in QUEUES]
