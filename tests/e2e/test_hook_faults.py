"""Whatever befalls the hook: jobs run as without it, each end is counted once, and what was lost is counted as lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest
import redis
from arq.connections import RedisSettings, create_pool

from tests.e2e import truth_arq
from tests.e2e.apps import START_DEADLINE, worker
from tests.e2e.hook_apps import TINY, TINY_BUFFER, UNKEPT, arq_worker, enqueue
from tests.e2e.reading import Metrics, queue
from tests.e2e.truth import (
    ARQ,
    SHOWN_AT_ONCE,
    Watched,
    assert_all_tell_the_truth,
    connected,
    differences,
    expect,
    read,
    total,
    unended,
)
from tests.e2e.truth_hook import arq_rules
from tests.e2e.truth_record import HOOKED, WORKER, recorder
from tests.namespaces import Namespace, needs_namespace
from tests.servers import RedisServer, StartExporter, StartRedis, wait_until

pytestmark = pytest.mark.slow

JOBS = 40
RATE = "200kbit"
"""Of a slow link: a job's last commands and its record take some 50 ms of it."""
EVENTS = "taskqueue:arq:events:"
GIVEN_UP = "_write failed"
"""In a worker's log, that a write of its hook took too long."""
DEADLINE = 60.0


def finished(metrics: Metrics, **labels: str) -> float:
    return total(metrics, "taskqueue_jobs_finished_total", system="arq", **labels)


def lost(metrics: Metrics) -> float:
    return total(metrics, "taskqueue_feed_lost_events_total", system="arq", feed="hook")


