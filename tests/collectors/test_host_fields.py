"""Each number of the host is that of the field that its HELP names: all fields differ here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter import catalogue as c
from exporter.collectors import host
from tests.collectors.proc_files import NET_DEV, Machine
from tests.servers import series


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_each_number_is_that_of_its_field(machine: Machine) -> None:
    found = machine.look()

    assert machine.host.problems == []
    single = {
        c.HOST_BOOT_TIME: 1_700_000_000,
        c.HOST_CONTEXT_SWITCHES: 77,
        c.HOST_FORKS: 12,
        c.HOST_PROCS_RUNNING: 2,
        c.HOST_PROCS_BLOCKED: 1,
        c.HOST_LOAD1: 0.25,
        c.HOST_LOAD5: 1.5,
        c.HOST_LOAD15: 2,
        c.HOST_MAJOR_FAULTS: 4,
        c.HOST_SWAPPED_IN: 5,
        c.HOST_SWAPPED_OUT: 6,
        c.HOST_OOM_KILLS: 2,
        c.HOST_FD_ALLOCATED: 640,
        c.HOST_FD_MAXIMUM: 1_000_000,
        c.HOST_PRESSURE_CPU: 1.5,
        c.HOST_PRESSURE_MEMORY: 2.5,
        c.HOST_PRESSURE_MEMORY_ALL: 0.5,
        c.HOST_PRESSURE_IO: 3,
        c.HOST_PRESSURE_IO_ALL: 1,
    }
    assert {family.name: found[series(family.name)] for family in single} == {
        family.name: pytest.approx(value) for family, value in single.items()
    }


def test_each_part_of_memory_is_that_of_its_field_in_bytes(machine: Machine) -> None:
    found = machine.look()

    prefix = "taskqueue_host_memory_"
    memory = {name.removeprefix(prefix): value for (name, _), value in found.items() if name.startswith(prefix)}
    assert {name: value / 1024 for name, value in memory.items()} == {
        "total_bytes": 1000,
        "free_bytes": 100,
        "available_bytes": 400,
        "buffers_bytes": 5,
        "cached_bytes": 60,
        "swap_total_bytes": 300,
        "swap_free_bytes": 200,
        "dirty_bytes": 8,
        "writeback_bytes": 3,
        "shmem_bytes": 20,
        "sreclaimable_bytes": 11,
        "commit_limit_bytes": 800,
        "committed_as_bytes": 70,
    }


def fields_by_family() -> Iterator[tuple[c.Family, str]]:
    """What each row of the tables is made of, in the kernel's terms."""
    for field, family in (*host.STAT, *host.MEMORY, *host.VMSTAT):
        yield family, field
    for resource, line, family in host.PRESSURE:
        yield family, f"/proc/pressure/{resource}, {line}"
    for number, family in host.FILE_HANDLES:
        yield family, f"/proc/sys/fs/file-nr, field {number + 1}"
    for number, family, _ in host.DISK:
        yield family, f"/proc/diskstats, field {number + 1}"
    header = NET_DEV.splitlines()[1].split("|")
    columns = [
        f"{way} {name}"
        for way, names in zip(("Receive", "Transmit"), header[1:], strict=True)
        for name in names.split()
    ]
    for number, family, _ in host.NETWORK:
        yield family, f"/proc/net/dev, {columns[number]}"
    for minutes, family in zip(("1 minute", "5 minutes", "15 minutes"), host.LOAD, strict=True):
        yield family, minutes


@pytest.mark.parametrize(("family", "field"), [pytest.param(*row, id=row[0].name) for row in fields_by_family()])
def test_help_names_the_field_that_the_number_is_of(family: c.Family, field: str) -> None:
    assert re.search(rf"(?<!\w){re.escape(field)}(?!\w)", family.help)


def test_disks_in_base_units_by_the_columns_that_the_kernel_has(machine: Machine) -> None:
    found = machine.look()

    sda = {
        c.HOST_DISK_READS: 1,
        c.HOST_DISK_READ: 3 * 512,
        c.HOST_DISK_READ_TIME: 4,
        c.HOST_DISK_WRITES: 5,
        c.HOST_DISK_WRITTEN: 7 * 512,
        c.HOST_DISK_WRITE_TIME: 8,
        c.HOST_DISK_IO_NOW: 9,
        c.HOST_DISK_IO_TIME: 10,
        c.HOST_DISK_IO_WEIGHTED: 11,
        c.HOST_DISK_FLUSHES: 16,
        c.HOST_DISK_FLUSH_TIME: 17,
    }
    assert {family.name: found[series(family.name, device="sda")] for family in sda} == {
        family.name: value for family, value in sda.items()
    }
    assert series(c.HOST_DISK_IO_WEIGHTED.name, device="dm-0") in found
    assert series(c.HOST_DISK_FLUSHES.name, device="dm-0") not in found
    assert series(c.HOST_DISK_READS.name, device="sda1") not in found


def test_network_by_column(machine: Machine) -> None:
    found = machine.look()

    lo = {
        c.HOST_NET_RECEIVED: 1,
        c.HOST_NET_RECEIVED_PACKETS: 2,
        c.HOST_NET_RECEIVE_ERRORS: 3,
        c.HOST_NET_RECEIVE_DROPS: 4,
        c.HOST_NET_SENT: 5,
        c.HOST_NET_SENT_PACKETS: 6,
        c.HOST_NET_SEND_ERRORS: 7,
        c.HOST_NET_SEND_DROPS: 8,
    }
    assert {family.name: found[series(family.name, device="lo")] for family in lo} == {
        family.name: value for family, value in lo.items()
    }
    assert found[series(c.HOST_NET_RECEIVED.name, device="eth0")] == 123456789012345  # no space after the colon
