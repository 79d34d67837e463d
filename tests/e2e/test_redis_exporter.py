"""Side by side with redis_exporter on one server and its replica, under load: what both have is the same."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlencode

import pytest
import redis
from redis.connection import Connection

from exporter.catalogue import FAMILIES
from exporter.collectors.redis_info.tables import QUEUE_COMMANDS
from tests.collectors.test_redis_info import replicate, written
from tests.redis_exporter import LEFT_OUT, OURS, RENAMED, THEIRS, left_out
from tests.servers import (
    LOOPBACK,
    Process,
    RedisServer,
    StartExporter,
    StartRedis,
    free_port,
    parse_metrics,
    wait_until,
)

Samples = dict[frozenset[tuple[str, str]], float]

NOTHING: Final = {
    "aof_current_rewrite_duration_sec": -1,
    "aof_last_rewrite_duration_sec": -1,
    "rdb_current_bgsave_duration_sec": -1,
    "rdb_last_bgsave_duration_sec": -1,
    "slowlog_last_id": 0,
    "last_slow_execution_duration_seconds": 0,
    "db_keys": 0,
    "db_keys_expiring": 0,
    "db_avg_ttl_seconds": 0,
}
"""What they show where there is nothing to show, and we show nothing."""

MEGABYTE: Final = 1 << 20
MOVES: Final[dict[str, float]] = {
    "connected_clients": 3,  # the exporters
    "start_time_seconds": 1,  # theirs is by the clock of the exporter
    "connected_slave_lag_seconds": 2,
    "master_last_io_seconds_ago": 2,
    "db_keys": 200,
    "db_keys_expiring": 200,
    "db_avg_ttl_seconds": 2,
    "aof_buffer_length": MEGABYTE,
    "aof_pending_bio_fsync": 1,
    "client_recent_max_input_buffer_bytes": MEGABYTE,
    "client_recent_max_output_buffer_bytes": MEGABYTE,
    "mem_clients_normal": MEGABYTE,
    "mem_clients_slaves": MEGABYTE,
    "mem_not_counted_for_eviction_bytes": MEGABYTE,
    "memory_used_bytes": MEGABYTE,
    "memory_used_dataset_bytes": MEGABYTE,
    "memory_used_overhead_bytes": MEGABYTE,
    "memory_used_rss_bytes": 2 * MEGABYTE,
    "mem_fragmentation_bytes": 4 * MEGABYTE,
    "mem_fragmentation_ratio": 1,
    "latency_percentiles_usec": 100,
}
"""By how much a gauge may lie beyond what was seen before and after; all others lie between the two."""


# -- what they say ----------------------------------------------------------------------------------------------


class Said:
    """An exposition: types by family, and samples by family without `prefix`, whose names are as they stand."""

    def __init__(self, text: str, prefix: str, **only: str) -> None:
        self.types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        # Without types the parser leaves names alone.
        plain = parse_metrics("".join(f"{line}\n" for line in text.splitlines() if not line.startswith("#")))
        self.samples: dict[str, Samples] = {}
        for (name, labels), value in plain.items():
            if name.startswith(prefix) and only.items() <= labels:
                rest = frozenset(item for item in labels if item[0] not in {"broker", *only})
                self.samples.setdefault(name.removeprefix(prefix), {})[rest] = value


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  a loopback port of ours
        return str(answer.read().decode())


@contextmanager
def their_exporter(server: RedisServer, folder: Path) -> Iterator[str]:
    """Its address."""
    port = free_port()
    command = ["prometheus-redis-exporter", "-redis.addr", f"redis://{LOOPBACK}:{server.port}"]
    process = Process([*command, "-web.listen-address", f"{LOOPBACK}:{port}"], folder / "theirs.log", folder)
    try:

        def ready() -> bool:
            with suppress(OSError):
                return "redis_up 1" in get(f"http://{LOOPBACK}:{port}/metrics")
            return False

        process.wait_until_ready(ready, 10)
        yield f"http://{LOOPBACK}:{port}"
    finally:
        process.stop()


# -- what happens to the server ---------------------------------------------------------------------------------


def history(server: RedisServer) -> None:
    """What leaves a number other than 0 behind: evictions, refusals, a slow command, dumps."""
    client = server.client()
    client.config_set("maxmemory", "3mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    for number in range(100):
        client.set(f"evicted:{number}", "x" * 50_000)
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")
    with pytest.raises(redis.ResponseError):
        client.set("refused", "x")
    client.config_set("maxmemory", "1gb")
    client.flushall()
    client.mset({f"standing:{number}": "x" * 100 for number in range(1000)})
    client.execute_command("DEBUG", "SLEEP", "0.1")  # type: ignore[no-untyped-call]
    written(server)


@contextmanager
def load(server: RedisServer) -> Iterator[None]:
    """Clients that write and read in pipelines, one that waits, one that listens, some that track, and one that has
    begun a long command. Numbers that are neighbours in INFO differ, so that none can stand for the other."""
    done = threading.Event()

    def work() -> None:
        client = server.client()
        while not done.wait(0.005):
            with client.pipeline(transaction=True) as pipe:
                for number in range(20):
                    pipe.psetex(f"expiring:{number}", 3, "x")
                    pipe.lpush("list", number)
                    pipe.zadd("zset", {str(number): number})
                    pipe.get("standing:1")
                    pipe.get("missing")
                    pipe.hget("list", "of a wrong type")
                pipe.ltrim("list", 0, 10)
                pipe.execute(raise_on_error=False)

    waiting = threading.Thread(target=server.client().brpop, args=("never", 20))
    threads = [*(threading.Thread(target=work) for _ in range(2)), waiting]
    own, listening = server.client(), server.client().pubsub()  # type: ignore[no-untyped-call]
    still = _still(server, str(own.client_id()))
    listening.subscribe("channel", "another")
    listening.psubscribe("pattern*")
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: _under_way(cast(dict[str, int], own.info())))
        yield
    finally:
        done.set()
        own.lpush("never", "x")
        for thread in threads:
            thread.join()
        for connection in still:
            connection.disconnect()  # type: ignore[no-untyped-call]


def _still(server: RedisServer, told: str) -> list[Connection]:
    """Clients that track, `told` being the client that hears of it, and one that has begun a long command."""
    track = ("CLIENT", "TRACKING", "on", "REDIRECT", told)
    long = _connection(server)
    long.send_packed_command([b"*3\r\n$3\r\nSET\r\n$4\r\nlong\r\n$%d\r\nx" % (4 * MEGABYTE)])  # type: ignore[no-untyped-call]
    return [
        long,
        _connection(server, track, *(("GET", f"standing:{number}") for number in range(10))),
        _connection(server, track, ("GET", "standing:0"), ("GET", "standing:1")),
        _connection(server, (*track, "BCAST", "PREFIX", "a", "PREFIX", "b")),
    ]


def _connection(server: RedisServer, *commands: tuple[str, ...]) -> Connection:
    """A connection that has done these."""
    connection: Connection = server.client().connection_pool.get_connection()
    for words in commands:
        connection.send_command(*words)  # type: ignore[no-untyped-call]
        connection.read_response()  # type: ignore[no-untyped-call]
    return connection


def _under_way(info: dict[str, int]) -> bool:
    """Whether all of the load has left its mark; the server looks at the size of buffers now and then."""
    buffers = info["client_recent_max_input_buffer"], info["mem_clients_normal"], info["used_memory_overhead"]
    tracked = [info[f"tracking_{what}"] for what in ("total_prefixes", "clients", "total_keys", "total_items")]
    differ = len({*tracked}) == len(tracked) and info["pubsub_patterns"] < info["pubsub_channels"]
    return bool(differ and info["expired_keys"] and info["blocked_clients"] and min(buffers) > 4 * MEGABYTE)


# -- the comparison ---------------------------------------------------------------------------------------------


def wrong(name: str, kind: str, ours: Said, before: Samples, after: Samples) -> Iterator[str]:
    """What is not alike of one family."""
    our_name, factor = RENAMED.get(name, (name, 1.0))
    family = FAMILIES.get(OURS + our_name)
    if family is None:
        yield f"{name}: neither ours nor left out"
        return
    if family.kind != kind:
        yield f"{name}: {family.kind}, theirs {kind}"
    theirs = {label for labels in after for label, _ in labels}
    if not theirs <= {*family.labels}:
        yield f"{name}: labels {theirs} are not all among {family.labels}"
    found = {
        frozenset(_label(name, item) for item in labels if item[0] in theirs): value
        for labels, value in ours.samples.get(our_name, {}).items()
    }
    for labels in found.keys() | after.keys():
        if dict(labels).get("cmd", "get") in QUEUE_COMMANDS:
            yield from wrong_value(
                name, kind, labels, found.get(labels), [s.get(labels) for s in (before, after)], factor
            )


def _label(name: str, item: tuple[str, str]) -> tuple[str, str]:
    """A label of ours as theirs has it: their quantiles are of 100."""
    return (item[0], f"{float(item[1]) * 100:g}") if item[0] == "quantile" else item


def wrong_value(
    name: str, kind: str, labels: object, found: float | None, looks: list[float | None], factor: float
) -> Iterator[str]:
    seen = [value * factor for value in looks if value is not None]  # of one look where it began between the two
    if found is None:
        if NOTHING.get(name) not in seen and None not in looks:
            yield f"{name} {labels}: absent, theirs {seen}"
        return
    if kind == "counter" and len(seen) == 1:
        seen.append(0.0)
    more = MOVES.get(name, 0) * factor
    if not seen or not min(seen) - more - 1e-9 <= found <= max(seen) + more + 1e-9:
        yield f"{name} {labels}: {found}, theirs {looks}"


@pytest.mark.needs("prometheus-redis-exporter")
def test_what_both_have_is_the_same(start_redis: StartRedis, start_exporter: StartExporter, tmp_path: Path) -> None:
    # given a server with a past, its replica, and both exporters
    options = {"slowlog_log_slower_than": "50000", "latency_monitor_threshold": "50", "repl_backlog_size": "100mb"}
    master = start_redis(appendonly="yes", enable_debug_command="yes", repl_diskless_sync_delay="0", **options)
    replica = start_redis()
    history(master)
    replicate(replica, master)
    servers = {"m": master, "r": replica}
    config = [
        f"{{name: {name}, url: '{s.url()}', redis: {{latency_percentiles: true}}}}" for name, s in servers.items()
    ]
    exporter = start_exporter(config=f"brokers: [{', '.join(config)}]")
    bad: list[str] = []
    names, compared, moved = set(), set(), set()
    with their_exporter(master, tmp_path) as theirs, load(master):
        for name, server in servers.items():
            target = urlencode({"target": f"redis://{LOOPBACK}:{server.port}"})
            # when both look in turn
            looks = [Said(get(f"{theirs}/scrape?{target}"), THEIRS)]
            text = exporter.get("/metrics?collect[]=redis_info").text
            looks.append(Said(get(f"{theirs}/scrape?{target}"), THEIRS))
            ours = Said(text, OURS, server=f"{LOOPBACK}:{server.port}")
            # then each family of theirs is ours
            for family, kind in looks[1].types.items():
                names.add(family)
                suffix = family.removeprefix(THEIRS)
                if left_out(family) is None:
                    compared.add(suffix)
                    before, after = (look.samples.get(suffix, {}) for look in looks)
                    bad += [f"{name}: {what}" for what in wrong(suffix, kind, ours, before, after)]
                    moved |= {suffix} if before != after else set()
        names |= Said(get(f"{theirs}/metrics"), "").types.keys()
    assert not bad, "\n".join(bad)
    # and no row of the tables is stale
    assert {row for row in LEFT_OUT if not any(left_out(name) == row for name in names)} == set()
    assert {*RENAMED, *NOTHING, *MOVES} - compared == set()
    assert len(compared) > 80
    assert len(moved) > 20
