"""What each feature of ARQ's side needs of the server: all of it suffices, and each thing denied costs it alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis

from exporter.brokers.address import parse_address
from exporter.brokers.pulls import Pulls
from exporter.model import JobState, Observation
from exporter.systems.arq import Arq
from exporter.systems.arq.options import ArqOptions
from tests.servers import RedisServer
from tests.systems.arq_results import QUEUE
from tests.systems.observing import START, Clock, state, watching

KEYS = {QUEUE, f"{QUEUE}:health-check", "arq:abort", "arq:job:*", "arq:in-progress:*"}
HEALTH = "Nov-21 22:{}:01 j_complete=1 j_failed=0 j_retried=0 j_ongoing=0 queued=0"
RUNS = {"ready", "running", "oldest ready", "oldest running", "expired jobs", "by task"}


@pytest.fixture
async def arq(redis_server: RedisServer, client: redis.Redis, clock: Clock) -> AsyncIterator[Arq]:
    """On a queue in which one job runs, two are ready, of which one has expired, and one is scheduled."""
    due = {"runs": -60, "expired": -50, "ready": -40, "later": 60}
    client.zadd(QUEUE, {job: (START + seconds) * 1000 for job, seconds in due.items()})
    client.mset({f"arq:job:{job}": "x" for job in due if job != "expired"} | {"arq:in-progress:runs": 1})
    client.zadd("arq:abort", {"nobody": 1})
    client.set(f"{QUEUE}:health-check", HEALTH.format("13"), ex=3600)
    async with watching(Arq, redis_server, clock, QUEUE, discover=False) as system:
        yield system


def told(seen: Observation) -> dict[str, object]:
    """What an observation tells, by name."""
    queue = state(seen, QUEUE)
    facts = {
        **{str(name): queue.jobs.get(name) for name in (JobState.READY, JobState.SCHEDULED, JobState.RUNNING)},
        "oldest ready": queue.oldest_ready,
        "oldest running": queue.oldest_running,
        "progress": queue.last_progress,
        "expired jobs": queue.expired_jobs,
        "by task": seen.running,
        "aborts": seen.abort_requests,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def restrict(client: redis.Redis, *, denied: str = "", keys: set[str] = KEYS) -> None:
    """Takes a command away from everybody, or all keys but these."""
    client.acl_setuser(
        "default",
        enabled=True,
        nopass=True,
        categories=["+@all"],
        commands=[f"-{denied}"] if denied else None,
        keys=sorted(keys),
        reset_keys=True,
    )


async def test_all_there_is_to_tell(arq: Arq) -> None:
    seen = await arq.observe()
    assert not seen.problems
    assert told(seen) == {
        **{"ready": 2, "running": 1, "scheduled": 1, "oldest ready": START - 50.0, "oldest running": START},
        **{"progress": START, "expired jobs": 1, "by task": {"__unknown__": 1}, "aborts": 1},
    }


@pytest.mark.parametrize(
    ("denied", "lost", "features"),
    [
        ("zcount", {"ready", "scheduled", "progress"}, {"depth"}),
        ("zcard", {"aborts"}, {"abort requests"}),
        ("exists", {"expired jobs"}, {"expired jobs"}),
        ("getrange", {"by task"}, {"running by task", "health record"}),
        ("pttl", set(), {"health record"}),
        ("zscore", {"expired jobs"}, {"expired jobs"}),
        ("mget", RUNS, {"running"}),
        ("zrange", RUNS, {"running"}),
        ("arq:abort", {"aborts"}, {"abort requests"}),
        ("arq:job:*", {"expired jobs", "by task"}, {"expired jobs", "running by task"}),
        ("arq:in-progress:*", RUNS, {"running"}),
        (f"{QUEUE}:health-check", set(), {"health record"}),
        (QUEUE, RUNS | {"scheduled", "progress"}, {"depth", "running"}),
    ],
)
async def test_what_is_denied_costs_its_features_and_no_others(
    arq: Arq, client: redis.Redis, denied: str, lost: set[str], features: set[str]
) -> None:
    if denied in KEYS:
        restrict(client, keys=KEYS - {denied})
    else:
        restrict(client, denied=denied)
    seen = await arq.observe()
    restrict(client)
    whole = told(await arq.observe())
    assert told(seen) == {name: fact for name, fact in whole.items() if name not in lost}
    assert {problem.removeprefix(f"queue '{QUEUE}': ").partition(": ")[0] for problem in seen.problems} == features


@pytest.mark.parametrize("discover", [False, True])
async def test_the_permissions_it_asks_for_suffice(
    redis_server: RedisServer, client: redis.Redis, arq: Arq, discover: bool
) -> None:
    url = redis_server.url().replace("redis://", "redis://reader:x@")
    pulls = Pulls(parse_address(url))
    system = Arq(pulls, ArqOptions(queues=(QUEUE,), discover=discover, feed=False))
    needed = [*system.permissions(), *pulls.permissions()]
    client.execute_command(  # type: ignore[no-untyped-call]
        *("ACL", "SETUSER", "reader", "reset", "on", "nopass", "-@all"),
        *(f"+{command}" for part in needed for command in part.commands),
        *(["~*"] if discover else [f"~{key}" for part in needed for key in part.keys]),
    )
    for _ in range(2):
        assert not (await system.observe()).problems
    await system.close()
    await pulls.close()
    assert not client.acl_log()
