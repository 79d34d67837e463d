"""However a task of Celery ends, the exporter says so: of the oldest and the newest Celery, in every pool."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.apps import kill
from tests.e2e.celery_endings import (
    ABROAD,
    CLOSING,
    DEFAULT,
    DOOMED,
    FREEZING,
    LETTERS,
    SERIALIZER,
    UNTOLD,
    URL,
    VISIBILITY_TIMEOUT,
    ZONE,
)
from tests.e2e.celery_producer import AGAIN, POOLS, SERIALIZERS, place
from tests.e2e.truth import SHOWN_AT_ONCE, Rules, Watched, assert_all_tell_the_truth, connected, expect, read, total
from tests.e2e.truth_record import RECORD
from tests.servers import ROOT, Exporter, Process, RedisServer, StartExporter, wait_until

CELERY_PYTHONS = os.environ.get(
    "TEST_CELERY_PYTHONS",
    os.pathsep.join(f"{ROOT}/.venv-{name}/bin/python" for name in ("celery54", "celery57")),
)
"""The interpreters, and with them the versions of Celery, that producers and workers run in."""
SLOTS = {"prefork": 6, "threads": 8, "solo": 1}
ELSEWHERE = {ZONE: "Asia/Tokyo", "TZ": "America/New_York"}
"""A worker that reckons in one zone, on a machine set to another, sends a wrong `utcoffset`, too."""
DEADLINE = 60.0
LATE = 2.0
"""Seconds by which a worker's clock and a task's own may differ, each time, while many workers share a machine."""
RULES = Rules("celery", sees_all=True, waits=lambda _: True, known=lambda job: job.how not in UNTOLD)


def name_of(python: str) -> str:
    """`celery54`, from the environment's name."""
    return "celery56" if python == sys.executable else Path(python).parent.parent.name.removeprefix(".venv-")


def cases() -> Iterator[Any]:
    """Each version of Celery."""
    for python in CELERY_PYTHONS.split(os.pathsep):
        yield pytest.param(python, marks=pytest.mark.needs(python), id=name_of(python))


class Application:
    """Processes of `celery_endings`, with the Celery of an interpreter."""

    def __init__(self, python: str, url: str, record: Path, directory: Path, stack: ExitStack) -> None:
        self._python, self._url, self._record, self._directory = python, url, record, directory
        self._stack = stack

    def producer(self, role: str, *pools: str, **environment: str) -> Process:
        """Sends to the workers of these pools."""
        command = ["-m", "tests.e2e.celery_producer", role, *pools]
        return self._start(role, command, {URL: self._url, RECORD: str(self._record)} | environment)

    def worker(self, name: str, pool: str, *queues: str, **environment: str) -> Process:
        """A worker of a pool."""
        url, record = place(self._url, str(self._record), pool)
        command = ["-m", "celery", "--app", "tests.e2e.celery_endings:worker_app", "worker"]
        command += [
            "--hostname",
            f"{name}@{pool}",
            "--pool",
            pool,
            "--concurrency",
            str(1 if name == "closing" else SLOTS[pool]),
        ]
        command += ["--queues", ",".join(queues), "--without-gossip", "--without-mingle", "--loglevel", "warning"]
        environment |= {URL: url, RECORD: record, SERIALIZER: SERIALIZERS.get(pool, "json")}
        return self._start(f"{name}-{pool}", command, environment)

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> Process:
        log = self._directory / f"{name}.log"
        process = Process([self._python, *command], log, cwd=ROOT, env=os.environ | environment)
        self._stack.callback(kill, process)
        return process


def ended(process: Process) -> None:
    """Waits for a producer."""
    assert process.wait(DEADLINE) == 0, process.log


@pytest.mark.slow
@pytest.mark.parametrize("python", [*cases()])
def test_every_end_is_counted_as_what_it_was(
    python: str, redis_server: RedisServer, start_exporter: StartExporter, record: Path, tmp_path: Path
) -> None:
    # given an exporter that watches three brokers, for each pool one
    exporter = watch(redis_server, start_exporter)
    records = {pool: Path(place("", str(record), pool)[1]) for pool in POOLS}
    watched = [Watched(exporter, records[pool], RULES, sums=(), broker=pool) for pool in POOLS]
    with ExitStack() as stack:
        application = Application(python, base(redis_server), record, tmp_path, stack)
        # when tasks are sent, of which some expire before the workers come
        ended(application.producer("before", *POOLS))
        run(application, exporter, records)
        # then
        wait_until(lambda: all(ran_again(record) for record in records.values()), DEADLINE, interval=0.5)
        for one in watched:
            assert_all_tell_the_truth(one, deadline=DEADLINE, later=3)
            no_wait_is_that_of_another_zone(one)


