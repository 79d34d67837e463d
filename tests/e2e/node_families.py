"""How ours and prometheus-node-exporter's families belong together. `docs/host.md` has the same tables."""

from __future__ import annotations

from typing import Final

OURS: Final = "taskqueue_host_"
THEIRS: Final = "node_"

COLLECTORS: Final = (
    "cpu", "diskstats", "filefd", "filesystem", "loadavg", "meminfo", "netdev", "pressure", "stat", "vmstat",
)  # fmt: skip
"""Its collectors that `host` and `filesystem` answer to."""

RENAMED: Final[dict[str, str]] = {
    "memory_total_bytes": "memory_MemTotal_bytes",
    "memory_free_bytes": "memory_MemFree_bytes",
    "memory_available_bytes": "memory_MemAvailable_bytes",
    "memory_buffers_bytes": "memory_Buffers_bytes",
    "memory_cached_bytes": "memory_Cached_bytes",
    "memory_sreclaimable_bytes": "memory_SReclaimable_bytes",
    "memory_shmem_bytes": "memory_Shmem_bytes",
    "memory_dirty_bytes": "memory_Dirty_bytes",
    "memory_writeback_bytes": "memory_Writeback_bytes",
    "memory_committed_as_bytes": "memory_Committed_AS_bytes",
    "memory_commit_limit_bytes": "memory_CommitLimit_bytes",
    "memory_swap_total_bytes": "memory_SwapTotal_bytes",
    "memory_swap_free_bytes": "memory_SwapFree_bytes",
    "vmstat_oom_kill_total": "vmstat_oom_kill",
    "vmstat_pswpin_total": "vmstat_pswpin",
    "vmstat_pswpout_total": "vmstat_pswpout",
    "vmstat_pgmajfault_total": "vmstat_pgmajfault",
}
"""Our suffix and its: fields in snake case, counters that end in `_total`. All others are the same."""

LEFT_OUT: Final[dict[str, str]] = {
    "cpu_guest_seconds_total": "part of the modes user and nice already",
    "disk_discard*": "housekeeping of SSDs",
    "disk_info": "what a disk is, not how it does",
    "disk_*_merged_total": "how the kernel groups requests",
    "intr_total": "interrupts; the time they take is in the modes irq and softirq",
    "memory_*": "the other fields of /proc/meminfo: how the kernel divides what it uses",
    "network_receive_compressed_total": "modems",
    "network_transmit_compressed_total": "modems",
    "network_receive_fifo_total": "part of what errs and drop show",
    "network_transmit_fifo_total": "part of what errs and drop show",
    "network_receive_frame_total": "part of errs",
    "network_transmit_carrier_total": "part of errs",
    "network_transmit_colls_total": "half duplex",
    "network_receive_multicast_total": "part of the packets",
    "network_receive_nohandler_total": "packets of protocols that nobody speaks",
    "vmstat_pg*": "paging that costs no waiting; pgmajfault is there",
}
"""Families of these collectors that we leave out (its suffix, a pattern), and why."""

ON_SOME_MACHINES: Final[dict[str, str]] = {
    "cpu_*throttles_total": "heat; bare metal only",
    "cpu_isolated": "how CPUs are assigned",
    "disk_ata_*": "what a disk is, not how it does",
    "disk_device_mapper_info": "what a disk is, not how it does",
    "disk_filesystem_info": "what a disk is, not how it does",
}
"""The same, for families that depend on the hardware or its version."""

COLLECTORS_LEFT_OUT: Final[dict[str, str]] = {
    "arp": "network neighbours",
    "bcache": "one kind of storage",
    "bonding": "network hardware",
    "btrfs": "one kind of storage; its space is in filesystem",
    "conntrack": "a firewall's",
    "cpufreq": "hardware",
    "dmi": "hardware",
    "edac": "hardware",
    "entropy": "kernels since 5.18 always say 256",
    "fibrechannel": "hardware",
    "hwmon": "hardware",
    "infiniband": "hardware",
    "ipvs": "a load balancer's",
    "mdadm": "one kind of storage",
    "netclass": "what an interface is, not how it does",
    "netstat": "protocols; a queue's connections are in taskqueue_redis_*",
    "nfs": "calls of one kind of storage; a mount that hangs is told by filesystem",
    "nfsd": "a file server's",
    "nvme": "hardware",
    "os": "what the host is, not how it does",
    "powersupplyclass": "hardware",
    "rapl": "hardware",
    "schedstat": "pressure tells that CPUs are waited for",
    "selinux": "what the host is, not how it does",
    "sockstat": "protocols",
    "softnet": "drops are in network_*_drop_total",
    "systemd": "units are watched by the collector processes",
    "tapestats": "hardware",
    "textfile": "other programs' metrics",
    "thermal_zone": "hardware",
    "time": "Prometheus knows what time it is",
    "timex": "the clock's discipline needs node_exporter beside us",
    "udp_queues": "queues do not speak UDP",
    "uname": "what the host is, not how it does",
    "xfs": "one kind of storage; its space is in filesystem",
    "zfs": "one kind of storage; its space is in filesystem",
}
"""Its collectors (those on by default) that we have no like of, and why."""

TOLERANCES: Final[dict[str, float]] = {
    "load1": 2,
    "load5": 1,
    "load15": 1,
    "boot_time_seconds": 1,  # the kernel rounds it anew at each look
    "filefd_allocated": 5_000,
    "filesystem_files_free": 20_000,
    "filesystem_free_bytes": 512 << 20,
    "filesystem_avail_bytes": 512 << 20,
    **{name: 512 << 20 for name in RENAMED if name.startswith("memory_") and "total" not in name},
}
"""How far a gauge may lie outside two looks at theirs that were taken around ours, as others use the machine, too."""

MOMENTARY: Final = frozenset({"procs_running", "procs_blocked", "disk_io_now"})
"""Gauges that say nothing of the next moment."""
