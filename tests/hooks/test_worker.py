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

from taskqueue_hooks import instrument
from taskqueue_hooks._worker import find_worker
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

async def main_and_more(worker):
    await worker.main()
    await asyncio.sleep(0.3)  # in the task that awaited main: its worker reports on

def abandoned():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = create_worker(WorkerSettings, burst=True, queue_name="arq:abandoned")
    loop.run_until_complete(main_and_more(worker))
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
async def test_however_it_is_run_and_run_again(stage: Stage, how: str) -> None:
    worker = stage.worker(instrument({"functions": [noop]}, beat=60), queue_name="arq:other")
    for _ in range(2):
        await stage.enqueue("noop", queue="arq:other")
        await HOW[how](worker)
        stage.client.delete("arq:result:noop-1")
    await worker.close()
    assert stage.hashes() == []
    assert stage.outcomes("arq:other") == [("noop", "succeeded", "")] * 2


@pytest.mark.usefixtures("all_is_well")
async def test_a_worker_that_has_taken_itself_back_starts_anew(stage: Stage) -> None:
    worker = stage.worker(instrument({"functions": [noop]}, beat=60))
    for number in (1, 2):
        await stage.pool.enqueue_job("noop", _job_id=str(number))
        await worker.async_run()
        await stage.until(lambda number=number: len(stage.ends()) == number and not stage.hashes())  # type: ignore[misc]
    assert [end["n"] for end in stage.ends()] == ["1", "1"]
    assert len({end["worker"] for end in stage.ends()}) == 2
    coroutine: Any = worker.functions["noop"].coroutine
    assert coroutine.__wrapped__ is noop


async def test_where_no_worker_is_found_nothing_is_done(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """As where a hook of the user's calls ours from a task of its own."""
    made = instrument({"functions": [noop]})

    async def on_startup(ctx: dict[Any, Any]) -> None:
        await asyncio.create_task(made["on_startup"](ctx))

    async def on_shutdown(ctx: dict[Any, Any]) -> None:
        await asyncio.create_task(made["on_shutdown"](ctx))

    worker = await stage.run({**made, "on_startup": on_startup, "on_shutdown": on_shutdown}, "noop")
    assert worker.jobs_complete == 1
    assert worker.functions["noop"].coroutine is noop
    assert stage.client.keys("taskqueue:*") == []
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.partition(" failed")[0] for text in warnings] == ["start", "stop"]
    assert "no arq Worker awaits" in warnings[0]


async def test_a_worker_of_another_context_is_not_the_one(stage: Stage) -> None:
    class Mine(Worker):
        async def ask(self, ctx: dict[Any, Any]) -> Worker:
            found: Worker = find_worker(ctx)
            return found

    worker = Mine([noop], redis_pool=stage.pool, handle_signals=False)
    assert await worker.ask(worker.ctx) is worker
    with pytest.raises(LookupError):
        await worker.ask({})


@pytest.mark.usefixtures("all_is_well")
@pytest.mark.parametrize("context", [None, {"shared": True}])
async def test_two_workers_of_one_process(stage: Stage, context: dict[Any, Any] | None) -> None:
    """Each tells of itself, also when they share the settings and, by the user's will, the context."""
    settings = instrument({"functions": [noop], "ctx": context}, beat=BEAT)
    queues = ("arq:one", "arq:two")
    workers = [await stage.start(settings, queue_name=queue) for queue in queues]
    # An id of its own for each: a name is the same job wherever it is queued.
    for queue in queues:
        for number in range(3):
            await stage.pool.enqueue_job("noop", _job_id=f"{queue}-{number}", _queue_name=queue)
    await stage.until(lambda: all(len(stage.ends(queue)) == 3 for queue in queues))
    assert sorted(found["queue"] for found in stage.hashes()) == ["arq:one", "arq:two"]
    await workers[0].close()
    assert [found["queue"] for found in stage.hashes()] == ["arq:two"]
    await workers[1].close()
    for queue in queues:
        assert {end["job"].rpartition("-")[0] for end in stage.ends(queue)} == {queue}
        assert [end["n"] for end in stage.ends(queue)] == ["1", "2", "3"]
