"""promtool, which comes with Prometheus."""

from __future__ import annotations

import subprocess
from pathlib import Path


def promtool(*arguments: str | Path) -> str:
    """What it says; AssertionError with that unless it ends well."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
