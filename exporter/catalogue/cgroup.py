"""The control group (cgroups(7)) that the exporter runs in: what its container may use, and uses.

cAdvisor's suffixes and meanings, in base units, under our prefix.
"""

from __future__ import annotations

from typing import Final

from exporter.catalogue.family import Family

CGROUP_MEMORY_USAGE = Family(
    "taskqueue_cgroup_memory_usage_bytes",
    "gauge",
    "Memory that the exporter's own control group uses, caches included (memory.current; memory.usage_in_bytes).",
)
CGROUP_MEMORY_MAX_USAGE = Family(
    "taskqueue_cgroup_memory_max_usage_bytes",
    "gauge",
    "Most memory that the exporter's own control group has used (memory.peak; memory.max_usage_in_bytes).",
)
CGROUP_MEMORY_WORKING_SET = Family(
    "taskqueue_cgroup_memory_working_set_bytes",
    "gauge",
    "Memory used by the exporter's own control group without what files could give back (usage less inactive_file).",
)
CGROUP_MEMORY_RSS = Family(
    "taskqueue_cgroup_memory_rss_bytes",
    "gauge",
    "Anonymous memory of the exporter's own control group (anon; total_rss of memory.stat).",
)
CGROUP_MEMORY_CACHE = Family(
    "taskqueue_cgroup_memory_cache_bytes",
    "gauge",
    "Page cache of the exporter's own control group (file; total_cache of memory.stat).",
)
CGROUP_MEMORY_SWAP = Family(
    "taskqueue_cgroup_memory_swap_bytes",
    "gauge",
    "Swap space that the exporter's own control group uses (memory.swap.current; total_swap of memory.stat).",
)
CGROUP_MEMORY_LIMIT = Family(
    "taskqueue_cgroup_memory_limit_bytes",
    "gauge",
    "Lowest memory limit of the exporter's own control group and of its visible parents (memory.max; "
    "memory.limit_in_bytes); absent if there is none.",
)
CGROUP_MEMORY_HIGH = Family(
    "taskqueue_cgroup_memory_high_bytes",
    "gauge",
    "Memory from which on the exporter's own control group, or a visible parent, is slowed down (memory.high); absent "
    "if there is none, and with cgroup v1.",
)
CGROUP_MEMORY_SWAP_LIMIT = Family(
    "taskqueue_cgroup_memory_swap_limit_bytes",
    "gauge",
    "Lowest limit to swap space of the exporter's own control group and of its visible parents (memory.swap.max); "
    "absent if there is none, and with cgroup v1.",
)
CGROUP_MEMORY_FAILCNT = Family(
    "taskqueue_cgroup_memory_failcnt_total",
    "counter",
    "Times that the exporter's own control group ran into its memory limit (max of memory.events; memory.failcnt).",
)
CGROUP_OOM_EVENTS = Family(
    "taskqueue_cgroup_oom_events_total",
    "counter",
    "Processes of the exporter's own control group that were killed for want of memory (oom_kill of memory.events; of "
    "memory.oom_control).",
)

CGROUP_CPU_USAGE = Family(
    "taskqueue_cgroup_cpu_usage_seconds_total",
    "counter",
    "CPU seconds that the exporter's own control group used (usage_usec of cpu.stat; cpuacct.usage).",
)
CGROUP_CPU_USER = Family(
    "taskqueue_cgroup_cpu_user_seconds_total",
    "counter",
    "CPU seconds of the exporter's own control group in user mode (user_usec of cpu.stat; user of cpuacct.stat).",
)
CGROUP_CPU_SYSTEM = Family(
    "taskqueue_cgroup_cpu_system_seconds_total",
    "counter",
    "CPU seconds of the exporter's own control group in the kernel (system_usec of cpu.stat; system of cpuacct.stat).",
)
CGROUP_CPU_LIMIT = Family(
    "taskqueue_cgroup_cpu_limit_cores",
    "gauge",
    "CPU cores that the exporter's own control group may use: the lowest quota by its period, of it and of its visible "
    "parents (cpu.max; cpu.cfs_quota_us); absent if there is none.",
)
CGROUP_CPU_PERIODS = Family(
    "taskqueue_cgroup_cpu_cfs_periods_total",
    "counter",
    "Periods in which the CPU quota of the exporter's own control group was enforced (nr_periods of cpu.stat).",
)
CGROUP_CPU_THROTTLED_PERIODS = Family(
    "taskqueue_cgroup_cpu_cfs_throttled_periods_total",
    "counter",
    "Periods in which the exporter's own control group had used up its CPU quota (nr_throttled of cpu.stat).",
)
CGROUP_CPU_THROTTLED = Family(
    "taskqueue_cgroup_cpu_cfs_throttled_seconds_total",
    "counter",
    "Seconds for which the exporter's own control group stood still for want of CPU quota, added up over CPUs "
    "(throttled_usec of cpu.stat; throttled_time).",
)