def base(server: RedisServer) -> str:
    return server.url().removesuffix("/0")


def watch(server: RedisServer, start_exporter: StartExporter) -> Exporter:
    brokers = [
        f"{{name: {pool}, url: '{place(base(server), '', pool)[0]}', celery: {{inspect: false, "
        f"accept_content: [{SERIALIZERS.get(pool, 'json')}]}}}}"
        for pool in POOLS
    ]
    exporter = start_exporter(config=f"brokers: [{', '.join(brokers)}]", env=SHOWN_AT_ONCE)
    wait_until(lambda: connected(exporter.metrics(), "events"), DEADLINE)
    return exporter


def run(application: Application, exporter: Exporter, records: dict[str, Path]) -> None:
    """Runs workers, some of which come to their end while they work."""
    main = [application.worker("main", pool, DEFAULT, LETTERS) for pool in POOLS]
    doomed = {pool: application.worker("doomed", pool, DOOMED) for pool in POOLS}
    closing = {pool: application.worker("closing", pool, CLOSING) for pool in POOLS}
    freezing = application.worker("freezing", "prefork", FREEZING)
    abroad = application.worker("abroad", "threads", ABROAD, **ELSEWHERE)
    for record in records.values():
        wait_until(lambda record=record: starts(record, DEFAULT), DEADLINE)  # type: ignore[misc]
    producers = [application.producer("during", *POOLS), application.producer("abroad", "threads", **ELSEWHERE)]
    for pool in POOLS:
        # What a killed worker had not sent by then is told by nobody.
        wait_until(lambda pool=pool: struck(records[pool]), DEADLINE)  # type: ignore[misc]
        if pool != "solo":  # that one tells nothing while it runs a task
            wait_until(lambda pool=pool: told(exporter, pool, DOOMED) == 1, DEADLINE)  # type: ignore[misc]
        kill(doomed[pool])
        wait_until(lambda pool=pool: starts(records[pool], CLOSING), DEADLINE)  # type: ignore[misc]
        if pool != "solo":  # what a worker has not noticed of its children runs, and is given back
            wait_until(lambda pool=pool: told(exporter, pool, CLOSING), DEADLINE)  # type: ignore[misc]
        closing[pool].signal(signal.SIGTERM)
    wait_until(lambda: told(exporter, "prefork", FREEZING) == 2, DEADLINE)
    freezing.signal(signal.SIGQUIT)
    for process in (*closing.values(), freezing):
        process.wait(DEADLINE)
    for process in producers:
        ended(process)
    # By now no worker holds what the killed ones held; Redis gives it to the first that looks after the timeout.
    held = max(at for record in records.values() for at in struck(record))
    wait_until(lambda: time.time() > held + VISIBILITY_TIMEOUT + 1, DEADLINE)
    for pool in POOLS:
        application.worker("heir", pool, DOOMED, CLOSING, FREEZING)
    assert all(process.running for process in (*main, abroad))


def told(exporter: Exporter, pool: str, queue: str) -> float:
    """How many starts of a queue's tasks the exporter was told."""
    return total(exporter.metrics(), "taskqueue_jobs_started_total", broker=pool, queue=queue)


def struck(record: Path) -> list[float]:
    """When the tasks whose worker is to be killed began."""
    return [end.at for job in read(record).values() if job.enqueued.queue == DOOMED for end in job.ends]


def starts(record: Path, queue: str) -> list[float]:
    """When the tasks of a queue started."""
    return [start for job in read(record).values() if job.enqueued.queue == queue for start in job.starts]


def ran_again(record: Path) -> bool:
    """Whether everything that is to run once more did."""
    jobs = read(record).values()
    return all(job.how == AGAIN for job in jobs if job.enqueued.fate == AGAIN) and not any(
        job.how == "requeued" for job in jobs
    )


def no_wait_is_that_of_another_zone(one: Watched) -> None:
    """What is far off by the jobs' own clocks is so by hours."""
    expected = expect(read(one.record).values(), RULES)
    shown = one.exporter.metrics()
    for labels, seconds in expected.sums["job_wait_seconds_sum"].items():
        key = "taskqueue_job_wait_seconds_sum", labels | {("system", "celery"), ("broker", one.broker)}
        waits = expected.counts["job_wait_seconds_count"][labels]
        assert abs(shown[key] - seconds) < LATE * waits, key
