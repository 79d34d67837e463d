"""The host by files of other kernels: older ones, odd ones, and numbers that move as real ones seldom do."""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec
import pytest

from exporter import catalogue as c
from exporter.collectors import procfs
from exporter.collectors.host import Host, HostOptions
from tests.collectors.proc_files import FILES, MEMINFO, NET_DEV, Machine
from tests.servers import Series, series


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def names(found: dict[Series, float]) -> set[str]:
    return {name for name, _ in found}


def test_cpus_keep_their_numbers_and_guests_are_not_counted_twice(machine: Machine) -> None:
    found = machine.look()

    cpus = {(dict(labels)["cpu"], dict(labels)["mode"]) for name, labels in found if name == c.HOST_CPU.name}
    assert cpus == {(cpu, mode) for cpu in ("0", "3") for mode in procfs.CPU_MODES}
    assert found[series(c.HOST_CPU.name, cpu="0", mode="user")] == 10
    assert found[series(c.HOST_CPU.name, cpu="3", mode="steal")] == 0.8


# -- what a kernel lacks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "family"),
    [
        ("pressure/cpu", c.HOST_PRESSURE_CPU),
        ("pressure/io", c.HOST_PRESSURE_IO_ALL),
        ("vmstat", c.HOST_OOM_KILLS),
        ("diskstats", c.HOST_DISK_READS),
        ("net/dev", c.HOST_NET_SENT),
        ("sys/fs/file-nr", c.HOST_FD_MAXIMUM),
    ],
)
def test_what_the_kernel_has_not_is_absent_and_no_problem(missing: str, family: c.Family, machine: Machine) -> None:
    machine.remove(missing)

    found = machine.look()

    assert family.name not in names(found)
    assert c.HOST_LOAD1.name in names(found)
    assert machine.host.problems == []


def test_a_field_that_the_kernel_has_not_is_absent(machine: Machine) -> None:
    machine.write("meminfo", MEMINFO.replace("MemAvailable", "MemSomething"))
    machine.write("vmstat", "pswpin 5\n")
    machine.write("stat", "cpu0 1 2 3 4\nbtime 5\n")  # before 2.5.41
    machine.write("pressure/memory", "some avg10=0.00 total=2500000\n")

    found = machine.look()

    absent = {c.HOST_MEMORY_AVAILABLE, c.HOST_OOM_KILLS, c.HOST_FORKS, c.HOST_PRESSURE_MEMORY_ALL}
    assert not names(found) & {family.name for family in absent}
    cpu = {dict(labels)["mode"] for name, labels in found if name == c.HOST_CPU.name}
    assert cpu == {"user", "nice", "system", "idle"}


def test_pressure_that_is_turned_off_is_absent_and_no_problem(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With psi=0 the files are there, and reading them fails.
    real = procfs.text

    def text(path: Path) -> str:
        if path.parent.name == "pressure":
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path)

    monkeypatch.setattr(procfs, "text", text)

    assert not [name for name in names(machine.look()) if "pressure" in name]
    assert machine.host.problems == []


# -- what goes wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("stat", "cpu0 a b c d\n"),
        ("loadavg", "0.1\n"),
        ("meminfo", "MemTotal: many kB\n"),
        ("sys/fs/file-nr", "1\n"),
        ("pressure/cpu", "some total=x\n"),
        ("diskstats", "8 0 sda 1 2 x 4\n"),
        ("net/dev", "a\nb\neth0: 1 x\n"),
    ],
)
def test_a_file_that_is_not_as_documented_costs_what_it_gives_and_is_told(
    path: str, text: str, machine: Machine
) -> None:
    whole = names(machine.look())
    machine.write(path, text)

    found = names(machine.look())

    (problem,) = machine.host.problems
    assert problem.startswith(f"{machine.directory / path}: not as the kernel documents it")
    assert found < whole
    assert len(found) >= len(whole) - 15
    machine.write(path, FILES[path])
    machine.look()
    assert machine.host.problems == []


@pytest.mark.parametrize("path", ["stat", "loadavg", "meminfo"])
def test_what_every_kernel_has_is_a_problem_where_it_is_not(path: str, machine: Machine) -> None:
    machine.remove(path)

    assert machine.look()
    assert machine.host.problems == [f"{machine.directory / path}: No such file or directory"]


def test_without_any_file_it_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"loadavg: No such file or directory; .*meminfo"):
        Host(proc=tmp_path).collect()


