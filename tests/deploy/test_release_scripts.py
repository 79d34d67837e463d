"""scripts/dist, sbom and audit: of a checkout of its own; nothing found is passed over. See also release_checks.py."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers import ROOT

AUDITED = [f"requirements/{name}.txt" for name in ("exporter", "stack-arq", "stack-celery57")]
IDENTITY = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")


def git(*arguments: str, cwd: Path) -> None:
    subprocess.run(["git", *IDENTITY, *arguments], cwd=cwd, capture_output=True, check=True, timeout=60)


@pytest.mark.needs("git")
@pytest.mark.parametrize("script", ["dist", "sbom"])
def test_what_lies_in_another_repository_is_not_released_as_its_commit(tmp_path: Path, script: str) -> None:
    git("init", "--quiet", cwd=tmp_path)
    git("commit", "--quiet", "--allow-empty", "--message", "Not ours", cwd=tmp_path)
    unpacked = tmp_path / "taskqueue_exporter"
    shutil.copytree(ROOT / "scripts", unpacked / "scripts")

    done = subprocess.run(
        [unpacked / "scripts" / script], cwd=unpacked, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 2
    assert "found no Git checkout with its top here" in done.stderr


PIP_AUDIT = """#!/bin/sh
echo "$*" >>asked
case "$*" in *" $FOUND_IN") exit 1 ;; esac
"""


@pytest.mark.parametrize("found_in", [*AUDITED, "nothing"])
def test_a_vulnerability_in_any_of_the_pins_is_a_failure(tmp_path: Path, found_in: str) -> None:
    stub = tmp_path / ".venv-release" / "bin" / "python"
    stub.parent.mkdir(parents=True)
    stub.write_text(PIP_AUDIT)
    stub.chmod(0o755)

    done = subprocess.run(
        [ROOT / "scripts" / "audit"],
        cwd=tmp_path,
        env={**os.environ, "FOUND_IN": found_in},
        capture_output=True,
        check=False,
        timeout=60,
    )

    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[-1] for line in asked] == AUDITED
    assert all({"pip_audit", "--strict", "--require-hashes"} <= set(line.split()) for line in asked)
    assert (done.returncode == 0) == (found_in == "nothing")
