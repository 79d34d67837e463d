"""The overlays of docs/deployment.md, without kustomize: what they patch is there, and is sound then."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from exporter.config import load
from scripts.kubernetes_check import VERSIONS, overlays
from scripts.rulebook import targets
from tests.deploy.manifests import (
    BASE,
    SECRETS,
    Object,
    against_restricted,
    container,
    kustomization,
    pod,
    section,
    the,
)

IDS: Final = {"runAsUser", "runAsGroup", "fsGroup"}


def overlaid(target: Object, operations: list[Object]) -> Object:
    """An object with a JSON patch (RFC 6902: `add`, `replace`, `remove`) on it; KeyError where a path leads nowhere."""
    made = deepcopy(target)
    for operation in operations:
        *above, last = [part.replace("~1", "/") for part in operation["path"].split("/")[1:]]
        place: Any = made
        for part in above:
            place = place[int(part) if isinstance(place, list) else part]
        if last == "-" and operation["op"] == "add":
            place.append(operation["value"])
        elif operation["op"] == "remove":
            del place[last]
        else:
            assert operation["op"] == "replace"
            assert place[last] != operation["value"]
            place[last] = operation["value"]
    return made


def read(name: str) -> Object:
    """The kustomization of an overlay."""
    return dict(yaml.safe_load(overlays(section())[name]["kustomization.yaml"]))


def patched(name: str) -> dict[str, Object]:
    """The objects that an overlay patches, as they are then, by kind."""
    return {
        one["target"]["kind"]: overlaid(the(**one["target"]), yaml.safe_load(one["patch"]))
        for one in read(name)["patches"]
    }


def written(text: str, directory: Path) -> Path:
    """A configuration in a directory, with a URL for each of its files."""
    for number, key in enumerate(re.findall(rf"{SECRETS}/(\w+)", text)):
        (directory / key).write_text(f"redis://exporter:secret@redis.shop:6379/{number}\n")
    file = directory / "exporter.yml"
    file.write_text(text.replace(SECRETS, str(directory)))
    return file


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("overlay", set[str]()),
        ("larger", {"namespace", "labels", "configMapGenerator", "patches"}),
        ("openshift", {"patches"}),
    ],
)
def test_an_overlay_says_where_the_image_is_and_what_else_it_should(name: str, more: set[str]) -> None:
    """Without a tag: an upgrade of the base brings the new one. No selector and no name is changed."""
    made = read(name)
    assert made.keys() == {"apiVersion", "kind", "resources", "images"} | more
    assert made["apiVersion"] == kustomization(BASE)["apiVersion"]
    assert made["resources"] == ["../taskqueue-exporter/deploy/kubernetes"]
    (image,) = made["images"]
    assert image == {"name": container(pod())["image"], "newName": f"images.example.org/{container(pod())['image']}"}


def test_the_larger_overlay_changes_what_is_there() -> None:
    made = read("larger")
    (replaced,) = made["configMapGenerator"]
    (base,) = kustomization(BASE)["configMapGenerator"]
    assert replaced == base | {"behavior": "replace"}
    assert made["labels"] == [{"pairs": {"release": "prometheus"}}]


def test_the_policy_of_the_larger_overlay_lets_prometheus_in() -> None:
    policy = patched("larger")["NetworkPolicy"]
    kubernetes_validate.validate(policy, VERSIONS[-1], strict=True)
    (allowed,) = policy["spec"]["ingress"]
    selected = allowed["from"][0]["namespaceSelector"]["matchLabels"]
    assert selected == {"kubernetes.io/metadata.name": read("larger")["namespace"]}
    assert [port["port"] for port in policy["spec"]["egress"][1]["ports"]] == [6379, 6380]


def test_the_target_of_the_larger_overlay_is_one() -> None:
    rules = patched("larger")["PrometheusRule"]["spec"]["groups"][0]["rules"]
    assert rules[-1]["record"].removeprefix("taskqueue_target:") in targets()
    assert rules[-1]["labels"].keys() == {"system", "queue"}
    assert len(rules) == len(the("PrometheusRule", "taskqueue-targets")["spec"]["groups"][0]["rules"]) + 1


def test_the_configuration_of_the_larger_overlay_is_good(tmp_path: Path) -> None:
    file = written(overlays(section())["larger"]["exporter.yml"], tmp_path)
    assert [broker.name for broker in load(file).brokers] == ["main", "reports"]


def test_openshift_chooses_the_ids_and_its_name_servers_are_reached() -> None:
    made = patched("openshift")
    deployment, policy = made["Deployment"], made["NetworkPolicy"]
    for one in (deployment, policy):
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)
    template = deployment["spec"]["template"]
    assert pod()["spec"]["securityContext"].keys() - template["spec"]["securityContext"].keys() == IDS
    assert [*against_restricted(template)] == []
    ports = [(port["port"], port["protocol"]) for port in policy["spec"]["egress"][0]["ports"]]
    assert ports == [(53, "UDP"), (53, "TCP"), (5353, "UDP"), (5353, "TCP")]
