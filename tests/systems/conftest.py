"""What the tests of systems share: a clock that they move, and a client of the Redis that is watched."""

from __future__ import annotations

import pytest
import redis

from tests.servers import RedisServer
from tests.systems.observing import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(redis_server: RedisServer) -> redis.Redis:
    return redis_server.client()
