"""What the hook costs a worker: real arq workers with and without it, in turns in one run.

Per job that does nothing; of the wrapper alone; and how late jobs that sleep for 5 ms at a time go on, also where the
link to Redis is slow, and where the Redis that the hook writes to is gone for 30 seconds while arq's own is there.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import redis
from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

import taskqueue_hooks._connection
from taskqueue_hooks import instrument
from tests.namespaces import NotPermitted, network_namespace
from tests.servers import LOOPBACK, RedisServer

JOBS, RUNS = 2000, 9
CALLS = 20_000
SLOTS = 20
NAP, NAPS = 0.005, 100
"""A job of the second bench sleeps so long, so often: the slots end forty such jobs in a second, at best."""
SECONDS, GONE = 5.0, 30.0
RATE = "1mbit"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one job: microseconds, commands that Redis carried out, and bytes that it was sent."""

    wall: float
    cpu: float
    commands: float
    sent: float


def main() -> None:
    with tempfile.TemporaryDirectory() as name, _redis(Path(name)) as server:
        _overhead(server)
        _wrapper(server)
        _lateness("all well", server, SECONDS)
        with _hook_led_into_a_hole():
            _lateness(f"the hook's Redis gone for {GONE:.0f} s", server, GONE)
    with tempfile.TemporaryDirectory() as name:
        try:
            _slow_link(Path(name))
        except NotPermitted as error:
            print(f"no slow link: {error}")


# -- per job ----------------------------------------------------------------------------------------------------


async def nothing(ctx: dict[Any, Any]) -> None:
    """A job."""


def _overhead(server: RedisServer) -> None:
    runs: dict[bool, list[Cost]] = {False: [], True: []}
    _burst(server, hooked=True)  # the first one loads and caches what the others find
    for _ in range(RUNS):  # in turns, so that what else the machine does meets both alike
        for hooked, costs in runs.items():
            costs.append(_burst(server, hooked=hooked))

    def median(of: Callable[[Cost], float], hooked: bool) -> float:
        return statistics.median(map(of, runs[hooked]))

    figures: dict[str, Callable[[Cost], float]] = {
        "µs of the clock": lambda cost: cost.wall,
        "µs of CPU": lambda cost: cost.cpu,
        "commands of Redis": lambda cost: cost.commands,
        "bytes to Redis": lambda cost: cost.sent,
    }
    for what, of in figures.items():
        without, with_hook = median(of, hooked=False), median(of, hooked=True)
        print(f"per job {with_hook - without:+8.2f} {what} ({without:.2f} without the hook, {with_hook:.2f} with it)")


def _burst(server: RedisServer, *, hooked: bool) -> Cost:
    """A worker works off what stands there, and ends."""
    client = server.client()
    client.flushall()
    asyncio.run(_enqueue(server.url(), "nothing", JOBS))
    settings = _settings(server.url(), functions=[nothing], burst=True)
    commands, sent = _carried_out(client)
    cpu, began = time.process_time(), time.perf_counter()
    asyncio.run(_run(settings, hooked=hooked))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    commands_by_then, sent_by_then = _carried_out(client)
    return Cost(wall / JOBS * 1e6, cpu / JOBS * 1e6, (commands_by_then - commands) / JOBS, (sent_by_then - sent) / JOBS)


def _settings(url: str, **settings: Any) -> dict[str, Any]:
    return {
        "redis_settings": RedisSettings.from_dsn(url),
        "max_jobs": SLOTS,
        "queue_read_limit": JOBS,
        "poll_delay": 0.01,
        "handle_signals": False,
        **settings,
    }


async def _run(settings: dict[str, Any], *, hooked: bool) -> None:
    worker = Worker(**(instrument(settings) if hooked else settings))
    try:
        await worker.async_run()
    finally:
        await worker.close()


async def _enqueue(url: str, function: str, count: int) -> None:
    async with await create_pool(RedisSettings.from_dsn(url)) as pool:
        for _ in range(count):
            await pool.enqueue_job(function)


def _carried_out(client: redis.Redis) -> tuple[int, int]:
    """How many commands the server has carried out, those within transactions included, and the bytes it was sent."""
    stats: Any = client.info("commandstats")
    traffic: Any = client.info("stats")
    return sum(int(stat["calls"]) for stat in stats.values()), int(traffic["total_net_input_bytes"])


# -- the wrapper alone ------------------------------------------------------------------------------------------


