"""Rows of *Host and exporter* about disks, the network and the kernel of the machine under each exporter."""

from __future__ import annotations

from typing import Final

from grafana.src.board import Row
from grafana.src.exporter.host import KIND, NO_HOST, host, host_rate, last
from grafana.src.exporter.trust import EXPORTER_KEYS, NAME
from grafana.src.limits import BAD, GOOD, UNKNOWN, WARNING, none
from grafana.src.panels import Query, Says, as_limit, lines, mapping, restyled
from grafana.src.promql import EXPORTER, kinds, own_rate
from grafana.src.tables import COLOURED_TEXT, GAUGE, Column, Key, rows

NO_FILES: Final = "No data: no exporter answers, or filesystem.enabled is off (as in a container unless it is set)"
DEVICE: Final = f"{NAME} {{{{device}}}}"
DEVICE_KIND: Final = f"{DEVICE} {{{{kind}}}}"
FREE: Final = f"{last('filesystem_avail_bytes')} / ({last('filesystem_size_bytes')} > 0)"
WRITABLE: Final = f"{last('filesystem_readonly')} == 0"
LATER: Final = (
    f"predict_linear({host('filesystem_avail_bytes')}[6h], scalar(taskqueue_target:disk_hours) * 3600)"
    f" and ({FREE} < 0.5 and {WRITABLE})"
)
"""As HostDiskFilling looks ahead."""
ROOM: Final = (
    f"2 + 0 * ({FREE} < scalar(taskqueue_target:disk_free_ratio) and {WRITABLE})"
    f" or 1 + 0 * (({LATER}) < 0)"
    f" or 0 * ({FREE} and {WRITABLE})"
    f" or 0 * {FREE} - 1"
)
ROOM_TEXTS: Final = mapping(
    {
        "0": ("enough", GOOD),
        "1": ("fills up", WARNING),
        "2": ("almost full", BAD),
        "-1": ("read-only", UNKNOWN),
    }
)
USED_FILES: Final = f"1 - {host('filesystem_files_free')} / ({host('filesystem_files')} > 0)"
REQUEST: Final = (
    f"(({host_rate('disk_read_time_seconds')} + {host_rate('disk_write_time_seconds')})"
    f" / ({host_rate('disk_reads_completed')} + {host_rate('disk_writes_completed')} > 0))"
)
FLUSH: Final = f"({host_rate('disk_flush_requests_time_seconds')} / ({host_rate('disk_flush_requests')} > 0))"

FILE_SYSTEMS: Final = rows(
    "File systems",
    Says(
        "Space of each file system, and whether it is enough, where it can be written: HostDiskFilling warns where "
        "less than half is free and none will be within 24 h (disk_hours in targets.yml) at the pace of the last 6 "
        "hours, for an hour; it is critical where less than 5 % is free. 'Expected' is what will be free then, where "
        "less than half is now. Files: how many of those that it can hold are there (inodes).",
        "enough space; files below 80 %.",
        "Find what grew: `du -xh --max-depth=2 MOUNTPOINT | sort -h | tail`; deleted files that are still open: "
        "`lsof +L1`. Does not answer: NFS or FUSE without its server.",
    ),
    (
        *EXPORTER_KEYS,
        Key("mountpoint", "Mounted at"),
        Key("device", "Device"),
        Key("fstype", "Type", width=80),
    ),
    [
        Column("Space", ROOM, "none", cell=COLOURED_TEXT, mappings=(ROOM_TEXTS,), width=100),
        Column("Size", host("filesystem_size_bytes"), "bytes", width=90),
        Column("Free", host("filesystem_avail_bytes"), "bytes", width=90),
        Column(
            "Used",
            f"1 - {FREE}",
            "percentunit",
            cell=GAUGE,
            thresholds=none(),
            least=0,
            most=1,
            decimals=0,
            width=130,
        ),
        Column("Expected", f"({LATER}) / ({last('filesystem_size_bytes')} > 0)", "percentunit", decimals=0, width=85),
        Column("Files", USED_FILES, "percentunit", decimals=0, width=70),
        Column("Answers", f"1 - {host('filesystem_device_error')}", "none", width=80),
    ],
    size=(24, 7),
    sort="Used",
    empty=NO_FILES,
)
restyled(
    FILE_SYSTEMS,
    "Answers",
    mappings=[mapping({"1": ("yes", "green"), "0": ("no", "orange")})],
    custom_cellOptions=COLOURED_TEXT,
)

