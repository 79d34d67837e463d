"""Groups of processes on this machine: workers, an API. The fields are those of proc_pid_stat(5)."""

from __future__ import annotations

from typing import Final

from exporter.catalogue.family import Family

_GROUP: Final = ("group",)
PROCESS_MEMBERS = Family(
    "taskqueue_process_members", "gauge", "Processes of the group that live; zombies are none.", _GROUP
)
PROCESS_CPU = Family(
    "taskqueue_process_cpu_seconds_total",
    "counter",
    "CPU seconds of the group's processes (utime, stime), those that have ended included; what one used between the "
    "last look and its end is lost.",
    (*_GROUP, "mode"),
)
PROCESS_RESIDENT = Family(
    "taskqueue_process_resident_memory_bytes",
    "gauge",
    "Resident memory of the group's processes (rss), added up: what they share counts once for each.",
    _GROUP,
)
PROCESS_VIRTUAL = Family(
    "taskqueue_process_virtual_memory_bytes",
    "gauge",
    "Virtual memory of the group's processes (vsize), added up.",
    _GROUP,
)
PROCESS_THREADS = Family(
    "taskqueue_process_threads", "gauge", "Threads of the group's processes (num_threads).", _GROUP
)
PROCESS_FDS = Family(
    "taskqueue_process_open_fds",
    "gauge",
    "File descriptors that the group's processes have open; absent while those of one cannot be counted.",
    _GROUP,
)
PROCESS_FD_RATIO = Family(
    "taskqueue_process_worst_fd_ratio",
    "gauge",
    "Open file descriptors by the soft limit (Max open files), of the process of the group that is nearest to it.",
    _GROUP,
)
PROCESS_OLDEST = Family(
    "taskqueue_process_oldest_start_time_seconds",
    "gauge",
    "When the oldest process of the group started (starttime); absent if none lives.",
    _GROUP,
)
PROCESS_NEWEST = Family(
    "taskqueue_process_newest_start_time_seconds",
    "gauge",
    "When the newest process of the group started (starttime); absent if none lives.",
    _GROUP,
)
PROCESS_STARTS = Family(
    "taskqueue_process_starts_total",
    "counter",
    "Processes of the group that started after the first look at it; one that ended before the next look is not seen.",
    _GROUP,
)
