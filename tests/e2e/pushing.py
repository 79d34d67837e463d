"""Records of jobs as arq and Celery leave them, written straight into a Redis: faster or odder than workers could."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count, islice
from typing import Any

import redis
from arq.jobs import serialize_result

from tests.e2e.reading import Metrics
from tests.servers import Exporter, wait_until
from tests.systems.celery_frames import channel, fields, frame

FRAME_EVENTS = 24
"""Events that a Celery worker sends at once, at most."""


def arq_result(
    job_id: str, function: str = "work", queue: str = "arq:queue", *, succeeded: bool = True, ago: float = 0.0
) -> bytes:
    """The value of `arq:result:<job_id>` of a job that ran for 10 ms until `ago` seconds before now."""
    then = int((time.time() - ago) * 1000)
    end = "done" if succeeded else ValueError("no")
    value = serialize_result(function, (), {}, 1, then - 50, succeeded, end, then - 10, then, "ref", queue, job_id)
    assert value is not None
    return value


def celery_job(uuid: str, task: str, queue: str | None = "celery", worker: str = "w@h") -> list[dict[str, Any]]:
    """The events of one job that succeeded, `task-sent` among them where a queue is given."""
    at = time.time()
    sent = [fields("task-sent", uuid, at - 1, name=task, queue=queue, retries=0)] if queue is not None else []
    return [
        *sent,
        fields("task-received", uuid, at - 0.5, worker, name=task),
        fields("task-started", uuid, at - 0.1, worker),
        fields("task-succeeded", uuid, at, worker, runtime=0.1),
    ]


def publish(client: redis.Redis, events: Iterable[dict[str, Any]], db: int = 0) -> None:
    """Publishes events, as many at a time as a worker does."""
    pipeline = client.pipeline(transaction=False)
    todo = iter(events)
    while some := list(islice(todo, FRAME_EVENTS)):
        pipeline.publish(channel("task-multi", db), frame(some))
    pipeline.execute()


def raw_events(template: Sequence[dict[str, Any]], names: Iterable[str]) -> Iterator[bytes]:
    """The bodies of messages: the events of `template` for each of `names`, which replaces every "@" in them. Quick."""
    text = ", ".join(map(json.dumps, template))
    todo = iter(names)
    while some := list(islice(todo, max(1, FRAME_EVENTS // len(template)))):
        yield f"[{', '.join(text.replace('@', name) for name in some)}]".encode()


STAND = """
for number = ARGV[1], ARGV[2] do redis.call('SET', 'arq:result:' .. ARGV[3] .. number, ARGV[4], 'PX', 3600000) end
"""
AGES = 100


def stand(client: redis.Redis, count: int, task: str) -> None:
    """Writes that many results of the last hour, half of them of the last ten minutes: those may be new to a feed."""
    each = count // AGES
    for place in range(AGES):
        ago = 1.0 + 590.0 * place / AGES * 2 if place < AGES // 2 else 600.0 + 50.0 * (place - AGES // 2)
        value = arq_result(task, task, succeeded=place % 3 > 0, ago=ago)
        client.eval(STAND, 0, str(place * each), str((place + 1) * each - 1), f"{task}-", value)  # type: ignore[arg-type]


@contextmanager
def writing_results(client: redis.Redis, pause: float = 0.002) -> Iterator[None]:
    """Writes ARQ results all the while, through everything that befalls the server. The truth is what stands there."""
    stop = threading.Event()

    def write() -> None:
        for number in count():
            with suppress(redis.RedisError):
                client.set(f"arq:result:{number}", arq_result(str(number), succeeded=number % 3 > 0), px=3_600_000)
            if stop.wait(pause):
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def finished(metrics: Metrics, system: str) -> float:
    """How many jobs of a system ended."""
    return sum(v for (name, labels), v in metrics.items() if name == FINISHED and ("system", system) in labels)


FINISHED = "taskqueue_jobs_finished_total"


FEEDS = {"arq": "results", "celery": "events", "hook": "hook"}
"""By what the tests call them: the system, for the feed that it has without a hook."""


def feed(metrics: Metrics, family: str, of: str = "arq") -> float:
    """The value, or the sum, of `taskqueue_feed_<family>` of a feed."""
    name = f"taskqueue_feed_{family}"
    return sum(v for (found, labels), v in metrics.items() if found == name and ("feed", FEEDS[of]) in labels)


def until_connected(exporter: Exporter, deadline: float = 15.0, **headers: str) -> None:
    """Returns when all feeds see what happens."""
    wait_until(lambda: all(feed(exporter.metrics(headers=headers), "connected", of) for of in FEEDS), deadline)


class NeverFalls:
    """Scrapes, and holds that no counter falls or vanishes from one answer to the next."""

    def __init__(self, exporter: Exporter, **headers: str) -> None:
        self._exporter = exporter
        self._headers = headers
        self._before: Metrics = {}

    def scrape(self) -> Metrics:
        now = self._exporter.metrics(headers=self._headers)
        counters = {k: v for k, v in now.items() if k[0].endswith(("_total", "_count", "_bucket")) and "_jobs" in k[0]}
        counters |= {k: v for k, v in now.items() if k[0].startswith(("taskqueue_job_", "taskqueue_feed_"))}
        counters = {k: v for k, v in counters.items() if k[0].endswith(("_total", "_count", "_bucket", "_sum"))}
        fallen = {k: (v, counters.get(k)) for k, v in self._before.items() if counters.get(k, -1.0) < v}
        assert not fallen, fallen
        self._before = counters
        return now
