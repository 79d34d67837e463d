"""100,000 series: our renderer beside prometheus_client's, in one run; and how long the event loop waits while a full
ledger is rendered, its samples made on the way."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import uvloop
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from exporter.exposition import OPENMETRICS, TEXT, Format, Renderer, expose
from exporter.ledger import Ledger
from exporter.model import Enqueued, Finished, Outcome, Started
from exporter.safe.limits import Limits
from exporter.systems import SYSTEMS

SERIES = 100_000
LEDGER_TASKS = Limits().task_queues
CELERY_OUTCOMES = SYSTEMS["celery"].outcomes
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
    print(f"a ledger at its caps, {LEDGER_TASKS} pairs of queue and task:")
    uvloop.run(_loop_lag(_full_ledger()))


def _full_ledger() -> Ledger:
    """Every pair that the default limits allow, with a failure each."""
    ledger = Ledger("celery", "main", CELERY_OUTCOMES, Limits(), Counter())
    for number in range(LEDGER_TASKS):
        labels = _labels(number)
        where = (labels["queue"], labels["task"], str(number), time.time())
        ledger.record([Enqueued(*where), Started(*where, wait=0.5)])
        ledger.record([Finished(*where, Outcome.FAILED, run=1.5, exception="ValueError")])
    return ledger


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


async def _loop_lag(ledger: Ledger) -> None:
    for form in (TEXT, OPENMETRICS):
        renderer = Renderer()
        took = [await _lag_during(ledger, renderer, form) for _ in range(RUNS + 1)]
        lags = [lag for lag, _ in took]
        print(
            f"{form.media_type:30} {sum(len(metric.samples) for metric in ledger.families())} series in "
            f"{statistics.median(whole for _, whole in took[1:]) * 1e3:.0f} ms; longest wait of the event loop, gzip "
            f"included: median {statistics.median(lags[1:]) * 1e3:.1f} ms, worst {max(lags[1:]) * 1e3:.1f} ms, "
            f"cold {lags[0] * 1e3:.1f} ms"
        )


async def _lag_during(ledger: Ledger, renderer: Renderer, form: Format) -> tuple[float, float]:
    """The longest time between two turns of a coroutine that wants every turn, while one answer is made; and how long
    that takes."""
    worst = 0.0
    began = last = time.perf_counter()

    async def tick() -> None:
        nonlocal worst, last
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            worst, last = max(worst, now - last), now

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await expose(ledger.families(), renderer, form, gzip=True)
    await asyncio.sleep(0)
    ticker.cancel()
    return worst, time.perf_counter() - began


def _timed(function: Callable[[], bytes]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began
