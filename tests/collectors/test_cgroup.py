"""What a control group's files say, by made-up machines: values, limits, and files that are missing or broken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.collectors.cgroup import Cgroup
from exporter.sources import checked
from tests.cgroups import Machine, write
from tests.servers import Series, series

MIB = 1024 * 1024


def _pressure(**total: int) -> str:
    return "".join(f"{share} avg10=1.53 avg60=0.87 avg300=0.22 total={n}\n" for share, n in total.items())


# As a kernel 6.8 writes them, shortened (Documentation/admin-guide/cgroup-v2.rst).
V2: dict[str, str] = {
    "memory.current": f"{300 * MIB}\n",
    "memory.peak": f"{400 * MIB}\n",
    "memory.max": f"{512 * MIB}\n",
    "memory.high": f"{450 * MIB}\n",
    "memory.swap.current": f"{7 * MIB}\n",
    "memory.swap.max": f"{64 * MIB}\n",
    "memory.stat": f"anon {120 * MIB}\nfile {170 * MIB}\nkernel 5\ninactive_file {100 * MIB}\npgfault 3\n",
    "memory.events": "low 0\nhigh 4\nmax 17\noom 3\noom_kill 2\noom_group_kill 0\n",
    "cpu.max": "150000 100000\n",
    "cpu.stat": "usage_usec 12500000\nuser_usec 9000000\nsystem_usec 3500000\nnice_usec 0\nnr_periods 1000\n"
    "nr_throttled 40\nthrottled_usec 2250000\nnr_bursts 0\nburst_usec 0\n",
    "pids.current": "12\n",
    "pids.max": "100\n",
    "cpu.pressure": _pressure(some=1_500_000, full=250_000),
    "memory.pressure": _pressure(some=3_000_000, full=2_000_000),
    "io.pressure": _pressure(some=5_000_000, full=4_000_000),
    "io.stat": "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n"
    "253:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n7:0 \n",
}  # fmt: skip
EXPECTED_V2: dict[Family, float] = {
    c.CGROUP_MEMORY_USAGE: 300 * MIB,
    c.CGROUP_MEMORY_MAX_USAGE: 400 * MIB,
    c.CGROUP_MEMORY_WORKING_SET: 200 * MIB,
    c.CGROUP_MEMORY_RSS: 120 * MIB,
    c.CGROUP_MEMORY_CACHE: 170 * MIB,
    c.CGROUP_MEMORY_SWAP: 7 * MIB,
    c.CGROUP_MEMORY_LIMIT: 512 * MIB,
    c.CGROUP_MEMORY_HIGH: 450 * MIB,
    c.CGROUP_MEMORY_SWAP_LIMIT: 64 * MIB,
    c.CGROUP_MEMORY_FAILCNT: 17,
    c.CGROUP_OOM_EVENTS: 2,
    c.CGROUP_CPU_USAGE: 12.5,
    c.CGROUP_CPU_USER: 9.0,
    c.CGROUP_CPU_SYSTEM: 3.5,
    c.CGROUP_CPU_LIMIT: 1.5,
    c.CGROUP_CPU_PERIODS: 1000,
    c.CGROUP_CPU_THROTTLED_PERIODS: 40,
    c.CGROUP_CPU_THROTTLED: 2.25,
    c.CGROUP_THREADS: 12,
    c.CGROUP_THREADS_MAX: 100,
    c.CGROUP_PRESSURE_CPU_WAITING: 1.5,
    c.CGROUP_PRESSURE_CPU_STALLED: 0.25,
    c.CGROUP_PRESSURE_MEMORY_WAITING: 3.0,
    c.CGROUP_PRESSURE_MEMORY_STALLED: 2.0,
    c.CGROUP_PRESSURE_IO_WAITING: 5.0,
    c.CGROUP_PRESSURE_IO_STALLED: 4.0,
}
# As a kernel 4.19 writes them, shortened (Documentation/admin-guide/cgroup-v1).
NO_LIMIT = 9223372036854771712
MEMORY_V1: dict[str, str] = {
    "memory.usage_in_bytes": f"{300 * MIB}\n",
    "memory.max_usage_in_bytes": f"{400 * MIB}\n",
    "memory.limit_in_bytes": f"{512 * MIB}\n",
    "memory.failcnt": "17\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "memory.stat": f"cache 1\nrss 1\ninactive_file 1\nhierarchical_memory_limit {512 * MIB}\ntotal_cache {170 * MIB}\n"
    f"total_rss {120 * MIB}\ntotal_swap {7 * MIB}\ntotal_inactive_file {100 * MIB}\n",
}
CPU_V1: dict[str, str] = {
    "cpu.cfs_quota_us": "150000\n",
    "cpu.cfs_period_us": "100000\n",
    "cpu.stat": "nr_periods 1000\nnr_throttled 40\nthrottled_time 2250000000\n",
}
CPUACCT_V1: dict[str, str] = {"cpuacct.usage": "12500000000\n", "cpuacct.stat": "user 900\nsystem 350\n"}
PIDS_V1: dict[str, str] = {"pids.current": "12\n", "pids.max": "100\n"}
IO_V1: dict[str, str] = {
    "blkio.throttle.io_service_bytes_recursive": "8:16 Read 1459200\n8:16 Write 314773504\n8:16 Sync 9\n8:16 Total 9\n"
    "253:0 Read 4096\n253:0 Write 0\nTotal 9\n",
    "blkio.throttle.io_serviced_recursive": "8:16 Read 192\n8:16 Write 353\n253:0 Read 1\n253:0 Write 0\nTotal 546\n",
}
ONLY_V2 = {c.CGROUP_MEMORY_HIGH, c.CGROUP_MEMORY_SWAP_LIMIT, *(f for f in EXPECTED_V2 if "_pressure_" in f.name)}
EXPECTED_V1 = {family: value for family, value in EXPECTED_V2.items() if family not in ONLY_V2}
EXPECTED_IO: dict[Series, float] = {
    series(family.name, device=device): value
    for device, values in {"sdb": (1459200, 314773504, 192, 353), "253:0": (4096, 0, 1, 0)}.items()
    for family, value in zip(
        (c.CGROUP_FS_READ, c.CGROUP_FS_WRITTEN, c.CGROUP_FS_READS, c.CGROUP_FS_WRITES), values, strict=True
    )
}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    (machine.sys / "dev" / "block" / "8:16").symlink_to("../../devices/pci0000:00/block/sdb")
    return machine


@pytest.fixture
def v2(machine: Machine) -> Path:
    """A container's group in a namespace of its own."""
    machine.groups("0::/")
    return write(machine.mount("", kind="cgroup2"), V2)


