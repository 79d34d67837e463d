"""Redis: redis_exporter's suffixes, types and labels, base units, our prefix."""

from __future__ import annotations

from exporter.catalogue.family import Family, Kind, R


def _redis(kind: Kind, suffix: str, text: str, *labels: str) -> Family:
    return Family(f"taskqueue_redis_{suffix}", kind, text, (*R, *labels))


def _gauge(suffix: str, text: str, *labels: str) -> Family:
    return _redis("gauge", suffix, text, *labels)


def _counter(suffix: str, text: str, *labels: str) -> Family:
    return _redis("counter", suffix, text, *labels)


# -- the server -------------------------------------------------------------------------------------------------

REDIS_INFO = _gauge(
    "instance_info",
    "Always 1; what the server is, in the words of INFO. On a broker any maxmemory_policy but noeviction loses jobs "
    "without a sign.",
    "redis_version",
    "server_name",
    "valkey_version",
    "redis_build_id",
    "redis_mode",
    "role",
    "maxmemory_policy",
    "os",
    "process_id",
    "tcp_port",
    "run_id",
)
REDIS_UPTIME = _gauge("uptime_in_seconds", "Seconds since the server started (INFO uptime_in_seconds).")
REDIS_START = _gauge(
    "start_time_seconds",
    "When the server started, by its own clock (INFO server_time_usec less uptime_in_seconds).",
)
REDIS_LOADING = _gauge(
    "loading_dump_file", "1 while the server loads its data and refuses most commands (INFO loading)."
)
REDIS_CPU_SYS = _counter("cpu_sys_seconds_total", "CPU time of the server in the kernel (INFO used_cpu_sys).")
REDIS_CPU_USER = _counter("cpu_user_seconds_total", "CPU time of the server in user mode (INFO used_cpu_user).")
REDIS_CPU_SYS_CHILDREN = _counter(
    "cpu_sys_children_seconds_total", "CPU time of its saving children in the kernel (INFO used_cpu_sys_children)."
)
REDIS_CPU_USER_CHILDREN = _counter(
    "cpu_user_children_seconds_total", "CPU time of its saving children in user mode (INFO used_cpu_user_children)."
)
REDIS_CPU_SYS_MAIN = _counter(
    "cpu_sys_main_thread_seconds_total",
    "CPU time in the kernel of the thread that runs all commands (INFO used_cpu_sys_main_thread).",
)
REDIS_CPU_USER_MAIN = _counter(
    "cpu_user_main_thread_seconds_total",
    "CPU time in user mode of the thread that runs all commands (INFO used_cpu_user_main_thread).",
)

# -- memory -----------------------------------------------------------------------------------------------------

REDIS_MEMORY_USED = _gauge("memory_used_bytes", "Bytes allocated for data and all else (INFO used_memory).")
REDIS_MEMORY_RSS = _gauge("memory_used_rss_bytes", "Resident memory of the server (INFO used_memory_rss).")
REDIS_MEMORY_PEAK = _gauge("memory_used_peak_bytes", "Most bytes ever used (INFO used_memory_peak).")
REDIS_MEMORY_DATASET = _gauge("memory_used_dataset_bytes", "Used bytes that are data (INFO used_memory_dataset).")
REDIS_MEMORY_OVERHEAD = _gauge(
    "memory_used_overhead_bytes", "Used bytes that are buffers and bookkeeping (INFO used_memory_overhead)."
)
REDIS_MEMORY_STARTUP = _gauge(
    "memory_used_startup_bytes", "Used bytes of an empty server, part of the overhead (INFO used_memory_startup)."
)
REDIS_MEMORY_LUA = _gauge("memory_used_lua_bytes", "Bytes of the engine of scripts (INFO used_memory_lua).")
REDIS_MEMORY_SCRIPTS = _gauge("memory_used_scripts_bytes", "Bytes of cached scripts (INFO used_memory_scripts).")
REDIS_MEMORY_MAX = _gauge("memory_max_bytes", "Memory limit, 0 for none (INFO maxmemory).")
REDIS_NOT_COUNTED = _gauge(
    "mem_not_counted_for_eviction_bytes",
    "Used bytes that do not count against the limit: buffers of replicas and of the append-only file "
    "(INFO mem_not_counted_for_evict).",
)
REDIS_MEMORY_CLIENTS = _gauge(
    "mem_clients_normal", "Bytes of the buffers of clients that are no replicas (INFO mem_clients_normal)."
)
REDIS_MEMORY_REPLICAS = _gauge("mem_clients_slaves", "Bytes of the buffers of replicas (INFO mem_clients_slaves).")
REDIS_FRAGMENTATION = _gauge("mem_fragmentation_ratio", "Resident over used memory (INFO mem_fragmentation_ratio).")
REDIS_FRAGMENTATION_BYTES = _gauge(
    "mem_fragmentation_bytes", "Resident less used memory; negative where it swaps (INFO mem_fragmentation_bytes)."
)
REDIS_EVICTED = _counter(
    "evicted_keys_total", "Keys evicted for want of memory: lost jobs on a broker (INFO evicted_keys)."
)
REDIS_EVICTED_CLIENTS = _counter(
    "evicted_clients_total", "Clients cut off for want of memory, from Redis 7.0 on (INFO evicted_clients)."
)
REDIS_EXPIRED = _counter("expired_keys_total", "Keys that expired (INFO expired_keys).")

