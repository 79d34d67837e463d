"""Images as podman runs and describes them, for what scripts/image-check checks.

Everything runs as the image says, with a root that cannot be written and no tmpfs, without capabilities and without a
shell that could be started. CHECKED_IMAGE, CHECKED_SAMPLE and CHECKED_BASE name the images.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.deploy import dockerfile
from tests.servers import wait_until

IMAGE = os.environ.get("CHECKED_IMAGE", "")
SAMPLE = os.environ.get("CHECKED_SAMPLE", "")
BASE = os.environ.get("CHECKED_BASE", "")
USER = 65532
ADDRESS = "TASKQUEUE_EXPORTER_WEB_LISTEN_ADDRESS"
URL = "TASKQUEUE_EXPORTER_REDIS_URL"
HARDENED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")
SHELLS = {"/usr/bin/dash", "/usr/bin/bash"}
NO_SHELL = tuple(f"--volume=/dev/null:{shell}:ro" for shell in sorted(SHELLS))
OF_THE_ENGINE = {"/dev/mqueue", "/dev/shm"}
"""Where every container can write, whatever its root is like."""
HEALTHCHECK = dockerfile.image("exporter").healthcheck or ()


def podman(*arguments: str, input_: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["podman", *arguments], capture_output=True, text=True, input=input_, timeout=120)


def inspected(kind: str, name: str) -> dict[str, Any]:
    """What podman tells of an image or a container."""
    (found,) = json.loads(podman(kind, "inspect", name).stdout)
    return dict(found)


class Container:
    """A container that runs in the background, hardened; removed by `remove`."""

    def __init__(self, image: str, *command: str, options: tuple[str, ...] = (), env: Mapping[str, str]) -> None:
        variables = [f"--env={name}={value}" for name, value in env.items()]
        started = podman("run", "--detach", *HARDENED, *NO_SHELL, *options, *variables, image, *command)
        assert started.returncode == 0, started.stderr
        self.name = started.stdout.split()[-1]

    @property
    def state(self) -> dict[str, Any]:
        return dict(inspected("container", self.name)["State"])

    @property
    def logs(self) -> str:
        ended = podman("logs", self.name)
        return ended.stdout + ended.stderr

    def proc(self, file: str) -> str:
        """A file below /proc of its first process, as this machine sees it."""
        return Path(f"/proc/{self.state['Pid']}/{file}").read_text()

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in it."""
        return podman("exec", *(f"--env={name}={value}" for name, value in env.items()), self.name, *command)

    def python(self, code: str) -> list[str]:
        """The lines that a program prints in it."""
        ended = self.run("python", "-c", code)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.splitlines()

    def wait_until_healthy(self) -> None:
        wait_until(lambda: self.run(*HEALTHCHECK).returncode == 0, deadline=30, interval=0.2)

    def remove(self) -> None:
        podman("rm", "--force", "--time=0", self.name)
