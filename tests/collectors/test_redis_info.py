"""INFO of a real Redis, and of servers that leave out or make up what they like."""

from __future__ import annotations

from typing import Any, cast

import pytest
from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.pulls import Pulls
from exporter.collectors.redis_info import KEYSPACE, NUMBERS, STATUSES, RedisInfo, metrics
from exporter.sources import checked
from tests.servers import RedisServer, Series, StartRedis, series

BASE = ("main", "h:6379")
# What INFO itself changes, or time: these may only have grown between two looks.
MOVING = {
    "taskqueue_redis_uptime_in_seconds", "taskqueue_redis_memory_used_bytes", "taskqueue_redis_memory_used_rss_bytes",
    "taskqueue_redis_memory_used_peak_bytes", "taskqueue_redis_mem_fragmentation_ratio",
    "taskqueue_redis_connected_clients", "taskqueue_redis_connections_received_total",
    "taskqueue_redis_commands_processed_total", "taskqueue_redis_net_input_bytes_total",
    "taskqueue_redis_net_output_bytes_total",
}  # fmt: skip


def of(families: list[Metric]) -> dict[Series, float]:
    return {series(s.name, **s.labels): s.value for family in families for s in family.samples}


async def collected(server: RedisServer) -> dict[Series, float]:
    pulls = Pulls(Access(parse_address(server.url())))
    try:
        collector = RedisInfo("main", pulls)
        return of(checked(await collector.collect(), collector.families, ("main",)))
    finally:
        await pulls.close()


def info_of(server: RedisServer) -> dict[str, Any]:
    return cast(dict[str, Any], server.client().info())


async def test_values_are_those_of_info(start_redis: StartRedis) -> None:
    server = start_redis(maxmemory="50mb", maxmemory_policy="noeviction")
    server.client(0).set("a", "b")
    server.client(3).set("a", "b", ex=1000)
    server.client(3).set("c", "d")
    server.client(0).get("a")
    server.client(0).get("missing")

    found = await collected(server)
    info = info_of(server)

    base = {"broker": "main", "server": f"127.0.0.1:{server.port}"}
    for field, family in NUMBERS:
        assert field in info, field
        value = found[series(family.name, **base)]
        assert value == info[field] if family.name not in MOVING else value >= 0, field
    for field, family in STATUSES:
        assert found[series(family.name, **base)] == (info[field] == "ok")
    for db, keys, expires in (("db0", 1, 0), ("db3", 2, 1)):
        assert found[series(c.REDIS_DB_KEYS.name, **base, db=db)] == keys
        assert found[series(c.REDIS_DB_EXPIRING.name, **base, db=db)] == expires
    identity = {field: str(info[field]) for field in c.REDIS_INFO.labels[2:]}
    assert identity["maxmemory_policy"] == "noeviction"
    assert found[series(c.REDIS_INFO.name, **base, **identity)] == 1
    assert found[series(c.REDIS_MEMORY_MAX.name, **base)] == 50 * 1024 * 1024
    assert found[series(c.REDIS_MISSES.name, **base)] == 1


async def test_every_family_is_filled_by_a_real_server(redis_server: RedisServer) -> None:
    redis_server.client().set("a", "b")

    found = await collected(redis_server)

    assert {name for name, _ in found} == {family.name for family in RedisInfo.families}


# -- other servers ----------------------------------------------------------------------------------------------


def read(info: dict[str, Any]) -> dict[Series, float]:
    return of(checked(metrics(info, BASE), RedisInfo.families, ("main",)))


def test_a_field_that_is_missing_is_absent() -> None:
    found = read({"redis_version": "2.8"})

    ((name, labels),) = found
    assert name == c.REDIS_INFO.name
    assert {key: value for key, value in labels if value} == {
        "broker": "main",
        "server": "h:6379",
        "redis_version": "2.8",
    }


@pytest.mark.parametrize("field", [field for field, _ in (*NUMBERS, *STATUSES)])
def test_each_field_fills_its_family_alone(field: str) -> None:
    found = read({field: 1})

    assert len(found) == 2  # and the server's identity


@pytest.mark.parametrize("value", ["abc", {"a": 1}, [1], 10**400, None])
def test_a_number_that_is_none_fails_the_collector(value: object) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        read({"used_memory": value})


@pytest.mark.parametrize("key", ["db0\x1b[31m", "dbx", "db", "db-1", "dbsize", "db0 1", "db123456"])
def test_only_databases_are_databases(key: str) -> None:
    assert series(c.REDIS_DB_KEYS.name, broker="main", server="h:6379", db=key) not in read(
        {key: {"keys": 1, "expires": 0}}
    )


def test_identity_is_cleaned_and_bounded() -> None:
    found = read({"redis_version": "7\n\x1b[31m" + "x" * 1000, "role": "\udcff"})

    ((_, labels),) = found
    for _, value in labels:
        assert value.isprintable()
        assert len(value.encode()) <= 128


@pytest.mark.parametrize(("status", "value"), [("ok", 1), ("err", 0), ("in progress", 0), ("", 0)])
def test_a_status_is_1_only_when_ok(status: str, value: float) -> None:
    found = read({"rdb_last_bgsave_status": status})

    assert found[series(c.REDIS_RDB_STATUS.name, broker="main", server="h:6379")] == value


def test_no_field_and_no_family_stands_twice_in_the_table() -> None:
    rows = [*NUMBERS, *STATUSES, *KEYSPACE]

    assert len({field for field, _ in rows}) == len({family for _, family in rows}) == len(rows)
