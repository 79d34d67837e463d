"""A release, made whole and installed. Not collected, as it takes a while: `make release-check` calls it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import exporter
import taskqueue_hooks
from scripts.bills import SHIPPED
from tests.deploy.test_release import build
from tests.deploy.test_systemd import WHEEL
from tests.deploy.unit import commands
from tests.servers import ROOT

RELEASE_PYTHON = ROOT / ".venv-release" / "bin" / "python"
PROJECTS = {"taskqueue_exporter": exporter.__version__, "taskqueue_hooks": taskqueue_hooks.__version__}
KNOWN_URLS = ("http://cyclonedx.org/schema/", "https://github.com/")
OURS = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]


def git(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(["git", *OURS, *arguments], cwd=cwd, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies here, committed."""
    if not (ROOT / ".git").exists():
        pytest.skip("of a Git checkout alone, with its top here")
    top = tmp_path_factory.mktemp("repository")
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for file in (file for file in listed if (ROOT / file).is_file()):
        (top / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, top / file)
    git("init", "--quiet", cwd=top)
    git("add", "--all", cwd=top)
    git("commit", "--quiet", "--message", "All", cwd=top)
    return top


def cloned(repository: Path, directory: Path, **settings: str) -> Path:
    options = [part for name, value in settings.items() for part in ("-c", f"core.{name}={value}")]
    git("clone", "--quiet", *options, str(repository), str(directory), cwd=repository)
    (directory / ".venv-release").symlink_to(RELEASE_PYTHON.parent.parent)
    return directory


def made(checkout: Path, script: str, umask: int = 0o022, **env: str) -> Mapping[str, bytes]:
    """What a script of a checkout leaves in its dist/."""
    done = subprocess.run(
        [checkout / "scripts" / script],
        cwd=checkout,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        umask=umask,
    )
    assert done.returncode == 0, done.stderr
    return {file.name: file.read_bytes() for file in (checkout / "dist").iterdir()}


def test_what_is_released_is_the_commit_and_the_same_everywhere(repository: Path, tmp_path: Path) -> None:
    one = cloned(repository, tmp_path / "one")
    other = cloned(repository, tmp_path / "other", autocrlf="true", eol="crlf")
    (one / "exporter" / "stray.py").touch()
    (other / "LICENSE").write_text("Another\n")

    released = made(one, "dist", SOURCE_DATE_EPOCH="1")

    assert released == made(other, "dist", umask=0o077)
    wanted = {f"{name}-{v}{end}" for name, v in PROJECTS.items() for end in (".tar.gz", "-py3-none-any.whl")}
    assert released.keys() == wanted
    (sdist,) = (one / "dist").glob("taskqueue_exporter-*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers()}
    listed = git("ls-files", cwd=repository).splitlines()
    assert held == {file for file in listed if not file.startswith(".ci/")} | {"PKG-INFO"}


def test_the_bills_are_of_the_commit_and_the_same_everywhere(repository: Path, tmp_path: Path) -> None:
    one = cloned(repository, tmp_path / "one")
    other = cloned(repository, tmp_path / "other", autocrlf="true", eol="crlf")
    (one / "requirements" / "exporter.txt").write_text("")
    (other / "dist").mkdir()
    (other / "dist" / "taskqueue_exporter-0.0.1.cdx.json").touch()

    bills = made(one, "sbom", SOURCE_DATE_EPOCH="1")

    assert bills == made(other, "sbom", umask=0o077)
    assert len(bills) == len(SHIPPED)
    for shipped in SHIPPED:
        name = shipped.name.replace("-", "_")
        text = bills[f"{name}-{PROJECTS[name]}.cdx.json"].decode()
        assert [url for url in re.findall(r"https?://[^\"\s]+", text) if not url.startswith(KNOWN_URLS)] == []
        assert not re.search(re.escape(str(Path.home())) + "|/tmp/", text)
        bill = json.loads(text)
        assert bill["specVersion"] == "1.6"
        assert bill["metadata"]["component"]["version"] == PROJECTS[name]
        assert bill["metadata"]["component"]["licenses"][0]["license"]["id"] == "MIT"
        lines = (ROOT / shipped.requirements).read_text() if shipped.requirements else ""
        wanted = set(re.findall(r"^([a-z0-9.-]+)==(\S+)", lines, re.MULTILINE))
        assert {(part["name"], part["version"]) for part in bill.get("components", [])} == wanted


def test_the_unit_may_read_what_was_installed_whatever_the_umask(tmp_path: Path) -> None:
    """The document's commands but for two that need an index or root; the wheel is installed alone."""
    wheel = build("wheel", ROOT, tmp_path / "dist")
    (tmp_path / "etc" / "systemd" / "system").mkdir(parents=True)
    for directory in (tmp_path / "etc").rglob("*"):
        directory.chmod(0o755)
    lines = [line for line in commands("systemd")[0] if not re.search("--require-hashes|^setpriv ", line)]
    script = "\n".join(lines).replace("/usr/bin/python3", sys.executable).replace(WHEEL, f"--no-index {wheel}")
    script = re.sub(r" (?=/(?:opt|etc)/)|^(?=/opt/)", lambda found: f"{found[0]}{tmp_path}", script, flags=re.MULTILINE)

    subprocess.run(["sh", "-euc", script], cwd=ROOT, umask=0o077, capture_output=True, check=True, timeout=120)

    installed = [path for top in ("opt", "etc") for path in (tmp_path / top).rglob("*")]
    assert tmp_path / "opt" / "taskqueue-exporter" / "bin" / "taskqueue-exporter" in installed
    closed = [path for path in installed if not path.stat().st_mode & 0o004]
    assert closed == [tmp_path / "etc" / "taskqueue-exporter" / "redis-url"]
