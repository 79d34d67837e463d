"""Systems on a real Redis, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from exporter.brokers.address import parse_address
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
async def watching(kind: type[S], server: RedisServer, clock: Clock, *queues: str, discover: bool) -> AsyncIterator[S]:
    """An instance of the system."""
    pulls = Pulls(parse_address(server.url()))
    system = kind(pulls, kind.Options(queues=queues, discover=discover), clock)
    try:
        yield system
    finally:
        await system.close()
        await pulls.close()


def state(seen: Observation, queue: str) -> QueueState:
    """The one state of a queue."""
    (found,) = [state for state in seen.queues if state.queue == queue]
    return found
