"""What each feature of ARQ's side needs of the server: all of it suffices, and each thing denied costs it alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis
from arq.jobs import serialize_job

from exporter import acl
from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.errors import Refused
from exporter.brokers.pulls import Pulls
from exporter.model import JobState, Observation, Outcome
from exporter.systems.arq import Arq
from exporter.systems.arq import system as arq_system
from exporter.systems.arq.features import Feature, permissions
from exporter.systems.arq.options import ArqOptions
from exporter.systems.arq.queues.front import PAGE
from tests.servers import RedisServer
from tests.systems.arq_results import QUEUE, following
from tests.systems.hook_following import following as following_hook
from tests.systems.hook_records import HookedWorker
from tests.systems.observing import START, Clock, state, watching
from tests.systems.sinks import RecordingSink
from tests.toys import until

HOOKED = {*map("taskqueue:arq:{}".format, ["queues", "workers", "worker:*", "events:mine"])}
"""The keys of the hook, of the queue `mine`."""
KEYS = {QUEUE, f"{QUEUE}:health-check", "arq:abort", "arq:job:*", "arq:in-progress:*", "arq:retry:*"}
HEALTH = "Nov-21 22:{}:01 j_complete=1 j_failed=0 j_retried=0 j_ongoing=0 queued=0"
RUNS = {"ready", "running", "oldest ready", "oldest running", "expired jobs", "by task"}


@pytest.fixture
async def arq(redis_server: RedisServer, client: redis.Redis, clock: Clock) -> AsyncIterator[Arq]:
    """On a queue in which one job runs, two are ready, of which one has expired, and one is scheduled."""
    due = {"runs": -60, "expired": -50, "ready": -40, "later": 60}
    client.zadd(QUEUE, {job: (START + seconds) * 1000 for job, seconds in due.items()})
    client.mset({f"arq:job:{job}": "x" for job in due if job != "expired"})
    client.mset({"arq:in-progress:runs": 1, "arq:retry:runs": 1})
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
        ("arq:retry:*", RUNS, {"running"}),
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
    pulls = Pulls(Access(parse_address(url)))
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


# -- each feature with its own rights only ----------------------------------------------------------------------

STEPS = {
    "walk": (Feature.RUNNING, Feature.EXPIRED),  # it asks for both at once
    "recall": (Feature.RUNNING,),
    "verify": (Feature.EXPIRED,),
    "search": (Feature.DISCOVERY,),
    "RunningTasks": (Feature.BY_TASK,),
}
"""What takes connections as its first argument, and what it is done for. All else goes over the system's own."""


class Readers:
    """Users of a Redis who have the rights of some features, as they are printed, and their connections."""

    def __init__(self, server: RedisServer, client: redis.Redis) -> None:
        self._server = server
        self._client = client
        self._opened: list[Pulls] = []

    def url(self, options: ArqOptions, *features: Feature, db: int = 0) -> str:
        """The server as a user that has the rights of these features, and those of every connection."""
        name = "-".join(features).replace(" ", "_")
        plain = self._server.url(db)
        needed = [*Pulls(Access(parse_address(plain))).permissions()]
        needed += [one for one in permissions(options, db) if one.feature in features]
        words = acl.rules(needed, acl.Version.V7_0)
        self._client.execute_command("ACL", "SETUSER", name, "reset", "on", "nopass", *words)  # type: ignore[no-untyped-call]
        return plain.replace("redis://", f"redis://{name}:x@")

    def pulls(self, options: ArqOptions, *features: Feature) -> Pulls:
        self._opened.append(Pulls(Access(parse_address(self.url(options, *features)))))
        return self._opened[-1]

    async def close(self) -> None:
        for pulls in self._opened:
            await pulls.close()


@pytest.fixture
async def readers(redis_server: RedisServer, client: redis.Redis) -> AsyncIterator[Readers]:
    readers = Readers(redis_server, client)
    yield readers
    await readers.close()


