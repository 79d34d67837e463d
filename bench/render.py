"""100,000 series: our renderer beside prometheus_client's, in one run; and how long the event loop waits meanwhile."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import uvloop
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from exporter.exposition import OPENMETRICS, TEXT, Format, Renderer, expose

SERIES = 100_000
RUNS = 7
_BOUNDS = ("0.1", "0.5", "1.0", "2.0", "5.0", "10.0", "30.0", "60.0", "120.0", "300.0", "900.0", "3600.0", "+Inf")


class Workload(Collector):
    """Counters of many tasks and histograms of fewer: the mix that a large installation has."""

    def __init__(self) -> None:
        counter = Metric("taskqueue_jobs_finished", "Finished jobs.", "counter")
        for number in range(SERIES // 2):
            counter.add_sample("taskqueue_jobs_finished_total", _labels(number), number)
        histogram = Metric("taskqueue_job_wait_seconds", "Seconds from due to started.", "histogram")
        for number in range(SERIES // 2 // (len(_BOUNDS) + 2)):
            labels = _labels(number)
            for place, le in enumerate(_BOUNDS):
                histogram.add_sample("taskqueue_job_wait_seconds_bucket", {**labels, "le": le}, place * number)
            histogram.add_sample("taskqueue_job_wait_seconds_count", labels, 12 * number)
            histogram.add_sample("taskqueue_job_wait_seconds_sum", labels, number * 1.1)
        self.families = [counter, histogram]

    def collect(self) -> Iterator[Metric]:
        yield from self.families


def _labels(number: int) -> dict[str, str]:
    return {"system": "celery", "broker": "main", "queue": f"queue-{number % 100}", "task": f"app.tasks.task_{number}"}


def main() -> None:
    workload = Workload()
    registry = CollectorRegistry()
    registry.register(workload)
    for form, reference in ((TEXT, generate_latest), (OPENMETRICS, generate_openmetrics)):
        _compare(form, workload, partial(reference, registry))
    uvloop.run(_loop_lag(workload))


def _compare(form: Format, workload: Workload, reference: Callable[[], bytes]) -> None:
    renderer = Renderer()
    ours = [_timed(lambda: b"".join(renderer.render(workload.collect(), form))) for _ in range(RUNS + 1)]
    theirs = [_timed(reference) for _ in range(RUNS)]
    assert b"".join(renderer.render(workload.collect(), form)) == reference(), "the bytes differ"
    warm, peer = statistics.median(ours[1:]), statistics.median(theirs)
    print(
        f"{form.media_type:30} ours {warm * 1e3:6.0f} ms (cold {ours[0] * 1e3:4.0f} ms)"
        f"   prometheus_client {peer * 1e3:6.0f} ms   ratio {peer / warm:.1f}"
    )


async def _loop_lag(workload: Workload) -> None:
    for form in (TEXT, OPENMETRICS):
        renderer = Renderer()
        lags = [await _lag_during(workload, renderer, form) for _ in range(RUNS + 1)]
        print(
            f"{form.media_type:30} longest wait of the event loop, gzip included: "
            f"median {statistics.median(lags[1:]) * 1e3:.1f} ms, worst {max(lags[1:]) * 1e3:.1f} ms, "
            f"cold {lags[0] * 1e3:.1f} ms"
        )


async def _lag_during(workload: Workload, renderer: Renderer, form: Format) -> float:
    """The longest time between two turns of a coroutine that wants every turn, while one answer is made."""
    worst = 0.0
    last = time.perf_counter()

    async def tick() -> None:
        nonlocal worst, last
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            worst, last = max(worst, now - last), now

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await expose(workload.collect(), renderer, form, gzip=True)
    await asyncio.sleep(0)
    ticker.cancel()
    return worst


def _timed(function: Callable[[], bytes]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began
