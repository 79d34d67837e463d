"""Answers of INFO written out, no two of their numbers alike, and what must come of them, written out as well: a field
that fills the family of its neighbour shows."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from prometheus_client.samples import Sample

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.collectors.redis_info import RedisInfo, RedisInfoOptions
from exporter.collectors.redis_info.tables import COMMAND, KEYSPACE, LINK, NUMBERS, REPLICA, STATUSES
from exporter.sources import checked
from tests.collectors.test_redis_info_odd import COMMANDS, INFO, LAST, LATENCIES, LENGTH, Says
from tests.redis_exporter import OURS

# A replica that has one itself, so that it tells all. Of times and states a server would not tell all of these at once.
REDIS: Final = """
# Server
redis_version:7.2.4
redis_git_sha1:00000000
redis_build_id:ae4d7c971a948f0
redis_mode:standalone
os:Linux 6.1.0 x86_64
process_id:4711
run_id:6e9b1f0a52c34d1f8f1d9b2c7a6e5d4c3b2a1908
tcp_port:6380
server_time_usec:1700000001500000
uptime_in_seconds:1001

# Clients
connected_clients:1002
cluster_connections:9001
maxclients:1003
client_recent_max_input_buffer:1004
client_recent_max_output_buffer:1005
blocked_clients:1006
tracking_clients:1007
clients_in_timeout_table:9002
total_blocking_keys:9003

# Memory
used_memory:1008
used_memory_human:1.01K
used_memory_rss:1009
used_memory_peak:1010
used_memory_overhead:1011
used_memory_startup:1012
used_memory_dataset:1013
used_memory_dataset_perc:13.07%
allocator_allocated:9004
total_system_memory:9005
used_memory_lua:1014
used_memory_vm_eval:9006
used_memory_scripts_eval:9007
number_of_cached_scripts:9008
used_memory_functions:9009
used_memory_scripts:1015
maxmemory:1016
maxmemory_policy:noeviction
mem_fragmentation_ratio:1.17
mem_fragmentation_bytes:-1018
mem_not_counted_for_evict:1019
mem_replication_backlog:9010
mem_total_replication_buffers:9011
mem_clients_slaves:1020
mem_clients_normal:1021
mem_aof_buffer:9012

# Persistence
loading:1022
async_loading:9013
rdb_changes_since_last_save:1023
rdb_bgsave_in_progress:1024
rdb_last_save_time:1025
rdb_last_bgsave_status:ok
rdb_last_bgsave_time_sec:1026
rdb_current_bgsave_time_sec:1027
rdb_saves:9014
rdb_last_cow_size:1028
aof_enabled:1029
aof_rewrite_in_progress:1030
aof_rewrite_scheduled:1031
aof_last_rewrite_time_sec:1032
aof_current_rewrite_time_sec:1033
aof_last_bgrewrite_status:ok
aof_rewrites:9015
aof_last_write_status:ok
aof_last_cow_size:1034
module_fork_last_cow_size:9016
aof_current_size:1035
aof_base_size:1036
aof_pending_rewrite:9017
aof_buffer_length:1037
aof_pending_bio_fsync:1038
aof_delayed_fsync:1039

# Stats
total_connections_received:1040
total_commands_processed:1041
instantaneous_ops_per_sec:9018
total_net_input_bytes:1042
total_net_output_bytes:1043
total_net_repl_input_bytes:9019
total_net_repl_output_bytes:9020
rejected_connections:1044
sync_full:1045
sync_partial_ok:1046
sync_partial_err:1047
expired_keys:1048
expired_time_cap_reached_count:9021
evicted_keys:1049
evicted_clients:1050
total_eviction_exceeded_time:9022
keyspace_hits:1051
keyspace_misses:1052
pubsub_channels:1053
pubsub_patterns:1054
pubsubshard_channels:9023
latest_fork_usec:1055
total_forks:9024
tracking_total_keys:1056
tracking_total_items:1057
tracking_total_prefixes:1058
unexpected_error_replies:9025
total_error_replies:1059
client_query_buffer_limit_disconnections:1060
client_output_buffer_limit_disconnections:1061

# Replication
role:slave
master_host:10.0.0.1
master_port:6379
master_link_status:up
master_last_io_seconds_ago:1062
master_sync_in_progress:1063
slave_read_repl_offset:9026
slave_repl_offset:1064
slave_priority:1065
slave_read_only:1
connected_slaves:1066
slave0:ip=10.0.0.3,port=6381,state=online,offset=1067,lag=1068
master_repl_offset:1069
second_repl_offset:9027
repl_backlog_active:1070
repl_backlog_size:1071
repl_backlog_first_byte_offset:9028
repl_backlog_histlen:1072

