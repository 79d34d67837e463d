"""Systems on a real Redis, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.errors import Command
from exporter.brokers.pulls import Pulls
from exporter.model import Observation, QueueState
from exporter.systems.base import RedisSystem
from tests.servers import RedisServer

S = TypeVar("S", bound=RedisSystem)
START = 1_700_000_000.0


class Clock:
    """Unix time, as the test wants it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def watching(
    kind: type[S], server: RedisServer, clock: Callable[[], float], *queues: str, **options: Any
) -> AsyncIterator[S]:
    """An instance of the system."""
    pulls = Pulls(Access(parse_address(server.url())))
    system = kind(pulls, kind.Options(queues=queues, **options), clock)
    try:
        yield system
    finally:
        await system.close()
        await pulls.close()


def state(seen: Observation, queue: str) -> QueueState:
    """The one state of a queue."""
    (found,) = [state for state in seen.queues if state.queue == queue]
    return found


async def state_when(system: RedisSystem, queue: str, condition: Callable[[QueueState], object]) -> QueueState:
    """The first state of a queue that meets the condition."""
    async with asyncio.timeout(30):
        while not condition(found := state(await system.observe(), queue)):  # noqa: ASYNC110  only looking tells
            await asyncio.sleep(0.02)
    return found


def between(system: RedisSystem, monkeypatch: pytest.MonkeyPatch, first: str, act: Callable[[], object]) -> None:
    """Has `act` happen just before the commands are sent of which the first is `first`."""
    many = system.pulls.many

    async def meddled(commands: Iterable[Command]) -> list[Any]:
        todo = list(commands)
        if todo and todo[0][0] == first:
            act()
        return await many(todo)

    monkeypatch.setattr(system.pulls, "many", meddled)
