"""What docs/deployment.md says of Kubernetes: its commands, its overlay, and its numbers."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from exporter.config import load
from scripts.kubernetes_check import VERSIONS, blocks, overlay
from scripts.rulebook import PROMETHEUS, targets
from tests.deploy.manifests import BASE, GRAFANA, Object, container, kustomization, objects, pod, the
from tests.servers import ROOT

DOCUMENT: Final = ROOT / "docs" / "deployment.md"
SECRETS: Final = "/run/secrets/taskqueue-exporter"
OF_ANNOTATIONS: Final = 262_144
"""Bytes that the annotations of an object may have (apimachinery, TotalAnnotationSizeLimitB)."""


def section() -> str:
    """What stands below the headline Kubernetes."""
    found = re.search(r"^## Kubernetes\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert found, "no section Kubernetes"
    return found[1]


def commands(name: str) -> list[str]:
    """The command lines of the section that call a program, each on one line."""
    lines = "".join(blocks(section(), "console")).replace("\\\n", "").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith(f"$ {name} ")]


def created(kind: str) -> tuple[str, str, list[str]]:
    """Of `kubectl create secret generic NAME`: the name's secret, its namespace and its `--from-file`s."""
    (line,) = [line for line in commands("kubectl") if f" generic {kind} " in line]
    words = shlex.split(line)
    files = [word.removeprefix("--from-file=") for word in words if word.startswith("--from-file=")]
    return words[4], words[words.index("--namespace") + 1], files


# -- setting up ---------------------------------------------------------------------------------------------------


def test_the_table_has_every_file() -> None:
    cells = re.findall(r"^\| (`[^|]+) \|", section(), re.MULTILINE)
    named = {name for cell in cells for name in re.findall("`([^`]+)`", cell)}
    assert named == {path.name for path in BASE.iterdir() if path.is_file()} - {"kustomization.yaml"} | {
        "../../grafana"
    }


def test_the_secret_is_the_one_that_pods_mount() -> None:
    volumes = {one["name"]: one for one in pod()["spec"]["volumes"]}
    (broker,) = yaml.safe_load((BASE / "exporter.yml").read_text())["brokers"]
    key = broker["url_file"].removeprefix(f"{SECRETS}/")
    name, namespace, files = created("taskqueue-exporter-redis")
    assert name == volumes["redis"]["secret"]["secretName"]
    assert namespace == kustomization(BASE)["namespace"]
    assert files == [f"{key}=redis-url.txt"]


def test_what_kubectl_applies_is_here_and_by_the_server() -> None:
    (applied,) = [line for line in commands("kubectl") if " apply " in line]
    assert "--server-side" in applied
    assert (ROOT / applied.split("-k ")[1] / "kustomization.yaml").is_file()
    (status,) = [line for line in commands("kubectl") if " rollout status " in line]
    assert status.split()[-1] == f"deployment/{the('Deployment')['metadata']['name']}"


def test_why_by_the_server() -> None:
    """As kubectl would keep it: the whole object, without spaces."""
    large = [
        path.stem
        for path in (GRAFANA / "dashboards").glob("*.json")
        if len(json.dumps({"data": {path.name: path.read_text()}}, ensure_ascii=False)) > OF_ANNOTATIONS
    ]
    assert large == ["tq-system"]
    assert f"{OF_ANNOTATIONS:,} bytes" in section()


def test_how_long_a_replica_takes() -> None:
    assert the("Deployment")["spec"]["minReadySeconds"] == 7 * 60
    assert section().count("seven minutes") == 2


def test_all_of_it_has_the_label_by_which_it_is_listed() -> None:
    (pairs,) = (one["pairs"] for one in kustomization(BASE)["labels"])
    (selected,) = re.findall(r"`kubectl get \S+ -A -l (\S+)`", section())
    assert [f"{name}={value}" for name, value in pairs.items()] == [selected]


# -- the overlay --------------------------------------------------------------------------------------------------


def overlaid(target: Object, operations: list[Object]) -> Object:
    """An object with a JSON patch (RFC 6902, `add` and `replace`) on it; KeyError where a path leads nowhere."""
    made = deepcopy(target)
    for operation in operations:
        *above, last = [part.replace("~1", "/") for part in operation["path"].split("/")[1:]]
        place: Any = made
        for part in above:
            place = place[int(part) if isinstance(place, list) else part]
        if last == "-" and operation["op"] == "add":
            place.append(operation["value"])
        else:
            assert operation["op"] == "replace"
            assert place[last] != operation["value"]
            place[last] = operation["value"]
    return made