ROWS: Final = (
    Row(
        "Disks and network",
        [
            FILE_SYSTEMS,
            as_limit(
                lines(
                    "Used space",
                    Says(
                        "Part of each file system that is in use (free to others than root is what is not), and above "
                        "what HostDiskFilling is critical. Read-only ones are left out.",
                        "rises slowly, or in teeth where something tidies up.",
                        "A sudden rise: what was deployed or backed up then? A slow one: logs, images.",
                    ),
                    "percentunit",
                    Query(f"1 - {FREE} and {WRITABLE}", f"{NAME} {{{{mountpoint}}}}"),
                    Query("max(1 - taskqueue_target:disk_free_ratio)", "critical"),
                    empty=NO_FILES,
                ),
                "critical",
            ),
            lines(
                "Disk traffic",
                Says(
                    "Bytes read from and written to each disk per second; also by the exporter's own container alone, "
                    "where cgroup.enabled is on and its disks are counted.",
                    "bursts when Redis saves or something is deployed.",
                    "Steady writing: logs, an append-only file, swap. Steady reading: memory is short, files are read "
                    "again and again.",
                ),
                "Bps",
                Query(
                    kinds(
                        {
                            "read": host_rate("disk_read_bytes"),
                            "written": host_rate("disk_written_bytes"),
                            "read by the container": own_rate("taskqueue_cgroup_fs_reads_bytes_total", EXPORTER),
                            "written by the container": own_rate("taskqueue_cgroup_fs_writes_bytes_total", EXPORTER),
                        }
                    ),
                    DEVICE_KIND,
                ),
                empty=NO_HOST,
            ),
            lines(
                "Disks at work",
                Says(
                    "Share of the time in which a disk had any request to work on.",
                    "below 50 %. SSDs and arrays do many at once: 100 % need not be all they can do.",
                    "Near 100 % and slow requests: the disk is the brake. Which process: `pidstat -d 1`.",
                ),
                "percentunit",
                Query(host_rate("disk_io_time_seconds"), DEVICE),
                empty=NO_HOST,
            ),
            lines(
                "Time of a request",
                Says(
                    "How long a read or write, its wait included, and a flush, as fsync makes it, took on average; "
                    "none where there were none. Redis waits for flushes with appendfsync always, at times with "
                    "everysec.",
                    "below 1 ms on SSDs, below 20 ms on disks that turn; flushes below 10 ms.",
                    "Slow with little traffic: the disk or its network fails, or the provider throttles it. Slow "
                    "flushes: give the files of Redis a faster disk.",
                ),
                "s",
                Query(kinds({"read or write": REQUEST, "flush": FLUSH}), DEVICE_KIND),
                empty="No data: no exporter answers, host.enabled is off, or no disk was used",
            ),
            lines(
                "Network traffic",
                Says(
                    "Bytes received and sent per second by each interface of the exporter's network namespace.",
                    "follows the number of jobs.",
                    "Near what the interface can do: large arguments or results of jobs, or something else on it.",
                ),
                "Bps",
                Query(
                    kinds({"in": host_rate("network_receive_bytes"), "out": host_rate("network_transmit_bytes")}),
                    DEVICE_KIND,
                ),
                empty=NO_HOST,
            ),
            lines(
                "Network errors and drops",
                Says(
                    "Packets per second that came in or went out with an error, or were dropped.",
                    "0, or a few drops.",
                    "Errors: cable, driver, or MTU. Drops: too much for a queue or a CPU. Connections to Redis become "
                    "slow, or break.",
                ),
                "ops",
                Query(
                    kinds(
                        {
                            "in, errors": host_rate("network_receive_errs"),
                            "in, dropped": host_rate("network_receive_drop"),
                            "out, errors": host_rate("network_transmit_errs"),
                            "out, dropped": host_rate("network_transmit_drop"),
                        }
                    ),
                    DEVICE_KIND,
                ),
                empty=NO_HOST,
            ),
        ],
    ),
    Row(
        "Kernel",
        [
            lines(
                "Runnable and blocked threads",
                Says(
                    "Threads that run or could run, and threads that wait for I/O.",
                    "about as many runnable as there are CPUs; few that are blocked.",
                    "Many runnable: too much for the CPUs. Many blocked: a disk or a network file system hangs.",
                ),
                "short",
                Query(kinds({"runnable": host("procs_running"), "blocked": host("procs_blocked")}), KIND),
                empty=NO_HOST,
            ),
            lines(
                "Promised memory",
                Says(
                    "Memory that processes were promised, used or not, and what may be promised where "
                    "vm.overcommit_memory is 2.",
                    "of no matter where vm.overcommit_memory is 0 or 1.",
                    "At the limit where it is 2: Redis cannot fork to save, processes cannot start.",
                ),
                "bytes",
                Query(
                    kinds({"promised": host("memory_committed_as_bytes"), "limit": host("memory_commit_limit_bytes")}),
                    KIND,
                ),
                empty=NO_HOST,
            ),
            lines(
                "Memory for files, and shared",
                Says(
                    "Memory that nothing uses, that waits to be written or is being written, that processes share "
                    "(tmpfs, too), and the kernel's own that it can give back.",
                    "little that waits to be written.",
                    "Much that waits: the disk is slower than what is written. Shared that grows: files in /dev/shm or "
                    "/tmp.",
                ),
                "bytes",
                Query(
                    kinds(
                        {
                            "free": host("memory_free_bytes"),
                            "to be written": host("memory_dirty_bytes"),
                            "being written": host("memory_writeback_bytes"),
                            "shared": host("memory_shmem_bytes"),
                            "reclaimable": host("memory_sreclaimable_bytes"),
                        }
                    ),
                    KIND,
                ),
                empty=NO_HOST,
            ),
            lines(
                "Context switches and forks",
                Says(
                    "Context switches, and processes and threads that were begun, per second.",
                    "steady for the same work.",
                    "Many forks: something starts again and again; see the starts of Processes.",
                ),
                "ops",
                Query(kinds({"switches": host_rate("context_switches"), "forks": host_rate("forks")}), KIND),
                empty=NO_HOST,
            ),
            lines(
                "File handles",
                Says(
                    "File handles in use on the whole host, as a share of those that it may have.",
                    "a few percent.",
                    "Near 100 % nothing can be opened any more: find who holds them (`lsof`), or raise fs.file-max.",
                ),
                "percentunit",
                Query(f"{host('filefd_allocated')} / ({host('filefd_maximum')} > 0)", NAME),
                empty=NO_HOST,
            ),
            lines(
                "Packets",
                Says(
                    "Packets received and sent per second by each interface.",
                    "follows the traffic.",
                    "Many small ones cost CPU (softirq under CPU by mode): commands that could go together.",
                ),
                "ops",
                Query(
                    kinds({"in": host_rate("network_receive_packets"), "out": host_rate("network_transmit_packets")}),
                    DEVICE_KIND,
                ),
                empty=NO_HOST,
            ),
        ],
        closed=True,
    ),
)