def starts(record: Path) -> int:
    """How many attempts have begun."""
    return sum(len(job.starts) for job in read(record).values())


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that start from now on are instrumented, says what their jobs record."""
    monkeypatch.setenv(WORKER, HOOKED)


@pytest.mark.usefixtures("hooked")
def test_jobs_end_while_redis_hangs_and_are_counted_once_when_it_goes_on(
    redis_server: RedisServer, start_exporter: StartExporter, record: Path, tmp_path: Path
) -> None:
    url, gate = redis_server.url(), tmp_path / "gate"
    exporter = start_exporter(redis_url=url, env=SHOWN_AT_ONCE)
    with worker(tmp_path, url, *arq_worker("forgetting")) as process:
        # given jobs that run, of which nothing is kept
        wait_until(lambda: queue(exporter.metrics(), "workers", "arq", UNKEPT), START_DEADLINE)
        asyncio.run(enqueue(url, UNKEPT, JOBS, "held", str(gate)))
        wait_until(lambda: starts(record) == JOBS, START_DEADLINE)
        # when Redis hangs, just after a beat so that the next write has something to tell, then they end as they would
        client = redis_server.client()
        beat = of_the_worker(client, "at")
        wait_until(lambda: of_the_worker(client, "at") != beat, START_DEADLINE, interval=0.01)
        redis_server.pause()
        gate.touch()
        wait_until(lambda: not unended(record), START_DEADLINE)
        wait_until(lambda: GIVEN_UP in process.log, START_DEADLINE)
        # and when it goes on, so does everything
        redis_server.resume()
        asyncio.run(enqueue(url, UNKEPT, JOBS, "held", str(gate)))
        nothing_differs(exporter.metrics, record)
        assert process.running
    # though more was written than was told: what was given up had arrived
    assert written(client, UNKEPT) > 2 * JOBS


@needs_namespace
@pytest.mark.usefixtures("hooked")
def test_a_slow_link_loses_nothing(
    namespace: Namespace, start_redis: StartRedis, start_exporter: StartExporter, record: Path, tmp_path: Path
) -> None:
    # given a worker whose link to Redis will be slow, and an exporter that has another way
    path, gate = tmp_path / "redis.sock", tmp_path / "gate"
    namespace.run("ip", "link", "set", "lo", "mtu", "1500")  # more than the burst would never pass
    server = namespace.inside(lambda: start_redis(unixsocket=str(path)))
    exporter = start_exporter(redis_url=f"unix://{path}", env=SHOWN_AT_ONCE)
    with ExitStack() as stack:
        command = arq_worker("forgetting")
        process = namespace.inside(lambda: stack.enter_context(worker(tmp_path, server.url(), *command)))
        wait_until(lambda: queue(exporter.metrics(), "workers", "arq", UNKEPT), START_DEADLINE)
        namespace.inside(lambda: asyncio.run(enqueue(server.url(), UNKEPT, JOBS, "held", str(gate))))
        wait_until(lambda: starts(record) == JOBS, START_DEADLINE)
        # when
        namespace.run("tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", RATE, "burst", "16kb", "latency", "10s")
        gate.touch()
        # then
        nothing_differs(exporter.metrics, record)
        assert process.running


def nothing_differs(scrape: Callable[[], Metrics], record: Path) -> None:
    """Waits until the exporter tells what is recorded of jobs that were all run by instrumented workers, though nothing
    was kept of them; then nothing was lost."""
    wait_until(lambda: not unended(record), DEADLINE)
    expected = expect(read(record).values(), arq_rules(lambda _: False))
    wait_until(lambda: not differences(expected, scrape(), "arq", sums=()), DEADLINE)
    metrics = scrape()
    assert not differences(expected, metrics, "arq", sums=())
    assert lost(metrics) == 0


def test_jobs_run_as_ever_though_everything_in_the_hook_raises(
    redis_server: RedisServer, start_exporter: StartExporter, record: Path, tmp_path: Path
) -> None:
    url = redis_server.url()
    queues = {when: f"arq:{when}" for when in ("before", "after", "amidst")}
    config = f"brokers: [{{name: default, url: '{url}', arq: {{queues: {list(queues.values())}}}}}]"
    exporter = start_exporter(config=config, env=SHOWN_AT_ONCE)
    wait_until(lambda: connected(exporter.metrics(), "results"), START_DEADLINE)
    watched = Watched(exporter, record, ARQ, sums=())
    with ExitStack() as stack:
        # given workers whose hooks fail from before they are instrumented, from after that, and amidst their jobs
        processes = [
            stack.enter_context(worker(tmp_path, url, "tests.e2e.hook_apps", "broken", *item))
            for item in queues.items()
        ]
        # when jobs end in every way, then all is as without the hook
        asyncio.run(one_of_each_kind(url, queues.values()))
        assert_all_tell_the_truth(watched, later=2)
        assert all(process.running for process in processes)
    # and only the one that failed late has ever told of itself
    assert redis_server.client().zrange("taskqueue:arq:queues", 0, -1) == [queues["amidst"].encode()]


async def one_of_each_kind(url: str, queues: Iterable[str]) -> None:
    async with await create_pool(RedisSettings.from_dsn(url)) as pool:
        for name in queues:
            await asyncio.gather(*(kind(pool, recorder(), "deliver", name) for kind in truth_arq.KINDS))


def test_what_does_not_fit_into_the_buffer_is_counted_as_lost(
    redis_server: RedisServer, start_exporter: StartExporter, record: Path, tmp_path: Path
) -> None:
    url, gate, client = redis_server.url(), tmp_path / "gate", redis_server.client()
    exporter = start_exporter(redis_url=url, env=SHOWN_AT_ONCE)
    with worker(tmp_path, url, *arq_worker("tiny")):
        # given a worker that is known, with all slots taken
        wait_until(lambda: queue(exporter.metrics(), "workers", "arq", TINY), START_DEADLINE)
        asyncio.run(enqueue(url, TINY, JOBS, "held", str(gate)))
        wait_until(lambda: starts(record) == JOBS, START_DEADLINE)
        # when all jobs end at once
        gate.touch()
        # then what the records lack is told, and the counts lack nothing, as results are kept
        wait_until(lambda: of_the_worker(client, "records") == str(JOBS).encode(), START_DEADLINE)
        there = written(client, TINY)
        assert TINY_BUFFER <= there < JOBS
        wait_until(lambda: lost(exporter.metrics()) == JOBS - there, START_DEADLINE)
        wait_until(lambda: finished(exporter.metrics(), queue=TINY) == JOBS, START_DEADLINE)
        assert finished(exporter.metrics(), queue=TINY, outcome="succeeded") == JOBS


def written(client: redis.Redis, name: str) -> int:
    """How many records of ends stand in a queue's stream."""
    return cast(int, client.xlen(f"{EVENTS}{name}"))


def of_the_worker(client: redis.Redis, field: str) -> bytes | None:
    """A field of what the only worker says of itself."""
    (worker_id,) = cast(list[bytes], client.zrange("taskqueue:arq:workers", 0, -1))
    return cast(bytes | None, client.hget(f"taskqueue:arq:worker:{worker_id.decode()}", field))