@pytest.fixture
def v1(machine: Machine) -> Mapping[str, Path]:
    """A container's groups, each controller for itself but for two that share a hierarchy, as usual."""
    machine.groups("4:memory:/docker/x", "3:cpu,cpuacct:/docker/x", "2:pids:/docker/x", "5:blkio:/docker/x")
    shares = {"memory": MEMORY_V1, "cpu,cpuacct": {**CPU_V1, **CPUACCT_V1}, "pids": PIDS_V1, "blkio": IO_V1}
    return {
        name: write(machine.mount(name, root="/docker/x", options=f"rw,{name}"), files)
        for name, files in shares.items()
    }


def collected(machine: Machine) -> tuple[dict[Series, float], tuple[str, ...]]:
    """What the collector gives, and its problems."""
    collector = Cgroup(proc=machine.proc, sys=machine.sys)
    families = checked(collector.collect(), collector.families)
    return {series(s.name, **s.labels): s.value for family in families for s in family.samples}, tuple(
        collector.problems
    )


def plain(expected: Mapping[Family, float]) -> dict[Series, float]:
    return {series(family.name): value for family, value in expected.items()}


# -- values -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("v2")
def test_v2(machine: Machine) -> None:
    found, problems = collected(machine)

    assert found == plain(EXPECTED_V2) | EXPECTED_IO
    assert problems == ()


@pytest.mark.usefixtures("v1")
def test_v1(machine: Machine) -> None:
    found, problems = collected(machine)

    assert found == plain(EXPECTED_V1) | EXPECTED_IO
    assert problems == ()


@pytest.mark.usefixtures("v2")
def test_every_family_is_filled(machine: Machine) -> None:
    assert {name for name, _ in collected(machine)[0]} == {family.name for family in Cgroup.families}


def test_of_both_versions_beside_each_other_v1_gives_what_it_has(machine: Machine, v1: Mapping[str, Path]) -> None:
    lines = (machine.proc / "self" / "cgroup").read_text().splitlines()
    machine.groups(*lines, "1:name=systemd:/x", "0::/x")
    write(
        machine.mount("unified", kind="cgroup2") / "x",
        {"cpu.stat": "usage_usec 1\nuser_usec 1\nsystem_usec 1\n", "cpu.pressure": V2["cpu.pressure"]},
    )

    found, problems = collected(machine)

    both = EXPECTED_V1 | {c.CGROUP_PRESSURE_CPU_WAITING: 1.5, c.CGROUP_PRESSURE_CPU_STALLED: 0.25}
    assert found == plain(both) | EXPECTED_IO
    assert problems == ()


