"""What docs/deployment.md says of Kubernetes: its commands and its numbers."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml

from scripts.kubernetes_check import VERSIONS, blocks
from scripts.rulebook import PROMETHEUS, rules
from tests.deploy.manifests import BASE, GRAFANA, SECRETS, kustomization, objects, pod, section, the

OF_ANNOTATIONS: Final = 262_144
"""Bytes that the annotations of an object may have (apimachinery, TotalAnnotationSizeLimitB)."""
WORDS: Final = {6: "six", 7: "seven"}


def flat() -> str:
    """That section and the one on two replicas, with one space wherever there is space."""
    return re.sub(r"\s+", " ", section() + section("Two replicas"))


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


def test_what_kubectl_applies_is_the_overlay_and_by_the_server() -> None:
    """The base alone has an image that no cluster can pull."""
    (applied,) = [line for line in commands("kubectl") if " apply " in line]
    assert applied == "kubectl apply --server-side -k overlay"
    assert "make a directory `overlay` with this `kustomization.yaml`" in flat()
    (status,) = [line for line in commands("kubectl") if " rollout status " in line]
    assert f" deployment/{the('Deployment')['metadata']['name']} " in status
    assert f"--namespace {kustomization(BASE)['namespace']} " in status
    (minutes,) = re.findall(r"--timeout=(\d+)m$", status)
    spec = the("Deployment")["spec"]
    assert int(minutes) * 60 > spec["replicas"] * spec["minReadySeconds"] + 240  # to pull and to start


def test_why_by_the_server() -> None:
    """As kubectl would keep it: the whole object, without spaces."""
    large = [
        path.stem
        for path in (GRAFANA / "dashboards").glob("*.json")
        if len(json.dumps({"data": {path.name: path.read_text()}}, ensure_ascii=False)) > OF_ANNOTATIONS
    ]
    assert large == ["tq-system"]
    assert f"{OF_ANNOTATIONS:,} bytes" in section()


def facts() -> dict[str, str]:
    """What the sections say, with what the manifests have in it; by what it is of."""
    spec = the("Deployment")["spec"]
    (complete,) = (rule.expr for rule in rules() if rule.name == "instance:taskqueue_feed_complete:bool")
    (known,) = (WORDS[int(found)] for found in re.findall(r"process_start_time_seconds offset (\d+)m\b", complete))
    ready, both = WORDS[spec["minReadySeconds"] // 60], spec["replicas"] * spec["minReadySeconds"] // 60
    policy = the("NetworkPolicy")["spec"]
    (source,) = policy["ingress"][0]["from"]
    ((label, prometheus),) = source["podSelector"]["matchLabels"].items()
    (port,) = (port["port"] for port in policy["egress"][1]["ports"])
    (endpoint,) = the("ServiceMonitor")["spec"]["endpoints"]
    (scraped,) = (one["replacement"] for one in endpoint["relabelings"])
    return {
        "version": f"For Kubernetes {VERSIONS[0].removesuffix('.0')} and later, and the operator's "
        f"`{the('ServiceMonitor')['apiVersion']}`.",
        "service": f"| port {the('Service')['spec']['ports'][0]['port']}, scraped each "
        f"{endpoint['interval'].removesuffix('s')} s as the job `{scraped}` |",
        "policy": f"| in: Prometheus alone; out: name servers and port {port} |",
        "budget": "| one replica is ready while nodes are drained |",
        "source": f"lets in pods with the label `{label}: {prometheus}`",
        "dashboards": '| a ConfigMap for each dashboard, with the label `grafana_dashboard: "1"` |',
        "rollout": f"The first start takes {ready} minutes, as does each replica that a rollout replaces: rules "
        f"count with one that was scraped for {known} ([several",
        "both": f"A rollout of both takes at least {both} minutes",
        "deadline": f"made no progress for {spec['progressDeadlineSeconds'] // 60}.",
        "drain": f"Wait {ready} minutes between two nodes, else it may be that none was scraped for {known}",
        "upgrade": f"one at a time, at least {ready} minutes each.",
        "two": f"between two nodes that are drained, wait {ready} minutes.",
        "conflict": "`--force-conflicts` takes the fields back",
        "argo": "`syncOptions: [ServerSideApply=true]`",
    }


def test_what_is_said_is_what_the_manifests_have() -> None:
    said = flat()
    assert [name for name, text in facts().items() if text not in said] == []


def test_headers_say_that_drains_do_not_wait() -> None:
    ready = WORDS[the("Deployment")["spec"]["minReadySeconds"] // 60]
    budget = (BASE / "poddisruptionbudget.yaml").read_text()
    assert f"A budget knows no minReadySeconds: wait {ready} minutes between two nodes" in budget
    assert "Drains of nodes do not wait for that" in (BASE / "deployment.yaml").read_text()


def test_no_other_port_is_named() -> None:
    """Of Redis, with TLS, of Sentinels, of the exporter; of OpenShift's name servers."""
    policy = (BASE / "networkpolicy.yaml").read_text()
    of_policy = {*re.findall(r"port: (\d{4,5})\b", policy)}
    assert of_policy == {"6379", "6380", "26379", "10177"}
    assert {*re.findall(r"(?<![\d,])\d{4,5}\b", section())} == of_policy | {"5353"}
    assert "Sentinels listen on 26379, which is added as 6380 is." in flat()


def test_all_of_it_has_the_label_by_which_it_is_listed() -> None:
    (pairs,) = (one["pairs"] for one in kustomization(BASE)["labels"])
    (selected,) = re.findall(r"`kubectl get \S+ -A -l (\S+)`", section())
    assert [f"{name}={value}" for name, value in pairs.items()] == [selected]


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