CGROUP_THREADS = Family(
    "taskqueue_cgroup_threads",
    "gauge",
    "Threads in the exporter's own control group and below (pids.current).",
)
CGROUP_THREADS_MAX = Family(
    "taskqueue_cgroup_threads_max",
    "gauge",
    "Lowest limit to threads of the exporter's own control group and of its visible parents (pids.max); absent if "
    "there is none.",
)

CGROUP_PRESSURE_CPU_WAITING = Family(
    "taskqueue_cgroup_pressure_cpu_waiting_seconds_total",
    "counter",
    "Seconds in which some process of the exporter's own control group waited for a CPU (some of cpu.pressure).",
)
CGROUP_PRESSURE_CPU_STALLED = Family(
    "taskqueue_cgroup_pressure_cpu_stalled_seconds_total",
    "counter",
    "Seconds in which every process of the exporter's own control group waited for a CPU (full of cpu.pressure).",
)
CGROUP_PRESSURE_MEMORY_WAITING = Family(
    "taskqueue_cgroup_pressure_memory_waiting_seconds_total",
    "counter",
    "Seconds in which some process of the exporter's own control group waited for memory (some of memory.pressure).",
)
CGROUP_PRESSURE_MEMORY_STALLED = Family(
    "taskqueue_cgroup_pressure_memory_stalled_seconds_total",
    "counter",
    "Seconds in which every process of the exporter's own control group waited for memory (full of memory.pressure).",
)
CGROUP_PRESSURE_IO_WAITING = Family(
    "taskqueue_cgroup_pressure_io_waiting_seconds_total",
    "counter",
    "Seconds in which some process of the exporter's own control group waited for a disk (some of io.pressure).",
)
CGROUP_PRESSURE_IO_STALLED = Family(
    "taskqueue_cgroup_pressure_io_stalled_seconds_total",
    "counter",
    "Seconds in which every process of the exporter's own control group waited for a disk (full of io.pressure).",
)

_DEVICE: Final = ("device",)
CGROUP_FS_READ = Family(
    "taskqueue_cgroup_fs_reads_bytes_total",
    "counter",
    "Bytes that the exporter's own control group read from the device (rbytes of io.stat; "
    "blkio.throttle.io_service_bytes_recursive).",
    _DEVICE,
)
CGROUP_FS_WRITTEN = Family(
    "taskqueue_cgroup_fs_writes_bytes_total",
    "counter",
    "Bytes that the exporter's own control group wrote to the device (wbytes of io.stat; "
    "blkio.throttle.io_service_bytes_recursive).",
    _DEVICE,
)
CGROUP_FS_READS = Family(
    "taskqueue_cgroup_fs_reads_total",
    "counter",
    "Reads of the exporter's own control group from the device (rios of io.stat; "
    "blkio.throttle.io_serviced_recursive).",
    _DEVICE,
)
CGROUP_FS_WRITES = Family(
    "taskqueue_cgroup_fs_writes_total",
    "counter",
    "Writes of the exporter's own control group to the device (wios of io.stat; blkio.throttle.io_serviced_recursive).",
    _DEVICE,
)