def test_what_v1_has_out_of_sight_is_not_taken_from_another_group_of_v2(machine: Machine, v2: Path) -> None:
    machine.groups("4:memory:/x", "3:cpu,cpuacct:/x", "2:blkio:/x", "0::/")

    found, problems = collected(machine)

    left = {family for family in EXPECTED_V2 if "_pressure_" in family.name} | {c.CGROUP_THREADS, c.CGROUP_THREADS_MAX}
    assert found.keys() == plain(dict.fromkeys(left, 0)).keys()
    assert len(problems) == 4


def test_a_cache_that_is_counted_later_than_the_usage_makes_no_negative_number(machine: Machine, v2: Path) -> None:
    write(v2, {"memory.current": "100\n"})

    assert collected(machine)[0][series(c.CGROUP_MEMORY_WORKING_SET.name)] == 0


def test_devices_that_the_kernel_has_no_number_of_spoil_no_others(machine: Machine, v1: Mapping[str, Path]) -> None:
    """Disks that were taken out."""
    gone = "(unknown) Read 10\n(unknown) Write 1\n(unknown) Read 30\n"
    write(v1["blkio"], {name: f"{gone}{text}" for name, text in IO_V1.items()})

    found, problems = collected(machine)

    assert found == plain(EXPECTED_V1) | EXPECTED_IO
    assert problems == ()


IO_LINES = [
    # "blk-cgroup: always terminate io.stat lines" of the kernel: the numbers are those of the last.
    ("7:7 7:6 7:5 7:4 rbytes=28672 wbytes=0 rios=13 wios=0 dbytes=0 dios=0\n", {"7:4": 28672}),
    ("7:7 8:16 rbytes=5\n253:0 7:1 rbytes=6\n", {"sdb": 5, "7:1": 6}),
    ("(unknown) rbytes=10\n(unknown) rbytes=30\n8:16 rbytes=5\n", {"sdb": 5}),
    ("7:7 (unknown) rbytes=10\n(unknown) 7:6 rbytes=5\n", {"7:6": 5}),
    ("8:16 rbytes=10\n8:16 rbytes=30\n8:16 \n", {"sdb": 40}),  # taken out and put in again
    ("rbytes=5\n\n=\n", {}),
]


@pytest.mark.parametrize(("text", "read"), IO_LINES)
def test_lines_of_io_stat_that_are_not_as_documented(
    text: str, read: Mapping[str, int], machine: Machine, v2: Path
) -> None:
    write(v2, {"io.stat": text})

    found, problems = collected(machine)

    name = c.CGROUP_FS_READ.name
    assert {key: value for key, value in found.items() if key[0] == name} == {
        series(name, device=device): value for device, value in read.items()
    }
    assert problems == ()


# -- limits -----------------------------------------------------------------------------------------------------

LIMITS = (
    c.CGROUP_MEMORY_LIMIT,
    c.CGROUP_MEMORY_HIGH,
    c.CGROUP_MEMORY_SWAP_LIMIT,
    c.CGROUP_CPU_LIMIT,
    c.CGROUP_THREADS_MAX,
)


def limits(machine: Machine) -> dict[str, float]:
    found, problems = collected(machine)
    assert problems == ()
    return {family.name: found[series(family.name)] for family in LIMITS if series(family.name) in found}


def test_without_a_limit_there_is_none(machine: Machine, v2: Path) -> None:
    none = dict.fromkeys(("memory.max", "memory.high", "memory.swap.max", "pids.max"), "max\n")
    write(v2, none | {"cpu.max": "max 100000\n"})

    assert limits(machine) == {}


def test_without_a_limit_of_v1_there_is_none(machine: Machine, v1: Mapping[str, Path]) -> None:
    stat = MEMORY_V1["memory.stat"].replace(f"limit {512 * MIB}", f"limit {NO_LIMIT}")
    write(v1["memory"], {"memory.limit_in_bytes": f"{NO_LIMIT}\n", "memory.stat": stat})
    write(v1["cpu,cpuacct"], {"cpu.cfs_quota_us": "-1\n"})
    write(v1["pids"], {"pids.max": "max\n"})

    assert limits(machine) == {}


@pytest.mark.parametrize("page", [4096, 65536])
def test_an_old_kernels_largest_number_of_pages_is_no_limit(
    page: int, machine: Machine, v1: Mapping[str, Path]
) -> None:
    largest = (2**63 - 1) // page * page
    write(v1["memory"], {"memory.limit_in_bytes": f"{largest}\n", "memory.stat": "total_rss 1\n"})

    assert c.CGROUP_MEMORY_LIMIT.name not in limits(machine)


