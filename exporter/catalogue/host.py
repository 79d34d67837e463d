"""The host: node_exporter's suffixes, units and labels, our prefix; field names of /proc in snake case."""

from __future__ import annotations

from typing import Final

from exporter.catalogue.family import Family

_PREFIX: Final = "taskqueue_host_"
_DEVICE: Final = ("device",)
_FILESYSTEM: Final = ("device", "mountpoint", "fstype")


def _gauge(suffix: str, text: str, labels: tuple[str, ...] = ()) -> Family:
    return Family(f"{_PREFIX}{suffix}", "gauge", text, labels)


def _counter(suffix: str, text: str, labels: tuple[str, ...] = ()) -> Family:
    return Family(f"{_PREFIX}{suffix}_total", "counter", text, labels)


HOST_CPU = _counter(
    "cpu_seconds",
    "Seconds that each CPU spent in each mode; guests are part of user and nice (/proc/stat, cpuN).",
    ("cpu", "mode"),
)
HOST_LOAD1 = _gauge("load1", "Load average over 1 minute (/proc/loadavg).")
HOST_LOAD5 = _gauge("load5", "Load average over 5 minutes (/proc/loadavg).")
HOST_LOAD15 = _gauge("load15", "Load average over 15 minutes (/proc/loadavg).")
HOST_BOOT_TIME = _gauge("boot_time_seconds", "When the host booted (/proc/stat, btime).")
HOST_CONTEXT_SWITCHES = _counter("context_switches", "Context switches of all CPUs (/proc/stat, ctxt).")
HOST_FORKS = _counter("forks", "Processes and threads that were begun (/proc/stat, processes).")
HOST_PROCS_RUNNING = _gauge("procs_running", "Threads that run or could run now (/proc/stat, procs_running).")
HOST_PROCS_BLOCKED = _gauge("procs_blocked", "Threads that wait for I/O (/proc/stat, procs_blocked).")
HOST_FD_ALLOCATED = _gauge("filefd_allocated", "File handles in use on the whole host (/proc/sys/fs/file-nr, field 1).")
HOST_FD_MAXIMUM = _gauge("filefd_maximum", "File handles that the host may have (/proc/sys/fs/file-nr, field 3).")

HOST_MEMORY_TOTAL = _gauge("memory_total_bytes", "Physical memory (MemTotal).")
HOST_MEMORY_FREE = _gauge("memory_free_bytes", "Memory that nothing uses, the cache neither (MemFree).")
HOST_MEMORY_AVAILABLE = _gauge(
    "memory_available_bytes", "Memory that can be had without swapping, by the kernel's estimate (MemAvailable)."
)
HOST_MEMORY_BUFFERS = _gauge("memory_buffers_bytes", "Cache of raw block devices (Buffers).")
HOST_MEMORY_CACHED = _gauge("memory_cached_bytes", "Cache of files, shared memory and tmpfs included (Cached).")
HOST_MEMORY_SRECLAIMABLE = _gauge(
    "memory_sreclaimable_bytes", "The kernel's own memory that it can give back, as that of dentries (SReclaimable)."
)
HOST_MEMORY_SHMEM = _gauge("memory_shmem_bytes", "Shared memory and tmpfs (Shmem).")
HOST_MEMORY_DIRTY = _gauge("memory_dirty_bytes", "Memory that waits to be written to disk (Dirty).")
HOST_MEMORY_WRITEBACK = _gauge("memory_writeback_bytes", "Memory that is being written to disk (Writeback).")
HOST_MEMORY_COMMITTED = _gauge(
    "memory_committed_as_bytes", "Memory that processes were promised, used or not (Committed_AS)."
)
HOST_MEMORY_COMMIT_LIMIT = _gauge(
    "memory_commit_limit_bytes", "What may be promised where vm.overcommit_memory is 2 (CommitLimit)."
)
HOST_SWAP_TOTAL = _gauge("memory_swap_total_bytes", "Swap space (SwapTotal).")
HOST_SWAP_FREE = _gauge("memory_swap_free_bytes", "Swap space not in use (SwapFree).")

HOST_OOM_KILLS = _counter("vmstat_oom_kill", "Processes killed as memory ran out (/proc/vmstat, oom_kill).")
HOST_SWAPPED_IN = _counter("vmstat_pswpin", "Pages read from swap (/proc/vmstat, pswpin).")
HOST_SWAPPED_OUT = _counter("vmstat_pswpout", "Pages written to swap (/proc/vmstat, pswpout).")
HOST_MAJOR_FAULTS = _counter(
    "vmstat_pgmajfault", "Page faults that had to wait for the disk (/proc/vmstat, pgmajfault)."
)

