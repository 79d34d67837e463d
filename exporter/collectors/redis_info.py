"""Redis INFO as `taskqueue_redis_*`: the suffixes of redis_exporter, base units, one command per scrape."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.collectors.base import RedisCollector
from exporter.model import Permissions
from exporter.safe.text import label_text

NUMBERS: Final[tuple[tuple[str, Family], ...]] = (
    ("uptime_in_seconds", c.REDIS_UPTIME),
    ("loading", c.REDIS_LOADING),
    ("used_memory", c.REDIS_MEMORY_USED),
    ("used_memory_rss", c.REDIS_MEMORY_RSS),
    ("used_memory_peak", c.REDIS_MEMORY_PEAK),
    ("maxmemory", c.REDIS_MEMORY_MAX),
    ("mem_fragmentation_ratio", c.REDIS_FRAGMENTATION),
    ("connected_clients", c.REDIS_CLIENTS),
    ("blocked_clients", c.REDIS_CLIENTS_BLOCKED),
    ("maxclients", c.REDIS_CLIENTS_MAX),
    ("total_connections_received", c.REDIS_CONNECTIONS),
    ("rejected_connections", c.REDIS_CONNECTIONS_REJECTED),
    ("total_commands_processed", c.REDIS_COMMANDS),
    ("total_net_input_bytes", c.REDIS_NET_INPUT),
    ("total_net_output_bytes", c.REDIS_NET_OUTPUT),
    ("keyspace_hits", c.REDIS_HITS),
    ("keyspace_misses", c.REDIS_MISSES),
    ("expired_keys", c.REDIS_EXPIRED),
    ("evicted_keys", c.REDIS_EVICTED),
    ("rdb_changes_since_last_save", c.REDIS_RDB_CHANGES),
    ("rdb_last_save_time", c.REDIS_RDB_SAVED),
    ("aof_enabled", c.REDIS_AOF_ENABLED),
)
"""INFO fields that are numbers already."""

STATUSES: Final[tuple[tuple[str, Family], ...]] = (
    ("rdb_last_bgsave_status", c.REDIS_RDB_STATUS),
    ("aof_last_write_status", c.REDIS_AOF_WRITE_STATUS),
    ("aof_last_bgrewrite_status", c.REDIS_AOF_REWRITE_STATUS),
)
"""INFO fields that say `ok` or `err`."""

KEYSPACE: Final[tuple[tuple[str, Family], ...]] = (("keys", c.REDIS_DB_KEYS), ("expires", c.REDIS_DB_EXPIRING))
"""Fields of each database's line."""

_DATABASE: Final = re.compile(r"db\d{1,5}")
_IDENTITY: Final = c.REDIS_INFO.labels[2:]  # label names and INFO fields are the same


class RedisInfo(RedisCollector):
    """One INFO: memory, policy, clients, traffic, persistence, keys."""

    name = "redis_info"
    section = "redis"
    families: ClassVar[tuple[Family, ...]] = (
        c.REDIS_INFO,
        *(family for _, family in (*NUMBERS, *STATUSES, *KEYSPACE)),
    )

    async def collect(self) -> Iterable[Metric]:
        info = await self.pulls.info()
        self.about = str(info.get("run_id", ""))
        return metrics(info, (self.broker, self.pulls.access.server))

    def permissions(self) -> Collection[Permissions]:
        return (Permissions("server", frozenset({"info"})),)


def metrics(info: Mapping[str, Any], base: tuple[str, str]) -> Iterator[Metric]:
    """The families of one INFO; `base` are the labels broker and server. A field that the server lacks is absent."""
    identity = [label_text(str(info.get(field, ""))) for field in _IDENTITY]
    yield c.REDIS_INFO.metric([((*base, *identity), 1.0)])
    for field, family in NUMBERS:
        yield family.metric([(base, float(info[field]))] if field in info else [])
    for field, family in STATUSES:
        yield family.metric([(base, float(info[field] == "ok"))] if field in info else [])
    databases = {key: value for key, value in info.items() if _DATABASE.fullmatch(key) and isinstance(value, dict)}
    for field, family in KEYSPACE:
        yield family.metric([((*base, db), float(values[field])) for db, values in databases.items()])
