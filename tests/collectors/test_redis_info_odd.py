"""Servers that leave out or make up what they like: a field that is no number is absent, and the rest stands."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import catalogue as c
from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.errors import BrokerError, Command
from exporter.brokers.pulls import Pulls
from exporter.catalogue import Family
from exporter.collectors.redis_info import RedisInfo, RedisInfoOptions
from exporter.collectors.redis_info.reading import MOST_LINES, number
from exporter.collectors.redis_info.server import ERRORS, LINES
from exporter.collectors.redis_info.tables import (
    COMMAND,
    KEYSPACE,
    LINK,
    NEVER,
    NUMBERS,
    QUEUE_COMMANDS,
    REPLICA,
    STATUSES,
)
from exporter.safe.text import OTHER
from exporter.sources import checked
from tests.canary import CANARY, QUOTED, holds_canary
from tests.collectors.test_redis_info import of
from tests.servers import Series, series

INFO: Final = "INFO"
COMMANDS: Final = "INFO commandstats"
LATENCIES: Final = "INFO latencystats"
LENGTH: Final = "SLOWLOG LEN"
LAST: Final = "SLOWLOG GET 1"
WELL: Final[dict[str, Any]] = {
    INFO: b"redis_version:7.0.15\r\n",
    COMMANDS: b"",
    LATENCIES: b"latency_percentiles_usec_get:\r\n",
    LENGTH: 0,
    LAST: [],
}


class Says(Pulls):
    """A server that answers so."""

    def __init__(self, replies: dict[str, Any], url: str = "redis://h:6379/0") -> None:
        super().__init__(Access(parse_address(url)))
        self.replies = replies

    async def many(self, commands: Any) -> list[Any]:
        return [self.replies[words(command)] for command in commands]


def words(command: Command) -> str:
    return " ".join(word.decode() if isinstance(word, bytes) else str(word) for word in command)


def says(**replies: Any) -> RedisInfo:
    by_name = {"info": INFO, "commands": COMMANDS, "latencies": LATENCIES, "length": LENGTH, "last": LAST}
    given = {by_name[name]: reply for name, reply in replies.items()}
    return RedisInfo("main", Says(WELL | given), RedisInfoOptions(latency_percentiles=True))


def lines(*several: str) -> bytes:
    return "\r\n".join(("redis_version:7.0.15", *several)).encode("utf-8", "surrogateescape")


async def read(collector: RedisInfo) -> dict[Series, float]:
    """What it gives beside the identity, and what of the log of slow commands is always there."""
    found = of(checked(await collector.collect(), collector.families, ("main",)))
    return {
        key: value for key, value in found.items() if key[0] not in {c.REDIS_INFO.name, c.REDIS_SLOWLOG_LENGTH.name}
    }


def at(family: Family, **labels: str) -> Series:
    return series(family.name, broker="main", server="h:6379", **labels)


# -- INFO -------------------------------------------------------------------------------------------------------


async def test_a_field_that_is_missing_is_absent_without_a_problem() -> None:
    collector = says()

    assert await read(collector) == {}
    assert list(collector.problems) == []


@pytest.mark.parametrize(("field", "family", "divisor"), NUMBERS)
async def test_each_number_fills_its_family_alone(field: str, family: Family, divisor: int) -> None:
    assert await read(says(info=lines(f"{field}:7"))) == {at(family): 7 / divisor}


@pytest.mark.parametrize(("field", "family", "divisor"), LINK)
async def test_each_number_of_a_replica(field: str, family: Family, divisor: int) -> None:
    found = await read(says(info=lines("master_host:m", "master_port:1", f"{field}:7")))

    assert found == {
        at(c.REDIS_SLAVE_INFO, master_host="m", master_port="1", read_only=""): 1,
        at(family, master_host="m", master_port="1"): 7 / divisor,
    }


@pytest.mark.parametrize("field", NEVER)
async def test_what_says_never_is_absent(field: str) -> None:
    before, behind = ("db0:", "") if field == "avg_ttl" else ("master_host:m\r\n", "")
    line = f"{field}={NEVER[field]}" if field == "avg_ttl" else f"{field}:{NEVER[field]}"
    collector = says(info=lines(f"{before}{line}{behind}"))

    assert {*await read(collector)} <= {at(c.REDIS_SLAVE_INFO, master_host="m", master_port="", read_only="")}
    assert list(collector.problems) == []


@pytest.mark.parametrize(
    "text", ["abc", "", "nan", "-nan", "inf", "1_0", " 1", "0x1", "1e999", "１", "1.2.3", "\udcff"]
)
async def test_a_number_that_is_none_is_absent_and_told(text: str) -> None:
    collector = says(info=lines(f"used_memory:{text}", "maxmemory:5"))

    assert await read(collector) == {at(c.REDIS_MEMORY_MAX): 5}
    assert list(collector.problems) == ["INFO used_memory is no number"]


@given(st.text())
def test_a_number_is_finite_or_none(text: str) -> None:
    assert number(text) in {None, *([float(text)] if number(text) is not None else [])}


@given(st.integers(-(2**53), 2**53), st.integers(0, 999_999))
def test_whatever_redis_prints_is_a_number(whole: int, part: int) -> None:
    assert number(str(whole)) == whole
    assert number(f"{whole}.{part:06}") == float(f"{whole}.{part:06}")


async def about(url: str, *run: str) -> str:
    collector = RedisInfo("main", Says(WELL | {INFO: lines(*run)}, url))
    await read(collector)
    return collector.about


async def test_it_is_about_the_run() -> None:
    one, same, other = [
        await about(*of)
        for of in (("redis://h/0", "run_id:abc"), ("redis://i/1", "run_id:abc"), ("redis://h/0", "run_id:h:6379"))
    ]

    assert one == same != other


@pytest.mark.parametrize("run", [(), ("run_id:",)])
async def test_where_no_run_is_told_it_is_about_the_address(run: tuple[str, ...]) -> None:
    one, same, other = [await about(url, *run) for url in ("redis://h/0", "redis://h:6379/1", "redis://i/0")]

    assert "" != one == same != other
    assert one != await about("redis://h/0", "run_id:h:6379")  # whatever a run is called, no address is


@pytest.mark.parametrize("reply", [b"", b"hello", 5, [], None, {}])
async def test_what_is_no_info_fails_the_collector(reply: Any) -> None:
    with pytest.raises(BrokerError):
        await read(says(info=reply))


async def test_a_flood_of_lines_is_not_read() -> None:
    flood = lines(*(f"errorstat_E{number}:count=1" for number in range(MOST_LINES)))

    with pytest.raises(BrokerError, match="INFO: found 10001 lines, wanted at most 10000"):
        await read(says(info=flood + b"\r\n"))
    collector = says(commands=flood + b"\r\n")
    assert await read(collector) == {}
    assert list(collector.problems) == ["INFO commandstats: found 10001 lines, wanted at most 10000"]


async def test_identity_is_cleaned_and_bounded() -> None:
    collector = says(info=b"redis_version:7\n\x1b[31m" + b"x" * 1000 + b"\r\nrole:\xff\r\n")

    found = of(checked(await collector.collect(), collector.families, ("main",)))

    ((labels, _),) = [(labels, value) for (name, labels), value in found.items() if name == c.REDIS_INFO.name]
    for _, value in labels:
        assert value.isprintable()
        assert len(value.encode()) <= 128


@pytest.mark.parametrize(("status", "value"), [("ok", 1), ("err", 0), ("in progress", 0), ("", 0)])
async def test_a_status_is_1_only_when_ok(status: str, value: float) -> None:
    assert await read(says(info=lines(f"rdb_last_bgsave_status:{status}"))) == {at(c.REDIS_RDB_STATUS): value}


async def test_the_start_never_trembles() -> None:
    """Both fields are of the moment that the server last looked at its clock."""
    looks = [(1_000_000_999_999, 10), (1_000_001_000_001, 11), (1_000_001_900_000, 11)]

    starts = [
        (await read(says(info=lines(f"server_time_usec:{now}", f"uptime_in_seconds:{up}"))))[at(c.REDIS_START)]
        for now, up in looks
    ]

    assert starts == [999_990] * 3


# -- databases, replicas, errors --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["db0\x1b[31m", "dbx", "db", "db-1", "dbsize", "db0 1", "db１", "adb0"])
async def test_only_databases_are_databases(key: str) -> None:
    assert await read(says(info=lines(f"{key}:keys=1,expires=0,avg_ttl=0"))) == {}


async def test_a_part_that_is_no_number_costs_that_part() -> None:
    collector = says(info=lines("db0:keys=x,expires=2", "db1:keys=1", "db2:nothing"))

    assert await read(collector) == {
        at(c.REDIS_DB_EXPIRING, db="db0"): 2,
        at(c.REDIS_DB_KEYS, db="db1"): 1,
    }
    assert list(collector.problems) == ["INFO db0, keys is no number"]


@pytest.mark.parametrize(("info", "keys"), [(lines("# Keyspace"), 0), (lines("# Stats"), None)])
async def test_our_database_is_empty_only_where_databases_are_told(info: bytes, keys: float | None) -> None:
    assert (await read(says(info=info))).get(at(c.REDIS_DB_KEYS, db="db0")) == keys


async def test_our_database_is_not_empty_where_it_is_told_of() -> None:
    pulls = Says(WELL | {INFO: lines("# Keyspace", "db3:keys=5,expires=0,avg_ttl=0")}, "redis://h:6379/3")

    found = await read(RedisInfo("main", pulls))

    assert found == {at(c.REDIS_DB_KEYS, db="db3"): 5, at(c.REDIS_DB_EXPIRING, db="db3"): 0}


async def test_more_databases_than_any_server_has_are_cut() -> None:
    collector = says(info=lines(*(f"db{number}:keys=1" for number in range(LINES + 5))))

    assert len(await read(collector)) == LINES
    assert list(collector.problems) == [f"INFO: databases beyond {LINES} are left out"]


def replica(port: int, state: str = "online", ip: str = "10.0.0.1") -> str:
    return f"ip={ip},port={port},state={state},offset=42,lag=3"


async def test_the_lag_of_a_replica_is_known_once_it_is_online() -> None:
    found = await read(says(info=lines(f"slave0:{replica(1)}", f"slave1:{replica(2, 'wait_bgsave')}")))

    online = {"slave_ip": "10.0.0.1", "slave_port": "1", "slave_state": "online"}
    waiting = {"slave_ip": "10.0.0.1", "slave_port": "2", "slave_state": "wait_bgsave"}
    assert found == {
        at(c.REDIS_SLAVE_LAG, **online): 3,
        at(c.REDIS_SLAVE_OFFSET, **online): 42,
        at(c.REDIS_SLAVE_OFFSET, **waiting): 42,
    }


async def test_replicas_that_look_alike_are_left_out_and_told() -> None:
    collector = says(info=lines(*(f"slave{number}:{replica(port)}" for number, port in enumerate((1, 2, 1)))))

    ports = {dict(labels)["slave_port"] for _, labels in await read(collector)}

    assert ports == {"2"}
    assert list(collector.problems) == ["INFO slave*: several replicas at one address are left out"]


async def test_errors_beyond_the_cap_are_one_and_no_counter_falls() -> None:
    def kinds(*names: str) -> bytes:
        return lines(*(f"errorstat_{name}:count=2" for name in names))

    first = [f"E{number:04}" for number in range(ERRORS)]
    collector = says(info=kinds(*first))
    before = await read(collector)
    # those that come later, in the order of the alphabet before the others
    assert isinstance(collector.pulls, Says)
    collector.pulls.replies[INFO] = kinds("A", "B", *first)
    after = await read(collector)

    assert before == {at(c.REDIS_ERRORS, err=name): 2 for name in first}
    assert after == before | {at(c.REDIS_ERRORS, err=OTHER): 4}


async def test_names_of_errors_are_cleaned() -> None:
    found = await read(says(info=lines("errorstat_A\x1b[31m" + "x" * 500 + ":count=1", "errorstat_B:count=x")))

    ((_, labels),) = found
    assert len(dict(labels)["err"].encode()) <= 128
    assert dict(labels)["err"].isprintable()


# -- commands, latencies, the log of slow ones --------------------------------------------------------------------


async def test_only_commands_that_queues_use() -> None:
    line = "calls=1,usec=2000000,usec_per_call=2000000.00,rejected_calls=3,failed_calls=4"
    collector = says(commands=lines(f"cmdstat_llen:{line}", f"cmdstat_config|get:{line}", f"cmdstat_zz:{line}"))

    assert await read(collector) == {
        at(family, cmd="llen"): value for (_, family, _), value in zip(COMMAND, (1, 2, 3, 4), strict=True)
    }


async def test_a_server_that_counts_no_refusals() -> None:
    found = await read(says(commands=lines("cmdstat_llen:calls=1,usec=2,usec_per_call=2.00")))

    assert {name for name, _ in found} == {c.REDIS_CMD_CALLS.name, c.REDIS_CMD_SECONDS.name}


@pytest.mark.parametrize("percentile", ["p101", "p100.1", "p-1", "x", "p", "p1e1", "p1_0", "p５0", "50", "pnan"])
async def test_what_is_no_percentile(percentile: str) -> None:
    assert await read(says(latencies=lines(f"latency_percentiles_usec_get:{percentile}=1.000"))) == {}


def test_every_command_of_sorted_sets_and_lists_that_queues_wait_on_is_shown() -> None:
    named = {"llen", "lpush", "rpush", "brpop", "blpop", "psetex", "setex", "get", "eval", "evalsha", "publish"}

    assert named | {"multi", "exec", "watch", "zadd", "zrangebyscore", "zrem", "zcard"} <= QUEUE_COMMANDS


ODD: Final[list[Any]] = [
    None,
    "text",
    5.5,
    [1],
    [[1, 2]],
    [["x", 1, 2, []]],
    [[1, 1, None, []]],
    [[1, 1, 1, []], [2, 1, 1, []]],
]


@pytest.mark.parametrize("reply", ODD)
async def test_an_odd_slowlog_costs_its_own(reply: Any) -> None:
    collector = says(info=lines("maxmemory:5"), last=reply)

    assert at(c.REDIS_MEMORY_MAX) in await read(collector)
    (problem,) = collector.problems
    assert problem.startswith(f"{LAST}: found ")


@pytest.mark.parametrize("name", ["commands", "latencies", "length"])
async def test_an_odd_reply_costs_its_own(name: str) -> None:
    collector = says(info=lines("maxmemory:5"), **{name: ["x"]})

    assert at(c.REDIS_MEMORY_MAX) in await read(collector)
    (problem,) = collector.problems
    assert "found list, wanted " in problem


async def test_arguments_of_slow_commands_are_not_looked_at() -> None:
    secret = [[7, 1, 2_000_000, [b"AUTH", b"canary"], b"1.2.3.4:5", b"name"]]

    found = await read(says(last=secret))

    assert found == {at(c.REDIS_SLOWLOG_ID): 7, at(c.REDIS_SLOWLOG_SECONDS): 2}


async def welcome(*command: object) -> bytes:
    return b"OK"


async def test_no_problem_shows_the_password() -> None:
    told = Exception(f"ERR odd arguments: {CANARY}")
    pulls = Says(WELL | {COMMANDS: told, LENGTH: told, LAST: told}, f"redis://u:{QUOTED}@h:6379/0")
    await pulls.access.credentials.let_in(welcome)
    collector = RedisInfo("main", pulls)

    await read(collector)

    assert len(list(collector.problems)) == 3
    assert not any(holds_canary(problem) for problem in collector.problems)
    pulls.replies[INFO] = told
    with pytest.raises(BrokerError) as raised:
        await read(collector)
    assert not holds_canary(str(raised.value))


# -- the tables -------------------------------------------------------------------------------------------------


def test_no_field_and_no_family_stands_twice() -> None:
    rows = [(row[0], row[1]) for row in (*NUMBERS, *STATUSES, *LINK, *KEYSPACE, *REPLICA, *COMMAND)]

    assert len({field for field, _ in rows}) == len({family for _, family in rows}) == len(rows)
    assert set(NEVER) <= {field for field, _ in rows}
