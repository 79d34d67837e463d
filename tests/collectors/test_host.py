"""The host's numbers against /proc, in node_exporter's labels."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.collectors import host_psutil
from exporter.collectors.host import MEMORY, Host, HostOptions
from exporter.sources import checked
from tests.servers import Series, series

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
KIB = 1024


def collected(host: Host | None = None) -> dict[Series, float]:
    host = host or Host()
    return samples(checked(host.collect(), host.families))


def samples(families: Iterable[Metric]) -> dict[Series, float]:
    return {series(sample.name, **sample.labels): sample.value for family in families for sample in family.samples}


def proc(name: str) -> list[list[str]]:
    return [line.split() for line in Path("/proc", name).read_text().splitlines()]


def meminfo() -> dict[str, int]:
    return {row[0].rstrip(":"): int(row[1]) * KIB for row in proc("meminfo")}


def by_label(found: Mapping[Series, float], family: c.Family, label: str) -> dict[str, float]:
    return {dict(labels)[label]: value for (name, labels), value in found.items() if name == family.name}


def test_every_family_is_there() -> None:
    present = {name for name, _ in collected()}
    devices = {family.name for family in Host.families if family.labels == ("device",)}
    pressure = {family.name for family in Host.families if "_pressure_" in family.name}
    expected = {family.name for family in Host.families} - devices

    assert expected - (set() if Path("/proc/pressure").exists() else pressure) <= present


def test_memory_is_that_of_meminfo() -> None:
    found, real = collected(), meminfo()

    for field, family in MEMORY:
        assert found[series(family.name)] == pytest.approx(real[field], rel=0.3, abs=256 * KIB * KIB), field
    assert found[series(c.HOST_MEMORY_TOTAL.name)] == real["MemTotal"]


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


def test_no_interface_is_left_out_unless_asked() -> None:
    names = by_label(collected(), c.HOST_NET_RECEIVED, "device").keys()

    others = by_label(collected(Host(HostOptions(network_exclude="^lo$"))), c.HOST_NET_RECEIVED, "device").keys()

    assert "lo" in names
    assert others == names - {"lo"}


# -- elsewhere than on Linux: what psutil gives, which works here, too --------------------------------------------


def nothing_is_left_out(name: str) -> bool:
    return False


def test_psutil_gives_the_same_where_it_gives_a_family() -> None:
    found = samples(checked(host_psutil.families(nothing_is_left_out, nothing_is_left_out), Host.families))

    ours = collected(Host(HostOptions(disk_exclude="")))
    assert found.keys() <= ours.keys()
    assert {name for name, _ in found} >= {c.HOST_CPU.name, c.HOST_LOAD1.name, c.HOST_NET_SEND_DROPS.name}
    for family in (c.HOST_MEMORY_TOTAL, c.HOST_SWAP_TOTAL, c.HOST_BOOT_TIME):
        assert found[series(family.name)] == ours[series(family.name)]
    cpu = series(c.HOST_CPU.name, cpu="0", mode="idle")
    assert found[cpu] == pytest.approx(ours[cpu], rel=0.01)


def test_each_number_of_psutil_is_that_of_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = ("read_bytes", "write_bytes", "read_count", "write_count", "read_time", "write_time", "busy_time")
    disk = dict(zip(fields, (1, 2, 3, 4, 5000, 6000, 7000), strict=True))
    names = ("bytes_recv", "packets_recv", "errin", "dropin", "bytes_sent", "packets_sent", "errout", "dropout")
    network = dict(zip(names, range(1, 9), strict=True))
    memory, swap = {"total": 9, "free": 8, "available": 7, "used": 6}, {"total": 5, "free": 4, "used": 3}
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(**memory))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(**swap))
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk: {"d": SimpleNamespace(**disk)})
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: {"n": SimpleNamespace(**network)})

    found = samples(host_psutil.families(nothing_is_left_out, nothing_is_left_out))

    wanted = ("memory_", "disk_", "network_")
    shown = {name.removeprefix("taskqueue_host_"): value for (name, _), value in found.items()}
    assert {name: value for name, value in shown.items() if name.startswith(wanted)} == {
        "memory_total_bytes": 9,
        "memory_free_bytes": 8,
        "memory_available_bytes": 7,
        "memory_swap_total_bytes": 5,
        "memory_swap_free_bytes": 4,
        "disk_read_bytes_total": 1,
        "disk_written_bytes_total": 2,
        "disk_reads_completed_total": 3,
        "disk_writes_completed_total": 4,
        "disk_read_time_seconds_total": 5,
        "disk_write_time_seconds_total": 6,
        "disk_io_time_seconds_total": 7,
        "network_receive_bytes_total": 1,
        "network_receive_packets_total": 2,
        "network_receive_errs_total": 3,
        "network_receive_drop_total": 4,
        "network_transmit_bytes_total": 5,
        "network_transmit_packets_total": 6,
        "network_transmit_errs_total": 7,
        "network_transmit_drop_total": 8,
    }


def test_devices_of_psutil_can_be_left_out() -> None:
    found = samples(host_psutil.families(lambda name: True, lambda name: name == "lo"))

    assert not by_label(found, c.HOST_DISK_READS, "device")
    assert "lo" not in by_label(found, c.HOST_NET_RECEIVED, "device")


@pytest.mark.parametrize("nothing", [None, {}])
def test_psutil_without_disks_and_network(nothing: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk: nothing)
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: nothing)

    found = samples(host_psutil.families(nothing_is_left_out, nothing_is_left_out))

    assert series(c.HOST_LOAD1.name) in found
