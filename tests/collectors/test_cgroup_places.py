"""Where the exporter's own group is, in the layouts that runtimes make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.collectors.cgroup.places import folders
from tests.cgroups import Machine, write

DOCKER = "/docker/4f2ac1"
POD = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod9d.slice/cri-containerd-77.scope"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def located(machine: Machine) -> tuple[dict[str, list[Path]], list[str]]:
    found, problems = folders(machine.proc, os.getpid())
    return {controller: list(places) for controller, places in found.items()}, problems


def test_a_unit_of_systemd(machine: Machine) -> None:
    machine.groups("0::/system.slice/exporter.service")
    root = machine.mount("", kind="cgroup2")
    unit = write(root / "system.slice/exporter.service", {})

    assert located(machine) == ({"": [unit, root / "system.slice", root]}, [])


def test_a_container_in_a_namespace_of_its_own(machine: Machine) -> None:
    machine.groups("0::/")
    root = machine.mount("", kind="cgroup2")

    assert located(machine) == ({"": [root]}, [])


@pytest.mark.parametrize("path", [DOCKER, POD])
def test_a_container_that_sees_the_hosts_paths_but_not_the_hosts_groups(path: str, machine: Machine) -> None:
    machine.groups(f"0::{path}")
    root = machine.mount("", kind="cgroup2", root=path)

    assert located(machine) == ({"": [root]}, [])


def test_a_group_below_the_one_that_is_mounted(machine: Machine) -> None:
    machine.groups(f"0::{DOCKER}/init/worker")
    root = machine.mount("", kind="cgroup2", root=DOCKER)
    inner = write(root / "init/worker", {})

    assert located(machine) == ({"": [inner, root / "init", root]}, [])


def test_a_container_that_sees_all_of_the_host(machine: Machine) -> None:
    machine.groups(f"0::{POD}")
    root = machine.mount("", kind="cgroup2")
    own = write(root / POD[1:], {})

    found, problems = located(machine)

    assert found[""][0] == own
    assert found[""][-1] == root
    assert len(found[""]) == 5
    assert problems == []


def test_v1_has_a_place_for_each_controller(machine: Machine) -> None:
    machine.groups(
        "12:memory:/docker/x", "11:cpu,cpuacct:/docker/x/y", "10:pids:/", "9:freezer:/docker/x", "1:name=systemd:/z"
    )
    memory = machine.mount("memory", root="/docker/x", options="rw,memory")
    cpu = machine.mount("cpu,cpuacct", root="/docker/x", options="rw,cpu,cpuacct")
    pids = machine.mount("pids", options="rw,pids")
    inner = write(cpu / "y", {})

    assert located(machine) == ({"memory": [memory], "cpu": [inner, cpu], "cpuacct": [inner, cpu], "pids": [pids]}, [])


def test_v2_beside_v1_is_another_hierarchy(machine: Machine) -> None:
    machine.groups("4:memory:/a", "0::/b")
    one = write(machine.mount("memory", options="rw,memory") / "a", {})
    two = write(machine.mount("unified", kind="cgroup2") / "b", {})

    found, problems = located(machine)

    assert (found["memory"][0], found[""][0]) == (one, two)
    assert problems == []


def test_of_several_mounts_the_one_that_shows_the_group(machine: Machine) -> None:
    machine.groups(f"0::{DOCKER}")
    machine.mount("longer", kind="cgroup2", root=f"{DOCKER}ff")  # another's, as is the next
    shorter = machine.mount("shorter", kind="cgroup2", root="/docker/4f2a")
    write(shorter.parent / "shorterc1", {})
    own = machine.mount("own", kind="cgroup2", root=DOCKER)

    assert located(machine) == ({"": [own]}, [])


def test_a_mount_of_another_namespace_counts_if_we_are_in_it(machine: Machine) -> None:
    machine.groups("0::/")
    point = write(machine.mount("", kind="cgroup2", root="/../.."), {"cgroup.procs": f"1\n{os.getpid()}\n"})

    assert located(machine) == ({"": [point]}, [])


def test_a_group_above_the_namespace_is_not_looked_for_above_the_mount(machine: Machine) -> None:
    machine.groups("0::/../x")
    root = machine.mount("own", kind="cgroup2")
    write(root.parent / "x", {})

    assert located(machine)[0] == {}


def test_the_hosts_groups_mounted_over_our_own_are_not_ours(machine: Machine) -> None:
    machine.groups("0::/")
    machine.mount("", kind="cgroup2")
    write(machine.mount("", kind="cgroup2", root="/../.."), {"cgroup.procs": "1\n"})

    assert located(machine)[0] == {}


@pytest.mark.parametrize("group", ["/", "/../x", "/elsewhere"])
def test_a_group_that_cannot_be_seen_is_a_problem_and_no_others_numbers(group: str, machine: Machine) -> None:
    machine.groups(f"0::{group}")
    write(machine.mount("", kind="cgroup2", root="/../.."), {"cgroup.procs": "1\n"})

    assert located(machine) == ({}, [f"found no folder of the group {group} (v2), wanted its mount"])


def test_a_controller_that_is_not_mounted_is_a_problem(machine: Machine) -> None:
    machine.groups("4:memory:/a", "0::/")
    root = machine.mount("", kind="cgroup2")

    found, problems = located(machine)

    assert found == {"": [root], "memory": []}
    assert problems == ["found no folder of the group /a (memory), wanted its mount"]


def test_names_with_blanks_colons_and_a_removed_group(machine: Machine) -> None:
    machine.groups("0::/a:b c (deleted)")
    root = machine.mount("with blank", kind="cgroup2")
    own = write(root / "a:b c", {})

    assert located(machine)[0][""][0] == own


def test_this_process_is_found_on_this_machine() -> None:
    found, problems = folders(Path("/proc"), os.getpid())

    assert problems == []
    for places in found.values():
        assert str(os.getpid()) in (places[0] / "cgroup.procs").read_text().split()
