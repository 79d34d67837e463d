"""Rows of *Host and exporter* about the exporter's container and groups of processes, such as workers."""

from __future__ import annotations

from typing import Final

from grafana.src.board import Row
from grafana.src.exporter.host import KIND
from grafana.src.exporter.trust import EXPORTER_KEYS, NAME
from grafana.src.panels import Query, Says, bars, lines
from grafana.src.promql import EXPORTER, kinds, of, own_increase, own_rate
from grafana.src.tables import Column, Key, rows

NO_CGROUP: Final = "No data: no exporter answers, or cgroup.enabled is off"
NO_GROUPS: Final = "No data: no exporter answers, or processes.groups names none"
GROUP: Final = f"{NAME} {{{{group}}}}"


def _cgroup(suffix: str) -> str:
    return of(f"taskqueue_cgroup_{suffix}", EXPORTER)


def _cgroup_rate(suffix: str) -> str:
    return own_rate(f"taskqueue_cgroup_{suffix}_total", EXPORTER)


def _process(suffix: str) -> str:
    return of(f"taskqueue_process_{suffix}", EXPORTER)


SHARES: Final = kinds(
    {
        "memory": f"({_cgroup('memory_working_set_bytes')} / ({_cgroup('memory_limit_bytes')} > 0))",
        "memory: no limit": f"(0 * {_cgroup('memory_working_set_bytes')} unless {_cgroup('memory_limit_bytes')})",
        "swap": f"({_cgroup('memory_swap_bytes')} / ({_cgroup('memory_swap_limit_bytes')} > 0))",
        "threads": f"({_cgroup('threads')} / ({_cgroup('threads_max')} > 0))",
        "CPU": f"({_cgroup_rate('cpu_usage_seconds')} / ({_cgroup('cpu_limit_cores')} > 0))",
    }
)

CONTAINER: Final = Row(
    "Container of the exporter",
    [
        bars(
            "Of its limits",
            Says(
                "What the exporter's own container uses of each limit that it has. Memory: the working set, without "
                "what files could give back; 'no limit' where nothing limits it.",
                "memory below 80 %, CPU with room for bursts.",
                "Memory near 100 %: it is killed soon; raise the limit, or lower `limits` of the exporter. CPU near "
                "100 %: scrapes become slow and records are lost; raise it.",
            ),
            "percentunit",
            Query(SHARES, KIND),
            size=(8, 8),
            empty=NO_CGROUP,
        ),
        lines(
            "Memory",
            Says(
                "Memory of the container: in use with caches, without what files could give back (working set), of "
                "processes alone (rss), of files (cache), swap, the most there was, and its limits: at 'high' it is "
                "slowed down, at 'limit' something is killed.",
                "the working set well below the limit.",
                "Grows: which process? Where it holds the workers, too, see Processes.",
            ),
            "bytes",
            Query(
                kinds(
                    {
                        "in use": _cgroup("memory_usage_bytes"),
                        "working set": _cgroup("memory_working_set_bytes"),
                        "rss": _cgroup("memory_rss_bytes"),
                        "cache": _cgroup("memory_cache_bytes"),
                        "swap": _cgroup("memory_swap_bytes"),
                        "most": _cgroup("memory_max_usage_bytes"),
                        "high": _cgroup("memory_high_bytes"),
                        "limit": _cgroup("memory_limit_bytes"),
                    }
                ),
                KIND,
            ),
            size=(8, 8),
            empty=NO_CGROUP,
        ),
        lines(
            "CPU",
            Says(
                "CPUs that the container uses, in user mode and in the kernel, and its limit if it has one.",
                "below the limit.",
                "At the limit: see Throttling, and raise the limit.",
            ),
            "none",
            Query(
                kinds(
                    {
                        "all": _cgroup_rate("cpu_usage_seconds"),
                        "user": _cgroup_rate("cpu_user_seconds"),
                        "system": _cgroup_rate("cpu_system_seconds"),
                        "limit": _cgroup("cpu_limit_cores"),
                    }
                ),
                KIND,
            ),
            size=(8, 8),
            empty=NO_CGROUP,
        ),
        lines(
            "Throttling",
            Says(
                "Seconds per second for which the container stood still for want of CPU quota, added up over CPUs, "
                "and the share of its periods in which the quota was used up.",
                "0 without a quota; else few periods.",
                "Raise the CPU limit: a quota of little more than the mean still stops bursts.",
            ),
            "none",
            Query(
                kinds(
                    {
                        "stood still": _cgroup_rate("cpu_cfs_throttled_seconds"),
                        "periods": f"({_cgroup_rate('cpu_cfs_throttled_periods')}"
                        f" / ({_cgroup_rate('cpu_cfs_periods')} > 0))",
                    }
                ),
                KIND,
            ),
            size=(8, 8),
            empty=NO_CGROUP,
        ),
        lines(
            "Out of memory",
            Says(
                "Times per second that the container ran into its memory limit, and processes of it that were killed.",
                "0.",
                "Raise the limit. A worker in the same container that was killed: its job is run again, or lost.",
            ),
            "ops",
            Query(kinds({"at the limit": _cgroup_rate("memory_failcnt"), "killed": _cgroup_rate("oom_events")}), KIND),
            size=(8, 8),
            empty=NO_CGROUP,
        ),
        lines(
            "Pressure",
            Says(
                "Share of the time in which some process of the container waited for a CPU, memory or a disk, or all "
                "did.",
                "a few percent; memory 0.",
                "CPU: the limit, or a busy host. Memory: near its limit. Disk: see Disks and network.",
            ),
            "percentunit",
            Query(
                kinds(
                    {
                        f"{words}{what}": _cgroup_rate(f"pressure_{name}_{how}_seconds")
                        for what, name in (("CPU", "cpu"), ("memory", "memory"), ("disk", "io"))
                        for words, how in (("", "waiting"), ("all ", "stalled"))
                    }
                ),
                KIND,
            ),
            size=(8, 8),
            empty="Not known: no exporter answers, cgroup.enabled is off, or cgroup v2 is not mounted",
        ),
    ],
    closed=True,
)

