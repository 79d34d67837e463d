"""The workload: a table of what is enqueued, where and how often, and the process that does it.

``python -m exporter.demo.workload`` runs it until it is ended. Rates are a few jobs per second; every burst is worked
off before the next, so depths rise and fall within about 25 seconds.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any, Protocol

from exporter.demo.queues import (
    ARQ_QUEUE,
    ARQ_REPORTS,
    ARQ_UNSTAFFED,
    CELERY_DEFAULT,
    CELERY_EMAILS,
    CELERY_REPORTS,
    CELERY_UNSTAFFED,
)

CYCLE = 24.0
"""Seconds from one burst to the next."""

UNSTAFFED_LIMIT = 50
"""Jobs that a queue without workers may collect."""


class Producer(Protocol):
    """Enqueues jobs of one system."""

    async def enqueue(self, task: str, queue: str, number: int, options: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Load:
    """A task that is enqueued again and again: ``burst`` jobs every ``every`` seconds, the first after ``first``.

    ``options`` are those of the system's own enqueueing call, one per job of a burst in turn; ``limit`` ends the load
    after that many jobs.
    """

    task: str
    queue: str
    every: float
    first: float = 0.0
    burst: int = 1
    options: Sequence[Mapping[str, Any]] = field(default=({},))
    limit: int | None = None


ARQ_LOADS = (
    Load("resize_image", ARQ_QUEUE, every=1),
    Load("charge_card", ARQ_QUEUE, every=4, first=1),
    Load("call_partner", ARQ_QUEUE, every=6, first=2),
    Load("fetch_feed", ARQ_QUEUE, every=5, first=1.5),
    Load("sync_contacts", ARQ_QUEUE, every=11, first=0.5),
    Load("import_orders", ARQ_QUEUE, every=6, first=0.5),
    Load("send_reminder", ARQ_QUEUE, every=2, options=[{"_defer_by": 8}]),
    Load("renamed_task", ARQ_QUEUE, every=CYCLE, first=3),
    Load("build_report", ARQ_REPORTS, every=CYCLE, first=2, burst=20),
    Load("archive_order", ARQ_UNSTAFFED, every=2, limit=UNSTAFFED_LIMIT),
)

CELERY_LOADS = (
    Load("resize_image", CELERY_DEFAULT, every=1, first=0.5),
    Load("charge_card", CELERY_DEFAULT, every=4, first=3),
    Load("call_partner", CELERY_DEFAULT, every=12, first=4),
    Load("fetch_feed", CELERY_DEFAULT, every=5, first=2.5),
    Load("sync_contacts", CELERY_DEFAULT, every=11, first=1),
    Load("send_reminder", CELERY_DEFAULT, every=3, options=[{"countdown": 8}]),
    Load("renamed_task", CELERY_DEFAULT, every=CYCLE, first=5),
    Load("send_email", CELERY_EMAILS, every=CYCLE, first=6, burst=48, options=[{"priority": p} for p in (0, 3, 6, 9)]),
    # The last of a burst wait longer than they may: they end as expired.
    Load("build_report", CELERY_REPORTS, every=CYCLE, first=2, burst=16, options=[{}, {}, {}, {"expires": 4}]),
    Load("archive_order", CELERY_UNSTAFFED, every=2, first=1, limit=UNSTAFFED_LIMIT),
)


async def produce(producer: Producer, load: Load) -> None:
    """Enqueues the load's jobs until its limit."""
    await asyncio.sleep(load.first)
    for number in islice(count(), load.limit):
        await producer.enqueue(load.task, load.queue, number, load.options[number % len(load.options)])
        if (number + 1) % load.burst == 0:
            await asyncio.sleep(load.every)


async def main() -> None:
    """Produces all loads of both systems side by side."""
    from exporter.demo.apps import arq_app, celery_app  # imports arq and celery: for this process alone

    async with asyncio.TaskGroup() as group:
        for producer, loads in ((arq_app.Producer(), ARQ_LOADS), (celery_app.Producer(), CELERY_LOADS)):
            for load in loads:
                group.create_task(produce(producer, load))


if __name__ == "__main__":
    asyncio.run(main())
