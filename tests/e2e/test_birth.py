"""The birth rule as Prometheus sees it: `increase()` of what is new counts everything from the first job on.

`increase()` takes the last sample of its range less the first, and stretches that to the ends of the range, at most to
where a counter would have been 0. So it gives the exact number where the range begins before the series does, the first
sample is 0, and the range ends at the last sample: then there is nothing to stretch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest
import redis

from tests.e2e.flood import arq_result
from tests.e2e.prometheus import Prometheus
from tests.e2e.truth import Job
from tests.e2e.truth_record import Ended, Enqueued
from tests.servers import Exporter, RedisServer, StartExporter, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs("prometheus")]

DEADLINE = 30.0
HOLD = "TASKQUEUE_EXPORTER_BIRTH_HOLD"
SUCCEEDED = 'taskqueue_jobs_finished_total{task="nightly",outcome="succeeded"}'
FAILED = 'taskqueue_jobs_finished_total{task="nightly",outcome="failed"}'
RUNS = 'taskqueue_job_run_seconds_count{task="nightly"}'
REFUSED = 'taskqueue_job_exceptions_total{task="nightly",exception="KeyError"}'
BURST, SECOND_BURST = 25, 17

StartPrometheus = Callable[[Exporter], Prometheus]


@pytest.fixture
def start_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartPrometheus]:
    """Start a Prometheus for an exporter; returns once it has seen its feed connected."""
    with ExitStack() as stack:

        def start(exporter: Exporter) -> Prometheus:
            prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), exporter.port)
            stack.callback(prometheus.stop)
            wait_until(lambda: prometheus.value('taskqueue_feed_connected{feed="results"}') == 1, DEADLINE)
            return prometheus

        yield start


def end_jobs(client: redis.Redis, count: int, how: str = "succeeded") -> None:
    """Writes the results of jobs of the task `nightly` at once, as arq's workers do."""
    now = time.time()
    with client.pipeline(transaction=True) as pipe:
        for _ in range(count):
            job_id = uuid4().hex
            job = Job(Enqueued(job_id, "nightly", "arq:queue", now, now), [now], [Ended(job_id, now, how)])
            pipe.set(*arq_result(job), px=3_600_000)
        pipe.execute()


def increase(prometheus: Prometheus, selector: str) -> float | None:
    """The increase over a minute that ends at the last sample; the series are younger."""
    at = prometheus.value(f"timestamp({selector})")
    assert at is not None
    return prometheus.value(f"increase({selector}[1m])", at)


def test_increase_counts_a_new_task_and_a_new_exception_exactly(
    redis_server: RedisServer, start_exporter: StartExporter, start_prometheus: StartPrometheus
) -> None:
    client = redis_server.client()
    prometheus = start_prometheus(start_exporter(redis_url=redis_server.url(), env={HOLD: "3"}))
    # when a task is seen for the first time, with many jobs at once, and with more before those are shown
    end_jobs(client, BURST)
    wait_until(lambda: prometheus.value(SUCCEEDED) == 0, DEADLINE)
    end_jobs(client, SECOND_BURST)
    # then
    wait_until(lambda: prometheus.value(SUCCEEDED) == BURST + SECOND_BURST, DEADLINE)
    assert increase(prometheus, SUCCEEDED) == BURST + SECOND_BURST
    assert increase(prometheus, RUNS) == BURST + SECOND_BURST
    # when a task that is known by now fails for the first time
    end_jobs(client, BURST, "failed/KeyError")
    # then its failures count, and so does the exception, which is new
    wait_until(lambda: prometheus.value(REFUSED) == BURST, DEADLINE)
    assert increase(prometheus, REFUSED) == BURST
    assert increase(prometheus, FAILED) == BURST


def test_without_the_hold_increase_misses_the_first_jobs(
    redis_server: RedisServer, start_exporter: StartExporter, start_prometheus: StartPrometheus
) -> None:
    prometheus = start_prometheus(start_exporter(redis_url=redis_server.url(), env={HOLD: "0"}))
    end_jobs(redis_server.client(), BURST)
    wait_until(lambda: prometheus.value(SUCCEEDED) == BURST, DEADLINE)
    wait_until(lambda: increase(prometheus, SUCCEEDED) is not None, DEADLINE)  # once there are two samples
    found = increase(prometheus, SUCCEEDED)
    assert found is not None
    assert found < BURST
