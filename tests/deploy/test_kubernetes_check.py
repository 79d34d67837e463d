"""scripts/kubernetes_check.py finds what it looks for: with objects as kustomize would make them, and with others."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Final

import pytest
import yaml

from exporter import __version__
from scripts.kubernetes_check import CheckFailed, lay_out, overlays, pulled, same, schemas, strict, whole
from tests.deploy.manifests import BASE, DOCUMENT, GRAFANA, NAME, Object, kustomization, objects

MAPPED: Final = f"{NAME}-0123456789"
Change = Callable[[list[Object]], None]


@pytest.fixture
def made() -> list[Object]:
    """What a build of an overlay holds; a test may break it."""
    found = [deepcopy(one) for one in objects()]
    spec = one_of(found, "Deployment")["spec"]["template"]["spec"]
    spec["containers"][0]["image"] = f"images.example.org/{NAME}:{__version__}"
    next(one for one in spec["volumes"] if one["name"] == "config")["configMap"]["name"] = MAPPED
    found.append({"kind": "ConfigMap", "metadata": {"name": MAPPED}, "data": {"exporter.yml": ""}})
    for one in kustomization(GRAFANA)["configMapGenerator"]:
        texts = {Path(file).name: (GRAFANA / file).read_text() for file in one["files"]}
        metadata = {"name": one["name"], "labels": {"grafana_dashboard": "1"}}
        found.append({"kind": "ConfigMap", "metadata": metadata, "data": texts})
    return found


def one_of(found: list[Object], kind: str, name: str = NAME) -> Object:
    return next(one for one in found if (one["kind"], one["metadata"]["name"]) == (kind, name))


def built(found: list[Object], directory: Path) -> str:
    path = directory / "built.yaml"
    path.write_text("---\n".join(json.dumps(one) + "\n" for one in found))
    return str(path)


def test_what_is_as_the_files_say_is_good(made: list[Object], tmp_path: Path) -> None:
    path = built(made, tmp_path)
    same(path)
    whole(path, path)
    pulled(path)


# -- what is not ----------------------------------------------------------------------------------------------------


def _without_dashboards(found: list[Object]) -> None:
    found[:] = [one for one in found if "labels" not in one["metadata"] or one["kind"] != "ConfigMap"]


def _other_dashboard(found: list[Object]) -> None:
    one_of(found, "ConfigMap", "taskqueue-dashboard-task")["data"]["tq-task.json"] += " "


def _unlabelled_dashboard(found: list[Object]) -> None:
    one_of(found, "ConfigMap", "taskqueue-dashboard-task")["metadata"]["labels"] = {}


def _other_rule(found: list[Object]) -> None:
    rules = one_of(found, "PrometheusRule", "taskqueue-targets")["spec"]["groups"][0]["rules"]
    rules[0]["expr"] = "61"


def _without_rules(found: list[Object]) -> None:
    found[:] = [one for one in found if one["kind"] != "PrometheusRule"]


def _included_in_selectors(found: list[Object]) -> None:
    for kind in ("Deployment", "PodDisruptionBudget", "ServiceMonitor"):
        one_of(found, kind)["spec"]["selector"]["matchLabels"]["app.kubernetes.io/part-of"] = NAME


def _other_selector_of_a_service(found: list[Object]) -> None:
    one_of(found, "Service")["spec"]["selector"]["a"] = "b"


def _other_pods_of_the_policy(found: list[Object]) -> None:
    one_of(found, "NetworkPolicy")["spec"]["podSelector"] = {}


def _other_labels_of_pods(found: list[Object]) -> None:
    one_of(found, "Deployment")["spec"]["template"]["metadata"]["labels"]["a"] = "b"


def _prefixed(found: list[Object]) -> None:
    one_of(found, "Service")["metadata"]["name"] = f"a-{NAME}"


def _without_a_hash(found: list[Object]) -> None:
    one_of(found, "ConfigMap", MAPPED)["metadata"]["name"] = NAME
    volumes = one_of(found, "Deployment")["spec"]["template"]["spec"]["volumes"]
    volumes[0]["configMap"]["name"] = NAME


def _mounts_another(found: list[Object]) -> None:
    volumes = one_of(found, "Deployment")["spec"]["template"]["spec"]["volumes"]
    volumes[0]["configMap"]["name"] = f"{NAME}-9876543210"


def _image_of_nowhere(found: list[Object]) -> None:
    one_of(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] = f"{NAME}:{__version__}"


def _image_of_another_version(found: list[Object]) -> None:
    one_of(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] = f"a.example.org/{NAME}:latest"


@pytest.mark.parametrize(
    ("check", "change", "found"),
    [
        (same, _without_dashboards, "dashboards"),
        (same, _other_dashboard, "dashboards: found other content in tq-task.json,"),
        (same, _unlabelled_dashboard, "dashboards"),
        (same, _other_rule, "rules: found other content in taskqueue-targets,"),
        (same, _without_rules, "rules"),
        (whole, _included_in_selectors, "selectors: .* Deployment .*PodDisruptionBudget .*ServiceMonitor "),
        (whole, _other_selector_of_a_service, "selectors: .* Service "),
        (whole, _other_pods_of_the_policy, "selectors: .* NetworkPolicy "),
        (whole, _other_labels_of_pods, "selectors: .* Deployment "),
        (whole, _prefixed, "selectors: .* Service a-"),
        (whole, _without_a_hash, "HASH"),
        (whole, _mounts_another, "mount"),
        (pulled, _image_of_nowhere, "image"),
        (pulled, _image_of_another_version, "image"),
    ],
)
def test_what_is_otherwise_is_found(
    made: list[Object], tmp_path: Path, check: Callable[[str], None], change: Change, found: str
) -> None:
    if check is not same:  # large
        made[:] = [
            one
            for one in made
            if "taskqueue-dashboard" not in one["metadata"]["name"] and "groups" not in one.get("spec", {})
        ]
    change(made)
    with pytest.raises(CheckFailed, match=found):
        check(built(made, tmp_path))


# -- schemas --------------------------------------------------------------------------------------------------------


def test_a_strict_schema_takes_what_it_names_alone() -> None:
    free = {"type": "object", "additionalProperties": {"type": "string"}}
    inner = {"type": "object", "properties": {"port": {"type": "string"}}}
    shut = inner | {"additionalProperties": False}
    made = strict({"type": "object", "properties": {"free": free, "list": {"items": inner}, "any": {"anyOf": [inner]}}})
    assert made == {
        "type": "object",
        "properties": {"free": free, "list": {"items": shut}, "any": {"anyOf": [shut]}},
        "additionalProperties": False,
    }


def test_schemas_are_strict_and_lead_to_files_that_are_there(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"metadata": {"type": "object"}, "spec": {"type": "object", "properties": {}}},
    }
    for kind in ("servicemonitor", "prometheusrule"):
        versions = [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]
        spec = {"group": "monitoring.coreos.com", "names": {"singular": kind}, "versions": versions}
        (tmp_path / f"monitoring.coreos.com_{kind}s.yaml").write_text(yaml.safe_dump({"spec": spec}))
    into = tmp_path / "schemas"
    into.mkdir()
    schemas(str(into), str(tmp_path))
    for version in into.iterdir():
        made = json.loads((version / "servicemonitor-monitoring-v1.json").read_text())
        assert made["properties"]["spec"]["additionalProperties"] is False
        file = made["properties"]["metadata"]["$ref"].partition("#")[0]
        assert (version / file).is_file()
        assert (version / "prometheusrule-monitoring-v1.json").is_file()
        assert json.loads((version / "deployment-apps-v1.json").read_text())


# -- overlays -------------------------------------------------------------------------------------------------------


def test_overlays_are_laid_out_beside_what_they_overlay(tmp_path: Path) -> None:
    lay_out(str(tmp_path), str(DOCUMENT))
    for name, files in overlays(DOCUMENT.read_text()).items():
        assert {path.name: path.read_text() for path in (tmp_path / name).iterdir()} == files
        made = yaml.safe_load(files["kustomization.yaml"])
        (base,) = made["resources"]
        assert (tmp_path / name / base / "kustomization.yaml").read_text() == (BASE / "kustomization.yaml").read_text()
        for file in (file for one in made.get("configMapGenerator", []) for file in one["files"]):
            assert (tmp_path / name / file).is_file()


@pytest.mark.parametrize(
    "missing",
    [
        "kind: Kustomization\n",
        "    url_file: /run/secrets/taskqueue-exporter/",
        "patches:\n  - target: {kind: Deployment",
    ],
)
def test_a_document_without_its_overlays_is_found(missing: str) -> None:
    text = DOCUMENT.read_text()
    assert missing in text
    with pytest.raises(CheckFailed, match="examples"):
        overlays(text.replace(missing, ""))
