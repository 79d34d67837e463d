"""Task queues / Redis: is the ground sound?"""

from __future__ import annotations

from typing import Final

from grafana.src import alerts, limits, links
from grafana.src.board import Board, Row
from grafana.src.limits import above, over, target, under
from grafana.src.panels import NOT_KNOWN, Query, Says, mapping, number
from grafana.src.promql import BROKER, SERVER, kinds, of, rate, seen
from grafana.src.redis import data, memory, traffic
from grafana.src.redis.memory import NO_SERVER, OF_LIMIT, UNLIMITED, can_evict, rose
from grafana.src.tables import COLOURED, Column, Key, rows

UP: Final = mapping({"1": ("up", limits.GOOD), "0": ("down", limits.BAD)})
GROUND: Final = alerts.in_files("alerts-ground.yml")
INFO: Final = seen("taskqueue_redis_instance_info", SERVER)
WORDS: Final = (
    "maxmemory_policy, os, process_id, redis_build_id, redis_mode, redis_version, role, run_id, server_name, tcp_port, "
    "valkey_version"
)
"""What the labels of `INFO` tell, beside those that every series of a server has."""
SAVES: Final = {
    "dump": "taskqueue_redis_rdb_last_bgsave_status",
    "append": "taskqueue_redis_aof_last_write_status",
    "rewrite": "taskqueue_redis_aof_last_bgrewrite_status",
}


def _with_words(expr: str) -> str:
    """A number of each server, with the labels of its info: of two for a while, as its role changes."""
    return f"{INFO} * ignoring ({WORDS}) group_left () ({expr})"


def _of_server(metric: str) -> str:
    return _with_words(seen(metric, SERVER))


def _failed_saves() -> str:
    failed = kinds({kind: f"{seen(metric, SERVER)} == 0" for kind, metric in SAVES.items()})
    return f"count({failed}) or 0 * count({seen(SAVES['dump'], SERVER)})"


