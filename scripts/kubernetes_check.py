"""What `scripts/manifests-check` needs beside kustomize and kubeconform: `python -m scripts.kubernetes_check`."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

from scripts.manifests import rule_files
from scripts.rulebook import ROOT

VERSIONS: Final = ("1.27.0", "1.37.0")
"""Of Kubernetes: the oldest that the manifests are for, and the newest whose schemas are at hand."""
SCHEMAS: Final = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
DEFINITIONS: Final = "_definitions.json"
METADATA: Final = {"$ref": f"{DEFINITIONS}#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}


class CheckFailed(Exception):
    """What was found and what is wanted, in one line."""


# -- schemas ------------------------------------------------------------------------------------------------------


def schemas(directory: str, resources: str) -> None:
    """Write the schemas of Kubernetes and of the operator's CustomResourceDefinitions where kubeconform finds them."""
    for version in VERSIONS:
        into = Path(directory, f"v{version}")
        into.mkdir()
        for path in (SCHEMAS / f"v{version}-local-strict").glob("*.json"):
            # By their `$id` and its root the references lead abroad: without, they are to the file beside.
            schema = json.loads(path.read_text().replace(f'"/api/{DEFINITIONS}', f'"{DEFINITIONS}'))
            schema.pop("$id", None)
            (into / path.name).write_text(json.dumps(schema))
        for kind in ("servicemonitors", "prometheusrules"):
            definition = yaml.safe_load(Path(resources, f"monitoring.coreos.com_{kind}.yaml").read_text())
            _write_schemas_of(definition["spec"], into)


def _write_schemas_of(definition: dict[str, Any], into: Path) -> None:
    group = definition["group"].partition(".")[0]
    for version in definition["versions"]:
        schema = strict(version["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = METADATA
        name = f"{definition['names']['singular']}-{group}-{version['name']}.json"
        (into / name).write_text(json.dumps(schema))


def strict(schema: Any) -> Any:
    """A schema that takes no field which it does not name: the API server would drop such a one and say nothing."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


# -- what was built ---------------------------------------------------------------------------------------------------


def same(built: str) -> None:
    """What kustomize built holds the rules and the dashboards as they stand in their files."""
    objects = [found for found in yaml.safe_load_all(Path(built).read_text()) if found]
    rules = {found["metadata"]["name"]: found["spec"] for found in objects if found["kind"] == "PrometheusRule"}
    _expect(rules, {f"taskqueue-{path.stem}": yaml.safe_load(path.read_text()) for path in rule_files()}, "rules")
    dashboards = {
        name: text
        for found in objects
        if found["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
        for name, text in found["data"].items()
    }
    files = (ROOT / "grafana" / "dashboards").glob("*.json")
    _expect(dashboards, {path.name: path.read_text() for path in files}, "dashboards")


def _expect(found: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
    differing = [name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)]
    if differing or not found:
        raise CheckFailed(f"{what}: found other content in {', '.join(sorted(differing))}, wanted that of the files")


# -- the example of the docs --------------------------------------------------------------------------------------


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a document that are in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def overlay(text: str) -> dict[str, str]:
    """The files of the overlay that a document shows, by name. CheckFailed unless each stands there once."""
    found = {
        "kustomization.yaml": [block for block in blocks(text, "yaml") if "kind: Kustomization\n" in block],
        "exporter.yml": [block for block in blocks(text, "yaml") if "/run/secrets/taskqueue-exporter/" in block],
    }
    for name, texts in found.items():
        if len(texts) != 1:
            raise CheckFailed(f"found {len(texts)} examples of {name} in the document, wanted one")
    return {name: text for name, (text,) in found.items()}


def lay_out(directory: str, document: str) -> None:
    """Put the overlay of a document beside a copy of what it overlays, as it says."""
    beside = Path(directory, "taskqueue-exporter")
    for name in ("deploy/kubernetes", "grafana/dashboards"):
        shutil.copytree(ROOT / name, beside / name)
    shutil.copy(ROOT / "grafana" / "kustomization.yaml", beside / "grafana")
    Path(directory, "overlay").mkdir()
    for name, text in overlay(Path(document).read_text()).items():
        Path(directory, "overlay", name).write_text(text)


COMMANDS: Final[dict[str, Callable[..., None]]] = {"schemas": schemas, "same": same, "lay-out": lay_out}

if __name__ == "__main__":
    try:
        COMMANDS[sys.argv[1]](*sys.argv[2:])
    except (CheckFailed, OSError) as failed:
        print(f"manifests-check: {failed}", file=sys.stderr)
        sys.exit(2)
