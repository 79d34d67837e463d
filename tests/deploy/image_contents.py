"""What the built images hold. Not collected: scripts/image-check calls it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from exporter import __version__
from tests.deploy import dockerfile
from tests.deploy.containers import BASE, IMAGE, SAMPLE, USER, inspected, podman
from tests.servers import ROOT

SETUID = """
import os
for folder, folders, files in os.walk("/"):
    if folder in ("/proc", "/sys"):
        folders.clear()
    for path in (os.path.join(folder, name) for name in files):
        if not os.path.islink(path) and os.stat(path).st_mode & 0o6000:
            print(path)
"""


@pytest.mark.parametrize("image", [IMAGE, SAMPLE])
def test_nothing_in_it_changes_who_runs_it(image: str) -> None:
    def found(image: str) -> list[str]:
        return podman("run", "--rm", "--user=0", "--entrypoint=python3", image, "-c", SETUID).stdout.split()

    assert found(BASE)  # the base has some, so the search can find one
    assert found(image) == []


BYTECODE = """
from pathlib import Path
from importlib.util import cache_from_source
for path in Path("/opt/taskqueue-exporter/lib").rglob("*.py"):
    cached = Path(cache_from_source(path))
    print(path, cached.read_bytes()[4:8].hex() if cached.exists() else None)
"""
UNCHECKED = "01000000"
"""The flags of bytecode that is not compared with its source (PEP 552)."""


@pytest.mark.parametrize("image", [IMAGE, SAMPLE])
def test_all_modules_have_bytecode_that_stays_good_whatever_becomes_of_their_times(image: str) -> None:
    listed = podman("run", "--rm", "--entrypoint=python", image, "-c", BYTECODE).stdout.splitlines()
    modules = [line for line in listed if "/bin/" not in line]

    assert len(modules) > 500
    assert [line for line in modules if not line.endswith(UNCHECKED)] == []


@pytest.mark.parametrize(("image", "stage"), [(IMAGE, "exporter"), (SAMPLE, "sample")])
def test_it_is_labelled_and_says_no_more_than_the_dockerfile(image: str, stage: str) -> None:
    wanted = dockerfile.image(stage)
    config = inspected("image", image)["Config"]
    labels = config["Labels"]
    names = {line.partition("=")[0] for line in config["Env"]}

    assert wanted.labels.keys() <= labels.keys()
    assert labels["org.opencontainers.image.version"] == __version__
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", labels["org.opencontainers.image.revision"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["org.opencontainers.image.created"])
    assert names - {"container"} == {*wanted.env, "PATH"}
    assert config["User"] == f"{USER}:{USER}"


FILES = """
import hashlib, os, sys
for root in ("/etc", "/usr/local", "/root", "/build", "/tools", "/wheels", "/wheels-hooks", "/own"):
    for folder, _, files in os.walk(root):
        for path in sorted(os.path.join(folder, name) for name in files):
            if os.path.isfile(path) and os.access(path, os.R_OK):
                print(path, hashlib.sha256(open(path, "rb").read()).hexdigest())
"""
BY_THE_ENGINE = r"/etc/(hosts|hostname|resolv\.conf|mtab|passwd|group)\b"


@pytest.mark.parametrize("image", [IMAGE, SAMPLE])
def test_nothing_of_the_machine_that_built_it_is_in_it(image: str) -> None:
    def files(image: str) -> set[str]:
        listed = podman("run", "--rm", "--user=0", "--entrypoint=python3", image, "-c", FILES).stdout.splitlines()
        return {line for line in listed if not re.match(BY_THE_ENGINE, line)}

    before, after = files(BASE), files(image)

    assert len(before) > 100
    assert sorted(after - before) == sorted(before - after) == []


def test_it_holds_the_pinned_versions_and_no_pip() -> None:
    listing = "from importlib.metadata import distributions as all\nfor each in all(): print(each.name, each.version)"
    pins = re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / "requirements" / "exporter.txt").read_text(), re.MULTILINE)
    listed = podman("run", "--rm", "--entrypoint=python", IMAGE, "-c", listing).stdout.splitlines()
    found = {tuple(line.lower().replace("_", "-").split()) for line in listed}

    assert found == {*pins, ("taskqueue-exporter", __version__)} - {pin for pin in pins if pin[0] == "async-timeout"}


def test_the_size_is_as_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = inspected("image", BASE)["Size"]
    lines = []
    for image in (IMAGE, SAMPLE):
        folder = tmp_path / image.rpartition("/")[2].replace(":", "-")
        assert podman("push", "--quiet", "--compress", image, f"dir:{folder}").returncode == 0
        first, *others = json.loads((folder / "manifest.json").read_text())["layers"]
        whole, ours = inspected("image", image)["Size"] - base, sum(layer["size"] for layer in others)
        lines.append(
            f"{image}: {whole / 1e6:.0f} MB on top of {base / 1e6:.0f} MB; "
            f"{ours / 1e6:.0f} MB on top of {first['size'] / 1e6:.0f} MB compressed"
        )
    with capsys.disabled():
        print("", *lines, sep="\n")

    text = (ROOT / "docs" / "deployment.md").read_text()
    stated = re.findall(r"adds (\d+) MB \((\d+) MB compressed\)", text)
    measured = [re.findall(r"(\d+) MB on top of", line) for line in lines]
    assert len(stated) == len(measured)
    for said, found in zip(stated, measured, strict=True):
        assert [int(number) for number in found] == pytest.approx([int(number) for number in said], rel=0.1, abs=1)
    (whole,) = re.findall(r"base of (\d+) MB[^.]*, they have (\d+) MB and\s(\d+) MB in all", text)
    sizes = [inspected("image", image)["Size"] / 1e6 for image in (BASE, IMAGE, SAMPLE)]
    assert sizes == pytest.approx([int(number) for number in whole], rel=0.1)
