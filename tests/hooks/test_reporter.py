"""What is written when, what happens while Redis is away, and a worker's end."""

from __future__ import annotations

import asyncio
import gc
import re
import time
import weakref
from typing import Any

import pytest
from arq.connections import RedisSettings
from arq.worker import Worker, func
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from taskqueue_hooks import _reporter, instrument
from taskqueue_hooks._jobs import KEY
from taskqueue_hooks._lifetime import instrumented
from taskqueue_hooks._options import Options
from taskqueue_hooks._reporter import GATHER, Reporter
from tests.hooks.stage import BEAT, PREFIX, QUEUE, Stage
from tests.servers import ROOT, StartRedis

Ctx = dict[Any, Any]
DAY_MS = 86_400_000


async def noop(ctx: Ctx) -> None:
    """Does nothing."""


class Direct:
    """An instrumented worker that runs, and attempts of its job by direct calls: no job needs the Redis."""

    def __init__(self, worker: Worker, function: str = "noop") -> None:
        self.worker = worker
        self._function = worker.functions[function]
        self.reporter: Reporter = vars(worker)[KEY]

    async def call(self, *jobs: int) -> None:
        for job in jobs:
            await self._function.coroutine({**self.worker.ctx, "job_id": str(job), "job_try": 1, "score": 1000})


async def start(stage: Stage, **options: Any) -> Direct:
    """A worker that has written once, and knows it; it asks nothing of Redis itself."""
    direct = Direct(await stage.start(instrument({"functions": [noop]}, **options), poll_delay=3600))
    await stage.until(lambda: direct.reporter._news._waiter)  # else it might write still, beside the test
    return direct


def numbers(stage: Stage) -> list[int]:
    return [int(end["n"]) for end in stage.ends()]


# -- what is written --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("all_is_well")
async def test_a_worker_and_its_records(stage: Stage) -> None:
    before = time.time()
    worker = await stage.start(instrument({"functions": [noop], "max_jobs": 4}, beat=2, name="mailer"))
    await stage.enqueue("noop")
    await stage.until(stage.ends)

    told = stage.hash()
    expected = {"v": "1", "name": "mailer", "queue": QUEUE, "beat": "2.0", "slots": "4", "busy": "0", "functions": "1"}
    assert told.items() >= {**expected, "records": "1", "dropped": "0", "running": "[]"}.items()
    assert before <= float(told["started"]) <= float(told["at"]) <= time.time()
    (key,) = stage.client.scan_iter(PREFIX + "worker:*")
    name = key.decode().removeprefix(PREFIX + "worker:")
    assert name.startswith("mailer:")
    assert len(name) == len("mailer:12345678")

    (end,) = stage.ends()
    assert list(end) == [
        *("v", "worker", "n", "job", "task", "outcome", "exception", "try", "due", "start", "end", "written", "kept"),
    ]
    assert end.items() >= {"v": "1", "worker": name, "n": "1", "job": "noop-1", "task": "noop", "try": "1"}.items()
    times = [float(end[name]) for name in ("due", "start", "end", "written")]
    assert before - 0.001 <= times[0] <= times[1] <= times[2] < times[3] <= time.time()

    indexes = {PREFIX + "queues": QUEUE.encode(), PREFIX + "workers": name.encode()}
    for index, member in indexes.items():
        ((found, score),) = stage.client.zrange(index, 0, -1, withscores=True)
        assert (found, before <= score <= time.time()) == (member, True)
    assert 0 < stage.client.pttl(key) <= 6000
    for lasting in (*indexes, PREFIX + "events:" + QUEUE):
        assert DAY_MS - 60_000 < stage.client.pttl(lasting) <= DAY_MS

    await worker.close()
    assert sorted(stage.client.keys(PREFIX + "*")) == [f"{PREFIX}events:{QUEUE}".encode(), f"{PREFIX}queues".encode()]


