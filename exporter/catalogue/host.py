"""The host: node_exporter's units and labels, our prefix."""

from __future__ import annotations

from typing import Final

from exporter.catalogue.family import Family

HOST_CPU = Family(
    "taskqueue_host_cpu_seconds_total", "counter", "Seconds that each CPU spent in each mode.", ("cpu", "mode")
)
HOST_LOAD1 = Family("taskqueue_host_load1", "gauge", "Load average over 1 minute.")
HOST_LOAD5 = Family("taskqueue_host_load5", "gauge", "Load average over 5 minutes.")
HOST_LOAD15 = Family("taskqueue_host_load15", "gauge", "Load average over 15 minutes.")
HOST_BOOT_TIME = Family("taskqueue_host_boot_time_seconds", "gauge", "When the host booted.")
HOST_MEMORY_TOTAL = Family("taskqueue_host_memory_total_bytes", "gauge", "Physical memory.")
HOST_MEMORY_AVAILABLE = Family(
    "taskqueue_host_memory_available_bytes", "gauge", "Memory that can be had without swapping (MemAvailable)."
)
HOST_SWAP_TOTAL = Family("taskqueue_host_memory_swap_total_bytes", "gauge", "Swap space.")
HOST_SWAP_FREE = Family("taskqueue_host_memory_swap_free_bytes", "gauge", "Swap space not in use.")

_DEVICE: Final = ("device",)
HOST_DISK_READ = Family("taskqueue_host_disk_read_bytes_total", "counter", "Bytes read from the disk.", _DEVICE)
HOST_DISK_WRITTEN = Family("taskqueue_host_disk_written_bytes_total", "counter", "Bytes written to the disk.", _DEVICE)
HOST_DISK_READS = Family("taskqueue_host_disk_reads_completed_total", "counter", "Reads completed.", _DEVICE)
HOST_DISK_WRITES = Family("taskqueue_host_disk_writes_completed_total", "counter", "Writes completed.", _DEVICE)
HOST_DISK_IO_TIME = Family(
    "taskqueue_host_disk_io_time_seconds_total", "counter", "Seconds in which the disk had work.", _DEVICE
)
HOST_NET_RECEIVED = Family("taskqueue_host_network_receive_bytes_total", "counter", "Bytes received.", _DEVICE)
HOST_NET_SENT = Family("taskqueue_host_network_transmit_bytes_total", "counter", "Bytes sent.", _DEVICE)
HOST_NET_RECEIVE_ERRORS = Family(
    "taskqueue_host_network_receive_errs_total", "counter", "Errors while receiving.", _DEVICE
)
HOST_NET_SEND_ERRORS = Family("taskqueue_host_network_transmit_errs_total", "counter", "Errors while sending.", _DEVICE)

_FILESYSTEM: Final = ("device", "mountpoint", "fstype")
HOST_FILESYSTEM_SIZE = Family("taskqueue_host_filesystem_size_bytes", "gauge", "Size of the file system.", _FILESYSTEM)
HOST_FILESYSTEM_AVAIL = Family(
    "taskqueue_host_filesystem_avail_bytes", "gauge", "Bytes free to users other than root.", _FILESYSTEM
)
