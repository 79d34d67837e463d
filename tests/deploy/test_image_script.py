"""scripts/image: which builder it takes, and what it tells it; with builders that only say what they were told."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from exporter import __version__
from tests.servers import ROOT

FILES: Final = ("scripts/image", "exporter/__init__.py", "Dockerfile", ".dockerignore", "README.md")
BUILDERS: Final = ("docker", "podman", "buildah")

pytestmark = pytest.mark.needs("git")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of what the script reads, with one commit."""
    top = tmp_path / "checkout"
    for name in FILES:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, top / name)
    commit(top)
    return top


def commit(top: Path) -> None:
    for argv in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]):
        subprocess.run(["git", *argv], cwd=top, check=True, env=environment())


def environment(**more: str) -> dict[str, str]:
    """Without what Git would take from where the tests run."""
    left_out = ("GIT_", "BUILDER", "TAG")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)} | more


def build(top: Path, *argv: str, builders: Sequence[str] = ("docker",), **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the script where there are these builders alone; they print what they were told. A docker that is named
    `client` has no engine."""
    tools = top.parent / "tools"
    shutil.rmtree(tools, ignore_errors=True)
    tools.mkdir()
    for name in ("sh", "dirname", "sed", "git", "date"):
        (tools / name).symlink_to(shutil.which(name) or name)
    for name in builders:
        script = tools / ("docker" if name == "client" else name)
        engine = "exit 1" if name == "client" else "exit 0"
        script.write_text(f'#!/bin/sh\n[ "$1" != version ] || {engine}\necho {script.name} "$@"\n')
        script.chmod(0o755)
    command = [str(top / "scripts" / "image"), *argv]
    return subprocess.run(command, env=environment(PATH=str(tools), **env), capture_output=True, text=True, timeout=30)


def revision(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = re.findall(r"REVISION=(\S*)", done.stdout)
    return str(found)


@pytest.mark.parametrize(
    ("options", "tag", "stage", "name"),
    [
        ([], "", "exporter", f"taskqueue-exporter:{__version__}"),
        (["--sample"], "", "sample", f"taskqueue-exporter-sample:{__version__}"),
        ([], "mine", "exporter", "taskqueue-exporter:mine"),
    ],
)
def test_it_names_what_it_builds(checkout: Path, options: list[str], tag: str, stage: str, name: str) -> None:
    done = build(checkout, *options, "--quiet", TAG=tag)
    told, last = done.stdout.splitlines()

    assert last == name
    assert f" --target {stage} --tag {name} " in told
    assert f" --build-arg VERSION={__version__} " in told
    assert re.search(r" --build-arg CREATED=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ --quiet \.$", told)


@pytest.mark.parametrize(
    ("there", "asked", "taken"),
    [
        (BUILDERS, "", "docker"),
        (("client", "podman", "buildah"), "", "podman"),
        (("buildah",), "", "buildah"),
        (BUILDERS, "buildah", "buildah"),
    ],
)
def test_it_takes_the_first_builder_that_can(checkout: Path, there: tuple[str, ...], asked: str, taken: str) -> None:
    told = build(checkout, builders=there, BUILDER=asked).stdout.splitlines()[0]

    assert told.startswith(f"{taken} build ")
    assert ("--format docker" in told) == (taken != "docker")


@pytest.mark.parametrize(("there", "asked", "found"), [((), "", "none of docker"), (("docker",), "kaniko", "'kaniko'")])
def test_without_a_builder_it_says_so(checkout: Path, there: tuple[str, ...], asked: str, found: str) -> None:
    done = build(checkout, builders=there, BUILDER=asked)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"found {found}" in done.stderr


def test_the_revision_is_that_of_what_is_built(checkout: Path) -> None:
    clean = revision(build(checkout))
    (checkout / "docs").mkdir()
    (checkout / "docs" / "notes.md").write_text("not in the image")
    beside = revision(build(checkout))
    (checkout / "exporter" / "new.py").write_text("in the image")
    added = revision(build(checkout))

    assert re.fullmatch("[0-9a-f]{40}", clean)
    assert [beside, added] == [clean, f"{clean}-dirty"]


def test_what_was_changed_is_marked(checkout: Path) -> None:
    (checkout / "README.md").write_text("changed")

    assert revision(build(checkout)).endswith("-dirty")


@pytest.mark.parametrize("inside_another", [True, False])
def test_a_tree_that_is_no_checkout_has_no_revision(checkout: Path, inside_another: bool) -> None:
    shutil.rmtree(checkout / ".git")
    if inside_another:
        commit(checkout.parent)

    assert revision(build(checkout)) == ""