HOST_PRESSURE_CPU = _counter(
    "pressure_cpu_waiting_seconds", "Seconds in which some task waited for a CPU (/proc/pressure/cpu, some)."
)
HOST_PRESSURE_MEMORY = _counter(
    "pressure_memory_waiting_seconds", "Seconds in which some task waited for memory (/proc/pressure/memory, some)."
)
HOST_PRESSURE_MEMORY_ALL = _counter(
    "pressure_memory_stalled_seconds",
    "Seconds in which no task went on, as all waited for memory (/proc/pressure/memory, full).",
)
HOST_PRESSURE_IO = _counter(
    "pressure_io_waiting_seconds", "Seconds in which some task waited for I/O (/proc/pressure/io, some)."
)
HOST_PRESSURE_IO_ALL = _counter(
    "pressure_io_stalled_seconds",
    "Seconds in which no task went on, as all waited for I/O (/proc/pressure/io, full).",
)

HOST_DISK_READS = _counter("disk_reads_completed", "Reads completed (/proc/diskstats, field 1).", _DEVICE)
HOST_DISK_READ = _counter("disk_read_bytes", "Bytes read from the disk (/proc/diskstats, field 3).", _DEVICE)
HOST_DISK_READ_TIME = _counter(
    "disk_read_time_seconds", "Seconds that all reads took together (/proc/diskstats, field 4).", _DEVICE
)
HOST_DISK_WRITES = _counter("disk_writes_completed", "Writes completed (/proc/diskstats, field 5).", _DEVICE)
HOST_DISK_WRITTEN = _counter("disk_written_bytes", "Bytes written to the disk (/proc/diskstats, field 7).", _DEVICE)
HOST_DISK_WRITE_TIME = _counter(
    "disk_write_time_seconds", "Seconds that all writes took together (/proc/diskstats, field 8).", _DEVICE
)
HOST_DISK_IO_NOW = _gauge("disk_io_now", "Requests in progress (/proc/diskstats, field 9).", _DEVICE)
HOST_DISK_IO_TIME = _counter(
    "disk_io_time_seconds", "Seconds in which the disk had work (/proc/diskstats, field 10).", _DEVICE
)
HOST_DISK_IO_WEIGHTED = _counter(
    "disk_io_time_weighted_seconds",
    "Seconds with work, times the requests in progress (/proc/diskstats, field 11).",
    _DEVICE,
)
HOST_DISK_FLUSHES = _counter(
    "disk_flush_requests", "Flushes, as fsync makes them, completed (/proc/diskstats, field 16).", _DEVICE
)
HOST_DISK_FLUSH_TIME = _counter(
    "disk_flush_requests_time_seconds", "Seconds that all flushes took (/proc/diskstats, field 17).", _DEVICE
)

HOST_NET_RECEIVED = _counter("network_receive_bytes", "Bytes received (/proc/net/dev, Receive bytes).", _DEVICE)
HOST_NET_RECEIVED_PACKETS = _counter(
    "network_receive_packets", "Packets received (/proc/net/dev, Receive packets).", _DEVICE
)
HOST_NET_RECEIVE_ERRORS = _counter(
    "network_receive_errs", "Errors while receiving (/proc/net/dev, Receive errs).", _DEVICE
)
HOST_NET_RECEIVE_DROPS = _counter(
    "network_receive_drop", "Packets that came in and were dropped (/proc/net/dev, Receive drop).", _DEVICE
)
HOST_NET_SENT = _counter("network_transmit_bytes", "Bytes sent (/proc/net/dev, Transmit bytes).", _DEVICE)
HOST_NET_SENT_PACKETS = _counter("network_transmit_packets", "Packets sent (/proc/net/dev, Transmit packets).", _DEVICE)
HOST_NET_SEND_ERRORS = _counter(
    "network_transmit_errs", "Errors while sending (/proc/net/dev, Transmit errs).", _DEVICE
)
HOST_NET_SEND_DROPS = _counter(
    "network_transmit_drop", "Packets that were to go out and were dropped (/proc/net/dev, Transmit drop).", _DEVICE
)

HOST_FILESYSTEM_SIZE = _gauge(
    "filesystem_size_bytes", "Size of the file system (statvfs, f_blocks); 0 where it tells none.", _FILESYSTEM
)
HOST_FILESYSTEM_FREE = _gauge(
    "filesystem_free_bytes", "Bytes free to root, what is reserved included (statvfs, f_bfree).", _FILESYSTEM
)
HOST_FILESYSTEM_AVAIL = _gauge(
    "filesystem_avail_bytes", "Bytes free to users other than root (statvfs, f_bavail).", _FILESYSTEM
)
HOST_FILESYSTEM_FILES = _gauge(
    "filesystem_files", "Files that it can hold (statvfs, f_files); 0 where there is no such limit.", _FILESYSTEM
)
HOST_FILESYSTEM_FILES_FREE = _gauge(
    "filesystem_files_free", "Files that can still be made (statvfs, f_ffree).", _FILESYSTEM
)
HOST_FILESYSTEM_READONLY = _gauge(
    "filesystem_readonly",
    "1 if it is read-only as a whole, not in one mount of it (mountinfo, ro of the super block).",
    _FILESYSTEM,
)
HOST_FILESYSTEM_ERROR = _gauge(
    "filesystem_device_error",
    "1 if statvfs failed, or did not return in time; its sizes are absent then. Absent where it was not called.",
    _FILESYSTEM,
)
