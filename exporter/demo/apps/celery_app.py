"""A sample Celery application: tasks that succeed, fail in several ways, retry and wait.

``celery -A exporter.demo.apps.celery_app worker -Q …`` is a worker of it. Tasks take a running number and behave by
it, so that a mix of outcomes needs no chance.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Any

from celery import Celery

from exporter.demo.queues import CELERY_DEFAULT, REDIS_URL_VARIABLE


def resize_image(number: int) -> None:
    """Succeeds after 0.05 to 0.45 s."""
    time.sleep(0.05 + number % 5 / 10)


def charge_card(number: int) -> None:
    """Fails every second time."""
    time.sleep(0.1)
    if number % 2:
        raise ValueError("card declined")


def call_partner(number: int) -> None:
    """Hangs every second time, until the soft time limit ends it."""
    time.sleep(60 if number % 2 else 0.3)


def fetch_feed(task: Any, number: int) -> None:
    """Succeeds at the first, second or third try: retried automatically for its exception."""
    if task.request.retries < number % 3:
        raise ConnectionError("feed unreachable")


def sync_contacts(task: Any, number: int) -> None:
    """Retries by itself until its tries are used up."""
    raise task.retry(exc=TimeoutError("directory busy"))


def send_email(number: int) -> None:
    """Sent in bursts of several priorities."""
    time.sleep(0.25)


def send_reminder(number: int) -> None:
    """Runs later than it was enqueued."""
    time.sleep(0.05)


def build_report(number: int) -> None:
    """Takes long enough for a burst of them to become a backlog."""
    time.sleep(1.0)


TASKS: Mapping[Any, Mapping[str, Any]] = {
    resize_image: {},
    charge_card: {},
    call_partner: {"soft_time_limit": 1},
    fetch_feed: {"bind": True, "autoretry_for": (ConnectionError,), "default_retry_delay": 2, "max_retries": 3},
    sync_contacts: {"bind": True, "default_retry_delay": 1, "max_retries": 2},
    send_email: {},
    send_reminder: {},
    build_report: {},
}
"""The tasks and their options."""

app = Celery("demo", broker=os.environ[REDIS_URL_VARIABLE])
app.conf.update(
    task_default_queue=CELERY_DEFAULT,
    task_ignore_result=True,
    task_send_sent_event=True,
    worker_send_task_events=True,
    # One reserved job for each slot: what waits stays in the queue, where its depth shows.
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"priority_steps": [0, 3, 6, 9], "queue_order_strategy": "priority"},
)
for _function, _options in TASKS.items():
    app.task(name=_function.__name__, **_options)(_function)


class Producer:
    """Enqueues as an application does: with ``apply_async``."""

    async def enqueue(self, task: str, queue: str, number: int, options: Mapping[str, Any]) -> None:
        """Enqueues one task; ``options`` are apply_async's own (``priority``, ``countdown``, ``expires``)."""
        # It blocks on the broker's socket.
        await asyncio.to_thread(_apply_async, task, queue, number, options)


def _apply_async(task: str, queue: str, number: int, options: Mapping[str, Any]) -> None:
    known = app.tasks.get(task)
    if known is None:  # a name that no worker knows, as after a rename
        app.send_task(task, (number,), queue=queue, **options)
    else:
        known.apply_async((number,), queue=queue, **options)
