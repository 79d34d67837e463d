"""What an operator relies on in deploy/kubernetes, and what would harm without a sign if it were otherwise."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest

from tests.deploy.manifests import BASE, GRAFANA, NAME, Object, container, kustomization, pod, the
from tests.servers import ROOT

MEBIBYTES: Final = {"Mi": 1, "Gi": 1024}
NAMED: Final = {"app.kubernetes.io/name": NAME}


def at(found: Any, path: str) -> Any:
    """What stands below keys and indices, joined by dots; None where nothing does."""
    for part in path.split("."):
        if isinstance(found, dict):
            found = found.get(part)
        elif isinstance(found, list) and int(part) < len(found):
            found = found[int(part)]
        else:
            return None
    return found


def mebibytes(text: str) -> int:
    return int(text[:-2]) * MEBIBYTES[text[-2:]]


# -- each value -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path", "wanted"),
    [
        # Two: docs/deployment.md counts the time of both.
        ("Deployment", "metadata.labels", NAMED),
        ("Deployment", "spec.replicas", 2),
        ("Deployment", "spec.selector", {"matchLabels": NAMED}),
        ("Deployment", "spec.template.metadata.labels", NAMED),
        # A node that has not the image pulls it.
        ("Deployment", "spec.template.spec.containers.0.imagePullPolicy", "IfNotPresent"),
        # On two nodes, also after a rollout: those that go do not count.
        ("Deployment", "spec.template.spec.topologySpreadConstraints.0.maxSkew", 1),
        ("Deployment", "spec.template.spec.topologySpreadConstraints.0.matchLabelKeys", ["pod-template-hash"]),
        # Within the cluster, and only those that are ready.
        ("Service", "spec.type", None),
        ("Service", "spec.externalIPs", None),
        ("Service", "spec.publishNotReadyAddresses", None),
        # A node can be drained also while Redis was never there.
        ("PodDisruptionBudget", "spec.minAvailable", 1),
        ("PodDisruptionBudget", "spec.unhealthyPodEvictionPolicy", "AlwaysAllow"),
        ("ServiceMonitor", "apiVersion", "monitoring.coreos.com/v1"),
        ("ServiceMonitor", "spec.endpoints.0.interval", "15s"),
    ],
)
def test_a_value_is_the_one_that_is_relied_on(kind: str, path: str, wanted: Any) -> None:
    assert at(the(kind), path) == wanted


def test_redis_may_be_anywhere_and_nothing_else_is_let_out() -> None:
    """A `to` would shut out a Redis outside the cluster, or in another namespace."""
    assert [rule.keys() for rule in the("NetworkPolicy")["spec"]["egress"]] == [{"ports"}, {"ports"}]
    (allowed,) = the("NetworkPolicy")["spec"]["ingress"]
    assert len(allowed["from"]) == 1
    assert allowed["from"][0].keys() == {"namespaceSelector", "podSelector"}  # both hold at once


# -- times and sizes ------------------------------------------------------------------------------------------------


def lasts(probe: Object) -> int:
    """Seconds for which a probe may fail until its container is stopped."""
    return int(probe.get("periodSeconds", 10)) * int(probe.get("failureThreshold", 3))


@pytest.mark.parametrize(
    ("probe", "least", "most"),
    [
        ("startupProbe", 60, 180),  # slow brokers have time; what never starts is started again
        ("readinessProbe", 20, 60),
        ("livenessProbe", 45, 120),  # no pause of a busy node stops it
    ],
)
def test_a_probe_is_patient_but_not_for_ever(probe: str, least: int, most: int) -> None:
    found = container(pod())[probe]
    assert least <= lasts(found) <= most
    assert found.get("failureThreshold", 3) >= 3
    assert 1 <= found["periodSeconds"] <= 10
    assert probe == "startupProbe" or found["timeoutSeconds"] >= 5
    assert not found.keys() & {"initialDelaySeconds", "terminationGracePeriodSeconds"}


def test_a_pod_has_room_to_be_scheduled_and_to_run() -> None:
    resources = container(pod())["resources"]
    assert resources["limits"].keys() == {"memory"}  # a limit of CPU would make scrapes late
    requested, limit = (mebibytes(resources[key]["memory"]) for key in ("requests", "limits"))
    assert 64 <= requested <= 256
    assert 2 * requested <= limit
    assert re.fullmatch(r"[1-9]\d{1,2}m", resources["requests"]["cpu"])


def test_a_pod_has_as_long_to_end_as_the_unit() -> None:
    unit = (ROOT / "deploy" / "systemd" / "taskqueue-exporter.service").read_text()
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert pod()["spec"]["terminationGracePeriodSeconds"] == int(seconds)


def test_a_replica_that_is_pulled_slowly_is_no_failed_rollout() -> None:
    spec = the("Deployment")["spec"]
    starting = lasts(container(pod())["startupProbe"])
    assert spec["progressDeadlineSeconds"] >= spec["minReadySeconds"] + starting + 300


# -- kustomizations ---------------------------------------------------------------------------------------------------


def test_the_base_does_what_it_says_and_no_more() -> None:
    """No `includeSelectors`: selectors of a Deployment can never be changed. No prefix: names are relied on. A hash in
    the name of the configuration: a change of it replaces the pods."""
    base = kustomization(BASE)
    assert base.keys() == {
        "apiVersion", "kind", "namespace", "labels", "resources", "configMapGenerator", "images",
    }  # fmt: skip
    assert (base["kind"], base["namespace"]) == ("Kustomization", "monitoring")
    assert base["labels"] == [{"pairs": {"app.kubernetes.io/part-of": NAME}}]
    assert base["configMapGenerator"] == [{"name": NAME, "files": ["exporter.yml"]}]


def test_dashboards_keep_their_names() -> None:
    """Else each version would leave its own behind, and Grafana would have them twice."""
    made = kustomization(GRAFANA)
    assert made.keys() == {"apiVersion", "kind", "generatorOptions", "configMapGenerator"}
    assert made["generatorOptions"].keys() == {"disableNameSuffixHash", "labels", "annotations"}
    assert made["generatorOptions"]["disableNameSuffixHash"] is True
    assert made["configMapGenerator"] == [
        {"name": f"taskqueue-dashboard-{name}", "files": [f"dashboards/tq-{name}.json"]}
        for name in ("overview", "system", "task", "redis", "exporter")
    ]
