"""What redis_exporter 1.45 gives and we call otherwise, or leave out: the tables of docs/redis.md."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

OURS: Final = "taskqueue_redis_"
THEIRS: Final = "redis_"

RENAMED: Final[dict[str, tuple[str, float]]] = {
    "aof_current_rewrite_duration_sec": ("aof_current_rewrite_duration_seconds", 1),
    "aof_last_rewrite_duration_sec": ("aof_last_rewrite_duration_seconds", 1),
    "rdb_current_bgsave_duration_sec": ("rdb_current_bgsave_duration_seconds", 1),
    "rdb_last_bgsave_duration_sec": ("rdb_last_bgsave_duration_seconds", 1),
    "latency_percentiles_usec": ("latency_percentiles_seconds", 1e-6),
    "total_error_replies": ("error_replies_total", 1),
    "config_maxclients": ("max_clients", 1),
}
"""By their suffix ours, and the factor from their values to ours."""

LEFT_OUT: Final[dict[str, str]] = {
    "go_*": "about that exporter",
    "process_*": "about that exporter",
    "redis_exporter_*": "about that exporter",
    "redis_target_scrape_request_errors_total": "about that exporter",
    "redis_last_key_groups_scrape_duration_milliseconds": "about that exporter",
    "redis_up": "`taskqueue_broker_up`",
    "redis_config_maxmemory": "the same as `memory_max_bytes`",
    "redis_config_io_threads": "of the configuration, which is not read: it holds passwords",
    "redis_process_id": "a label of `instance_info`",
    "redis_cluster_enabled": "`redis_mode` of `instance_info`",
    "redis_cluster_connections": "brokers of ARQ and Celery are no clusters",
    "redis_migrate_cached_sockets_total": "brokers of ARQ and Celery are no clusters",
    "redis_allocator_*": "inside the allocator; `mem_fragmentation_ratio` and `mem_fragmentation_bytes` tell the sum",
    "redis_active_defrag_running": "inside the allocator",
    "redis_defrag_*": "inside the allocator",
    "redis_lazyfree_pending_objects": "what is being freed; `memory_used_bytes` still holds it",
    "redis_number_of_cached_scripts": "`memory_used_scripts_bytes` tells when they are many",
    "redis_module_fork_*": "no queue uses modules",
    "redis_aof_pending_rewrite": "the same as `aof_rewrite_scheduled`",
    "redis_clients_in_timeout_table": "`blocked_clients` tells how many wait",
    "redis_dump_payload_sanitizations": "of RESTORE, which no queue uses",
    "redis_expired_stale_percentage": "how the server looks for expired keys; queues do not wait for it",
    "redis_expired_time_cap_reached_total": "how the server looks for expired keys; queues do not wait for it",
    "redis_io_threaded_*": "how the server reads and writes; `net_input_bytes_total` and the like tell how much",
    "redis_io_threads_active": "how the server reads and writes",
    "redis_total_reads_processed": "how the server reads and writes",
    "redis_total_writes_processed": "how the server reads and writes",
    "redis_latency_spike_*": "of LATENCY LATEST, off by default in Redis; the slow log tells",
    "redis_repl_backlog_first_byte_offset": "follows from `master_repl_offset` and `repl_backlog_history_bytes`",
    "redis_second_repl_offset": "of the replication before a failover",
    "redis_slave_expires_tracked_keys": "of writable replicas",
    "redis_unexpected_error_replies": "of replication and of the append-only file, not to clients",
}
"""By name or pattern the reason."""


def left_out(name: str) -> str | None:
    """The row of LEFT_OUT that a family of theirs falls under."""
    return next((row for row in LEFT_OUT if fnmatchcase(name, row)), None)