@pytest.mark.usefixtures("all_is_well")
async def test_signs_of_life_and_members_that_are_old(stage: Stage) -> None:
    now = time.time()
    for index in ("queues", "workers"):
        stage.client.zadd(PREFIX + index, {"gone": now - 86_500, "away": now - 80_000})
    await start(stage, beat=BEAT)
    first = float(stage.hash()["at"])
    await stage.until(lambda: float(stage.hash()["at"]) >= first + 2 * BEAT)
    for index in ("queues", "workers"):
        members = stage.client.zrange(PREFIX + index, 0, -1)
        assert len(members) == 2
        assert b"gone" not in members


@pytest.mark.usefixtures("all_is_well")
async def test_the_stream_is_capped_and_many_ends_are_many_writes(stage: Stage) -> None:
    direct = await start(stage, stream_length=100, beat=60)
    writes = stage.client.info("commandstats").get("cmdstat_exec", {}).get("calls", 0)
    await direct.call(*range(350))
    await stage.until(
        lambda: stage.hash()["records"] == "350" and direct.reporter._ends.maxlen and not direct.reporter._ends
    )
    await stage.until(lambda: numbers(stage)[-1:] == [350])
    assert 100 <= len(numbers(stage)) <= 250
    assert stage.client.info("commandstats")["cmdstat_exec"]["calls"] - writes == 4


async def test_more_than_one_write_takes_is_written_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    direct = await start(stage, beat=60)
    monkeypatch.setattr(_reporter, "GATHER", 60)  # its own task waits so long before it writes
    await direct.call(*range(350))
    assert await direct.reporter._written()
    assert numbers(stage) == list(range(1, 301))


# -- Redis is away ----------------------------------------------------------------------------------------------


async def test_redis_hangs_and_every_record_arrives_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that got no answer is repeated under the same numbers; the jobs wait for nothing."""
    monkeypatch.setattr("taskqueue_hooks._connection.TIMEOUT", 0.1)
    direct = await start(stage, beat=BEAT)
    await direct.call(*range(3))
    await stage.until(lambda: numbers(stage) == [1, 2, 3])
    stage.server.pause()
    try:
        began = direct.reporter._connection._connection
        await direct.call(*range(3, 20))
        await asyncio.wait_for(stage.until(lambda: direct.reporter._connection._connection is not began), 10)
    finally:
        stage.server.resume()
    await stage.until(lambda: sorted(set(numbers(stage))) == list(range(1, 21)))
    assert stage.hash()["dropped"] == "0"
    jobs = {end["n"]: end["job"] for end in stage.ends()}
    assert all(jobs[str(n)] == str(n - 1) for n in range(1, 21))
    assert all(end["job"] == jobs[end["n"]] for end in stage.ends())
    # What is written again, though the hanging Redis has it after all, says when that was.
    await stage.until(lambda: len(numbers(stage)) > 20)
    times: dict[str, list[float]] = {}
    for end in stage.ends():
        times.setdefault(end["n"], []).append(float(end["written"]))
    assert all(sorted(set(written)) == written for written in times.values())


async def test_redis_is_down_and_what_the_buffer_loses_is_counted(
    stage: Stage, start_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    direct = await start(stage, beat=BEAT, buffer=10)
    stage.server.stop()
    await direct.call(*range(25))
    await stage.until(lambda: "ConnectionError" in caplog.text)
    await direct.call(*range(25, 30))
    stage.server.restart()
    stage.client = stage.server.client()
    await stage.until(lambda: numbers(stage)[-1:] == [30])
    told = stage.hash()
    assert int(told["records"]) == 30
    assert int(told["dropped"]) >= 5
    assert int(told["dropped"]) + len(numbers(stage)) == 30
    # The last ones stay, in their order, each once.
    assert numbers(stage)[-5:] == [26, 27, 28, 29, 30]
    assert numbers(stage) == sorted(set(numbers(stage)))
    warnings = [
        record for record in caplog.records if record.levelname == "WARNING" and record.name == "taskqueue_hooks"
    ]
    assert len(warnings) == 1


async def test_a_redis_that_refuses_us_is_told_of_once(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.client.execute_command("ACL", "SETUSER", "default", "resetkeys", "~arq:*")
    worker = stage.worker(instrument({"functions": [noop]}, beat=BEAT))
    await stage.enqueue("noop")
    await worker.async_run()
    assert worker.jobs_complete == 1
    await stage.until(lambda: "permission" in caplog.text.lower())
    assert [record.levelname for record in caplog.records if record.name == "taskqueue_hooks"] == ["WARNING"]
    stage.client.execute_command("ACL", "SETUSER", "default", "allkeys")
    await stage.until(lambda: numbers(stage) == [1])


async def test_keys_of_ours_that_are_of_another_type(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """What Redis took is not written again; what it refused is, when it can be."""
    stage.client.set(PREFIX + "queues", "not a sorted set")
    stage.client.set(PREFIX + "events:arq:other", "not a stream")
    direct = await start(stage, beat=BEAT)
    await direct.call(1, 2)
    await stage.until(lambda: numbers(stage) == [1, 2])
    await direct.call(3)
    beats = float(stage.hash()["at"]) + 3 * BEAT
    await stage.until(lambda: float(stage.hash()["at"]) > beats)
    assert numbers(stage) == [1, 2, 3]
    direct.worker.queue_name = "arq:other"
    await direct.call(4, 5)
    beats = float(stage.hash()["at"]) + 3 * BEAT
    await stage.until(lambda: float(stage.hash()["at"]) > beats)
    stage.client.delete(PREFIX + "events:arq:other")
    await stage.until(lambda: [end["n"] for end in stage.ends("arq:other")] == ["4", "5"])
    warnings = [record for record in caplog.records if record.levelname == "WARNING" and "hooks" in record.name]
    assert len(warnings) == 1
    assert "WRONGTYPE" in warnings[0].getMessage()


# -- the end ----------------------------------------------------------------------------------------------------


async def test_a_goodbye_to_a_redis_that_hangs_is_short(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded by itself, not by the time-out of a write."""
    monkeypatch.setattr(_reporter, "GOODBYE", 0.05)
    monkeypatch.setattr("taskqueue_hooks._connection.TIMEOUT", 60)
    direct = await start(stage, beat=60)
    stage.server.pause()
    try:
        await direct.call(1)
        await asyncio.wait_for(direct.reporter.stop(), 30)
    finally:
        stage.server.resume()
    assert not [task for task in asyncio.all_tasks() if "Reporter._report" in repr(task)]


