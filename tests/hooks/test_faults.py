"""A failure inside any function of the hook, one after the other: workers and jobs go on as if it were not there."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from arq.cron import cron
from arq.worker import Retry, func

import taskqueue_hooks
from taskqueue_hooks import _reporter, instrument, progress
from tests.hooks.stage import Stage, make_stage
from tests.servers import RedisServer

pytestmark = pytest.mark.needs("redis-server")

Ctx = dict[Any, Any]

THE_USER_CALLS = {"taskqueue_hooks.instrument", "taskqueue_hooks._instrument", "taskqueue_hooks.progress"}
THE_GUARD = {"_guard.safely", "_guard.safely_await"}
FOR_THE_USER_TO_HEAR = "_options."  # wrong options raise

ELSEWHERE = {
    "_connection.sentinel_pool_like",
    "_guard.complain",
    "_jobs.Attempt._overrun",
}
"""What this worker has no use for."""


async def prepares(ctx: Ctx) -> None:
    """A hook of the user's."""


async def works(ctx: Ctx) -> int:
    progress(ctx, 1, 2, "half")
    await asyncio.sleep(0)
    return 1


async def fails(ctx: Ctx) -> None:
    raise ValueError("no")


async def sleeps(ctx: Ctx) -> None:
    progress(ctx, 1)
    await asyncio.sleep(60)


async def asks_again(ctx: Ctx) -> int:
    if ctx["job_try"] == 1:
        raise Retry
    return 2


async def cancels_itself(ctx: Ctx) -> int:
    if ctx["job_try"] == 1:
        raise asyncio.CancelledError
    return 3


def settings() -> dict[str, Any]:
    """Made anew for each worker: arq notes in a cron job when it is to run next."""
    at_once = cron(works, month=1, day=1, run_at_startup=True, keep_result=60, unique=False)
    functions = [works, fails, func(sleeps, timeout=0.05), asks_again, cancels_itself]
    return {"functions": functions, "cron_jobs": [at_once], "on_startup": prepares}


RESULTS = [
    ("asks_again", 2, True, "2"),
    ("cancels_itself", 2, True, "3"),
    ("cron:works", 1, True, "1"),
    ("fails", 1, False, "ValueError('no')"),
    ("sleeps", 1, False, "TimeoutError()"),
    ("works", 1, True, "1"),
]
COUNTED = {"jobs_complete": 4, "jobs_failed": 2, "jobs_retried": 2}


def modules() -> list[ModuleType]:
    names = [found.name for found in pkgutil.iter_modules(taskqueue_hooks.__path__)]
    return [taskqueue_hooks, *(importlib.import_module(f"taskqueue_hooks.{name}") for name in names)]


def is_ours(thing: object, module: ModuleType) -> bool:
    return inspect.isfunction(thing) and thing.__code__.co_filename == module.__file__


def functions() -> Iterator[tuple[str, Any, str]]:
    """Every function and method of the package: how it is called here, what it belongs to, its name there."""
    for module in modules():
        short = module.__name__.removeprefix("taskqueue_hooks.")
        for name, thing in vars(module).items():
            if is_ours(thing, module):
                yield f"{short}.{name}", module, name
            elif inspect.isclass(thing) and thing.__module__ == module.__name__:
                for attribute, method in vars(thing).items():
                    if is_ours(getattr(method, "fget", method), module):
                        yield f"{short}.{name}.{attribute}", thing, attribute


def is_guarded(where: str) -> bool:
    return where not in THE_USER_CALLS | THE_GUARD and not where.startswith(FOR_THE_USER_TO_HEAR)


FUNCTIONS = {where: (owner, name) for where, owner, name in functions() if is_guarded(where)}


def break_function(monkeypatch: pytest.MonkeyPatch, where: str) -> list[str]:
    """Make one function raise wherever it is called; what is returned grows with each call."""
    owner, name = FUNCTIONS[where]
    calls: list[str] = []
    real = inspect.getattr_static(owner, name)
    broken = breaking(real, calls)
    owners = [owner] if inspect.isclass(owner) else [module for module in modules() if vars(module).get(name) is real]
    for one in owners:
        monkeypatch.setattr(one, name, broken)
    return calls


def breaking(real: Any, calls: list[str]) -> Any:
    def fail(*arguments: Any, **kwargs: Any) -> Any:
        calls.append("called")
        raise RuntimeError("broken on purpose")

    async def fail_later(*arguments: Any, **kwargs: Any) -> Any:
        fail()

    if isinstance(real, property):
        return property(fail)
    made: Callable[..., Any] = fail_later if inspect.iscoroutinefunction(real) else fail
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for all: there are many functions."""
    made = RedisServer(tmp_path_factory.mktemp("redis"))
    yield made
    made.stop()


@pytest.fixture
async def stage(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr(_reporter, "GATHER", 0.01)  # that something is written while jobs run
    made = await make_stage(server)
    made.client.flushdb()
    yield made
    await made.close()


async def check_jobs(stage: Stage) -> None:
    """Run a job of every kind and see that each ended as it should."""
    names = ("works", "fails", "sleeps", "asks_again", "cancels_itself")
    worker = stage.worker(instrument(settings(), beat=0.01))
    await worker.async_run()  # with no job but the cron job: a burst worker may run again
    await stage.enqueue(*names)
    await worker.async_run()
    await worker.close()
    assert {name: getattr(worker, name) for name in COUNTED} == COUNTED
    results = await stage.pool.all_job_results()
    assert sorted((one.function, one.job_try, one.success, repr(one.result)) for one in results) == RESULTS


async def test_nothing_broken(stage: Stage) -> None:
    await check_jobs(stage)
    assert len(stage.ends()) == sum(COUNTED.values())


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # of the function that was to await it
@pytest.mark.parametrize("where", FUNCTIONS)
async def test_a_function_that_fails(stage: Stage, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = break_function(monkeypatch, where)
    await check_jobs(stage)
    assert bool(calls) is (where not in ELSEWHERE)


async def test_a_log_that_fails_as_well(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a filter or a handler of the user's may."""
    ends = break_function(monkeypatch, "_jobs.Attempt.end")
    complaints = break_function(monkeypatch, "_guard.complain")
    await check_jobs(stage)
    assert len(ends) == len(complaints) == sum(COUNTED.values())
