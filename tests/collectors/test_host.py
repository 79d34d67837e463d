"""The host's numbers against /proc, in node_exporter's labels."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from exporter import catalogue as c
from exporter.collectors.host import Host
from exporter.sources import checked
from tests.servers import Series, series

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
KIB = 1024


def collected() -> dict[Series, float]:
    host = Host()
    return {
        series(sample.name, **sample.labels): sample.value
        for family in checked(host.collect(), host.families)
        for sample in family.samples
    }


def proc(name: str) -> list[list[str]]:
    return [line.split() for line in Path("/proc", name).read_text().splitlines()]


def meminfo() -> dict[str, int]:
    return {row[0].rstrip(":"): int(row[1]) * KIB for row in proc("meminfo")}


def by_label(found: Mapping[Series, float], family: c.Family, label: str) -> dict[str, float]:
    return {dict(labels)[label]: value for (name, labels), value in found.items() if name == family.name}


def test_every_family_is_there() -> None:
    present = {name for name, _ in collected()}
    devices = {family.name for family in Host.families if family.labels == ("device",)}

    assert {family.name for family in Host.families} - devices <= present


def test_memory() -> None:
    found, real = collected(), meminfo()

    assert found[series(c.HOST_MEMORY_TOTAL.name)] == real["MemTotal"]
    assert found[series(c.HOST_MEMORY_AVAILABLE.name)] == pytest.approx(real["MemAvailable"], rel=0.3)
    assert found[series(c.HOST_SWAP_TOTAL.name)] == real["SwapTotal"]
    assert found[series(c.HOST_SWAP_FREE.name)] == pytest.approx(real["SwapFree"], rel=0.3, abs=64 * KIB * KIB)


def test_load_and_boot() -> None:
    found, load = collected(), [float(text) for text in proc("loadavg")[0][:3]]
    boot = next(int(row[1]) for row in proc("stat") if row[0] == "btime")

    for family, value in zip((c.HOST_LOAD1, c.HOST_LOAD5, c.HOST_LOAD15), load, strict=True):
        assert found[series(family.name)] == pytest.approx(value, abs=2)
    assert found[series(c.HOST_BOOT_TIME.name)] == pytest.approx(boot, abs=2)
    assert found[series(c.HOST_BOOT_TIME.name)] < time.time()


def test_cpu_seconds_grow_between_two_looks_at_proc() -> None:
    modes = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")  # proc_stat(5), in its order

    def look() -> dict[tuple[str, str], float]:
        rows = [row for row in proc("stat") if row[0].startswith("cpu") and row[0] != "cpu"]
        return {(row[0][3:], mode): int(row[i + 1]) / 100 for row in rows for i, mode in enumerate(modes)}

    before, found, after = look(), collected(), look()

    ours = {
        (dict(labels)["cpu"], dict(labels)["mode"]): value
        for (name, labels), value in found.items()
        if name == c.HOST_CPU.name
    }
    assert ours.keys() == before.keys()
    for key, value in ours.items():
        # The kernel may take some iowait and idle back (proc_stat(5)).
        slack = 1 if key[1] in {"idle", "iowait"} else 0.02
        assert before[key] - slack <= value <= after[key] + slack, key


def test_network_counts_every_interface() -> None:
    def look() -> dict[str, tuple[int, int]]:
        rows = [line.split(":") for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
        return {name.strip(): (int(text.split()[0]), int(text.split()[8])) for name, text in rows}

    before, found, after = look(), collected(), look()

    received, sent = by_label(found, c.HOST_NET_RECEIVED, "device"), by_label(found, c.HOST_NET_SENT, "device")
    assert received.keys() == sent.keys() == before.keys()
    for device in before:
        assert before[device][0] <= received[device] <= after[device][0]
        assert before[device][1] <= sent[device] <= after[device][1]


def test_disks_are_those_of_proc_without_partitions() -> None:
    found = collected()

    disks = by_label(found, c.HOST_DISK_READS, "device")
    assert disks.keys() <= {row[2] for row in proc("diskstats")}
    assert not [disk for disk in disks if disk.startswith(("loop", "ram", "zram"))]
    for family in (c.HOST_DISK_READ, c.HOST_DISK_WRITTEN, c.HOST_DISK_WRITES, c.HOST_DISK_IO_TIME):
        assert by_label(found, family, "device").keys() == disks.keys()


def test_what_holds_a_disks_bytes_twice_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = SimpleNamespace(read_bytes=1, write_bytes=2, read_count=3, write_count=4, busy_time=5000)
    names = ["sda", "sda1", "vdb12", "nvme0n1", "nvme0n1p2", "loop0", "ram1", "zram0", "dm-0", "md0", "mmcblk0", "sr0"]
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk: dict.fromkeys(names, counters))

    found = collected()

    times = by_label(found, c.HOST_DISK_IO_TIME, "device")
    assert times == dict.fromkeys(["sda", "nvme0n1", "dm-0", "md0", "mmcblk0", "sr0"], 5.0)


@pytest.mark.parametrize("nothing", [None, {}])
def test_a_host_without_disks_and_network(nothing: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk: nothing)
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: nothing)

    assert series(c.HOST_LOAD1.name) in collected()
