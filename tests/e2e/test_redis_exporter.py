"""Side by side with redis_exporter on one server and its replica, under load: what both have is the same."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import pytest

from exporter.catalogue import FAMILIES
from exporter.collectors.redis_info.tables import QUEUE_COMMANDS
from tests.collectors.test_redis_info import replicate
from tests.e2e.redis_load import MEGABYTE, history, load
from tests.redis_exporter import LEFT_OUT, OURS, RENAMED, THEIRS, left_out
from tests.servers import (
    LOOPBACK,
    Exporter,
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
}
"""By how much a gauge may lie beyond what was seen before and after; all others lie between the two."""
AT_REST: Final = {"latency_percentiles_usec"}
"""Gauges that under load may be anything from one look to the next: they are compared when it has ended."""


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

    def of(self, family: str) -> Samples:
        """The samples of one."""
        return self.samples.get(family, {})


def ours_of(exporter: Exporter, server: RedisServer) -> Said:
    """What we say of a server."""
    return Said(exporter.get("/metrics?collect[]=redis_info").text, OURS, server=f"{LOOPBACK}:{server.port}")


def theirs_of(address: str, server: RedisServer) -> Said:
    """What redis_exporter says of it."""
    target = urlencode({"target": f"redis://{LOOPBACK}:{server.port}"})
    return Said(get(f"{address}/scrape?{target}"), THEIRS)


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


# -- the comparison ---------------------------------------------------------------------------------------------


def compared_of(theirs: Said) -> set[str]:
    """Their families, without prefix, but for those that we leave out."""
    return {family.removeprefix(THEIRS) for family in theirs.types if left_out(family) is None}


def wrong(name: str, ours: Said, before: Said, after: Said) -> Iterator[str]:
    """What is not alike of one family."""
    kind, looks = after.types[THEIRS + name], [before.of(name), after.of(name)]
    our_name, factor = RENAMED.get(name, (name, 1.0))
    family = FAMILIES.get(OURS + our_name)
    if family is None:
        yield f"{name}: neither ours nor left out"
        return
    if family.kind != kind:
        yield f"{name}: {family.kind}, theirs {kind}"
    theirs = {label for labels in looks[1] for label, _ in labels}
    if not theirs <= {*family.labels}:
        yield f"{name}: labels {theirs} are not all among {family.labels}"
    found = {
        frozenset(_label(name, item) for item in labels if item[0] in theirs): value
        for labels, value in ours.of(our_name).items()
    }
    for labels in found.keys() | looks[1].keys():
        if dict(labels).get("cmd", "get") in QUEUE_COMMANDS:
            yield from wrong_value(name, kind, labels, found.get(labels), [look.get(labels) for look in looks], factor)


def unlike_at_rest(exporter: Exporter, address: str, server: RedisServer) -> list[str]:
    """What is never alike of a server that only exporters use: they use commands of which there are percentiles, too,
    and a replica hears late of keys that expire."""
    found: list[str] = []

    def alike() -> bool:
        ours, theirs = ours_of(exporter, server), theirs_of(address, server)
        missing = [f"{name}: theirs shows none" for name in AT_REST if not theirs.of(name)]
        found[:] = missing or [what for name in AT_REST for what in wrong(name, ours, theirs, theirs)]
        return not found

    with suppress(AssertionError):
        wait_until(alike, interval=0.2)
    return found


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
    names: set[str] = set()
    compared: set[str] = set()
    moved: set[str] = set()
    with their_exporter(master, tmp_path) as theirs:
        with load(master):
            for name, server in servers.items():
                # when both look in turn
                before = theirs_of(theirs, server)
                ours = ours_of(exporter, server)
                after = theirs_of(theirs, server)
                # then each family of theirs is ours
                names |= after.types.keys()
                families = compared_of(after) - AT_REST
                bad += [f"{name}: {what}" for suffix in families for what in wrong(suffix, ours, before, after)]
                compared |= families
                moved |= {suffix for suffix in families if before.of(suffix) != after.of(suffix)}
            names |= Said(get(f"{theirs}/metrics"), "").types.keys()
        for name, server in servers.items():
            bad += [f"{name} at rest: {what}" for what in unlike_at_rest(exporter, theirs, server)]
            compared |= AT_REST
    assert not bad, "\n".join(bad)
    # and no row of the tables is stale
    assert {row for row in LEFT_OUT if not any(left_out(name) == row for name in names)} == set()
    assert {*RENAMED, *NOTHING, *MOVES} - compared == set()
    assert len(compared) > 80
    assert len(moved) > 20
