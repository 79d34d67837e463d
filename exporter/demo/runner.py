"""Runs the demo: brings everything up, shows the table, takes everything down."""

import asyncio
import importlib.util
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path

from exporter.demo import roles, table
from exporter.demo.configuration import write_configuration
from exporter.demo.errors import DemoError
from exporter.demo.ports import HOST, claim_port
from exporter.demo.processes import Child, Supervisor
from exporter.demo.queues import REDIS_URL_VARIABLE
from exporter.demo.redis_server import answers, find_redis, redis_url

TABLE_EVERY = 2.5
"""Seconds between two tables."""

SCRAPE_TIMEOUT = 2.0
START_DEADLINE = 30.0
END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run_demo(duration: float | None, port: int) -> None:
    """Runs the whole demo; raises DemoError if it cannot start and ChildFailed if a process of it ends by itself."""
    _require_libraries()
    redis, redis_port, port = find_redis(), claim_port(0), claim_port(port)
    with tempfile.TemporaryDirectory(prefix="taskqueue-demo-") as folder:
        supervisor = Supervisor(Path(folder), {REDIS_URL_VARIABLE: redis_url(redis_port)})
        runner = Runner(supervisor, port)
        try:
            await _until_signal(runner.run(redis, redis_port, duration))
            say("\nStopping the workload, the workers, the exporter and Redis.")
        finally:
            await supervisor.stop()
        say("Stopped everything.")


def _require_libraries() -> None:
    missing = [name for name in ("arq", "celery", "taskqueue_hooks") if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoError(f"{' and '.join(missing)} not installed: pip install 'taskqueue-exporter[demo]'")


async def _until_signal(work: Coroutine[None, None, None]) -> None:
    """Runs ``work`` until it ends or a signal asks for the end; later signals do nothing, for the end is bounded."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in END_SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def say(text: str) -> None:
    """Prints at once, whether or not someone watches through a pipe."""
    print(text, flush=True)


class Runner:
    """One run of the demo."""

    def __init__(self, supervisor: Supervisor, port: int) -> None:
        self._supervisor = supervisor
        self._port = port
        self._url = f"http://{HOST}:{port}"

    async def run(self, redis: str, redis_port: int, duration: float | None) -> None:
        """Brings everything up and shows the table for ``duration`` seconds (None: until cancelled)."""
        await self._bring_up(redis, redis_port)
        self._announce(duration)
        await self._show_tables(float("inf") if duration is None else duration)

    async def _bring_up(self, redis: str, redis_port: int) -> None:
        """Starts each stage; the order matters, for they stop in reverse: workload, workers, exporter, Redis."""
        (server,) = self._supervisor.start(roles.redis_role(redis, redis_port))
        await self._until_answers(server, lambda: answers(redis_port))
        workers = roles.worker_roles()
        watched = [server.role, *workers]
        configuration = write_configuration(self._supervisor.folder, redis_url(redis_port), watched)
        # The exporter before the first job: it cannot tell the queue of one whose enqueueing it did not see.
        (exporter,) = self._supervisor.start(roles.exporter_role(self._port, configuration))
        await self._until_answers(exporter, self._exporter_answers)
        self._supervisor.start(*workers)
        self._supervisor.start(roles.workload_role())

    async def _until_answers(self, child: Child, answers: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + START_DEADLINE
        while not await answers():
            await self._supervisor.pause(0.1)
            if time.monotonic() > deadline:
                raise child.failure(f"did not answer within {START_DEADLINE:.0f} s")

    async def _exporter_answers(self) -> bool:
        try:
            return bool(await self._scrape())
        except OSError:
            return False

    async def _scrape(self) -> str:
        return await asyncio.to_thread(table.fetch, f"{self._url}/metrics", SCRAPE_TIMEOUT)

    def _announce(self, duration: float | None) -> None:
        say("Running:")
        for child in self._supervisor.children():
            say(f"  {child.role.name:<9} pid {child.process.pid:<8} {child.role.what}")
        say(f"Open {self._url}/ or {self._url}/metrics")
        say("Ctrl-C stops everything." if duration is None else f"It ends by itself after {duration:g} s.")
        say(table.LEGEND)

    async def _show_tables(self, duration: float) -> None:
        start = time.monotonic()
        while (passed := time.monotonic() - start) < duration:
            say(f"\nafter {passed:.0f} s\n{await self._table()}")
            await self._supervisor.pause(min(TABLE_EVERY, duration - passed))

    async def _table(self) -> str:
        try:
            metrics = await self._scrape()
        except OSError as error:
            return f"no answer from {self._url}/metrics: {error}"
        return table.render(table.parse(metrics), consumers(self._supervisor.children()), time.time())


def consumers(children: list[Child]) -> Counter[table.QueueKey]:
    """How many living worker processes consume each queue."""
    return Counter((child.role.system, queue) for child in children if child.alive() for queue in child.role.queues)
