"""ARQ workers that are instrumented, for tests of what the hook tells of them and of what it does to their jobs.

Single workers are settings for arq's command. Others are run by this module:

    python -m tests.e2e.hook_apps fleet QUEUE COUNT SLOTS     many workers of one queue in one process
    python -m tests.e2e.hook_apps broken WHEN QUEUE           a worker whose hook raises in everything it does
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from arq import create_pool, run_worker
from arq.connections import RedisSettings
from arq.worker import Worker

import taskqueue_hooks
from taskqueue_hooks import instrument, progress
from tests.e2e import truth_arq
from tests.e2e.apps import WORKER_URL, hold
from tests.e2e.truth_record import recorder

BEAT = 1.0
LONG_BEAT = 10.0
SHORT, LONG, UNKEPT, TINY = "arq:short", "arq:long", "arq:unkept", "arq:tiny"
"""The queues of the workers with a short beat, with a long one, that keep no results, and with a tiny buffer."""
TINY_BUFFER = 10
SLOTS = 100
KEEP = 3600

_redis = RedisSettings.from_dsn(os.environ.get(WORKER_URL, "redis://"))
_record = recorder()


# -- single workers ---------------------------------------------------------------------------------------------


async def held(ctx: dict[str, Any], gate: str) -> None:
    """Runs until the file `gate` is there, and records that."""
    _record.started(ctx["job_id"])
    await hold(ctx, gate)
    _record.ended(ctx["job_id"], "succeeded")


def _settings(**settings: Any) -> dict[str, Any]:
    return {"redis_settings": _redis, "poll_delay": 0.05, "max_jobs": SLOTS, "functions": [held], **settings}


short = instrument(_settings(queue_name=SHORT), beat=BEAT)
long = instrument(_settings(queue_name=LONG), beat=LONG_BEAT)
forgetting = instrument(_settings(queue_name=UNKEPT, keep_result=0), beat=BEAT)
tiny = instrument(_settings(queue_name=TINY, keep_result=KEEP), beat=BEAT, buffer=TINY_BUFFER)


def arq_worker(name: str) -> tuple[str, ...]:
    """The command of a worker, by the name of its settings here."""
    return ("arq", f"{__name__}.{name}")


async def enqueue(url: str, queue: str, count: int, function: str = "held", *args: object) -> list[str]:
    """Enqueues jobs; their ids. They are recorded before that."""
    pool = await create_pool(RedisSettings.from_dsn(url))
    record = recorder()
    try:
        ids = [f"{function} {number} of {queue} at {time.time_ns()}" for number in range(count)]
        for job_id in ids:
            record.enqueued(job_id, function, queue)
            assert await pool.enqueue_job(function, *args, _job_id=job_id, _queue_name=queue) is not None
        return ids
    finally:
        await pool.aclose()


# -- a fleet ----------------------------------------------------------------------------------------------------

TAKEN = "E2E_HOOK_TAKEN"
"""The environment variable that names the file in which the fleet's jobs say who runs them."""


class Taken(msgspec.Struct):
    """A job runs. If it says how far it is, it did so between `after` and `before`."""

    worker: str
    queue: str
    job: str
    after: float | None = None
    before: float | None = None


def taken(file: Path) -> list[Taken]:
    """What the jobs wrote."""
    return [msgspec.json.decode(line, type=Taken) for line in file.read_bytes().splitlines()]


def _take(ctx: dict[str, Any], *between: float) -> None:
    with open(os.environ[TAKEN], "ab", buffering=0) as file:
        file.write(msgspec.json.encode(Taken(ctx["worker"], ctx["queue"], ctx["job_id"], *between)) + b"\n")


async def take(ctx: dict[str, Any], gate: str) -> None:
    """Occupies a slot until the gate opens."""
    _take(ctx)
    await hold(ctx, gate)


async def report(ctx: dict[str, Any], gate: str) -> None:
    """The same, saying how far it is when it starts, and again when the gate of its own opens."""
    for done in range(2):
        after = time.time()
        progress(ctx, done, 2)
        _take(ctx, after, time.time())
        await hold(ctx, gate if done else own_gate(gate, ctx["job_id"]))


def own_gate(gate: str, job_id: str) -> str:
    """The file for which one job that reports waits."""
    return f"{gate} of {job_id.replace(':', '-')}"


def _member(queue: str, number: int, slots: int) -> Worker:
    name = worker_name(queue, number)
    settings = {
        **_settings(queue_name=queue, max_jobs=slots, functions=[take, report]),
        "poll_delay": 0.2,
        "handle_signals": False,
        "ctx": {"worker": name, "queue": queue},
    }
    return Worker(**instrument(settings, name=name, beat=BEAT))


def worker_name(queue: str, number: int) -> str:
    return f"{queue} {number}"


async def fleet(queue: str, count: int, slots: int) -> None:
    """Runs many workers until it is killed."""
    await asyncio.gather(*(_member(queue, number, slots).async_run() for number in range(count)))


# -- a hook that fails ------------------------------------------------------------------------------------------


class HookFailed(Exception):
    """What everything in the hook raises."""


SPARED = ("taskqueue_hooks", "taskqueue_hooks._options", "taskqueue_hooks._guard")
"""What users call; what tells them of a mistake of theirs; and what is there to hold back all that the others raise."""


def broken(when: str, queue: str) -> None:
    """Runs a worker of `truth_arq` whose hook fails `before` it is instrumented, `after` that, or `amidst` its jobs."""
    settings: Any = truth_arq.FirstWorker

    async def on_job_end(ctx: dict[str, Any]) -> None:
        break_everything()

    if when == "before":
        break_everything()
    settings = instrument(settings, beat=0.2)
    if when == "after":
        break_everything()
    run_worker(settings, queue_name=queue, **({"on_job_end": on_job_end} if when == "amidst" else {}))


def break_everything() -> None:
    """From now on every function and method of the hook raises."""
    modules = [importlib.import_module(name) for name in _modules(taskqueue_hooks)]
    for module in modules:
        for name, member in list(vars(module).items()):
            home = getattr(member, "__module__", "")
            if not home.startswith(taskqueue_hooks.__name__) or home in SPARED:
                continue
            if inspect.isclass(member):
                _break_class(member)
            elif inspect.isfunction(member):
                setattr(module, name, _failing(member))


def _modules(package: ModuleType) -> Iterator[str]:
    yield package.__name__
    yield from (found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))


def _break_class(found: type) -> None:
    for name, member in list(vars(found).items()):
        if inspect.isfunction(member):
            setattr(found, name, _failing(member))


def _failing(function: Callable[..., Any]) -> Callable[..., Any]:
    name = function.__qualname__
    if inspect.iscoroutinefunction(function):

        async def fail(*_: Any, **__: Any) -> None:
            raise HookFailed(name)

        return fail

    def fail_at_once(*_: Any, **__: Any) -> None:
        raise HookFailed(name)

    return fail_at_once


if __name__ == "__main__":
    role, first, *rest = sys.argv[1:]
    if role == "fleet":
        asyncio.run(fleet(first, *map(int, rest)))
    else:
        broken(first, *rest)