# -- clients ----------------------------------------------------------------------------------------------------

REDIS_CLIENTS = _gauge("connected_clients", "Connected clients, replicas not counted (INFO connected_clients).")
REDIS_CLIENTS_BLOCKED = _gauge(
    "blocked_clients", "Clients that wait in a blocking call, as Celery's BRPOP (INFO blocked_clients)."
)
REDIS_CLIENTS_MAX = _gauge("max_clients", "Most clients the server accepts (INFO maxclients).")
REDIS_CONNECTIONS = _counter("connections_received_total", "Connections accepted (INFO total_connections_received).")
REDIS_CONNECTIONS_REJECTED = _counter(
    "rejected_connections_total", "Connections refused at the limit (INFO rejected_connections)."
)
REDIS_OUTPUT_CUT = _counter(
    "client_output_buffer_limit_disconnections_total",
    "Clients cut off as they read too slowly; servers newer than Redis 7.0 tell "
    "(INFO client_output_buffer_limit_disconnections).",
)
REDIS_QUERY_CUT = _counter(
    "client_query_buffer_limit_disconnections_total",
    "Clients cut off as they sent too long a command; servers newer than Redis 7.0 tell "
    "(INFO client_query_buffer_limit_disconnections).",
)
REDIS_OUTPUT_BUFFER = _gauge(
    "client_recent_max_output_buffer_bytes",
    "Longest output buffer among the clients of late (INFO client_recent_max_output_buffer).",
)
REDIS_INPUT_BUFFER = _gauge(
    "client_recent_max_input_buffer_bytes",
    "Longest input buffer among the clients of late (INFO client_recent_max_input_buffer).",
)
REDIS_TRACKING = _gauge(
    "tracking_clients", "Clients that are told of changed keys, as the feed of ARQ's results (INFO tracking_clients)."
)
REDIS_TRACKED_KEYS = _gauge(
    "tracking_total_keys", "Keys remembered for the clients that track keys (INFO tracking_total_keys)."
)
REDIS_TRACKED_ITEMS = _gauge(
    "tracking_total_items", "Pairs of key and client that are remembered (INFO tracking_total_items)."
)
REDIS_TRACKED_PREFIXES = _gauge(
    "tracking_total_prefixes",
    "Prefixes that clients track, as that feed does (INFO tracking_total_prefixes).",
)
REDIS_CHANNELS = _gauge("pubsub_channels", "Channels with subscribers (INFO pubsub_channels).")
REDIS_PATTERNS = _gauge("pubsub_patterns", "Patterns of channels with subscribers (INFO pubsub_patterns).")

# -- traffic ----------------------------------------------------------------------------------------------------

REDIS_COMMANDS = _counter("commands_processed_total", "Commands done (INFO total_commands_processed).")
REDIS_NET_INPUT = _counter("net_input_bytes_total", "Bytes read (INFO total_net_input_bytes).")
REDIS_NET_OUTPUT = _counter("net_output_bytes_total", "Bytes written (INFO total_net_output_bytes).")
REDIS_HITS = _counter("keyspace_hits_total", "Look-ups that found a key (INFO keyspace_hits).")
REDIS_MISSES = _counter("keyspace_misses_total", "Look-ups that found none (INFO keyspace_misses).")
REDIS_ERROR_REPLIES = _counter("error_replies_total", "Replies that were errors (INFO total_error_replies).")
REDIS_ERRORS = _counter("errors_total", "Replies that were errors by their first word (INFO errorstat_*).", "err")

