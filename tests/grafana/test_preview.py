"""The check of fields finds what it is to find: its own tests, in Node."""

from __future__ import annotations

import subprocess

import pytest

from tests.servers import ROOT


@pytest.mark.needs("node", "npm")
def test_what_the_check_finds() -> None:
    ran = subprocess.run(["npm", "test"], cwd=ROOT / "grafana/preview", capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