def test_the_limit_of_a_parent_holds_where_it_is_lower(machine: Machine) -> None:
    machine.groups("0::/kubepods.slice/pod1.slice/cri-1.scope")
    root = write(machine.mount("", kind="cgroup2"), {"cpu.stat": V2["cpu.stat"]})  # the root group has no limits
    write(root / "kubepods.slice", {"memory.max": f"{900 * MIB}\n", "cpu.max": "50000 100000\n", "pids.max": "max\n"})
    write(root / "kubepods.slice/pod1.slice", {"memory.max": f"{200 * MIB}\n", "memory.high": f"{100 * MIB}\n"})
    write(root / "kubepods.slice/pod1.slice/cri-1.scope", V2)

    assert limits(machine) == {
        c.CGROUP_MEMORY_LIMIT.name: 200 * MIB,
        c.CGROUP_MEMORY_HIGH.name: 100 * MIB,
        c.CGROUP_MEMORY_SWAP_LIMIT.name: 64 * MIB,
        c.CGROUP_CPU_LIMIT.name: 0.5,
        c.CGROUP_THREADS_MAX.name: 100,
    }


def test_v1_tells_the_limit_of_parents_that_cannot_be_seen(machine: Machine, v1: Mapping[str, Path]) -> None:
    stat = MEMORY_V1["memory.stat"].replace(f"limit {512 * MIB}", f"limit {64 * MIB}")
    write(v1["memory"], {"memory.stat": stat})

    assert limits(machine)[c.CGROUP_MEMORY_LIMIT.name] == 64 * MIB


def test_a_parents_quota_holds_with_v1(machine: Machine) -> None:
    machine.groups("3:cpu:/a/b")
    root = write(machine.mount("cpu", options="rw,cpu"), CPU_V1 | {"cpu.cfs_quota_us": "-1\n"})
    write(root / "a", CPU_V1 | {"cpu.cfs_quota_us": "20000\n"})
    write(root / "a" / "b", CPU_V1)

    assert limits(machine)[c.CGROUP_CPU_LIMIT.name] == 0.2


# -- what is missing, and what is broken ------------------------------------------------------------------------


@pytest.mark.parametrize("name", V2)
def test_a_file_that_is_missing_costs_what_it_gives_and_is_no_problem(name: str, machine: Machine, v2: Path) -> None:
    whole = collected(machine)[0]
    (v2 / name).unlink()

    found, problems = collected(machine)

    assert found.items() < whole.items()
    assert len(whole) - len(found) <= 9
    assert problems == ()


@pytest.mark.parametrize("name", V2)
@pytest.mark.parametrize("text", ["", "bogus bogus\n", "-5\n", "\udcff", "some total=x\n"])
def test_a_file_that_cannot_be_understood_gives_nothing_wrong(name: str, text: str, machine: Machine, v2: Path) -> None:
    whole = collected(machine)[0]
    (v2 / name).write_bytes(text.encode(errors="surrogateescape"))

    found, problems = collected(machine)

    assert found.items() < whole.items()
    assert all(problem.isprintable() and name in problem for problem in problems)


def test_what_is_no_number_is_a_problem_and_the_rest_is_there(machine: Machine, v2: Path) -> None:
    write(v2, {"memory.current": "many\n"})

    found, problems = collected(machine)

    assert problems == ("memory.current: found 'many', wanted a number",)
    assert found[series(c.CGROUP_MEMORY_LIMIT.name)] == 512 * MIB


def test_what_cannot_be_read_is_a_problem_and_the_rest_is_there(machine: Machine, v2: Path) -> None:
    (v2 / "pids.current").unlink()
    (v2 / "pids.current").mkdir()

    found, problems = collected(machine)

    assert problems == ("pids.current: found no file that can be read (Is a directory), wanted one",)
    assert series(c.CGROUP_THREADS.name) not in found
    assert series(c.CGROUP_THREADS_MAX.name) in found


def test_a_limit_of_which_one_part_cannot_be_read_is_absent(machine: Machine, v2: Path) -> None:
    machine.groups("0::/child")
    write(v2 / "child", V2)
    write(v2, {"memory.max": "bogus\n"})

    found, problems = collected(machine)

    assert series(c.CGROUP_MEMORY_LIMIT.name) not in found
    assert problems == ("memory.max: found 'bogus', wanted a number",)


def test_without_control_groups_there_is_an_error(machine: Machine) -> None:
    with pytest.raises(OSError, match="found no control group, wanted cgroup v1 or v2 mounted"):
        collected(machine)


def test_it_runs_only_where_it_is_asked_for() -> None:
    assert not Cgroup.enabled_by_default(Cgroup.Options())