PROCESSES: Final = Row(
    "Processes",
    [
        rows(
            "Groups",
            Says(
                "Each group of processes that the configuration names: how many live, what they use, since when the "
                "oldest and the newest run, and how many started in the time shown.",
                "as many as you run; starts only after a deployment, or by max_tasks_per_child.",
                "0 members: the service is down. Newest a moment ago, again and again: it crashes, see its log.",
            ),
            (*EXPORTER_KEYS, Key("group", "Group")),
            [
                Column("Members", _process("members"), "short", width=90),
                Column("Memory", _process("resident_memory_bytes"), "bytes", width=110),
                Column("Virtual", _process("virtual_memory_bytes"), "bytes", width=110),
                Column("Threads", _process("threads"), "short", width=90),
                Column("Open files", _process("open_fds"), "short", width=100),
                Column("Worst, of its limit", _process("worst_fd_ratio"), "percentunit", 1, width=140),
                Column("Oldest", f"1000 * {_process('oldest_start_time_seconds')}", "dateTimeFromNow", width=140),
                Column("Newest", f"1000 * {_process('newest_start_time_seconds')}", "dateTimeFromNow", width=140),
                Column("Starts", own_increase("taskqueue_process_starts_total", EXPORTER), "short", 0, width=80),
            ],
            size=(24, 7),
            sort="Memory",
            empty=NO_GROUPS,
        ),
        lines(
            "Members",
            Says(
                "Processes of each group that live.",
                "steady.",
                "Falls to 0: the service is down. Jumps up and down: it crashes and is started again.",
            ),
            "short",
            Query(_process("members"), GROUP),
            empty=NO_GROUPS,
        ),
        lines(
            "Starts",
            Says(
                "Processes of each group that started, per second. What started and ended between two scrapes is not "
                "seen.",
                "0, but for deployments and max_tasks_per_child.",
                "Steady starts: a crash loop; read the log of the service.",
            ),
            "ops",
            Query(own_rate("taskqueue_process_starts_total", EXPORTER), GROUP),
            empty=NO_GROUPS,
        ),
        lines(
            "CPU",
            Says(
                "CPUs that each group uses, in user mode and in the kernel.",
                "follows the jobs. A process of Python uses little more than one.",
                "At what the machine has: more hosts, or fewer processes. At 0 with a backlog: it hangs, or waits.",
            ),
            "none",
            Query(own_rate("taskqueue_process_cpu_seconds_total", EXPORTER), f"{GROUP} {{{{mode}}}}"),
            empty=NO_GROUPS,
        ),
        lines(
            "Memory",
            Says(
                "Resident memory of each group, added up: what its processes share counts once for each.",
                "rises after a start, then steady.",
                "Grows without end: a leak; worker_max_memory_per_child (Celery) renews processes that grow.",
            ),
            "bytes",
            Query(_process("resident_memory_bytes"), GROUP),
            empty=NO_GROUPS,
        ),
    ],
    closed=True,
)

ROWS: Final = (CONTAINER, PROCESSES)
