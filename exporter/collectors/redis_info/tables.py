"""Which field of INFO fills which family, and by what it is divided to be in base units."""

from __future__ import annotations

from typing import Final

from exporter import catalogue as c
from exporter.catalogue import Family

MICROSECONDS: Final = 1_000_000
"""To a second."""
Row = tuple[str, Family, int]

NUMBERS: Final[tuple[Row, ...]] = (
    ("uptime_in_seconds", c.REDIS_UPTIME, 1),
    ("loading", c.REDIS_LOADING, 1),
    ("used_cpu_sys", c.REDIS_CPU_SYS, 1),
    ("used_cpu_user", c.REDIS_CPU_USER, 1),
    ("used_cpu_sys_children", c.REDIS_CPU_SYS_CHILDREN, 1),
    ("used_cpu_user_children", c.REDIS_CPU_USER_CHILDREN, 1),
    ("used_cpu_sys_main_thread", c.REDIS_CPU_SYS_MAIN, 1),
    ("used_cpu_user_main_thread", c.REDIS_CPU_USER_MAIN, 1),
    ("used_memory", c.REDIS_MEMORY_USED, 1),
    ("used_memory_rss", c.REDIS_MEMORY_RSS, 1),
    ("used_memory_peak", c.REDIS_MEMORY_PEAK, 1),
    ("used_memory_dataset", c.REDIS_MEMORY_DATASET, 1),
    ("used_memory_overhead", c.REDIS_MEMORY_OVERHEAD, 1),
    ("used_memory_startup", c.REDIS_MEMORY_STARTUP, 1),
    ("used_memory_lua", c.REDIS_MEMORY_LUA, 1),
    ("used_memory_scripts", c.REDIS_MEMORY_SCRIPTS, 1),
    ("maxmemory", c.REDIS_MEMORY_MAX, 1),
    ("mem_not_counted_for_evict", c.REDIS_NOT_COUNTED, 1),
    ("mem_clients_normal", c.REDIS_MEMORY_CLIENTS, 1),
    ("mem_clients_slaves", c.REDIS_MEMORY_REPLICAS, 1),
    ("mem_fragmentation_ratio", c.REDIS_FRAGMENTATION, 1),
    ("mem_fragmentation_bytes", c.REDIS_FRAGMENTATION_BYTES, 1),
    ("evicted_keys", c.REDIS_EVICTED, 1),
    ("evicted_clients", c.REDIS_EVICTED_CLIENTS, 1),
    ("expired_keys", c.REDIS_EXPIRED, 1),
    ("connected_clients", c.REDIS_CLIENTS, 1),
    ("blocked_clients", c.REDIS_CLIENTS_BLOCKED, 1),
    ("maxclients", c.REDIS_CLIENTS_MAX, 1),
    ("total_connections_received", c.REDIS_CONNECTIONS, 1),
    ("rejected_connections", c.REDIS_CONNECTIONS_REJECTED, 1),
    ("client_output_buffer_limit_disconnections", c.REDIS_OUTPUT_CUT, 1),
    ("client_query_buffer_limit_disconnections", c.REDIS_QUERY_CUT, 1),
    ("client_recent_max_output_buffer", c.REDIS_OUTPUT_BUFFER, 1),
    ("client_recent_max_input_buffer", c.REDIS_INPUT_BUFFER, 1),
    ("tracking_clients", c.REDIS_TRACKING, 1),
    ("tracking_total_keys", c.REDIS_TRACKED_KEYS, 1),
    ("tracking_total_items", c.REDIS_TRACKED_ITEMS, 1),
    ("tracking_total_prefixes", c.REDIS_TRACKED_PREFIXES, 1),
    ("pubsub_channels", c.REDIS_CHANNELS, 1),
    ("pubsub_patterns", c.REDIS_PATTERNS, 1),
    ("total_commands_processed", c.REDIS_COMMANDS, 1),
    ("total_net_input_bytes", c.REDIS_NET_INPUT, 1),
    ("total_net_output_bytes", c.REDIS_NET_OUTPUT, 1),
    ("keyspace_hits", c.REDIS_HITS, 1),
    ("keyspace_misses", c.REDIS_MISSES, 1),
    ("total_error_replies", c.REDIS_ERROR_REPLIES, 1),
    ("rdb_changes_since_last_save", c.REDIS_RDB_CHANGES, 1),
    ("rdb_last_save_time", c.REDIS_RDB_SAVED, 1),
    ("rdb_bgsave_in_progress", c.REDIS_RDB_RUNNING, 1),
    ("rdb_current_bgsave_time_sec", c.REDIS_RDB_CURRENT, 1),
    ("rdb_last_bgsave_time_sec", c.REDIS_RDB_LAST, 1),
    ("rdb_last_cow_size", c.REDIS_RDB_COW, 1),
    ("latest_fork_usec", c.REDIS_FORK, MICROSECONDS),
    ("aof_enabled", c.REDIS_AOF_ENABLED, 1),
    ("aof_rewrite_in_progress", c.REDIS_AOF_RUNNING, 1),
    ("aof_rewrite_scheduled", c.REDIS_AOF_SCHEDULED, 1),
    ("aof_current_rewrite_time_sec", c.REDIS_AOF_CURRENT, 1),
    ("aof_last_rewrite_time_sec", c.REDIS_AOF_LAST, 1),
    ("aof_last_cow_size", c.REDIS_AOF_COW, 1),
    ("aof_current_size", c.REDIS_AOF_SIZE, 1),
    ("aof_base_size", c.REDIS_AOF_BASE, 1),
    ("aof_buffer_length", c.REDIS_AOF_BUFFER, 1),
    ("aof_pending_bio_fsync", c.REDIS_AOF_PENDING, 1),
    ("aof_delayed_fsync", c.REDIS_AOF_DELAYED, 1),
    ("connected_slaves", c.REDIS_REPLICAS, 1),
    ("master_repl_offset", c.REDIS_OFFSET, 1),
    ("repl_backlog_size", c.REDIS_BACKLOG, 1),
    ("repl_backlog_active", c.REDIS_BACKLOG_ACTIVE, 1),
    ("repl_backlog_histlen", c.REDIS_BACKLOG_HISTORY, 1),
    ("sync_full", c.REDIS_SYNC_FULL, 1),
    ("sync_partial_ok", c.REDIS_SYNC_PARTIAL, 1),
    ("sync_partial_err", c.REDIS_SYNC_DENIED, 1),
    ("slave_priority", c.REDIS_SLAVE_PRIORITY, 1),
)
"""Fields of the server as a whole."""