# CPU
used_cpu_sys:1073.25
used_cpu_user:1074.25
used_cpu_sys_children:1075.25
used_cpu_user_children:1076.25
used_cpu_sys_main_thread:1077.25
used_cpu_user_main_thread:1078.25

# Errorstats
errorstat_ERR:count=1079

# Keyspace
db0:keys=1080,expires=1081,avg_ttl=1082
"""
BESIDE: Final[dict[str, Any]] = {
    COMMANDS: b"cmdstat_get:calls=1083,usec=1084,usec_per_call=9.29,rejected_calls=1085,failed_calls=1086\r\n",
    LATENCIES: b"latency_percentiles_usec_get:p99=1087.000\r\n",
    LENGTH: 1088,
    LAST: [[1089, 9030, 1090, [], b"", b""]],
}
OF_REDIS: Final[dict[str, float]] = {
    "instance_info": 1,
    "uptime_in_seconds": 1001,
    "start_time_seconds": 1_699_999_000,
    "connected_clients": 1002,
    "max_clients": 1003,
    "client_recent_max_input_buffer_bytes": 1004,
    "client_recent_max_output_buffer_bytes": 1005,
    "blocked_clients": 1006,
    "tracking_clients": 1007,
    "memory_used_bytes": 1008,
    "memory_used_rss_bytes": 1009,
    "memory_used_peak_bytes": 1010,
    "memory_used_overhead_bytes": 1011,
    "memory_used_startup_bytes": 1012,
    "memory_used_dataset_bytes": 1013,
    "memory_used_lua_bytes": 1014,
    "memory_used_scripts_bytes": 1015,
    "memory_max_bytes": 1016,
    "mem_fragmentation_ratio": 1.17,
    "mem_fragmentation_bytes": -1018,
    "mem_not_counted_for_eviction_bytes": 1019,
    "mem_clients_slaves": 1020,
    "mem_clients_normal": 1021,
    "loading_dump_file": 1022,
    "rdb_changes_since_last_save": 1023,
    "rdb_bgsave_in_progress": 1024,
    "rdb_last_save_timestamp_seconds": 1025,
    "rdb_last_bgsave_status": 1,
    "rdb_last_bgsave_duration_seconds": 1026,
    "rdb_current_bgsave_duration_seconds": 1027,
    "rdb_last_cow_size_bytes": 1028,
    "aof_enabled": 1029,
    "aof_rewrite_in_progress": 1030,
    "aof_rewrite_scheduled": 1031,
    "aof_last_rewrite_duration_seconds": 1032,
    "aof_current_rewrite_duration_seconds": 1033,
    "aof_last_bgrewrite_status": 1,
    "aof_last_write_status": 1,
    "aof_last_cow_size_bytes": 1034,
    "aof_current_size_bytes": 1035,
    "aof_base_size_bytes": 1036,
    "aof_buffer_length": 1037,
    "aof_pending_bio_fsync": 1038,
    "aof_delayed_fsync": 1039,
    "connections_received_total": 1040,
    "commands_processed_total": 1041,
    "net_input_bytes_total": 1042,
    "net_output_bytes_total": 1043,
    "rejected_connections_total": 1044,
    "replica_resyncs_full": 1045,
    "replica_partial_resync_accepted": 1046,
    "replica_partial_resync_denied": 1047,
    "expired_keys_total": 1048,
    "evicted_keys_total": 1049,
    "evicted_clients_total": 1050,
    "keyspace_hits_total": 1051,
    "keyspace_misses_total": 1052,
    "pubsub_channels": 1053,
    "pubsub_patterns": 1054,
    "latest_fork_seconds": 0.001055,
    "tracking_total_keys": 1056,
    "tracking_total_items": 1057,
    "tracking_total_prefixes": 1058,
    "error_replies_total": 1059,
    "client_query_buffer_limit_disconnections_total": 1060,
    "client_output_buffer_limit_disconnections_total": 1061,
    "slave_info": 1,
    "master_link_up": 1,
    "master_last_io_seconds_ago": 1062,
    "master_sync_in_progress": 1063,
    "slave_repl_offset": 1064,
    "slave_priority": 1065,
    "connected_slaves": 1066,
    "connected_slave_offset_bytes": 1067,
    "connected_slave_lag_seconds": 1068,
    "master_repl_offset": 1069,
    "repl_backlog_is_active": 1070,
    "replication_backlog_bytes": 1071,
    "repl_backlog_history_bytes": 1072,
    "cpu_sys_seconds_total": 1073.25,
    "cpu_user_seconds_total": 1074.25,
    "cpu_sys_children_seconds_total": 1075.25,
    "cpu_user_children_seconds_total": 1076.25,
    "cpu_sys_main_thread_seconds_total": 1077.25,
    "cpu_user_main_thread_seconds_total": 1078.25,
    "errors_total": 1079,
    "db_keys": 1080,
    "db_keys_expiring": 1081,
    "db_avg_ttl_seconds": 1.082,
    "commands_total": 1083,
    "commands_duration_seconds_total": 0.001084,
    "commands_rejected_calls_total": 1085,
    "commands_failed_calls_total": 1086,
    "latency_percentiles_seconds": 0.001087,
    "slowlog_length": 1088,
    "slowlog_last_id": 1089,
    "last_slow_execution_duration_seconds": 0.00109,
}
"""By suffix: every family, with one sample each."""

# -- Valkey 8.0, server.c (genValkeyInfoString) -------------------------------------------------------------------
VALKEY: Final = """
# Server
redis_version:7.2.4
server_name:valkey
valkey_version:8.0.2
redis_git_sha1:00000000
redis_git_dirty:0
redis_build_id:5e4f8b2b1a3c9d07
server_mode:standalone
os:Linux 6.1.0 x86_64
process_id:4711
run_id:6e9b1f0a52c34d1f8f1d9b2c7a6e5d4c3b2a1908
tcp_port:6379

