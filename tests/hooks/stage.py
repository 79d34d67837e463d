"""Real ARQ workers with the hook, in this process, and what the hook wrote into their Redis."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.worker import Worker, create_worker

from taskqueue_hooks import instrument
from tests.servers import RedisServer

QUEUE = "arq:queue"
PREFIX = "taskqueue:arq:"
BEAT = 0.1


class Stage:
    """A Redis with a queue, and workers of it. `log` is what jobs and hooks of the user's note, `runs` are the workers
    that were started, by their queue."""

    def __init__(self, server: RedisServer, pool: ArqRedis) -> None:
        self.server = server
        self.pool = pool
        self.client: Any = server.client()
        self.log: list[Any] = []
        self.runs: dict[str, asyncio.Task[None]] = {}
        self._workers: list[Worker] = []

    @property
    def redis_settings(self) -> RedisSettings:
        return RedisSettings(port=self.server.port)

    async def enqueue(self, *jobs: str, queue: str = QUEUE, **kwargs: Any) -> None:
        """Put one job of each of these functions into the queue; the ids are `<function>-1`, `<function>-2`, …"""
        numbers: Counter[str] = Counter()
        for function in jobs:
            numbers[function] += 1
            job_id = f"{function}-{numbers[function]}"
            assert await self.pool.enqueue_job(function, _job_id=job_id, _queue_name=queue, **kwargs)

    def worker(self, settings: Any, **overrides: Any) -> Worker:
        """A burst worker by these settings; it is closed at the end of the test."""
        defaults = {
            "redis_settings": self.redis_settings,
            "poll_delay": 0.01,
            "burst": True,
            "handle_signals": False,
        }
        worker = create_worker(settings, **{**defaults, **overrides})
        self._workers.append(worker)
        return worker

    async def run(self, settings: Any, *jobs: str, **overrides: Any) -> Worker:
        """Run these jobs with a burst worker, from its start to its end."""
        worker = self.worker(settings, **overrides)
        await self.enqueue(*jobs, queue=worker.queue_name)
        await worker.async_run()
        await worker.close()
        return worker

    async def start(self, settings: Any, **overrides: Any) -> Worker:
        """A worker that runs until it is closed, at the end of the test at the latest; it has written once."""
        worker = self.worker(settings, **{"burst": False, **overrides})
        self.runs[worker.queue_name] = asyncio.create_task(worker.async_run())
        await self.until(lambda: worker.queue_name in {found["queue"] for found in self.hashes()})
        return worker

    async def run_jobs(self, *functions: Any, **settings: Any) -> Worker:
        """Run each of these functions once, with an instrumented burst worker."""
        names = [getattr(function, "name", None) or function.__qualname__ for function in functions]
        return await self.run(instrument({"functions": functions, **settings}, beat=BEAT), *names)

    async def until(self, condition: Callable[[], Any], deadline: float = 10.0) -> Any:
        """The first true value of `condition`, while the workers go on."""
        end = time.monotonic() + deadline
        while not (value := condition()):
            assert time.monotonic() < end, f"not so within {deadline} s; last {value!r}"
            await asyncio.sleep(0.01)
        return value

    # -- what the hook wrote ------------------------------------------------------------------------------------

    def ends(self, queue: str = QUEUE) -> list[dict[str, str]]:
        """The records of attempts that ended, as they stand in the stream."""
        return [decoded(fields) for _, fields in self.client.xrange(PREFIX + "events:" + queue)]

    def outcomes(self, queue: str = QUEUE) -> list[tuple[str, ...]]:
        """Task, outcome and exception of each end, sorted."""
        return sorted((end["task"], end["outcome"], end["exception"]) for end in self.ends(queue))

    def hashes(self) -> list[dict[str, str]]:
        """The hashes of workers."""
        keys = sorted(self.client.scan_iter(PREFIX + "worker:*"))
        return [found for key in keys if (found := decoded(self.client.hgetall(key)))]

    def hash(self) -> dict[str, str]:
        """That of the one worker there is, empty if there is none."""
        found = self.hashes()
        assert len(found) <= 1
        return found[0] if found else {}

    def running(self) -> list[dict[str, Any]]:
        """What the one worker says that it runs."""
        told: list[dict[str, Any]] = json.loads(self.hash().get("running", "[]"))
        return told

    async def close(self) -> None:
        for worker in self._workers:
            if worker.main_task is not None and not worker.main_task.done():
                worker.main_task.cancel()
            await worker.close()
        await self.pool.aclose(close_connection_pool=True)


async def make_stage(server: RedisServer) -> Stage:
    return Stage(server, await create_pool(RedisSettings(port=server.port)))


def decoded(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}
