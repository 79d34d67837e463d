"""Whether this is a container, by what each runtime leaves; on directories of our own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.collectors import container
from exporter.collectors.container import SIGNS, container_sign, in_container
from exporter.collectors.filesystem import Filesystem
from exporter.collectors.host import Host

HOSTS = {
    "bare": {},
    "systemd": {"proc/1/cgroup": "0::/init.scope\n", "proc/1/environ": "HOME=/\0TERM=linux\0"},
    "with a docker daemon": {
        "proc/1/cgroup": "12:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n",
        "var/lib/docker/x": "",
        "run/docker.sock": "",
    },
    "a service called docker": {"proc/1/cgroup": "0::/system.slice/docker.service\n"},
    "an empty variable": {"proc/1/environ": "container=\0"},
    "another variable": {"proc/1/environ": "my_container=x\0"},
}
ID = "0123456789abcdef" * 4
CONTAINERS: dict[str, tuple[dict[str, str], Mapping[str, str]]] = {
    "/.dockerenv": ({".dockerenv": ""}, {}),
    "/run/.containerenv": ({"run/.containerenv": ""}, {}),
    "/run/systemd/container": ({"run/systemd/container": "lxc"}, {}),
    "$KUBERNETES_SERVICE_HOST": ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}),
    "$container": ({}, {"container": "podman"}),
    "container= in /proc/1/environ": ({"proc/1/environ": "HOME=/\0container=systemd-nspawn\0"}, {}),
}
GROUPS = {
    "docker, v1": f"11:memory:/docker/{ID}\n",
    "docker, systemd": f"0::/system.slice/docker-{ID}.scope\n",
    "kubernetes, v1": f"11:memory:/kubepods/besteffort/pod1234/{ID}\n",
    "kubernetes, systemd": f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope\n",
    "cri-o": f"0::/kubepods.slice/x.slice/crio-{ID}.scope\n",
    "lxc": "11:memory:/lxc/web\n",
    "lxc 4": "0::/lxc.payload.web/init.scope\n",
    "podman": f"0::/machine.slice/libpod-{ID}.scope/container\n",
    "podman, rootless": f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope\n",
}


def made(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("files", HOSTS.values(), ids=HOSTS)
def test_a_host_is_none(files: Mapping[str, str], tmp_path: Path) -> None:
    assert container_sign(made(tmp_path, files), {"HOME": "/", "container": ""}) is None


@pytest.mark.parametrize("sign", CONTAINERS)
def test_each_sign_alone_is_enough(sign: str, tmp_path: Path) -> None:
    files, environ = CONTAINERS[sign]

    assert container_sign(made(tmp_path, files), environ) == sign


@pytest.mark.parametrize("cgroup", GROUPS.values(), ids=GROUPS)
def test_the_cgroup_of_the_first_process_is_a_sign(cgroup: str, tmp_path: Path) -> None:
    assert container_sign(made(tmp_path, {"proc/1/cgroup": cgroup}), {}) == "/proc/1/cgroup"


def test_every_sign_is_tested() -> None:
    assert {name for name, _ in SIGNS} == {*CONTAINERS, "/proc/1/cgroup"}


def test_what_may_not_be_read_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "proc/1/environ").mkdir(parents=True)  # fails to be read even for root

    assert container_sign(tmp_path, {}) is None


def test_this_machine_has_an_answer() -> None:
    assert in_container() is (container_sign(Path("/"), os.environ) is not None)


@pytest.mark.parametrize("collector", [Host, Filesystem])
@pytest.mark.parametrize("inside", [True, False])
def test_the_hosts_collectors_are_off_inside_a_container(
    collector: type[Host] | type[Filesystem], inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "container_sign", lambda: "/.dockerenv" if inside else None)

    assert collector.enabled_by_default(collector.Options()) is not inside