async def test_a_goodbye_comes_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also from the waiting for more ends, and, where Redis is away, for the next beat."""
    gathering = await start(stage, beat=3600)
    waiting = Direct(
        await stage.start(instrument({"functions": [noop]}, beat=3600), queue_name="arq:2", poll_delay=3600)
    )
    for name in ("GATHER", "GOODBYE"):
        monkeypatch.setattr(_reporter, name, 3600)
    await gathering.call(1)
    await asyncio.sleep(0.01)
    await asyncio.wait_for(gathering.reporter.stop(), 30)
    assert numbers(stage) == [1]
    assert len(stage.hashes()) == 1

    stage.server.stop()
    monkeypatch.setattr(_reporter, "GATHER", 0.01)
    await waiting.call(1)
    await stage.until(lambda: "ConnectionError" in caplog.text)
    await asyncio.wait_for(waiting.reporter.stop(), 30)
    stage.server.restart()


@pytest.mark.usefixtures("all_is_well")
async def test_when_main_ends_so_does_the_worker(stage: Stage) -> None:
    """With an error, in a process that lives on; but not before its jobs have ended and their records are written."""
    release = asyncio.Event()

    async def held(ctx: Ctx) -> None:
        await release.wait()

    worker = await stage.start(instrument({"functions": [func(held, name="held"), noop]}, beat=BEAT))
    await stage.enqueue("held")
    await stage.until(stage.running)
    stage.client.set(QUEUE, "not a sorted set")
    with pytest.raises(ResponseError):
        await stage.runs[QUEUE]
    stage.client.delete(QUEUE)
    first = float(stage.hash()["at"])
    await stage.until(lambda: float(stage.hash()["at"]) > first + 2 * BEAT)
    assert stage.hash()["busy"] == "1"
    release.set()
    await stage.until(lambda: not stage.hashes())
    assert stage.outcomes() == [("held", "succeeded", "")]
    assert not stage.client.exists(PREFIX + "workers")

    # when a job ends later than one waits for it, the goodbye of the worker writes that
    await Direct(worker).call(2)
    await worker.close()
    assert [(end["n"], end["task"]) for end in stage.ends()] == [("1", "held"), ("2", "noop")]
    assert stage.hashes() == []


@pytest.mark.usefixtures("all_is_well")
async def test_a_job_that_ends_while_the_goodbye_is_said(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is taken back, but the task that did so is not done yet."""
    direct = await start(stage, beat=BEAT)
    connection, said, go_on = direct.reporter._connection, asyncio.Event(), asyncio.Event()
    drop = connection.drop

    async def held() -> None:
        said.set()
        await go_on.wait()
        await drop()

    monkeypatch.setattr(connection, "drop", held)
    stage.runs[QUEUE].cancel()
    await asyncio.wait_for(said.wait(), 30)
    await direct.call(1)
    closing = asyncio.create_task(direct.worker.close())
    await asyncio.sleep(GATHER / 2)
    go_on.set()
    await closing
    assert numbers(stage) == [1]