# Memory
maxmemory_policy:noeviction

# Replication
role:master
"""
OF_VALKEY: Final = {
    "redis_version": "7.2.4",
    "server_name": "valkey",
    "valkey_version": "8.0.2",
    "redis_build_id": "5e4f8b2b1a3c9d07",
    "redis_mode": "standalone",
    "role": "master",
    "maxmemory_policy": "noeviction",
    "os": "Linux 6.1.0 x86_64",
    "process_id": "4711",
    "tcp_port": "6379",
    "run_id": "6e9b1f0a52c34d1f8f1d9b2c7a6e5d4c3b2a1908",
}


async def of_info(text: str) -> dict[str, Sample]:
    """What becomes of an answer of INFO by suffix: one sample each."""
    replies = {INFO: text.replace("\n", "\r\n").encode(), **BESIDE}
    collector = RedisInfo("main", Says(replies), RedisInfoOptions(latency_percentiles=True))
    families = checked(await collector.collect(), collector.families, ("main",))
    assert list(collector.problems) == []
    samples = [sample for family in families for sample in family.samples]
    found = {sample.name.removeprefix(OURS): sample for sample in samples}
    assert len(found) == len(samples)
    return found


async def numbers(text: str) -> dict[str, float]:
    return {suffix: sample.value for suffix, sample in (await of_info(text)).items()}


async def identity(text: str) -> dict[str, str]:
    """What `instance_info` says."""
    labels = (await of_info(text))["instance_info"].labels
    return {name: value for name, value in labels.items() if name not in {"broker", "server"}}


async def test_every_field_fills_its_family() -> None:
    found = await numbers(REDIS)

    assert found == OF_REDIS


def test_no_family_and_no_number_hides_another() -> None:
    assert {OURS + suffix for suffix in OF_REDIS} == {family.name for family in RedisInfo.families}
    told = [value for value in OF_REDIS.values() if value != 1]
    assert len({*told}) == len(told) == len(OF_REDIS) - len(STATUSES) - 3


@pytest.mark.parametrize(
    ("line", "suffix"),
    [
        ("rdb_last_bgsave_status:ok", "rdb_last_bgsave_status"),
        ("aof_last_bgrewrite_status:ok", "aof_last_bgrewrite_status"),
        ("aof_last_write_status:ok", "aof_last_write_status"),
        ("master_link_status:up", "master_link_up"),
    ],
)
async def test_a_bad_state_is_that_of_its_family_alone(line: str, suffix: str) -> None:
    assert line in REDIS

    found = await numbers(REDIS.replace(line, f"{line.partition(':')[0]}:err"))

    assert found == OF_REDIS | {suffix: 0}


@pytest.mark.parametrize(
    ("field", "family"), [row[:2] for row in (*NUMBERS, *STATUSES, *LINK, *KEYSPACE, *REPLICA, *COMMAND)]
)
def test_help_names_the_field(field: str, family: Family) -> None:
    _, _, source = family.help.rpartition("(INFO ")

    assert field in re.findall(r"\w+", source)


async def test_what_a_valkey_is() -> None:
    assert await identity(VALKEY) == OF_VALKEY


async def test_a_valkey_that_speaks_as_redis_does() -> None:
    """With extended-redis-compat."""
    assert await identity(VALKEY.replace("server_mode:", "redis_mode:")) == OF_VALKEY


async def test_a_redis_names_no_server() -> None:
    found = await identity(REDIS)

    assert found["redis_mode"] == "standalone"
    assert found["server_name"] == found["valkey_version"] == ""
    assert found.keys() == OF_VALKEY.keys() == {*c.REDIS_INFO.labels[2:]}
