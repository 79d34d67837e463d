"""A Celery application whose results stand in the Redis that is its broker, for tests of what happens unheard."""

from __future__ import annotations

import os
import time
from typing import Any

import celery

from tests.e2e.apps import WORKER_URL
from tests.e2e.truth_record import FAILURES

SETTINGS = "E2E_OUTAGE"
"""The environment variable that names what is switched on, by words: `extended`, `sent`."""
QUEUES = ("mail", "bills")
OK, FAIL, HOLD = "outage.succeed", "outage.fail", "outage.hold"


def make_app(url: str, switches: str) -> Any:
    """The application, as producers and workers have it."""
    app = celery.Celery("outage", broker=url, backend=url, set_as_current=False)
    app.conf.update(worker_send_task_events=True, broker_connection_retry_on_startup=True)
    app.conf.update(result_extended="extended" in switches, task_send_sent_event="sent" in switches)
    app.conf.update(worker_prefetch_multiplier=4)
    app.task(succeed, name=OK)
    app.task(fail, name=FAIL)
    app.task(hold, name=HOLD)
    return app


def succeed() -> None:
    """Nothing."""


def fail(name: str) -> None:
    """Raises an exception of that class."""
    raise FAILURES[name]()


def hold(gate: str) -> None:
    """Runs until the file `gate` is there."""
    while not os.path.exists(gate):
        time.sleep(0.02)


worker_app = make_app(os.environ.get(WORKER_URL, "redis://"), os.environ.get(SETTINGS, ""))


def worker_command(name: str, *queues: str, pool: str = "prefork", concurrency: int = 4) -> tuple[str, ...]:
    """A worker of some queues that sends events and heartbeats."""
    return (
        *("celery", "--app", "tests.e2e.outage_app:worker_app", "worker", "--hostname", f"{name}@outage"),
        *("--pool", pool, "--concurrency", str(concurrency), "--queues", ",".join(queues)),
        *("--without-gossip", "--without-mingle", "--loglevel", "warning"),
    )
