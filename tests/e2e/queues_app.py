"""A Celery application of several queues, some of them behind exchanges of their own, whose jobs run until told.

What it is configured with beyond that stands in the environment, as JSON.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import celery
from kombu import Exchange, Queue
from kombu.common import Broadcast

from tests.e2e.apps import WORKER_URL

SETTINGS = "E2E_CELERY_SETTINGS"
LETTERS = Queue("letters", Exchange("letters"), "letters")
PARCELS = Queue("parcels", Exchange("post", type="direct"), "parcel.heavy")
TOPICS = Queue("topics", Exchange("topics", type="topic"), "mail.#")
NEWS = Broadcast("news", queue="news.here", routing_key="any")  # by Redis, only what is sent with that key comes
MANY = ("celery", "letters", "parcels", "topics", "news.here")


def make_app(url: str, **settings: Any) -> Any:
    """The application, as producers and workers have it."""
    app = celery.Celery("queues", broker=url, set_as_current=False)
    app.conf.update(task_send_sent_event=True, worker_send_task_events=True, task_ignore_result=True)
    app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=4)
    app.conf.task_queues = (Queue("celery", Exchange("celery"), "celery"), LETTERS, PARCELS, TOPICS, NEWS)
    app.conf.update(json.loads(os.environ.get(SETTINGS, "{}")), **settings)
    app.task(hold, name="hold")
    app.task(hold, name="hold.late", acks_late=True)
    app.task(nap, name="sleep")
    return app


def hold(gate: str) -> None:
    """Runs until the file `gate` is there."""
    while not os.path.exists(gate):
        time.sleep(0.02)


def nap(seconds: float, record: str = os.devnull) -> None:
    """Runs for so long, and leaves a byte in the file `record`."""
    time.sleep(seconds)
    with open(record, "a") as file:
        file.write("x")


worker_app = make_app(os.environ.get(WORKER_URL, "redis://"))


@contextmanager
def producer(url: str, **settings: Any) -> Iterator[Any]:
    """An application that only sends."""
    app = make_app(url, **settings)
    try:
        yield app
    finally:
        app.close()


def send_by(app: Any, queue: Queue, routing_key: str, *args: object, task: str = "hold", **options: Any) -> None:
    """Sends a task to an exchange, which the connection has to know the type of: a direct one drops what it has no
    binding for."""
    exchange = queue.exchange
    app.send_task(task, args, exchange=exchange.name, routing_key=routing_key, declare=[exchange], **options)


def worker_command(name: str, *queues: str, concurrency: int = 2) -> tuple[str, ...]:
    """A worker of these queues."""
    return (
        *("celery", "--app", "tests.e2e.queues_app:worker_app", "worker", "--hostname", f"{name}@e2e"),
        *("--concurrency", str(concurrency), "--queues", ",".join(queues), "--loglevel", "warning"),
        *("--without-gossip", "--without-mingle"),
    )
