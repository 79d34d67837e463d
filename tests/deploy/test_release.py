"""What is released: wheels, source distributions, bills. See also test_release_scripts.py, tests/e2e/test_wheel.py."""

from __future__ import annotations

import configparser
import email.parser
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

import exporter
import taskqueue_hooks
from scripts.bills import BillError, completed, pins
from tests.servers import ROOT

PROJECTS = {
    "taskqueue_exporter": (ROOT, "exporter", exporter.__version__),
    "taskqueue_hooks": (ROOT / "hooks", "taskqueue_hooks", taskqueue_hooks.__version__),
}
"""Directory, package and version of each distribution."""

BUILD = "import sys, hatchling.build as b; print(getattr(b, 'build_' + sys.argv[1])(sys.argv[2]))"


def build(kind: str, source: Path, into: Path) -> Path:
    """A `wheel` or an `sdist` of a project, as PEP 517 has it made."""
    into.mkdir(exist_ok=True)
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    command = [sys.executable, "-c", BUILD, kind, str(into)]
    done = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return into / done.stdout.split()[-1]


@pytest.fixture(scope="module", params=PROJECTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(name: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The distributions of one project, by kind; each is built once."""
    directory, found = tmp_path_factory.mktemp(name), dict[str, Path]()

    def of_kind(kind: str) -> Path:
        if kind not in found:
            found[kind] = build(kind, PROJECTS[name][0], directory)
        return found[kind]

    return of_kind


@pytest.fixture
def wheel(made: Callable[[str], Path]) -> zipfile.ZipFile:
    return zipfile.ZipFile(made("wheel"))


def metadata(wheel: zipfile.ZipFile, info: str) -> Message:
    return email.parser.Parser().parsestr(wheel.read(f"{info}/METADATA").decode())


def test_a_wheel_holds_the_package_and_nothing_else(name: str, wheel: zipfile.ZipFile) -> None:
    directory, package, version = PROJECTS[name]
    info = f"{name}-{version}.dist-info"
    files = {path.relative_to(directory) for path in (directory / package).rglob("*") if path.is_file()}
    code = {path.as_posix() for path in files if "__pycache__" not in path.parts}

    held = set(wheel.namelist())

    assert {path for path in held if not path.startswith(f"{info}/")} == code
    assert f"{package}/py.typed" in held
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_a_wheel_says_what_the_package_says(name: str, wheel: zipfile.ZipFile) -> None:
    directory, _, version = PROJECTS[name]
    info = f"{name}-{version}.dist-info"
    project = tomllib.loads((directory / "pyproject.toml").read_text())["project"]

    told = metadata(wheel, info)

    assert (told["Name"], told["Version"], told["License-Expression"]) == (project["name"], version, "MIT")
    entry_points = configparser.ConfigParser()
    if f"{info}/entry_points.txt" in wheel.namelist():
        entry_points.read_string(wheel.read(f"{info}/entry_points.txt").decode())
    scripts = dict(entry_points["console_scripts"]) if "console_scripts" in entry_points else {}
    assert scripts == project.get("scripts", {})


def test_a_source_distribution_makes_the_same_wheel(made: Callable[[str], Path], tmp_path: Path) -> None:
    with tarfile.open(made("sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()

    again = build("wheel", source, tmp_path / "again")

    assert again.read_bytes() == made("wheel").read_bytes()


def test_a_distribution_is_the_same_each_time(name: str, made: Callable[[str], Path], tmp_path: Path) -> None:
    for kind in ("sdist", "wheel"):
        assert build(kind, PROJECTS[name][0], tmp_path).read_bytes() == made(kind).read_bytes()


@pytest.mark.needs("git")
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="of a Git checkout alone, with its top here")
@pytest.mark.parametrize("name", ["taskqueue_exporter"], scope="module")
def test_the_source_distribution_of_the_exporter_is_the_checkout(made: Callable[[str], Path]) -> None:
    """All that `make` needs, for whoever packages or tests it, and nothing that only lies there."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()

    with tarfile.open(made("sdist")) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers()}

    expected = {file for file in files if (ROOT / file).is_file() and not file.startswith(".ci/")}
    assert held == expected | {"PKG-INFO"}


LINE = """redis==5.3.1 \\
    --hash=sha256:{hash}
    # via taskqueue-exporter (pyproject.toml)
pyjwt==2.15.1 ; python_version < '4' \\
    --hash=sha256:{hash}
    # via
    #   -c requirements/stack-arq.txt
    #   redis
"""


def raw_bill(**changed: str) -> dict[str, Any]:
    """What cyclonedx-py makes of `LINE`."""
    components = [
        {
            "name": name,
            "version": changed.get(name, version),
            "purl": f"pkg:pypi/{name}@{version}",
            "externalReferences": [{"url": "index", "hashes": [{"alg": "SHA-256", "content": "0" * 64}]}],
        }
        for name, version in (("redis", "5.3.1"), ("pyjwt", "2.15.1"))
    ]
    return {"metadata": {"component": {"name": "x"}, "tools": {"components": []}}, "components": components}


def test_a_bill_says_who_needs_whom() -> None:
    bill = completed(raw_bill(), "taskqueue-exporter", "1.2.3", pins(LINE.format(hash="0" * 64)))

    needs = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert needs == {
        "pkg:pypi/taskqueue-exporter@1.2.3": ["pkg:pypi/redis@5.3.1"],
        "pkg:pypi/redis@5.3.1": ["pkg:pypi/pyjwt@2.15.1"],
        "pkg:pypi/pyjwt@2.15.1": [],
    }


@pytest.mark.parametrize(
    ("bill", "lines"),
    [
        pytest.param(raw_bill(redis="5.3.0"), LINE.format(hash="0" * 64), id="another version"),
        pytest.param(raw_bill(), LINE.format(hash="1" * 64), id="another hash"),
        pytest.param(raw_bill(), LINE.replace("    --hash=sha256:{hash}\n", ""), id="no hash"),
        pytest.param(raw_bill(), LINE.format(hash="0" * 64).partition("pyjwt")[0], id="one too many"),
        pytest.param({**raw_bill(), "components": []}, LINE.format(hash="0" * 64), id="none"),
    ],
)
def test_a_bill_that_does_not_hold_what_is_pinned_is_refused(bill: dict[str, Any], lines: str) -> None:
    with pytest.raises(BillError, match="wanted"):
        completed(bill, "taskqueue-exporter", "1.2.3", pins(lines))


def test_what_makes_a_release_is_what_the_tests_build_with() -> None:
    def pinned(name: str) -> list[str]:
        return re.findall(r"^hatchling==\S+", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE)

    assert pinned("release") == pinned("build") != []