def patched() -> dict[str, Object]:
    """The objects that the overlay patches, as they are then, by kind."""
    made: Object = yaml.safe_load(overlay(section())["kustomization.yaml"])
    return {
        one["target"]["kind"]: overlaid(the(**one["target"]), yaml.safe_load(one["patch"])) for one in made["patches"]
    }


def test_the_overlay_changes_what_is_there() -> None:
    made = yaml.safe_load(overlay(section())["kustomization.yaml"])
    assert made["resources"] == ["../taskqueue-exporter/deploy/kubernetes"]
    assert made["images"][0]["name"] == container(pod())["image"]
    (replaced,) = made["configMapGenerator"]
    (base,) = kustomization(BASE)["configMapGenerator"]
    assert (replaced["name"], replaced["files"]) == (base["name"], base["files"])
    assert replaced["behavior"] == "replace"


def test_the_policy_of_the_overlay_lets_prometheus_in() -> None:
    policy = patched()["NetworkPolicy"]
    kubernetes_validate.validate(policy, VERSIONS[-1], strict=True)
    made = yaml.safe_load(overlay(section())["kustomization.yaml"])
    (allowed,) = policy["spec"]["ingress"]
    selected = allowed["from"][0]["namespaceSelector"]["matchLabels"]
    assert selected == {"kubernetes.io/metadata.name": made["namespace"]}
    assert [port["port"] for port in policy["spec"]["egress"][1]["ports"]] == [6379, 6380]


def test_the_target_of_the_overlay_is_one() -> None:
    rules = patched()["PrometheusRule"]["spec"]["groups"][0]["rules"]
    assert rules[-1]["record"].removeprefix("taskqueue_target:") in targets()
    assert len(rules) == len(the("PrometheusRule", "taskqueue-targets")["spec"]["groups"][0]["rules"]) + 1


def test_the_configuration_of_the_overlay_is_good(tmp_path: Path) -> None:
    text = overlay(section())["exporter.yml"]
    for number, key in enumerate(re.findall(rf"{SECRETS}/(\w+)", text)):
        (tmp_path / key).write_text(f"redis://exporter:secret@redis.shop:6379/{number}\n")
    file = tmp_path / "exporter.yml"
    file.write_text(text.replace(SECRETS, str(tmp_path)))
    assert [broker.name for broker in load(file).brokers] == ["main", "reports"]


# -- Grafana and Alertmanager ---------------------------------------------------------------------------------------


def test_the_sidecar_looks_for_what_the_dashboards_have() -> None:
    options = kustomization(GRAFANA)["generatorOptions"]
    (values,) = [yaml.safe_load(block) for block in blocks(section(), "yaml") if block.startswith("sidecar:")]
    dashboards = values["sidecar"]["dashboards"]
    assert options["labels"] == {dashboards["label"]: dashboards["labelValue"]}
    assert options["annotations"] == {dashboards["folderAnnotation"]: "Task queues"}
    assert "*Task queues*" in section()


def test_dashboards_begin_with_the_default_data_source() -> None:
    for path in (GRAFANA / "dashboards").glob("*.json"):
        board = json.loads(path.read_text())
        (menu,) = [one for one in board["templating"]["list"] if one["type"] == "datasource"]
        assert (menu["query"], menu.get("current")) == ("prometheus", None)
        assert {*re.findall(r'"uid": "(.*?)"', json.dumps(board))} <= {"${datasource}", "-- Grafana --", board["uid"]}


@pytest.mark.needs("sed", "amtool")
def test_alertmanager_takes_its_configuration(tmp_path: Path) -> None:
    (line,) = commands("sed")
    (tmp_path / "prometheus").symlink_to(PROMETHEUS)
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    made = yaml.safe_load((tmp_path / "alertmanager.yaml").read_text())
    ours = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text())
    assert made == ours | {"templates": ["/etc/alertmanager/config/*.tmpl"]}
    subprocess.run(["amtool", "check-config", "alertmanager.yaml"], cwd=tmp_path, check=True, capture_output=True)

    name, namespace, files = created("taskqueue-alertmanager")
    assert (name, namespace) == ("taskqueue-alertmanager", kustomization(BASE)["namespace"])
    assert [(tmp_path / file).is_file() for file in files] == [True, True]


def test_kinds_that_are_said_to_be_there_are() -> None:
    assert {one["kind"] for one in objects()} == {
        "Deployment", "NetworkPolicy", "PodDisruptionBudget", "PrometheusRule", "Service", "ServiceAccount",
        "ServiceMonitor",
    }  # fmt: skip
