"""A sample ARQ application: jobs that succeed, fail in several ways, retry and wait.

``arq exporter.demo.apps.arq_app.GENERAL`` and ``….REPORTS`` are its two workers. Jobs take a running number and
behave by it, so that a mix of outcomes needs no chance.
"""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from arq import ArqRedis, Retry, create_pool, cron, func
from arq.connections import RedisSettings

from exporter.demo.queues import ARQ_QUEUE, ARQ_REPORTS, REDIS_URL_VARIABLE
from taskqueue_hooks import instrument, progress

Context = dict[Any, Any]


async def resize_image(ctx: Context, number: int) -> None:
    """Succeeds after 0.05 to 0.45 s."""
    await asyncio.sleep(0.05 + number % 5 / 10)


async def charge_card(ctx: Context, number: int) -> None:
    """Fails every second time."""
    await asyncio.sleep(0.1)
    if number % 2:
        raise ValueError("card declined")


async def call_partner(ctx: Context, number: int) -> None:
    """Hangs every second time, until the job's timeout ends it."""
    await asyncio.sleep(60 if number % 2 else 0.3)


async def fetch_feed(ctx: Context, number: int) -> None:
    """Succeeds at the first, second or third try."""
    if ctx["job_try"] <= number % 3:
        raise Retry(defer=1.5)


async def sync_contacts(ctx: Context, number: int) -> None:
    """Retries until its tries are used up."""
    raise Retry(defer=1)


async def import_orders(ctx: Context, number: int) -> None:
    """Takes four seconds, and says at each how far it is."""
    for done in range(4):
        progress(ctx, done, 4, "orders")
        await asyncio.sleep(1.0)


async def send_reminder(ctx: Context, number: int) -> None:
    """Runs later than it was enqueued."""
    await asyncio.sleep(0.05)


async def build_report(ctx: Context, number: int) -> None:
    """Takes long enough for a burst of them to become a backlog."""
    await asyncio.sleep(1.0)


async def refresh_cache(ctx: Context) -> None:
    """Runs every five seconds by the worker's own clock."""
    await asyncio.sleep(0.2)


def redis_settings() -> RedisSettings:
    return RedisSettings.from_dsn(os.environ[REDIS_URL_VARIABLE])


def _worker(**settings: Any) -> dict[str, Any]:
    # Read when a worker or the workload loads this module: both have the variable.
    return {"redis_settings": redis_settings(), "health_check_interval": 5, **settings}


GENERAL = instrument(
    _worker(
        queue_name=ARQ_QUEUE,
        functions=[
            resize_image,
            charge_card,
            func(call_partner, timeout=1),
            fetch_feed,
            func(sync_contacts, max_tries=3),
            import_orders,
            send_reminder,
        ],
        cron_jobs=[cron(refresh_cache, second=set(range(0, 60, 5)))],
    ),
    name="arq-1",
)
"""Serves the default queue, and runs the cron job. Its hook tells what Redis cannot know, of its cron job's end too."""

REPORTS = _worker(queue_name=ARQ_REPORTS, functions=[build_report], max_jobs=2, poll_delay=0.1)
"""Two at a time, the next as soon as one ends: a burst of reports waits. It has no hook: nobody can count its kind."""


class Producer:
    """Enqueues as an application does: with ``enqueue_job`` on a pool."""

    def __init__(self) -> None:
        self._pool: ArqRedis | None = None

    async def enqueue(self, task: str, queue: str, number: int, options: Mapping[str, Any]) -> None:
        """Enqueues one job; ``options`` are enqueue_job's own (``_defer_by``, ``_expires``)."""
        if self._pool is None:
            self._pool = await create_pool(redis_settings())
        await self._pool.enqueue_job(task, number, _queue_name=queue, **options)
