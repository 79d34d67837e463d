"""Bills of materials of what is shipped: CycloneDX 1.6, as JSON.

cyclonedx-py reads the pins and their hashes. Added here is what it does not tell of a requirements file: the version of
the project, whose it is, and who needs whom. Taken out is what depends on the machine: the address of an index.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent


class Shipped(NamedTuple):
    """A distribution of ours. Paths are relative to the checkout."""

    name: str
    project: str
    version_file: str
    requirements: str | None


SHIPPED: Final = (
    Shipped("taskqueue-exporter", ".", "exporter/__init__.py", "requirements/exporter.txt"),
    Shipped("taskqueue-hooks", "hooks", "hooks/taskqueue_hooks/_version.py", None),
)


class BillError(Exception):
    """A bill that does not hold what it should."""


class Pin(NamedTuple):
    """One distribution of a pinned file: SHA-256 of its files, and which others need it."""

    version: str
    hashes: frozenset[str]
    via: frozenset[str]


def version_of(shipped: Shipped) -> str:
    """Raises BillError."""
    found = re.search(r'^__version__ = "([^"]+)"$', (ROOT / shipped.version_file).read_text(), re.MULTILINE)
    if found is None:
        raise BillError(f"{shipped.version_file}: found no version, wanted __version__")
    return found[1]


def pins(text: str) -> dict[str, Pin]:
    """What a requirements file of `make requirements` pins, by name."""
    found = {}
    for entry in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE):
        if head := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", entry):
            via = re.findall(r"^ +# (?:via | {2})([A-Za-z0-9][A-Za-z0-9._-]*)", entry, re.MULTILINE)
            found[head[1]] = Pin(head[2], frozenset(re.findall(r"sha256:([0-9a-f]{64})", entry)), frozenset(via))
    return found


def purl(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def completed(bill: dict[str, Any], name: str, version: str, pinned: Mapping[str, Pin]) -> dict[str, Any]:
    """The bill with what cyclonedx-py left out. Raises BillError unless each pin is there with all of its hashes."""
    bill["metadata"]["component"] |= {"bom-ref": purl(name, version), "version": version, "purl": purl(name, version)}
    for tool in bill["metadata"]["tools"]["components"]:
        tool.pop("externalReferences", None)
    components = bill.get("components", [])
    for component in components:
        _tidy(component)
    _check(components, pinned)
    versions = {name: version} | {other: pin.version for other, pin in pinned.items()}
    bill["dependencies"] = [
        {
            "ref": purl(one, versions[one]),
            "dependsOn": sorted(purl(n, p.version) for n, p in pinned.items() if one in p.via),
        }
        for one in sorted(versions)
    ]
    return bill


def _tidy(component: dict[str, Any]) -> None:
    """Its files are told by name, not by where an index has them."""
    component.pop("description", None)  # the lines of the file
    component["bom-ref"] = component["purl"]
    for reference in component["externalReferences"]:
        reference["url"] = component["purl"]
        reference.pop("comment", None)


def _check(components: list[dict[str, Any]], pinned: Mapping[str, Pin]) -> None:
    told: dict[str, tuple[str, frozenset[str]]] = {
        component["name"]: (
            component["version"],
            frozenset(
                entry["content"] for reference in component["externalReferences"] for entry in reference["hashes"]
            ),
        )
        for component in components
    }
    for name, pin in pinned.items():
        if not pin.hashes or told.get(name) != (pin.version, pin.hashes):
            raise BillError(
                f"{name}: found {told.get(name)}, wanted {pin.version} with {len(pin.hashes) or 'some'} hashes"
            )
    if strangers := told.keys() - pinned.keys():
        raise BillError(f"found {', '.join(sorted(strangers))}, wanted what is pinned and nothing else")


def made(shipped: Shipped) -> str:
    """The bill of one distribution. Raises BillError."""
    version = version_of(shipped)
    requirements = (ROOT / shipped.requirements).read_text() if shipped.requirements else ""
    with tempfile.TemporaryDirectory() as directory:
        # It reads no version that is made when the project is built.
        project = (ROOT / shipped.project / "pyproject.toml").read_text()
        file = Path(directory) / "pyproject.toml"
        file.write_text(project.replace('dynamic = ["version"]', f'version = "{version}"'))
        command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "-", "--pyproject", str(file)]
        command += ["--spec-version", "1.6", "--output-reproducible", "--no-validate", "--mc-type", _type(shipped)]
        done = subprocess.run(command, input=requirements, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise BillError(f"{shipped.name}: cyclonedx-py ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    bill = completed(json.loads(done.stdout), shipped.name, version, pins(requirements))
    text = json.dumps(bill, indent=2, sort_keys=True) + "\n"
    _validate(text)
    return text


def _type(shipped: Shipped) -> str:
    return "application" if shipped.requirements else "library"


def _validate(text: str) -> None:
    """By CycloneDX's own schema. What does so is in the environment of releases alone."""
    schema = importlib.import_module("cyclonedx.schema").SchemaVersion.V1_6
    error = importlib.import_module("cyclonedx.validation.json").JsonStrictValidator(schema).validate_str(text)
    if error is not None:
        raise BillError(f"found a bill that is not CycloneDX 1.6: {str(error)[:300]}")


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for shipped in SHIPPED:
        for old in directory.glob(f"{shipped.name.replace('-', '_')}-*.cdx.json"):
            old.unlink()
        file = directory / f"{shipped.name.replace('-', '_')}-{version_of(shipped)}.cdx.json"
        file.write_text(made(shipped))
        print(file)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except BillError as error:
        print(f"scripts/sbom: error: {error}", file=sys.stderr)
        sys.exit(2)
