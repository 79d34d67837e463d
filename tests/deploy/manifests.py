"""Reading deploy/kubernetes without kustomize: what its kustomizations name, and what Pod Security says of a pod.

`scripts/manifests-check` looks at what kustomize itself makes of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.servers import ROOT

BASE: Final = ROOT / "deploy" / "kubernetes"
GRAFANA: Final = ROOT / "grafana"
DOCUMENT: Final = ROOT / "docs" / "deployment.md"
NAME: Final = "taskqueue-exporter"
SECRETS: Final = "/run/secrets/taskqueue-exporter"
Object = dict[str, Any]

VOLUMES: Final = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
"""Kinds of volumes that Pod Security's level "restricted" takes."""


def section(headline: str = "Kubernetes") -> str:
    """What stands below a headline of docs/deployment.md."""
    found = re.search(rf"^## {headline}\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"no section {headline}"
    return found[1]


def kustomization(directory: Path) -> Object:
    """What a kustomization says."""
    return dict(yaml.safe_load((directory / "kustomization.yaml").read_text()))


@cache
def objects() -> tuple[Object, ...]:
    """The objects of the base's files, in their order; ConfigMaps are generated and not among them."""
    files = [BASE / name for name in kustomization(BASE)["resources"] if (BASE / name).is_file()]
    return tuple(found for file in files for found in yaml.safe_load_all(file.read_text()))


def the(kind: str, name: str = NAME) -> Object:
    """The one object of a kind and name; AssertionError unless it is there once."""
    found = [one for one in objects() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"found {len(found)} of {kind} {name}"
    return found[0]


def pod() -> Object:
    """The template of the Deployment's pods."""
    return dict(the("Deployment")["spec"]["template"])


def container(of: Object) -> Object:
    """The one container of a pod."""
    (only,) = of["spec"]["containers"]
    return dict(only)


def against_restricted(template: Object) -> Iterator[str]:
    """What of a pod is against Pod Security's level "restricted" (kubernetes.io, Pod Security Standards, 1.37)."""
    spec = template["spec"]
    of_pod = spec.get("securityContext", {})
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    yield from (name for name in ("sysctls", "seLinuxOptions", "appArmorProfile", "windowsOptions") if name in of_pod)
    for volume in spec.get("volumes", []):
        yield from (f"volume {kind}" for kind in volume.keys() - {"name"} - VOLUMES)
    for one in [*spec["containers"], *spec.get("initContainers", [])]:
        yield from _against_restricted(one, of_pod | one.get("securityContext", {}))


def _against_restricted(one: Object, context: Object) -> Iterator[str]:
    """`context` is that of the container over that of the pod."""
    wanted = {"allowPrivilegeEscalation": False, "runAsNonRoot": True}
    yield from (name for name, value in wanted.items() if context.get(name) is not value)
    yield from (name for name in ("privileged", "procMount", "seLinuxOptions") if context.get(name))
    if context.get("runAsUser") == 0:
        yield "runAsUser"
    if context.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "seccompProfile"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []) or {*capabilities.get("add", [])} - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    yield from ("hostPort" for port in one.get("ports", []) if port.get("hostPort"))