async def test_a_job_without_end_keeps_no_worker_alive(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reporter, "LAST_JOBS", 0.05)
    worker = await stage.start(instrument({"functions": [noop]}, beat=BEAT))
    worker.tasks["1"] = asyncio.create_task(asyncio.sleep(3600))
    stage.runs[QUEUE].cancel()
    await stage.until(lambda: not stage.hashes())
    worker.tasks.pop("1").cancel()


@pytest.mark.usefixtures("all_is_well")
async def test_the_goodbye_writes_all_that_is_left(stage: Stage) -> None:
    direct = await start(stage, beat=60)
    await direct.call(*range(350))
    await direct.worker.close()
    assert numbers(stage) == list(range(1, 351))
    assert stage.hashes() == []
    assert KEY not in vars(direct.worker)


@pytest.mark.usefixtures("all_is_well")
async def test_nothing_is_left_behind(stage: Stage) -> None:
    """Not even for the garbage collector."""
    direct = await start(stage, beat=60)
    await direct.call(1)
    reporter = weakref.ref(direct.reporter)
    del direct.reporter
    gc.disable()
    try:
        await direct.worker.close()
        await asyncio.sleep(0)
        assert reporter() is None
    finally:
        gc.enable()


# -- what it needs of Redis -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("all_is_well")
async def test_the_permissions_of_the_readme_are_all_it_needs(stage: Stage) -> None:
    readme = (ROOT / "hooks" / "README.md").read_text()
    (rules,) = re.findall(r"`(\+multi [^`]*)`", readme)
    stage.client.execute_command("ACL", "SETUSER", "hook", "on", ">secret", "resetkeys", "-@all", *rules.split())
    worker: Any = stage.worker({"functions": [noop]})
    async with Redis(port=stage.server.port, username="hook", password="secret") as client:
        worker._pool = client
        reporter = worker.__dict__[KEY] = Reporter(worker, Options(beat=BEAT))
        reporter.start()
        job = {"job_id": "1", "job_try": 1, "score": 1000}
        await instrumented(worker.functions["noop"], worker).coroutine(job)
        await stage.until(lambda: numbers(stage) == [1] and stage.hash())
        await reporter.stop()
    worker._pool = None
    assert stage.hashes() == []


@pytest.mark.usefixtures("all_is_well")
async def test_jobs_keep_their_connections(stage: Stage) -> None:
    """Of a pool of few connections none is taken: the hook has its own."""
    small = RedisSettings(port=stage.server.port, max_connections=2)
    await stage.run(instrument({"functions": [func(noop, name="noop")], "max_jobs": 1}), "noop", redis_settings=small)
    assert numbers(stage) == [1]