@pytest.fixture
def alone(readers: Readers, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[[ArqOptions], Arq]:
    """Makes systems each of whose steps has the rights of its features only."""

    def make(options: ArqOptions) -> Arq:
        for step, features in STEPS.items():
            monkeypatch.setattr(arq_system, step, limited(getattr(arq_system, step), readers.pulls(options, *features)))
        return Arq(readers.pulls(options, Feature.DEPTH, Feature.ABORTS, Feature.HEALTH), options, clock)

    return make


def limited(step: Callable[..., Any], pulls: Pulls) -> Callable[..., Any]:
    return lambda _, *arguments: step(pulls, *arguments)


async def test_the_rights_of_each_feature_are_enough_for_it(
    arq: Arq, alone: Callable[[ArqOptions], Arq], client: redis.Redis
) -> None:
    # given a queue in which one job runs and one has expired
    system = alone(ArqOptions(queues=(QUEUE,), discover=False, feed=False))
    seen = await system.observe()
    assert not seen.problems
    assert told(seen) == told(await arq.observe())
    # when a lot of ready jobs comes before the one that runs
    client.zadd(QUEUE, {f"before{number}": (START - 600) * 1000 for number in range(PAGE + 1)})
    seen = await system.observe()
    # then it was looked for
    assert not seen.problems
    assert state(seen, QUEUE).jobs[JobState.RUNNING] == 1
    assert not client.acl_log()


async def test_the_rights_of_the_search_are_enough_for_it(
    arq: Arq, alone: Callable[[ArqOptions], Arq], client: redis.Redis
) -> None:
    client.zadd("arq:found", {"later": 1})
    client.set("arq:idle:health-check", HEALTH.format("13"))
    system = alone(ArqOptions(feed=False))

    seen = await system.observe()

    assert {queue.queue for queue in seen.queues} == {QUEUE, "arq:found", "arq:idle"}
    assert not seen.problems
    assert not client.acl_log()
    await system.close()


@pytest.mark.parametrize("mode", ["tracking", "keyspace"])
async def test_the_rights_of_jobs_without_result_are_enough_for_them(
    readers: Readers, client: redis.Redis, in_a_hurry: None, mode: str
) -> None:
    options = ArqOptions(queues=("mine",), discover=False, feed=mode, unkept="on")
    url = readers.url(options, Feature.RESULTS, Feature.UNKEPT)
    async with following(url, mode, queues=["mine"], unkept="on") as followed:
        await followed.until_connected()
        await followed.until_watched()
        # given a job that is known, and one that comes and is taken
        for job in ("stood", "came"):
            client.set(f"arq:job:{job}", serialize_job("send", (), {}, None, 1))
            client.zadd("mine", {job: 1})
        client.set("arq:in-progress:came", 1)
        await followed.until_watched()
        # when they end
        with client.pipeline() as ending:  # as arq does it
            ending.delete("arq:job:stood", "arq:job:came", "arq:in-progress:came")
            ending.zrem("mine", "stood", "came")
            ending.execute()
        await followed.until_counted(["stood", "came"])
        assert {(event.queue, event.task, event.outcome) for event in followed.sink.finished} == {
            ("mine", "send", Outcome.UNKNOWN)
        }
        assert not followed.problems
        # then nothing was denied but what gives due times
        assert [problem for problem in followed.feed.problems if "due times" not in problem] == []
    log: Any = client.acl_log()
    assert {entry["object"] for entry in log} == {"zrangebyscore"}


async def test_the_rights_of_the_hook_are_enough_for_it(readers: Readers, client: redis.Redis) -> None:
    # given a worker with the hook, of a queue that is named
    options = ArqOptions(queues=("mine",), discover=False)
    (needed,) = [one for one in permissions(options, 0) if one.feature == Feature.HOOK]
    assert needed.keys == HOOKED
    worker = HookedWorker(client, "w", "mine")
    worker.end("before")
    async with following_hook(readers.url(options, Feature.HOOK), only=["mine"]) as followed:
        await followed.until_connected()
        # when a job ends, and one after a cut
        worker.end("a")
        await followed.until_counted("a")
        client.client_kill_filter(_type="normal", skipme=True)
        worker.end("b")
        # then
        await followed.until_counted("a", "b")
        assert followed.feed.queue("mine").workers == 1
        assert not any(isinstance(problem, Refused) for problem in followed.problems)
    assert not client.acl_log()


@pytest.mark.parametrize("discover", [False, True])
async def test_what_the_hook_tells_is_observed(redis_server: RedisServer, client: redis.Redis, discover: bool) -> None:
    # given a worker with the hook, of a queue that holds nothing
    worker = HookedWorker(client, "w", "idle", slots=4)
    worker.beat([{"id": "a", "f": "f", "try": 1, "at": START, "reported": START}], busy=1)
    # given also one whose stream is none
    client.zadd("taskqueue:arq:queues", {"odd": START})
    client.set("taskqueue:arq:events:odd", "text")
    async with watching(Arq, redis_server, time.time, QUEUE, discover=discover) as system:
        (feed,) = [feed for feed in system.feeds if feed.name == "hook"]
        assert (await system.observe()).workers is None
        sink = RecordingSink()
        task = asyncio.create_task(feed.follow(sink))
        await until(lambda: sink.modes)
        # when it is observed
        seen = await system.observe()
        # then the queue is one, and it has a worker, unless only others are to be watched
        if discover:
            found = state(seen, "idle")
            assert found.jobs == {JobState.READY: 0, JobState.SCHEDULED: 0, JobState.RUNNING: 0}
            assert (found.workers, found.slots, found.busy_slots) == (1, 4, 1)
            assert found.progress_jobs == 1
            assert found.oldest_progress == pytest.approx(START, abs=1)
            assert [one.worker for one in seen.workers or ()] == ["w"]
            assert [problem for problem in seen.problems if "hook: " in problem]
        else:
            assert seen.workers is None
        assert state(seen, QUEUE).workers is None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await system.observe()).workers is None


@pytest.mark.parametrize("discover", [False, True])
async def test_the_default_queue_is_read_unasked_only_where_queues_are_searched(
    redis_server: RedisServer, client: redis.Redis, discover: bool
) -> None:
    # given jobs that get due soon, in a queue that is named and in the default one
    soon = (time.time() + 1) * 1000
    client.zadd("mine", {"ours": soon})
    client.zadd(QUEUE, {"theirs": soon})
    async with watching(Arq, redis_server, time.time, "mine", discover=discover, hook=False) as system:
        (feed,) = system.feeds
        task = asyncio.create_task(feed.follow(RecordingSink()))
        # when both could have been seen, in one go
        due = system._results.tally.ahead
        await until(lambda: b"ours" in due)
        # then
        assert (b"theirs" in due) is discover
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    keys = {key for needed in system.permissions() for key in needed.keys}
    assert QUEUE not in keys