REDIS_CMD_CALLS = _counter("commands_total", "Calls of commands that queues use (INFO cmdstat_*, calls).", "cmd")
REDIS_CMD_SECONDS = _counter(
    "commands_duration_seconds_total",
    "Time spent in commands that queues use, waiting not counted (INFO cmdstat_*, usec).",
    "cmd",
)
REDIS_CMD_REJECTED = _counter(
    "commands_rejected_calls_total",
    "Calls refused before they ran: no right, no memory (INFO cmdstat_*, rejected_calls).",
    "cmd",
)
REDIS_CMD_FAILED = _counter(
    "commands_failed_calls_total", "Calls that ran into an error (INFO cmdstat_*, failed_calls).", "cmd"
)
REDIS_LATENCY = _redis(
    "summary",
    "latency_percentiles_seconds",
    "Time per call since the server started, by command and quantile (INFO latency_percentiles_usec_*).",
    "cmd",
    "quantile",
)
REDIS_SLOWLOG_LENGTH = _gauge("slowlog_length", "Entries in the log of slow commands (SLOWLOG LEN).")
REDIS_SLOWLOG_ID = _gauge(
    "slowlog_last_id", "Number of the last slow command; absent where the log is empty (SLOWLOG GET)."
)
REDIS_SLOWLOG_SECONDS = _gauge(
    "last_slow_execution_duration_seconds", "How long it ran; absent where the log is empty (SLOWLOG GET)."
)

# -- persistence ------------------------------------------------------------------------------------------------

REDIS_RDB_CHANGES = _gauge(
    "rdb_changes_since_last_save", "Changes not in the last dump (INFO rdb_changes_since_last_save)."
)
REDIS_RDB_SAVED = _gauge(
    "rdb_last_save_timestamp_seconds",
    "When the last dump succeeded; the start of the server if none did yet (INFO rdb_last_save_time).",
)
REDIS_RDB_STATUS = _gauge("rdb_last_bgsave_status", "0 if the last dump failed, 1 else (INFO rdb_last_bgsave_status).")
REDIS_RDB_RUNNING = _gauge("rdb_bgsave_in_progress", "1 while a dump is written (INFO rdb_bgsave_in_progress).")
REDIS_RDB_CURRENT = _gauge(
    "rdb_current_bgsave_duration_seconds",
    "For how long a dump is being written; absent where none is (INFO rdb_current_bgsave_time_sec).",
)
REDIS_RDB_LAST = _gauge(
    "rdb_last_bgsave_duration_seconds",
    "How long the last dump took; absent before the first (INFO rdb_last_bgsave_time_sec).",
)
REDIS_RDB_COW = _gauge(
    "rdb_last_cow_size_bytes", "Memory that the last dump needed beside the data (INFO rdb_last_cow_size)."
)
REDIS_FORK = _gauge(
    "latest_fork_seconds", "For how long the last fork, for a dump or rewrite, stopped all (INFO latest_fork_usec)."
)
REDIS_AOF_ENABLED = _gauge("aof_enabled", "1 if the append-only file is on (INFO aof_enabled).")
REDIS_AOF_WRITE_STATUS = _gauge(
    "aof_last_write_status", "0 if the last append failed, 1 else (INFO aof_last_write_status)."
)
REDIS_AOF_REWRITE_STATUS = _gauge(
    "aof_last_bgrewrite_status",
    "0 if the last rewrite of the append-only file failed, 1 else (INFO aof_last_bgrewrite_status).",
)
REDIS_AOF_RUNNING = _gauge("aof_rewrite_in_progress", "1 while it is rewritten (INFO aof_rewrite_in_progress).")
REDIS_AOF_SCHEDULED = _gauge(
    "aof_rewrite_scheduled", "1 if a rewrite waits for a dump to end (INFO aof_rewrite_scheduled)."
)
REDIS_AOF_CURRENT = _gauge(
    "aof_current_rewrite_duration_seconds",
    "For how long it is being rewritten; absent where it is not (INFO aof_current_rewrite_time_sec).",
)
REDIS_AOF_LAST = _gauge(
    "aof_last_rewrite_duration_seconds",
    "How long the last rewrite took; absent before the first (INFO aof_last_rewrite_time_sec).",
)
REDIS_AOF_COW = _gauge(
    "aof_last_cow_size_bytes", "Memory that the last rewrite needed beside the data (INFO aof_last_cow_size)."
)
REDIS_AOF_SIZE = _gauge("aof_current_size_bytes", "Size of the append-only file (INFO aof_current_size).")
REDIS_AOF_BASE = _gauge("aof_base_size_bytes", "Its size after the last rewrite or start (INFO aof_base_size).")
REDIS_AOF_BUFFER = _gauge("aof_buffer_length", "Bytes that are still to be appended (INFO aof_buffer_length).")
REDIS_AOF_PENDING = _gauge("aof_pending_bio_fsync", "Calls of fsync(2) that wait (INFO aof_pending_bio_fsync).")
REDIS_AOF_DELAYED = _gauge(
    "aof_delayed_fsync", "How often a write waited for fsync(2), all clients with it (INFO aof_delayed_fsync)."
)