def _wrapper(server: RedisServer) -> None:
    """Within a worker, as only there it is what it is: calls of a wrapped function, and of the function itself."""
    took: dict[str, list[float]] = {"bare": [], "wrapped": []}
    workers: list[Any] = []

    async def measure(ctx: dict[Any, Any]) -> None:
        (worker,) = workers
        of_worker, wrapped = worker.ctx, worker.functions["nothing"].coroutine
        of_job = {name: ctx[name] for name in ("job_id", "job_try", "enqueue_time", "score")}
        for _ in range(RUNS):
            for name, coroutine in (("bare", nothing), ("wrapped", wrapped)):
                began = time.perf_counter()
                for _ in range(CALLS):
                    await coroutine({**of_worker, **of_job})
                took[name].append((time.perf_counter() - began) / CALLS * 1e6)

    server.client().flushall()
    asyncio.run(_enqueue(server.url(), "measure", 1))
    functions = [func(measure, name="measure"), nothing]
    settings = instrument(_settings(server.url(), functions=functions, burst=True))

    async def run() -> None:
        worker = Worker(**settings)
        workers.append(worker)
        await worker.async_run()
        await worker.close()

    asyncio.run(run())
    added = statistics.median(took["wrapped"]) - statistics.median(took["bare"])
    print(f"per call {added:+7.2f} µs in the wrapper, records made and kept, not written")


# -- what jobs notice -------------------------------------------------------------------------------------------


def _slow_link(directory: Path) -> None:
    with network_namespace() as namespace, _redis(directory, namespace.inside) as server:
        namespace.run("ip", "link", "set", "lo", "mtu", "1500")  # more than the burst would never pass
        namespace.run("tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", RATE, "burst", "32kb", "latency", "10s")
        namespace.inside(partial(_lateness, f"a link of {RATE}", server, SECONDS))


def _lateness(what: str, server: RedisServer, seconds: float) -> None:
    for hooked in (False, True):
        late: list[float] = []
        ended = asyncio.run(_work(server, seconds, late, hooked=hooked))
        cuts = statistics.quantiles(late, n=100)
        print(
            f"{what}, {'with' if hooked else 'without'} the hook: {ended / seconds:.0f} jobs a second, their sleeps of "
            f"{NAP * 1e3:.0f} ms late by p50 {cuts[49] * 1e3:.2f} ms, p99 {cuts[98] * 1e3:.2f} ms, "
            f"at most {max(late) * 1e3:.1f} ms"
        )


async def _work(server: RedisServer, seconds: float, late: list[float], *, hooked: bool) -> int:
    """Jobs for as long; how many ended. `late` gets by how much each of their sleeps was too long."""
    ended = 0

    async def sleeper(ctx: dict[Any, Any]) -> None:
        nonlocal ended
        for _ in range(NAPS):
            began = time.perf_counter()
            await asyncio.sleep(NAP)
            late.append(time.perf_counter() - began - NAP)
        ended += 1

    async with await create_pool(RedisSettings.from_dsn(server.url())) as pool:
        await pool.flushall()
        for _ in range(int(seconds / (NAP * NAPS) * SLOTS)):  # more than can be done
            await pool.enqueue_job("sleeper")
        settings = _settings(server.url(), functions=[func(sleeper, name="sleeper")], queue_read_limit=SLOTS)
        run = asyncio.create_task(_run(settings, hooked=hooked))
        await asyncio.sleep(seconds)
        done = ended
        run.cancel()
        await asyncio.wait({run})
        return done


@contextmanager
def _hook_led_into_a_hole() -> Iterator[None]:
    """The hook's connections lead to where nothing is ever answered; arq's to Redis as ever."""
    with socket.create_server((LOOPBACK, 0), backlog=1000) as hole:
        own = taskqueue_hooks._connection.pool_like

        def into_the_hole(pool: Any) -> Any:
            made = own(pool)
            made.connection_kwargs["port"] = hole.getsockname()[1]
            return made

        taskqueue_hooks._connection.pool_like = into_the_hole
        try:
            yield
        finally:
            taskqueue_hooks._connection.pool_like = own


@contextmanager
def _redis(directory: Path, start: Callable[[Callable[[], RedisServer]], RedisServer] | None = None) -> Iterator[Any]:
    server = start(lambda: RedisServer(directory)) if start else RedisServer(directory)
    try:
        yield server
    finally:
        server.stop()
