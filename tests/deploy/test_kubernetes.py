"""deploy/kubernetes: sound by Kubernetes' own schemas, of one piece, and made of what everything else tests."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from exporter import __version__, catalogue
from exporter.cli import PREFIX
from exporter.config import load
from scripts.kubernetes_check import VERSIONS
from scripts.manifests import RULES_FILE, prometheus_rules, rule_files
from scripts.rulebook import PROMETHEUS, RULES, rules
from tests.deploy.dockerfile import image
from tests.deploy.manifests import (
    BASE,
    GRAFANA,
    NAME,
    SECRETS,
    Object,
    against_restricted,
    container,
    kustomization,
    objects,
    the,
)
from tests.deploy.manifests import pod as template
from tests.servers import ROOT

PORT: Final = 10177
OF_THE_OPERATOR: Final = {"namespace", "service", "pod", "container", "endpoint", "job", "instance", "node"}
"""Labels that it gives a target of a ServiceMonitor (prometheus-operator, pkg/prometheus/promcfg.go)."""
CUSTOM: Final = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of which Kubernetes has no schema: `scripts/manifests-check` has the operator's."""
MEBIBYTE: Final = 1 << 20
"""What a ConfigMap may hold."""


@pytest.fixture
def pod() -> Object:
    """One that a test may break."""
    return deepcopy(template())