# -- replication ------------------------------------------------------------------------------------------------

REDIS_REPLICAS = _gauge("connected_slaves", "Connected replicas (INFO connected_slaves).")
REDIS_OFFSET = _gauge("master_repl_offset", "Bytes of replication so far (INFO master_repl_offset).")
REDIS_BACKLOG = _gauge("replication_backlog_bytes", "Size of the replication backlog (INFO repl_backlog_size).")
REDIS_BACKLOG_ACTIVE = _gauge("repl_backlog_is_active", "1 if there is a backlog (INFO repl_backlog_active).")
REDIS_BACKLOG_HISTORY = _gauge("repl_backlog_history_bytes", "Bytes in the backlog (INFO repl_backlog_histlen).")
REDIS_SYNC_FULL = _gauge("replica_resyncs_full", "Copies of all data that replicas were sent (INFO sync_full).")
REDIS_SYNC_PARTIAL = _gauge(
    "replica_partial_resync_accepted", "Replicas that could go on from the backlog (INFO sync_partial_ok)."
)
REDIS_SYNC_DENIED = _gauge(
    "replica_partial_resync_denied", "Replicas that could not go on from the backlog (INFO sync_partial_err)."
)
_SLAVE = ("slave_ip", "slave_port", "slave_state")
REDIS_SLAVE_LAG = _gauge(
    "connected_slave_lag_seconds", "Seconds since a replica that is online told its offset (INFO slave*, lag).", *_SLAVE
)
REDIS_SLAVE_OFFSET = _gauge(
    "connected_slave_offset_bytes",
    "Bytes of replication that a replica says it has (INFO slave*, offset).",
    *_SLAVE,
)
_MASTER = ("master_host", "master_port")
REDIS_SLAVE_INFO = _gauge(
    "slave_info", "Always 1; the server is a replica of that master (INFO master_host, slave_read_only).",
    *_MASTER, "read_only",
)  # fmt: skip
REDIS_LINK_UP = _gauge("master_link_up", "1 if the replica's link is up (INFO master_link_status).", *_MASTER)
REDIS_LAST_IO = _gauge(
    "master_last_io_seconds_ago",
    "Seconds since the replica heard of its master; absent while the link is down (INFO master_last_io_seconds_ago).",
    *_MASTER,
)
REDIS_SYNCING = _gauge(
    "master_sync_in_progress", "1 while the replica gets all data (INFO master_sync_in_progress).", *_MASTER
)
REDIS_SLAVE_REPL_OFFSET = _gauge(
    "slave_repl_offset", "Bytes of replication that the replica has applied (INFO slave_repl_offset).", *_MASTER
)
REDIS_SLAVE_PRIORITY = _gauge("slave_priority", "Rank for a failover, 0 for never (INFO slave_priority).")

# -- keys -------------------------------------------------------------------------------------------------------

REDIS_DB_KEYS = _gauge("db_keys", "Keys by database, of those with keys and our own (INFO keyspace, keys).", "db")
REDIS_DB_EXPIRING = _gauge("db_keys_expiring", "Keys with an expiry by database (INFO keyspace, expires).", "db")
REDIS_DB_TTL = _gauge(
    "db_avg_ttl_seconds", "Mean time to live of these, where Redis has an estimate (INFO keyspace, avg_ttl).", "db"
)
