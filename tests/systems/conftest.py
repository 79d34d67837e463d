"""What the tests of systems share: a clock that they move, a client of the Redis that is watched, Celery's workers."""

from __future__ import annotations

import pytest
import redis

from exporter.systems.arq.feed import ahead, feed
from tests.servers import RedisServer, StartRedis
from tests.systems.celery_told import Told
from tests.systems.observing import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(start_redis: StartRedis) -> RedisServer:
    """A Redis that allows every mode of ARQ's feed."""
    return start_redis(notify_keyspace_events="KA")


@pytest.fixture
def client(redis_server: RedisServer) -> redis.Redis:
    return redis_server.client()


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch, client: redis.Redis) -> None:
    """ARQ's feed searches and looks ahead as often as it can, on a server that allows every mode."""
    client.config_set("notify-keyspace-events", "KA")
    monkeypatch.setattr(feed, "SCAN_INTERVAL", 0.05)
    monkeypatch.setattr(feed, "BUSY_SHARE", 1.0)
    monkeypatch.setattr(ahead, "interval", lambda queues: 0.1)


@pytest.fixture
def heard() -> Told:
    """Of a feed that has been connected for long enough, where nobody is there of whom nobody knows."""
    return Told(connected=True)


@pytest.fixture
def unheard() -> Told:
    """Without a feed."""
    return Told(connected=False)
