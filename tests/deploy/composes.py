"""Compose, old and new, asked about docker-compose.yml."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.deploy import composed
from tests.servers import ROOT

OLD: Final = ("docker-compose",)
"""1.29 as Debian has it."""
NEW: Final = ("docker", "compose")
"""Compose 2, a plugin that not every machine has. It shows the services of the profile alone."""

needs_old = pytest.mark.needs(OLD[0])
each_compose = pytest.mark.parametrize(
    "compose", [pytest.param(OLD, marks=needs_old, id="1.29"), pytest.param(NEW, id="2")]
)


def run(
    *argv: str, environment: Mapping[str, str] | None = None, directory: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Runs Compose in a directory with these variables, and none that it would take from where the tests run. Skips the
    test where there is no Compose 2 for it."""
    if argv[: len(NEW)] == NEW and not has_new():
        pytest.skip("no Compose 2 here")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in composed.variables() and not name.startswith("COMPOSE_")
    }
    environment = inherited | dict(environment or {})
    return subprocess.run(argv, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=60)


@cache
def has_new() -> bool:
    return (
        shutil.which(NEW[0]) is not None
        and not subprocess.run([*NEW, "version"], capture_output=True, check=False, timeout=60).returncode
    )
