"""Which worker calls: found by way of the frames that await the hook, however it is run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from arq.worker import Worker

from taskqueue_hooks import _lifetime, instrument
from taskqueue_hooks._reporter import Reporter
from taskqueue_hooks._worker import StandIn
from tests.hooks.stage import BEAT, Stage

APP = """
import asyncio, gc, os, sys
from arq.connections import RedisSettings
from arq.worker import create_worker, run_worker
from taskqueue_hooks import instrument

async def noop(ctx):
    pass

@instrument
class WorkerSettings:
    functions = [noop]
    redis_settings = RedisSettings(port=int(os.environ["REDIS_PORT"]))
    poll_delay = 0.01

def by_run_worker():
    run_worker(WorkerSettings, burst=True, queue_name="arq:by_run_worker", max_jobs=4)

def abandoned():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = create_worker(WorkerSettings, burst=True, queue_name="arq:abandoned")
    loop.run_until_complete(worker.main())
    loop.run_until_complete(asyncio.sleep(0.3))  # for its record
    loop.close()
    del worker
    gc.collect()

if __name__ == "__main__":
    globals()[sys.argv[1]]()
"""

HOW: dict[str, Callable[[Worker], Awaitable[Any]]] = {
    "async_run": lambda worker: worker.async_run(),
    "main in a task of the user's": lambda worker: asyncio.create_task(worker.main()),
    "main awaited in a coroutine": lambda worker: asyncio.wait_for(worker.main(), 60),
    "run_check": lambda worker: worker.run_check(),
}


async def noop(ctx: dict[Any, Any]) -> None:
    """Does nothing."""


@pytest.mark.usefixtures("all_is_well")
async def test_workers_of_processes(stage: Stage, tmp_path: Path) -> None:
    """The command line, `run_worker()`, and a loop that is closed without an end of the worker: none complains."""
    (tmp_path / "app.py").write_text(APP)
    arguments = {
        "arq:queue": ["-m", "arq", "app.WorkerSettings", "--burst"],
        "arq:by_run_worker": ["app.py", "by_run_worker"],
        "arq:abandoned": ["app.py", "abandoned"],
    }
    env = {"REDIS_PORT": str(stage.server.port), "PYTHONPATH": str(tmp_path)}
    processes = []
    for number, (queue, given) in enumerate(arguments.items()):
        await stage.pool.enqueue_job("noop", _job_id=str(number), _queue_name=queue)
        command = [sys.executable, "-W", "ignore", *given]
        processes.append(subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True))  # noqa: ASYNC220
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert said[1:] == ["", ""]
    assert "Traceback" not in said[0]
    for queue in arguments:
        assert stage.outcomes(queue) == [("noop", "succeeded", "")], queue
    assert [found["queue"] for found in stage.hashes()] == ["arq:abandoned"]


@pytest.mark.usefixtures("all_is_well")
@pytest.mark.parametrize("how", HOW)
async def test_however_it_is_run_and_run_again(stage: Stage, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    monkeypatch.setattr(_lifetime, "Reporter", type("Seen", (Reporter,), {"start": seen(found)}))
    worker = stage.worker(instrument({"functions": [noop]}), queue_name="arq:other")
    for _ in range(2):
        await stage.enqueue("noop", queue="arq:other")
        await HOW[how](worker)
        stage.client.delete("arq:result:noop-1")
    assert found == [worker]
    await worker.close()
    assert [end["n"] for end in stage.ends("arq:other")] == ["1", "2"]


def seen(found: list[Any]) -> Callable[[Any], None]:
    def start(self: Any) -> None:
        found.append(self.worker)
        real(self)

    real = Reporter.start
    return start


@pytest.mark.usefixtures("all_is_well")
async def test_where_no_worker_is_found_the_settings_stand_in(stage: Stage) -> None:
    settings = instrument({"functions": [noop], "max_jobs": 6, "queue_name": "arq:mine"}, beat=BEAT)
    ctx: dict[Any, Any] = {"redis": stage.pool}
    await settings["on_startup"](ctx)
    job = {"job_id": "1", "job_try": 1, "score": 1000}
    await settings["functions"][0].coroutine({**ctx, **job})
    told = await stage.until(stage.hash)
    assert (told["queue"], told["slots"], told["functions"]) == ("arq:mine", "6", "1")
    await settings["on_shutdown"](ctx)
    assert stage.outcomes("arq:mine") == [("noop", "succeeded", "")]
    assert stage.hashes() == []


async def test_a_stand_in_has_what_a_worker_has(stage: Stage) -> None:
    given = {"functions": [noop], "job_timeout": 7, "keep_result": 8, "retry_jobs": False, "max_jobs": 9}
    worker = stage.worker(given)
    stand_in = StandIn(given, {"redis": stage.pool})
    for name in set(vars(stand_in)) - {"functions", "aborting_tasks", "pool"}:
        assert getattr(stand_in, name) == getattr(worker, name), name
    assert len(stand_in.functions) == len(worker.functions)


@pytest.mark.usefixtures("all_is_well")
@pytest.mark.parametrize("context", [None, {"shared": True}])
async def test_two_workers_of_one_process(stage: Stage, context: dict[Any, Any] | None) -> None:
    """Each tells of itself, also when they share the settings and, by the user's will, the context."""
    settings = instrument({"functions": [noop], "ctx": context}, beat=BEAT)
    queues = ("arq:one", "arq:two")
    # An id of its own for each: a name is the same job wherever it is queued.
    for queue in queues:
        for number in range(3):
            await stage.pool.enqueue_job("noop", _job_id=f"{queue}-{number}", _queue_name=queue)
    workers = [stage.worker(settings, queue_name=queue) for queue in queues]
    await asyncio.gather(*(worker.async_run() for worker in workers))
    assert sorted(found["queue"] for found in stage.hashes()) == ["arq:one", "arq:two"]
    await workers[0].close()
    assert [found["queue"] for found in stage.hashes()] == ["arq:two"]
    await workers[1].close()
    for queue in queues:
        assert {end["job"].rpartition("-")[0] for end in stage.ends(queue)} == {queue}
        assert [end["n"] for end in stage.ends(queue)] == ["1", "2", "3"]
