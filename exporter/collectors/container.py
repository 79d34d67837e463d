"""Whether the exporter runs inside a container: the host's numbers are not its own there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

_GROUPS: Final = re.compile(
    rb"/(docker|lxc|libpod_parent)/"
    rb"|/(kubepods|lxc\.payload|lxc\.monitor)[./-]"
    rb"|[/-](docker|libpod|crio|cri-containerd)-[0-9a-f]{12}"
)
"""Paths in /proc/1/cgroup that a runtime makes. Behind a cgroup namespace there is only `/`, which tells nothing."""


def _file(path: str) -> Callable[[Path, Mapping[str, str]], bool]:
    return lambda root, environ: os.path.exists(root / path.lstrip("/"))


def _variable(name: str) -> Callable[[Path, Mapping[str, str]], bool]:
    return lambda root, environ: bool(environ.get(name))


def _first_process_says_so(root: Path, environ: Mapping[str, str]) -> bool:
    variables = _read(root / "proc/1/environ").split(b"\0")
    return any(variable.startswith(b"container=") and variable != b"container=" for variable in variables)


def _first_process_is_grouped(root: Path, environ: Mapping[str, str]) -> bool:
    return bool(_GROUPS.search(_read(root / "proc/1/cgroup")))


SIGNS: Final[tuple[tuple[str, Callable[[Path, Mapping[str, str]], bool]], ...]] = (
    ("/.dockerenv", _file("/.dockerenv")),  # Docker: moby's daemon/initlayer makes it in each container
    ("/run/.containerenv", _file("/run/.containerenv")),  # Podman and Buildah: podman-run(1)
    ("/run/systemd/container", _file("/run/systemd/container")),  # systemd as the first process: CONTAINER_INTERFACE
    ("$KUBERNETES_SERVICE_HOST", _variable("KUBERNETES_SERVICE_HOST")),  # the kubelet sets it in each pod
    ("$container", _variable("container")),  # CONTAINER_INTERFACE: nspawn, LXC and Podman set it for what they start
    ("container= in /proc/1/environ", _first_process_says_so),  # the same, where the first process passed it not on
    ("/proc/1/cgroup", _first_process_is_grouped),  # cgroups(7): of Docker, containerd, CRI-O, LXC, Podman
)
"""What runtimes leave, by the name under which it is told, and how it is looked for. Any one of them is enough."""


def container_sign(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> str | None:
    """What tells that this is a container; None where nothing does. What may not be read tells nothing."""
    return next((name for name, found in SIGNS if found(root, environ)), None)


def in_container() -> bool:
    """Whether this process runs in a container, as far as anything tells."""
    return container_sign() is not None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
