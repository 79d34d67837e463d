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

from exporter import __version__
from scripts.manifests import KUBERNETES, rule_files
from scripts.rulebook import ROOT

VERSIONS: Final = ("1.27.0", "1.37.0")
"""Of Kubernetes: the oldest that the manifests are for, and the newest whose schemas are at hand."""
SCHEMAS: Final = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
DEFINITIONS: Final = "_definitions.json"
NAME: Final = "taskqueue-exporter"
SELECTORS: Final = ("selector", "podSelector")
"""Fields of a `spec` that choose pods; a Deployment's can never be changed again."""
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
    objects = _objects(Path(built))
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


def whole(*built: str) -> None:
    """What kustomize built, each in its file, selects what the base's files select, and mounts its configuration."""
    files = [one for path in sorted(KUBERNETES.glob("*.yaml")) for one in _objects(path) if "metadata" in one]
    for path in built:
        objects = _objects(Path(path))
        _expect(_selectors(objects), _selectors(files), "selectors")
        made = [
            one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap" and "exporter.yml" in one["data"]
        ]
        if len(made) != 1 or not re.fullmatch(rf"{NAME}-[0-9a-z]{{10}}", made[0]):
            raise CheckFailed(f"configuration: found {made} as its ConfigMap, wanted one {NAME}-HASH")
        (deployment,) = (one for one in objects if one["kind"] == "Deployment")
        mounted = [one["configMap"]["name"] for one in _pod(deployment)["volumes"] if "configMap" in one]
        if mounted != made:
            raise CheckFailed(f"configuration: found that pods mount {mounted}, wanted {made}")


def pulled(*built: str) -> None:
    """What kustomize built, each in its file, runs this version's image from a registry."""
    for path in built:
        for one in _objects(Path(path)):
            images = [part["image"] for part in _pod(one)["containers"]] if one["kind"] == "Deployment" else []
            for image in images:
                if not image.endswith(f"/{NAME}:{__version__}"):
                    raise CheckFailed(f"image: found {image}, wanted REGISTRY/{NAME}:{__version__}")


def _objects(path: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def _pod(deployment: dict[str, Any]) -> dict[str, Any]:
    return dict(deployment["spec"]["template"]["spec"])


def _selectors(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """All selectors and the labels of pods, by kind and name of their object."""
    found = {}
    for one in objects:
        spec = one.get("spec", {})
        parts: dict[str, Any] = {key: spec[key] for key in SELECTORS if key in spec}
        if one["kind"] == "Deployment":
            parts["labels"] = spec["template"]["metadata"]["labels"]
            parts["spread"] = _pod(one)["topologySpreadConstraints"]
        if parts:
            found[f"{one['kind']} {one['metadata']['name']}"] = parts
    return found


def _expect(found: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
    differing = [name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)]
    if differing or not found:
        raise CheckFailed(f"{what}: found other content in {', '.join(sorted(differing))}, wanted that of the files")


# -- the example of the docs --------------------------------------------------------------------------------------


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a document that are in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def overlays(text: str) -> dict[str, dict[str, str]]:
    """The overlays that a document shows, by the directory that each is in here: their files' texts by name.

    The first is the one to begin with, `larger` is larger, and `openshift` the first with what OpenShift wants.
    CheckFailed unless all of them stand there.
    """
    # Of the section Kubernetes; a text without headlines is one.
    shown = blocks(
        re.split(r"^## (?!Kubernetes$)", text.partition("\n## Kubernetes\n")[2] or text, flags=re.MULTILINE)[0], "yaml"
    )
    found = {
        "kustomization.yaml": (2, [block for block in shown if "kind: Kustomization\n" in block]),
        "exporter.yml": (1, [block for block in shown if "/run/secrets/taskqueue-exporter/" in block]),
        "patches": (1, [block for block in shown if block.startswith("patches:\n")]),
    }
    for name, (wanted, texts) in found.items():
        if len(texts) != wanted:
            raise CheckFailed(f"found {len(texts)} examples of {name} in the document, wanted {wanted}")
    (first, larger), (configuration,), (patches,) = (texts for _, texts in found.values())
    return {
        "overlay": {"kustomization.yaml": first},
        "larger": {"kustomization.yaml": larger, "exporter.yml": configuration},
        "openshift": {"kustomization.yaml": first + patches},
    }


def lay_out(directory: str, document: str) -> None:
    """Put the overlays of a document beside a copy of what they overlay, as it says."""
    beside = Path(directory, "taskqueue-exporter")
    for name in ("deploy/kubernetes", "grafana/dashboards"):
        shutil.copytree(ROOT / name, beside / name)
    shutil.copy(ROOT / "grafana" / "kustomization.yaml", beside / "grafana")
    for overlay, files in overlays(Path(document).read_text()).items():
        Path(directory, overlay).mkdir()
        for name, text in files.items():
            Path(directory, overlay, name).write_text(text)


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "schemas": schemas, "same": same, "whole": whole, "pulled": pulled, "lay-out": lay_out,
}  # fmt: skip

if __name__ == "__main__":
    try:
        COMMANDS[sys.argv[1]](*sys.argv[2:])
    except (CheckFailed, OSError) as failed:
        print(f"manifests-check: {failed}", file=sys.stderr)
        sys.exit(2)