@pytest.mark.parametrize("line", ["", "short", "8 0 sdb", "   "])
def test_a_line_that_lacks_everything_is_left_out(line: str, machine: Machine) -> None:
    for path in ("diskstats", "net/dev", "vmstat", "meminfo", "stat"):
        machine.write(path, FILES[path] + line + "\n")

    machine.look()

    assert machine.host.problems == []


# -- counters ---------------------------------------------------------------------------------------------------


def cpu_stat(user: int, idle: int, iowait: int) -> str:
    return f"cpu0 {user} 0 0 {idle} {iowait} 0 0 0 0 0\n"


def cpu_seconds(machine: Machine, mode: str) -> float:
    return machine.look()[series(c.HOST_CPU.name, cpu="0", mode=mode)]


def test_cpu_time_that_the_kernel_takes_back_does_not_fall(machine: Machine) -> None:
    # given
    machine.write("stat", cpu_stat(100, 1000, 500))
    machine.look()
    # when the kernel corrects iowait and idle by less than 3 s, then they stand
    machine.write("stat", cpu_stat(110, 990, 480))
    assert [cpu_seconds(machine, mode) for mode in ("user", "idle", "iowait")] == [1.1, 10, 5]
    # and go on as soon as the kernel's own are higher
    machine.write("stat", cpu_stat(110, 1010, 510))
    assert [cpu_seconds(machine, mode) for mode in ("user", "idle", "iowait")] == [1.1, 10.1, 5.1]


def test_a_cpu_that_was_plugged_in_again_begins_anew(machine: Machine) -> None:
    machine.write("stat", cpu_stat(100, 1000, 500))
    machine.look()

    machine.write("stat", cpu_stat(5, 7, 3))

    assert [cpu_seconds(machine, mode) for mode in ("user", "idle", "iowait")] == [0.05, 0.07, 0.03]


def test_a_cpu_that_was_away_does_not_fall_when_it_is_back(machine: Machine) -> None:
    machine.write("stat", cpu_stat(100, 1000, 500))
    machine.look()
    machine.write("stat", cpu_stat(100, 1000, 500).replace("cpu0", "cpu1"))
    machine.look()

    machine.write("stat", cpu_stat(99, 1000, 500))

    assert cpu_seconds(machine, "user") == 1


def test_a_reload_does_not_make_cpu_time_fall() -> None:
    assert Host()._cpu_times is Host(HostOptions(network_exclude="x"))._cpu_times


# -- names and options ------------------------------------------------------------------------------------------


def test_what_holds_a_disks_bytes_twice_is_left_out(machine: Machine) -> None:
    devices = [
        "sda",
        "sda1",
        "vdb12",
        "nvme0n1",
        "nvme0n1p2",
        "loop0",
        "ram1",
        "zram0",
        "dm-0",
        "md0",
        "mmcblk0",
        "sr0",
    ]
    machine.write("diskstats", "".join(f"1 1 {device} 3 0 0 0 0 0 0 0 0 0 0\n" for device in devices))

    disks = {dict(labels)["device"] for name, labels in machine.look() if name == c.HOST_DISK_READS.name}

    assert disks == {"sda", "nvme0n1", "dm-0", "md0", "mmcblk0", "sr0"}


def test_an_expression_matches_anywhere_and_an_empty_one_nothing(machine: Machine) -> None:
    def disks(expression: str) -> set[str]:
        machine.host = Host(HostOptions(disk_exclude=expression), proc=machine.directory)
        return {dict(labels)["device"] for name, labels in machine.look() if name == c.HOST_DISK_READS.name}

    assert disks("") == {"sda", "sda1", "dm-0"}
    assert disks("d") == set()
    assert disks("^sda$") == {"sda1", "dm-0"}


def test_hostile_names_are_cleaned(machine: Machine) -> None:
    machine.write("net/dev", NET_DEV + "e\x1b[31m\udcff: " + "1 " * 16 + "\n")

    devices = [dict(labels)["device"] for name, labels in machine.look() if name == c.HOST_NET_SENT.name]

    assert len(devices) == 3
    assert all(device.isprintable() for device in devices)


@pytest.mark.parametrize("key", ["disk_exclude", "network_exclude"])
def test_a_bad_expression_is_told_in_the_configurations_terms(key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key}: found '\(' \(.*\), wanted a regular expression$"):
        msgspec.convert({key: "("}, HostOptions)
