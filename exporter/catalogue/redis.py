"""Redis: redis_exporter's suffixes, base units, our prefix."""

from __future__ import annotations

from exporter.catalogue.family import Family, Kind, R

REDIS_INFO = Family(
    "taskqueue_redis_instance_info",
    "gauge",
    "Always 1; what the server is (INFO redis_version, redis_mode, role, maxmemory_policy, run_id). On a broker any "
    "maxmemory_policy but noeviction loses jobs without a sign.",
    (*R, "redis_version", "redis_mode", "role", "maxmemory_policy", "run_id"),
)


def _redis(suffix: str, kind: Kind, text: str, labels: tuple[str, ...] = ()) -> Family:
    return Family(f"taskqueue_redis_{suffix}", kind, text, (*R, *labels))


REDIS_UPTIME = _redis("uptime_in_seconds", "gauge", "Seconds since the server started (INFO uptime_in_seconds).")
REDIS_LOADING = _redis("loading_dump_file", "gauge", "1 while the server loads its data (INFO loading).")

REDIS_MEMORY_USED = _redis("memory_used_bytes", "gauge", "Bytes allocated for data (INFO used_memory).")
REDIS_MEMORY_RSS = _redis("memory_used_rss_bytes", "gauge", "Resident memory of the server (INFO used_memory_rss).")
REDIS_MEMORY_PEAK = _redis("memory_used_peak_bytes", "gauge", "Most bytes ever used (INFO used_memory_peak).")
REDIS_MEMORY_MAX = _redis("memory_max_bytes", "gauge", "Memory limit, 0 for none (INFO maxmemory).")
REDIS_FRAGMENTATION = _redis(
    "mem_fragmentation_ratio", "gauge", "Resident over used memory (INFO mem_fragmentation_ratio)."
)

REDIS_CLIENTS = _redis("connected_clients", "gauge", "Connected clients (INFO connected_clients).")
REDIS_CLIENTS_BLOCKED = _redis(
    "blocked_clients", "gauge", "Clients that wait in a blocking call, as Celery's BRPOP (INFO blocked_clients)."
)
REDIS_CLIENTS_MAX = _redis("max_clients", "gauge", "Most clients the server accepts (INFO maxclients).")
REDIS_CONNECTIONS = _redis(
    "connections_received_total", "counter", "Connections accepted (INFO total_connections_received)."
)
REDIS_CONNECTIONS_REJECTED = _redis(
    "rejected_connections_total", "counter", "Connections refused at the limit (INFO rejected_connections)."
)

REDIS_COMMANDS = _redis("commands_processed_total", "counter", "Commands done (INFO total_commands_processed).")
REDIS_NET_INPUT = _redis("net_input_bytes_total", "counter", "Bytes read (INFO total_net_input_bytes).")
REDIS_NET_OUTPUT = _redis("net_output_bytes_total", "counter", "Bytes written (INFO total_net_output_bytes).")
REDIS_HITS = _redis("keyspace_hits_total", "counter", "Look-ups that found a key (INFO keyspace_hits).")
REDIS_MISSES = _redis("keyspace_misses_total", "counter", "Look-ups that found none (INFO keyspace_misses).")
REDIS_EXPIRED = _redis("expired_keys_total", "counter", "Keys that expired (INFO expired_keys).")
REDIS_EVICTED = _redis(
    "evicted_keys_total", "counter", "Keys evicted for want of memory: lost jobs on a broker (INFO evicted_keys)."
)

REDIS_RDB_CHANGES = _redis(
    "rdb_changes_since_last_save", "gauge", "Changes not in the last dump (INFO rdb_changes_since_last_save)."
)
REDIS_RDB_SAVED = _redis(
    "rdb_last_save_timestamp_seconds", "gauge", "When the last dump succeeded (INFO rdb_last_save_time)."
)
REDIS_RDB_STATUS = _redis(
    "rdb_last_bgsave_status", "gauge", "1 if the last dump succeeded, 0 else (INFO rdb_last_bgsave_status)."
)
REDIS_AOF_ENABLED = _redis("aof_enabled", "gauge", "1 if the append-only file is on (INFO aof_enabled).")
REDIS_AOF_WRITE_STATUS = _redis(
    "aof_last_write_status", "gauge", "1 if the last append succeeded, 0 else (INFO aof_last_write_status)."
)
REDIS_AOF_REWRITE_STATUS = _redis(
    "aof_last_bgrewrite_status",
    "gauge",
    "1 if the last rewrite of the append-only file succeeded, 0 else (INFO aof_last_bgrewrite_status).",
)

REDIS_DB_KEYS = _redis("db_keys", "gauge", "Keys by database (INFO keyspace, keys).", ("db",))
REDIS_DB_EXPIRING = _redis(
    "db_keys_expiring", "gauge", "Keys with an expiry by database (INFO keyspace, expires).", ("db",)
)
