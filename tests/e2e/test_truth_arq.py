"""What the exporter counts of ARQ's jobs is what these jobs recorded themselves, without a hook in their workers."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e import truth_arq
from tests.e2e.apps import START_DEADLINE, worker
from tests.e2e.reading import jobs
from tests.e2e.truth import ARQ, SHOWN_AT_ONCE, Watched, connected
from tests.e2e.truth_record import Recorder
from tests.servers import RedisServer, StartExporter, wait_until

JOBS = 2000


@pytest.mark.slow
def test_two_thousand_jobs_are_counted_as_they_ended_twice_in_a_row(
    redis_server: RedisServer, start_exporter: StartExporter, record: Path, tmp_path: Path
) -> None:
    url = redis_server.url()
    exporter = start_exporter(redis_url=url, env=SHOWN_AT_ONCE)
    with ExitStack() as stack:
        # given a worker for each of two queues, and an exporter that knows of them
        for command in truth_arq.WORKERS:
            stack.enter_context(worker(tmp_path, url, *command))
        wait_until(lambda: connected(exporter.metrics(), "results"), START_DEADLINE)
        wait_until(lambda: all(jobs(exporter.metrics(), "arq", queue) for queue in truth_arq.QUEUES), START_DEADLINE)
        watched = Watched(exporter, record, ARQ)
        # when, then
        for _ in range(2):
            asyncio.run(truth_arq.enqueue(url, Recorder(record), JOBS))
            watched.assert_tells_the_truth()
    # and what cannot be seen without a hook is absent
    unseen = {"taskqueue_jobs_enqueued_total", "taskqueue_jobs_started_total"}
    assert unseen.isdisjoint(name for name, labels in exporter.metrics() if ("system", "arq") in labels)
