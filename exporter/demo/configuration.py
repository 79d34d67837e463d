"""The exporter's configuration file: all that it can tell of the demo, and of the machine beside it, is shown."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from exporter.demo.processes import Role, pid_file


def write_configuration(folder: Path, redis_url: str, watched: Iterable[Role]) -> Path:
    """Writes the file into the demo's folder; ``watched`` are the roles whose processes are shown, each as a group."""
    path = folder / "exporter.yml"
    path.write_text(json.dumps(_configuration(folder, redis_url, watched), indent=2))  # JSON is YAML
    return path


def _configuration(folder: Path, redis_url: str, watched: Iterable[Role]) -> dict[str, Any]:
    # Said, not left to the default: in a container the host would not be shown.
    told: dict[str, Any] = {
        "brokers": [{"name": "default", "url": redis_url, "redis": {"latency_percentiles": True}}],
        "host": {"enabled": True},
        "filesystem": {"enabled": True},
    }
    if sys.platform == "linux":  # nowhere else are there any
        # By pid: workers of others on this machine may have the same command.
        groups = [{"name": role.name, "pid_file": str(pid_file(folder, role))} for role in watched]
        told |= {"cgroup": {"enabled": True}, "processes": {"groups": groups}}
    return told