STATUSES: Final[tuple[tuple[str, Family, str], ...]] = (
    ("rdb_last_bgsave_status", c.REDIS_RDB_STATUS, "ok"),
    ("aof_last_write_status", c.REDIS_AOF_WRITE_STATUS, "ok"),
    ("aof_last_bgrewrite_status", c.REDIS_AOF_REWRITE_STATUS, "ok"),
)
"""Fields that are words, and the word that is shown as 1."""

LINK: Final[tuple[Row, ...]] = (
    ("master_last_io_seconds_ago", c.REDIS_LAST_IO, 1),
    ("master_sync_in_progress", c.REDIS_SYNCING, 1),
    ("slave_repl_offset", c.REDIS_SLAVE_REPL_OFFSET, 1),
)
"""Fields of a replica about its master."""

KEYSPACE: Final[tuple[Row, ...]] = (
    ("keys", c.REDIS_DB_KEYS, 1),
    ("expires", c.REDIS_DB_EXPIRING, 1),
    ("avg_ttl", c.REDIS_DB_TTL, 1000),  # milliseconds
)
"""Parts of each database's line."""

REPLICA: Final[tuple[Row, ...]] = (("lag", c.REDIS_SLAVE_LAG, 1), ("offset", c.REDIS_SLAVE_OFFSET, 1))
"""Parts of the line of each replica."""

COMMAND: Final[tuple[Row, ...]] = (
    ("calls", c.REDIS_CMD_CALLS, 1),
    ("usec", c.REDIS_CMD_SECONDS, MICROSECONDS),
    ("rejected_calls", c.REDIS_CMD_REJECTED, 1),
    ("failed_calls", c.REDIS_CMD_FAILED, 1),
)
"""Parts of the line of each command."""

NEVER: Final = {
    "rdb_current_bgsave_time_sec": "-1",
    "rdb_last_bgsave_time_sec": "-1",
    "aof_current_rewrite_time_sec": "-1",
    "aof_last_rewrite_time_sec": "-1",
    "master_last_io_seconds_ago": "-1",
    "slave_repl_offset": "-1",
    "avg_ttl": "0",  # no key expires, or Redis has looked at none of those that do
}
"""What Redis writes for "none" or "never" (server.c, `genRedisInfoString`): such a field is as good as absent."""

QUEUE_COMMANDS: Final = frozenset(
    {
        # arq 0.23 to 0.28 (connections.py, worker.py, jobs.py); zrange and the like stand with all z* below
        *("watch", "unwatch", "multi", "exec", "exists", "get", "set", "setex", "psetex", "incr", "expire", "pexpire"),
        *("del", "keys"),
        # kombu's transport (redis.py): queues, unacknowledged messages, bindings, fanout, its locks
        *("lpush", "rpush", "brpop", "rpop", "llen", "lrange", "hset", "hget", "hdel", "sadd", "srem", "smembers"),
        *("publish", "subscribe", "unsubscribe", "psubscribe", "punsubscribe"),
        *("eval", "evalsha", "script", "script|load"),
        # Celery's result backend (redis.py), and remote control's answers
        *("mget", "lpop"),
        # the hook for ARQ's workers (taskqueue_hooks)
        "xadd",
        # queues of other systems: blocking reads, streams
        *("blpop", "blmove", "brpoplpush", "bzpopmin", "bzpopmax", "xread", "xreadgroup", "xack"),
        # all of sorted sets: ARQ's queues, Celery's unacknowledged messages
        *("zadd", "zcard", "zcount", "zincrby", "zlexcount", "zmscore", "zpopmax", "zpopmin", "zrandmember", "zrange"),
        *("zrangebylex", "zrangebyscore", "zrangestore", "zrank", "zrem", "zremrangebylex", "zremrangebyrank"),
        *("zremrangebyscore", "zrevrange", "zrevrangebylex", "zrevrangebyscore", "zrevrank", "zscan", "zscore"),
        *("zunion", "zunionstore", "zinter", "zintercard", "zinterstore", "zdiff", "zdiffstore", "zmpop"),
    }
)
"""The commands whose statistics are shown, by their names in `cmdstat_*`: those that workers and producers send. All of
a server's commands would be 240, and four series each."""