def scraped() -> Object:
    """The first job of prometheus.yml over what holds for all."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    return dict(config["global"] | config["scrape_configs"][0])


# -- what is there ------------------------------------------------------------------------------------------------


def test_every_file_is_named_once_and_every_name_is_a_file() -> None:
    base = kustomization(BASE)
    named = [name for name in base["resources"] if name != "../../grafana"]
    named += [file for made in base["configMapGenerator"] for file in made["files"]]
    assert sorted([*named, "kustomization.yaml"]) == sorted(path.name for path in BASE.iterdir() if path.is_file())
    assert "../../grafana" in base["resources"]


def test_every_dashboard_is_a_config_map_that_is_not_too_large() -> None:
    made = kustomization(GRAFANA)["configMapGenerator"]
    files = [GRAFANA / file for one in made for file in one["files"]]
    assert sorted(files) == sorted((GRAFANA / "dashboards").glob("*.json"))
    assert len({one["name"] for one in made}) == len(made) == len(files)
    assert max(file.stat().st_size for file in files) < MEBIBYTE


def test_the_rules_are_those_that_prometheus_loads() -> None:
    assert RULES_FILE.read_text() == prometheus_rules(), "make manifests"
    made = [one for one in objects() if one["kind"] == "PrometheusRule"]
    assert [one["spec"] for one in made] == [yaml.safe_load(path.read_text()) for path in rule_files()]
    assert {path.name for path in rule_files()} == {path.name for path in RULES.glob("*.yml")} - {
        "compat-redis-exporter.yml"
    }


def test_a_cluster_runs_the_image_of_this_version() -> None:
    (tagged,) = kustomization(BASE)["images"]
    assert tagged == {"name": container(template())["image"], "newTag": __version__}


# -- schemas ------------------------------------------------------------------------------------------------------


def validate(found: Object, version: str) -> None:
    kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_object_of_its_own(version: str) -> None:
    own = [one for one in objects() if one["kind"] not in CUSTOM]
    for one in own:
        validate(one, version)
    assert {one["kind"] for one in own} >= {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget"}


def test_a_field_that_is_mistyped_is_no_field() -> None:
    deployment = deepcopy(the("Deployment"))
    deployment["spec"]["replica"] = deployment["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        validate(deployment, VERSIONS[-1])


# -- pods ---------------------------------------------------------------------------------------------------------


def test_a_pod_is_restricted(pod: Object) -> None:
    assert [*against_restricted(pod)] == []
    context = container(pod)["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert the("ServiceAccount", pod["spec"]["serviceAccountName"])["automountServiceAccountToken"] is False


def _with(path: str, value: Any) -> Callable[[Object], None]:
    def change(pod: Object) -> None:
        *above, last = path.split(".")
        place: Any = pod["spec"]
        for part in above:
            place = place[int(part) if part.isdigit() else part]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_with("hostNetwork", True), "hostNetwork"),
        (_with("securityContext.runAsNonRoot", False), "runAsNonRoot"),
        (_with("securityContext.runAsUser", 0), "runAsUser"),
        (_with("securityContext.seccompProfile", {}), "seccompProfile"),
        (_with("containers.0.securityContext.capabilities", {"drop": ["NET_RAW"]}), "capabilities"),
        (_with("containers.0.securityContext.allowPrivilegeEscalation", True), "allowPrivilegeEscalation"),
        (_with("containers.0.securityContext.privileged", True), "privileged"),
        (_with("containers.0.ports", [{"containerPort": PORT, "hostPort": PORT}]), "hostPort"),
        (_with("volumes", [{"name": "host", "hostPath": {"path": "/"}}]), "volume hostPath"),
    ],
)
def test_a_pod_that_is_not_restricted_is_found(pod: Object, change: Callable[[Object], None], found: str) -> None:
    change(pod)
    assert [*against_restricted(pod)] == [found]


def test_a_pod_is_who_the_image_is(pod: Object) -> None:
    context = pod["spec"]["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == image("exporter").user
    assert image("exporter").entrypoint == (NAME,)
    assert "command" not in container(pod)


def test_a_pod_has_room_and_may_end_in_time(pod: Object) -> None:
    resources = container(pod)["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert "memory" in resources["limits"]
    server = (ROOT / "exporter" / "web" / "server.py").read_text()
    (grace,) = re.findall(r"^GRACE: Final = (\d+)$", server, re.MULTILINE)
    assert pod["spec"]["terminationGracePeriodSeconds"] > 2 * int(grace)


def test_variables_of_services_cannot_be_taken_for_flags(pod: Object) -> None:
    assert the("Service")["metadata"]["name"].upper().replace("-", "_") == PREFIX
    assert pod["spec"]["enableServiceLinks"] is False


def test_probes_ask_what_is_meant_for_them(pod: Object) -> None:
    asked = {name: container(pod)[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {name: one["path"] for name, one in asked.items()} == {
        "startupProbe": "/-/ready",
        "readinessProbe": "/-/ready",
        "livenessProbe": "/-/healthy",
    }
    assert {one["port"] for one in asked.values()} == {"metrics"}


def test_what_is_mounted_is_what_the_configuration_reads(pod: Object, tmp_path: Path) -> None:
    mounts = {one["name"]: one for one in container(pod)["volumeMounts"]}
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
    assert mounts.keys() == volumes.keys() == {"config", "redis"}
    assert not [one for one in mounts.values() if "subPath" in one or not one["readOnly"]]
    (made,) = kustomization(BASE)["configMapGenerator"]
    assert volumes["config"]["configMap"]["name"] == made["name"]
    assert f"--config.file={mounts['config']['mountPath']}/{made['files'][0]}" in container(pod)["args"]
    assert mounts["redis"]["mountPath"] == SECRETS
    assert volumes["redis"]["secret"]["defaultMode"] == 0o440  # for the group of all its volumes
    assert pod["spec"]["securityContext"]["fsGroup"] == pod["spec"]["securityContext"]["runAsGroup"]

    (tmp_path / "main").write_text("redis://exporter:secret@redis.shop:6379/0\n")
    file = tmp_path / "exporter.yml"
    file.write_text((BASE / "exporter.yml").read_text().replace(SECRETS, str(tmp_path)))
    assert [broker.name for broker in load(file).brokers] == ["main"]


def test_nothing_here_is_a_secret() -> None:
    assert "Secret" not in {one["kind"] for one in objects()}
    assert "secretGenerator" not in kustomization(BASE)


# -- replicas -----------------------------------------------------------------------------------------------------


def test_a_replica_is_replaced_when_rates_know_the_one_before() -> None:
    spec = the("Deployment")["spec"]
    (complete,) = (rule.expr for rule in rules() if rule.name == "instance:taskqueue_feed_complete:bool")
    (minutes,) = re.findall(r"process_start_time_seconds offset (\d+)m\b", complete)
    slowest = 60 * int(minutes) + 30 + 15  # and the evaluation, and the scrape, that come just too early
    assert slowest < spec["minReadySeconds"] < spec.get("progressDeadlineSeconds", 600)
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_one_of_two_stays() -> None:
    spec = the("Deployment")["spec"]
    assert 0 < the("PodDisruptionBudget")["spec"]["minAvailable"] < spec["replicas"]
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")


def test_all_that_selects_pods_selects_these() -> None:
    labels = template()["metadata"]["labels"].items()
    (spread,) = template()["spec"]["topologySpreadConstraints"]
    selectors = [
        the("Deployment")["spec"]["selector"]["matchLabels"],
        the("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        the("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        the("Service")["spec"]["selector"],
        spread["labelSelector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)


# -- network ------------------------------------------------------------------------------------------------------


def test_all_mean_the_same_port() -> None:
    (of_pod,) = container(template())["ports"]
    (of_service,) = the("Service")["spec"]["ports"]
    (endpoint,) = the("ServiceMonitor")["spec"]["endpoints"]
    (allowed,) = the("NetworkPolicy")["spec"]["ingress"]
    assert of_pod == {"name": "metrics", "containerPort": PORT}
    assert of_service == {"name": "metrics", "port": PORT, "targetPort": "metrics"}
    assert endpoint["port"] == of_service["name"]
    assert allowed["ports"] == [{"port": PORT, "protocol": "TCP"}]
    assert f"--web.listen-address=:{PORT}" in container(template())["args"]


def test_prometheus_alone_comes_in_and_nothing_but_names_and_redis_is_reached() -> None:
    policy = the("NetworkPolicy")["spec"]
    (allowed,) = policy["ingress"]
    (source,) = allowed["from"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert source["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
    assert source["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    ports = [{(port["port"], port["protocol"]) for port in rule["ports"]} for rule in policy["egress"]]
    assert ports == [{(53, "UDP"), (53, "TCP")}, {(6379, "TCP")}]


# -- what is scraped ----------------------------------------------------------------------------------------------


def test_it_is_scraped_as_prometheus_yml_does() -> None:
    monitor = the("ServiceMonitor")["spec"]
    (endpoint,) = monitor["endpoints"]
    assert monitor["selector"]["matchLabels"].items() <= the("Service")["metadata"]["labels"].items()
    assert endpoint["interval"] == scraped()["scrape_interval"]
    assert endpoint["scrapeTimeout"] == scraped().get("scrape_timeout", "10s")
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": scraped()["job_name"]}]


def test_replicas_differ_in_instance_and_pod_alone() -> None:
    monitor = the("ServiceMonitor")["spec"]
    (endpoint,) = monitor["endpoints"]
    assert monitor.keys() == {"selector", "endpoints"}  # no podTargetLabels, no attachMetadata
    assert endpoint.keys() == {"port", "interval", "scrapeTimeout", "relabelings"}


def test_no_label_of_ours_is_one_that_the_operator_gives() -> None:
    of_metrics = {label for family in catalogue.FAMILIES.values() for label in family.labels}
    of_rules = {label for rule in rules() if not rule.is_alert for label in rule.labels}
    replaced = {
        label for rule in rules() for label in re.findall(r"label_replace\(.*?, \"(\w+)\", \"", rule.expr, re.DOTALL)
    }
    assert {"broker", "queue"} <= of_metrics
    assert "target" in replaced
    assert not (of_metrics | of_rules | replaced) & OF_THE_OPERATOR
