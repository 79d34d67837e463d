"""A master that was left is asked until it is none: what ends there meanwhile is not seen."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import cast

import pytest
import structlog

from exporter.brokers import left as module
from exporter.brokers.access import CLIENT_NAME
from exporter.brokers.address import Place, parse_address
from exporter.brokers.left import Left, is_master
from exporter.safe.secrets import Secret
from tests.servers import LOOPBACK, RedisServer, StartRedis, free_port
from tests.toys import until

ELSEWHERE: Place = (LOOPBACK, 1)
ADDRESS = parse_address("redis://mymaster/3")


@pytest.fixture
async def left(told: list[float | None]) -> AsyncIterator[Left]:
    made = Left(ADDRESS)
    made.tell = told.append
    yield made
    await made.close()


@pytest.fixture
def told() -> list[float | None]:
    """Since when jobs may end elsewhere, each time that it was told."""
    return []


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN", 0.01)


def place(server: RedisServer) -> Place:
    return LOOPBACK, server.port


def roles_asked(server: RedisServer) -> int:
    stats = cast(dict[str, dict[str, int]], server.client().info("commandstats"))
    return stats.get("cmdstat_role", {"calls": 0})["calls"]


def names_of_clients(server: RedisServer) -> list[str]:
    return [client["name"] for client in cast(list[dict[str, str]], server.client().client_list())]


def demote(server: RedisServer) -> None:
    server.client().execute_command("REPLICAOF", LOOPBACK, free_port())  # type: ignore[no-untyped-call]


async def test_it_is_asked_until_it_is_a_replica(left: Left, told: list[float | None], start_redis: StartRedis) -> None:
    first, second = start_redis(), start_redis()
    left.leave(place(first), ELSEWHERE, 7.0)
    left.leave(place(second), place(first), 8.0)  # which is the master again
    left.leave(place(first), ELSEWHERE, 9.0)
    await until(lambda: roles_asked(first) > 3 and roles_asked(second) > 3)
    assert told == [7.0, 8.0, 9.0]
    demote(second)
    asked = roles_asked(first)
    await until(lambda: roles_asked(first) > asked + 3)
    assert told == [7.0, 8.0, 9.0], "the other one is a master still"
    assert names_of_clients(first).count(CLIENT_NAME) == 1
    demote(first)
    await until(lambda: None in told)
    assert told == [7.0, 8.0, 9.0, None]


async def test_one_that_is_the_master_again_is_asked_no_more(
    left: Left, told: list[float | None], redis_server: RedisServer
) -> None:
    left.leave(place(redis_server), ELSEWHERE, 1.0)
    await until(lambda: roles_asked(redis_server))
    left.leave(ELSEWHERE, place(redis_server), 2.0)  # where nobody is
    await until(lambda: None in told)
    assert told == [1.0, 2.0, None]


async def test_one_that_cannot_be_reached_or_hangs_is_left_alone(
    left: Left, told: list[float | None], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER", 0.05)
    redis_server.pause()
    began = time.monotonic()
    left.leave(place(redis_server), ELSEWHERE, 1.0)
    await until(lambda: told == [1.0, None])
    assert time.monotonic() - began < 2
    redis_server.resume()


async def test_nobody_is_asked_for_ever(
    left: Left, told: list[float | None], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.2)
    with structlog.testing.capture_logs() as logged:
        left.leave(place(redis_server), ELSEWHERE, 1.0)
        await until(lambda: None in told)
    (said,) = logged
    assert (said["event"], said["server"]) == (
        "left a server that may go on as a master",
        f"{LOOPBACK}:{redis_server.port}",
    )


async def test_one_that_does_not_let_us_ask_may_be_a_master(redis_server: RedisServer) -> None:
    assert await is_master(ADDRESS, place(redis_server)) is True
    demote(redis_server)
    assert await is_master(ADDRESS, place(redis_server)) is False
    redis_server.client().execute_command("ACL", "SETUSER", "default", "-role")  # type: ignore[no-untyped-call]
    assert await is_master(ADDRESS, place(redis_server)) is None
    wrong = parse_address("redis://anna@mymaster/0", password=Secret("wrong"))
    assert await is_master(wrong, place(redis_server)) is None
    assert await is_master(ADDRESS, ELSEWHERE) is False


async def test_a_fault_of_ours_is_told_and_ends_it(
    left: Left, told: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: object) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(module._Asked, "is_master", fail)
    with structlog.testing.capture_logs() as logged:
        left.leave(ELSEWHERE, (LOOPBACK, 2), 1.0)
        await until(lambda: None in told)
    assert "ZeroDivisionError" in logged[0]["problem"]
