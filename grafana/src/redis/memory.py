"""Memory and persistence of a Redis: for the dashboard of Redis."""

from __future__ import annotations

from typing import Final

from grafana.src import limits
from grafana.src.board import Row
from grafana.src.panels import Query, Says, by_colour, lines, mapping
from grafana.src.promql import SERVER, kinds, of, rate, seen
from grafana.src.tables import COLOURED_TEXT, Column, Key, rows

AWAY: Final = "No data: no exporter or broker answers"
"""What other causes follow."""
NO_SERVER: Final = f"{AWAY}, brokers[].redis.enabled is off, or the exporter's user may not run INFO"
NAME: Final = "{{job}} {{broker}} {{server}}"
"""Brokers of several jobs may have the same name."""
PLACE: Final = (Key("job", "Job", width=90), Key("broker", "Broker"), Key("server", "Server"))

USED: Final = seen("taskqueue_redis_memory_used_bytes", SERVER)
LIMIT: Final = seen("taskqueue_redis_memory_max_bytes", SERVER)
OF_LIMIT: Final = f"{USED} / ({LIMIT} > 0) or ({LIMIT} == 0) - 1"
"""-1 for a server without a limit."""
UNLIMITED: Final = mapping({"-1": ("no limit", limits.NEUTRAL)})
NEVER: Final = mapping({"-1": ("none yet", limits.UNKNOWN)})
ON: Final = mapping({"1": ("on", limits.GOOD), "0": ("off", limits.UNKNOWN)})
SAVED: Final = mapping({"1": ("ok", limits.GOOD), "0": ("failed", limits.BAD)})


def rose(metric: str) -> str:
    """By how much a counter rose within 5 minutes, as alerts have it: not by the history of another server behind the
    same address, which is up for longer than that."""
    started = of("taskqueue_redis_start_time_seconds", SERVER)
    return (
        f"max without (instance, pod) (increase({of(metric, SERVER)}[5m]) unless ("
        f"max_over_time({started}[5m]) - min_over_time({started}[5m]) > 5"
        f" and last_over_time({of('taskqueue_redis_uptime_in_seconds', SERVER)}[2m]) > 300))"
    )


def can_evict() -> str:
    """How many servers RedisCanEvictJobs warns of."""
    others = seen("taskqueue_redis_instance_info", SERVER, 'maxmemory_policy!~"noeviction|"')
    warned = f"group by (job, broker, server) ({others}) and on (job, broker, server) {LIMIT} > 0"
    return f"count({warned}) or 0 * count({LIMIT})"


def or_none(metric: str, present: str) -> str:
    """A gauge that is absent before its first time: -1 then, where another one of the server is there."""
    return f"{seen(metric, SERVER)} or 0 * {seen(present, SERVER)} - 1"


MEMORY: Final = Row(
    "Memory",
    [
        lines(
            "Memory",
            Says(
                "What each server uses for data and all else, what it occupies on the host (resident), the most it "
                "ever used, and its limit, where it has one.",
                "used far below the limit, resident a little above used.",
                "If used rises with a backlog, start workers. If it rises without one, results are kept for long, or "
                "others use the same server. Resident far above used: fragmentation.",
            ),
            "bytes",
            Query(
                kinds(
                    {
                        "used": USED,
                        "resident": seen("taskqueue_redis_memory_used_rss_bytes", SERVER),
                        "peak": seen("taskqueue_redis_memory_used_peak_bytes", SERVER),
                        "limit": f"{LIMIT} > 0",
                    }
                ),
                f"{NAME} {{{{kind}}}}",
            ),
            empty=NO_SERVER,
        ),
        lines(
            "What memory is used for",
            Says(
                "Used memory of all servers: data, and buffers and bookkeeping, of these the buffers of clients and "
                "replicas apart.",
                "mostly data, but for a server that is nearly empty.",
                "Large buffers of clients: one reads too slowly (CLIENT LIST shows omem).",
            ),
            "bytes",
            Query(f"sum({seen('taskqueue_redis_memory_used_dataset_bytes', SERVER)})", "data"),
            Query(f"sum({seen('taskqueue_redis_mem_clients_normal', SERVER)})", "clients"),
            Query(f"sum({seen('taskqueue_redis_mem_clients_slaves', SERVER)})", "replicas"),
            Query(
                f"sum({seen('taskqueue_redis_memory_used_overhead_bytes', SERVER)}"
                f" - {seen('taskqueue_redis_mem_clients_normal', SERVER)}"
                f" - {seen('taskqueue_redis_mem_clients_slaves', SERVER)})",
                "other overhead",
            ),
            stacked=True,
            empty=NO_SERVER,
        ),
        lines(
            "Fragmentation",
            Says(
                "Resident memory by used memory.",
                "1 to 1.5 on a server that holds 100 MB or more; far more on one that is nearly empty, which means "
                "nothing.",
                "Below 1 a part of Redis is swapped out, and all becomes slow: give the host memory. Far above on a "
                "large server: MEMORY PURGE, or a restart once all is saved.",
            ),
            "short",
            Query(seen("taskqueue_redis_mem_fragmentation_ratio", SERVER), NAME),
            empty=NO_SERVER,
        ),
        by_colour(
            lines(
                "Keys evicted and expired",
                Says(
                    "Keys of all servers that were deleted for want of memory, and those whose time was over, per "
                    "second.",
                    "no evicted ones. Expired ones are results and the like that nobody needs any more.",
                    "Evicted above 0: jobs may be lost. See RedisEvicting.",
                ),
                "ops",
                Query(f"sum({rate('taskqueue_redis_evicted_keys_total', SERVER)})", "evicted"),
                Query(f"sum({rate('taskqueue_redis_expired_keys_total', SERVER)})", "expired"),
                empty=NO_SERVER,
            ),
            {"evicted": limits.BAD, "expired": limits.NEUTRAL},
        ),
    ],
)


