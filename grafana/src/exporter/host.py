"""Rows of *Host and exporter* about the machine under each exporter."""

from __future__ import annotations

from typing import Final

from grafana.src.board import Row
from grafana.src.exporter.trust import NAME
from grafana.src.limits import above, over
from grafana.src.panels import Query, Says, bars, lines, number
from grafana.src.promql import EXPORTER, kinds, of, own_increase, own_rate

NO_HOST: Final = "No data: no exporter answers, or host.enabled is off (as in a container unless it is set)"
NO_PRESSURE: Final = (
    "Not known: no exporter answers, host.enabled is off, or the kernel tells no pressure (before 4.20, or psi=0)"
)
KIND: Final = f"{NAME} {{{{kind}}}}"


def host(suffix: str) -> str:
    return of(f"taskqueue_host_{suffix}", EXPORTER)


def last(suffix: str) -> str:
    """A scrape that failed is bridged, as alerts do."""
    return f"last_over_time({host(suffix)}[2m])"


def host_rate(suffix: str, *matchers: str) -> str:
    return own_rate(f"taskqueue_host_{suffix}_total", EXPORTER, *matchers)


IDLE: Final = 'mode="idle"'
BUSY: Final = 'mode!="idle"'
CPUS: Final = f"count without (cpu, mode) ({host_rate('cpu_seconds', IDLE)})"
AVAILABLE: Final = f"{last('memory_available_bytes')} / ({last('memory_total_bytes')} > 0)"
IN_USE: Final = f"({host('memory_total_bytes')} - {host('memory_available_bytes')})"
STALLED: Final = f"rate({host('pressure_memory_stalled_seconds_total')}[5m])"
SHORTAGE: Final = kinds(
    {
        "stalled": f"{STALLED} / on () group_left () max(taskqueue_target:memory_stalled_ratio > 0)",
        "available": f"scalar(taskqueue_target:memory_available_ratio) / ({AVAILABLE} > 0)",
    }
)
"""Both parts of HostMemoryPressure, each as a share of its target; kernels without pressure have the second alone."""

ROW: Final = Row(
    "Host",
    [
        number(
            "Booted",
            Says(
                "When each host booted.",
                "as long ago as you remember.",
                "A moment ago though nobody restarted it: the console log, or the provider's events.",
            ),
            "dateTimeFromNow",
            Query(f"1000 * {host('boot_time_seconds')}", NAME),
            size=(6, 5),
            empty=NO_HOST,
        ),
        number(
            "Killed for want of memory",
            Says(
                "Processes that the kernel killed on each host as memory ran out, in the time shown.",
                "0.",
                "`journalctl -k | grep -i 'out of memory'` names them. A worker: what it ran is run again, or lost. "
                "Redis: it has lost what it had not saved.",
            ),
            "short",
            Query(own_increase("taskqueue_host_vmstat_oom_kill_total", EXPORTER), NAME),
            thresholds=over(warning=1),
            size=(6, 5),
            empty="No data: no exporter answers, host.enabled is off, or the kernel is older than 4.13",
        ),
        bars(
            "Memory shortage, of the limit",
            Says(
                "How near each host is to HostMemoryPressure, which warns above 100 %. stalled: share of the time in "
                "which nothing went on for want of memory, of the target (10 %). available: the least share of memory "
                "that must be available (5 %), of what is. Kernels without pressure have the second alone.",
                "below 50 %.",
                "Find what grows: Processes below, or `ps -eo pid,rss,args --sort=-rss | head`. The runbook of "
                "HostMemoryPressure has the rest.",
            ),
            "percentunit",
            Query(SHORTAGE, KIND),
            thresholds=above(warning=1),
            size=(12, 5),
            empty=NO_HOST,
        ),
        lines(
            "CPU by mode",
            Says(
                "Share of the time of all CPUs of a host, by what they did; idle is left out. iowait: idle while "
                "something waited for a disk. steal: taken by other virtual machines.",
                "well below 100 % in sum, steal near 0.",
                "user: which process? system: much I/O or many processes. steal: the provider's machine is full.",
            ),
            "percentunit",
            Query(f"avg without (cpu) ({host_rate('cpu_seconds', BUSY)})", f"{NAME} {{{{mode}}}}"),
            empty=NO_HOST,
        ),
        lines(
            "Load by CPU",
            Says(
                "Load averages (tasks that run, wait for a CPU or for a disk), divided by the number of CPUs.",
                "below 1.",
                "Above 1 with idle CPUs: tasks wait for a disk, see Pressure. Else too many workers for this host.",
            ),
            "none",
            Query(f"{host('load1')} / ({CPUS} > 0)", f"{NAME} 1 min"),
            Query(f"{host('load5')} / ({CPUS} > 0)", f"{NAME} 5 min"),
            Query(f"{host('load15')} / ({CPUS} > 0)", f"{NAME} 15 min"),
            empty=NO_HOST,
        ),
        lines(
            "Pressure",
            Says(
                "Share of the time in which some task waited for a CPU, memory or I/O, or all did (all ...: nothing "
                "went on).",
                "a few percent; memory 0.",
                "CPU: too many workers. Memory: something grows. I/O: a slow or busy disk, which Redis feels when it "
                "saves.",
            ),
            "percentunit",
            Query(
                kinds(
                    {
                        "CPU": host_rate("pressure_cpu_waiting_seconds"),
                        "memory": host_rate("pressure_memory_waiting_seconds"),
                        "all memory": host_rate("pressure_memory_stalled_seconds"),
                        "I/O": host_rate("pressure_io_waiting_seconds"),
                        "all I/O": host_rate("pressure_io_stalled_seconds"),
                    }
                ),
                KIND,
            ),
            empty=NO_PRESSURE,
        ),
        lines(
            "Memory",
            Says(
                "Memory of each host: in total, in use (what cannot be had without swapping), and of files that are "
                "cached, which can mostly be had.",
                "in use well below the total. HostMemoryPressure warns where less than 5 % is available.",
                "Find what grows. Celery: worker_max_memory_per_child; ARQ: lower max_jobs; Redis: set maxmemory.",
            ),
            "bytes",
            Query(
                kinds(
                    {
                        "total": host("memory_total_bytes"),
                        "in use": IN_USE,
                        "cached": f"({host('memory_cached_bytes')} + {host('memory_buffers_bytes')})",
                    }
                ),
                KIND,
            ),
            empty=NO_HOST,
        ),
        lines(
            "Swap space in use",
            Says(
                "Swap space that is in use; 0 also where there is none.",
                "little, and steady.",
                "Grows: memory is short. Redis and workers become slow once they are swapped out.",
            ),
            "bytes",
            Query(f"{host('memory_swap_total_bytes')} - {host('memory_swap_free_bytes')}", NAME),
            empty=NO_HOST,
        ),
        lines(
            "Swapping",
            Says(
                "Pages read from and written to swap per second, and page faults that had to wait for the disk.",
                "near 0; faults when something starts.",
                "Steady swapping in means that what runs does not fit into memory: take something away.",
            ),
            "ops",
            Query(
                kinds(
                    {
                        "in": host_rate("vmstat_pswpin"),
                        "out": host_rate("vmstat_pswpout"),
                        "faults": host_rate("vmstat_pgmajfault"),
                    }
                ),
                KIND,
            ),
            empty=NO_HOST,
        ),
    ],
)