NOW: Final = Row(
    "Now",
    [
        alerts.firing(SERVER[1:], (6, 4), GROUND),
        number(
            "Brokers",
            Says(
                "Whether each broker answered PING in the last scrape of any exporter.",
                "up.",
                "BrokerDown: is the server running, and can the exporter reach it? Its log names the error.",
            ),
            "none",
            Query(of("broker:taskqueue_broker_up:max", BROKER), "{{broker}}"),
            thresholds=under(bad=1),
            size=(6, 4),
            empty="No data: no exporter answers, or the recording rules are not loaded",
        )
        .mappings([UP, NOT_KNOWN])
        .links([links.out("Runbook: BrokerDown", links.runbook("BrokerDown"))]),
        number(
            "Memory, of its limit",
            Says(
                "Memory that the fullest of the servers uses, as a share of its maxmemory.",
                "below 90 %, from where on RedisMemoryHigh warns. 'no limit' where none of them has one: then only the "
                "host's memory limits it.",
                "At the limit jobs are refused, or evicted. See which server, and what grows, below.",
            ),
            "percentunit",
            Query(f"max({OF_LIMIT})", "fullest"),
            thresholds=above(warning=target("redis_memory_ratio")),
            size=(6, 4),
            empty=NO_SERVER,
        )
        .mappings([UNLIMITED, NOT_KNOWN])
        .links([links.out("Runbook: RedisMemoryHigh", links.runbook("RedisMemoryHigh"))]),
        number(
            "Evictions",
            Says(
                "Keys that servers deleted for want of memory within the last 5 minutes, and how many servers would: "
                "they have a memory limit and a policy other than noeviction. Jobs are keys.",
                "0 and 0.",
                "Keys above 0: jobs may be lost without a sign, see RedisEvicting; of earlier ones, Keys evicted and "
                "expired. Servers above 0: set maxmemory-policy to noeviction, see RedisCanEvictJobs.",
            ),
            "short",
            Query(f"sum({rose('taskqueue_redis_evicted_keys_total')})", "keys evicted"),
            Query(can_evict(), "servers that can"),
            size=(6, 4),
            empty=NO_SERVER,
        )
        .override_by_name("keys evicted", limits.override(above(bad=0)))
        .override_by_name("servers that can", limits.override(over(warning=1)))
        .links(
            [
                links.out("Runbook: RedisEvicting", links.runbook("RedisEvicting")),
                links.out("Runbook: RedisCanEvictJobs", links.runbook("RedisCanEvictJobs")),
            ]
        ),
        number(
            "Failed saves",
            Says(
                "Ways of saving whose last try failed: dumps, appends to the append-only file, its rewrites; of all "
                "servers.",
                "0.",
                "After a failed dump or append Redis refuses writes by default, so jobs are neither enqueued nor "
                "taken; after a failed rewrite the file only grows. See RedisPersistenceFailed: is its disk full?",
            ),
            "short",
            Query(_failed_saves(), "failed"),
            thresholds=over(bad=1),
            size=(6, 4),
            empty=NO_SERVER,
        ).links([links.out("Runbook: RedisPersistenceFailed", links.runbook("RedisPersistenceFailed"))]),
        number(
            "Commands",
            Says(
                "Commands that the servers did, per second.",
                "what it always is at this time of day; never 0, as workers and exporters ask all the time.",
                "Much more than usual: see which commands, below. Much less: are applications and workers cut off?",
            ),
            "ops",
            Query(f"sum({rate('taskqueue_redis_commands_processed_total', SERVER)})", "commands"),
            size=(6, 4),
            empty=NO_SERVER,
        ),
        number(
            "Clients",
            Says(
                "Connected clients, and those of them that wait in a blocking call, as Celery's idle workers do in "
                "BRPOP.",
                "as many as applications and workers open; it grows with them only.",
                "If it only rises, some application does not close its connections: CLIENT LIST tells which.",
            ),
            "short",
            Query(f"sum({seen('taskqueue_redis_connected_clients', SERVER)})", "connected"),
            Query(f"sum({seen('taskqueue_redis_blocked_clients', SERVER)})", "blocked"),
            size=(6, 4),
            empty=NO_SERVER,
        ),
        number(
            "Refused connections",
            Says(
                "Connections that servers refused, as maxclients was reached, within the last 5 minutes.",
                "0.",
                "A worker or application that is refused neither takes nor enqueues jobs: see "
                "RedisRejectedConnections; of earlier ones, Connections.",
            ),
            "short",
            Query(f"sum({rose('taskqueue_redis_rejected_connections_total')})", "refused"),
            thresholds=above(warning=0),
            size=(6, 4),
            empty=NO_SERVER,
        ).links([links.out("Runbook: RedisRejectedConnections", links.runbook("RedisRejectedConnections"))]),
        rows(
            "Servers",
            Says(
                "Each Redis now: its role, version and policy, since when it is up, its memory, clients, traffic "
                "and keys. A server that two brokers use stands under the first of them. The version of a Valkey is "
                "in a column of its own.",
                "one master for each broker, policy noeviction, up for long.",
                "A server that came up just now may have lost what was not saved. Another policy than noeviction loses "
                "jobs once a limit is reached.",
            ),
            [
                Key("job", "Job", width=90),
                Key("broker", "Broker"),
                Key("server", "Server"),
                Key("role", "Role", width=80),
                Key("redis_mode", "Mode", width=100),
                Key("redis_version", "Redis", width=80),
                Key("valkey_version", "Valkey", width=80),
                Key("maxmemory_policy", "Policy", width=110),
            ],
            [
                Column(
                    "Up since",
                    f"1000 * {_of_server('taskqueue_redis_start_time_seconds')}",
                    "dateTimeFromNow",
                    width=130,
                ),
                Column("Used", _of_server("taskqueue_redis_memory_used_bytes"), "bytes", width=90),
                Column(
                    "Of limit",
                    _with_words(OF_LIMIT),
                    "percentunit",
                    decimals=0,
                    cell=COLOURED,
                    thresholds=above(warning=target("redis_memory_ratio")),
                    mappings=(UNLIMITED,),
                    width=90,
                ),
                Column("Clients", _of_server("taskqueue_redis_connected_clients"), "short", width=80),
                Column(
                    "Commands",
                    _with_words(rate("taskqueue_redis_commands_processed_total", SERVER)),
                    "ops",
                    width=100,
                ),
                Column(
                    "Keys",
                    _with_words(f"sum without (db) ({seen('taskqueue_redis_db_keys', SERVER)})"),
                    "short",
                    width=80,
                ),
            ],
            size=(24, 5),
            sort="Used",
            empty=NO_SERVER,
        ),
        alerts.table_of(SERVER[1:], (24, 5), GROUND),
    ],
)

BOARD: Final = Board(
    links.REDIS,
    "Redis",
    "Is the ground sound?",
    SERVER,
    [
        NOW,
        memory.MEMORY,
        memory.PERSISTENCE,
        traffic.TRAFFIC,
        traffic.COMMANDS,
        traffic.CLIENTS,
        data.KEYS,
        data.REPLICATION,
    ],
)