def _saved(title: str, metric: str) -> Column:
    return Column(
        title, seen(metric, SERVER), "none", cell=COLOURED_TEXT, mappings=(SAVED,), thresholds=limits.none(), width=90
    )


PERSISTENCE: Final = Row(
    "Persistence",
    [
        rows(
            "Saving",
            Says(
                "How each server keeps its data over a restart. Dumps (RDB): the last one that succeeded, the start "
                "of the server if none did yet, whether the last one failed, and how long it took. AOF: whether the "
                "append-only file is on, whether the last append and the last rewrite failed. Fork: for how long "
                "the last one stopped all.",
                "ok in all columns; a dump not older than you can do without its jobs, or AOF on.",
                "Failed: see RedisPersistenceFailed, and whether the disk is full. AOF off and an old dump: a restart "
                "loses the jobs since then.",
            ),
            PLACE,
            [
                Column(
                    "Last dump",
                    f"1000 * {seen('taskqueue_redis_rdb_last_save_timestamp_seconds', SERVER)}",
                    "dateTimeFromNow",
                    width=130,
                ),
                _saved("Dump", "taskqueue_redis_rdb_last_bgsave_status"),
                Column(
                    "Dump took",
                    or_none(
                        "taskqueue_redis_rdb_last_bgsave_duration_seconds", "taskqueue_redis_rdb_last_bgsave_status"
                    ),
                    "s",
                    mappings=(NEVER,),
                    width=100,
                ),
                Column(
                    "Not in the dump",
                    seen("taskqueue_redis_rdb_changes_since_last_save", SERVER),
                    "short",
                    width=130,
                ),
                Column("AOF", seen("taskqueue_redis_aof_enabled", SERVER), "none", mappings=(ON,), width=70),
                _saved("Append", "taskqueue_redis_aof_last_write_status"),
                _saved("Rewrite", "taskqueue_redis_aof_last_bgrewrite_status"),
                Column("Fork", seen("taskqueue_redis_latest_fork_seconds", SERVER), "s", width=90),
            ],
            size=(24, 5),
            sort="Server",
            ascending=True,
            empty=NO_SERVER,
        ),
        lines(
            "Changes not in the last dump",
            Says(
                "Writes since the last dump. Without an append-only file a crash loses them.",
                "falls to 0 with each dump.",
                "If it only rises, no dumps are made (save is off), or they fail: see the table.",
            ),
            "short",
            Query(seen("taskqueue_redis_rdb_changes_since_last_save", SERVER), NAME),
            empty=NO_SERVER,
        ),
        lines(
            "Dumps and rewrites in progress",
            Says(
                "1 while a server writes a dump, or rewrites its append-only file, and 1 while it loads its data "
                "and refuses most commands.",
                "0 but for short times.",
                "One that goes on for long: the disk is slow, or the data large. Loading: it was restarted.",
            ),
            "short",
            Query(
                kinds(
                    {
                        "dump": seen("taskqueue_redis_rdb_bgsave_in_progress", SERVER),
                        "rewrite": seen("taskqueue_redis_aof_rewrite_in_progress", SERVER),
                        "loading": seen("taskqueue_redis_loading_dump_file", SERVER),
                    }
                ),
                f"{NAME} {{{{kind}}}}",
            ),
            empty=NO_SERVER,
        ),
    ],
)
