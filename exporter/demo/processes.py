"""Starting, watching and stopping the demo's child processes."""

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
import sysconfig
import time
from asyncio import sleep
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from exporter.demo.errors import ChildFailed

TICK = 0.1
"""Seconds between two looks at the children."""

PATIENCE = 6.0
"""Seconds that a child may take to end after SIGTERM; a Celery worker finishes what it runs."""

TAIL_LINES = 12
PR_SET_PDEATHSIG = 1  # linux/prctl.h

OWN_PACKAGES = ("exporter", "taskqueue_hooks")

FOREIGN_SETTINGS = ("TASKQUEUE_", "CELERY_", "ARQ_")
"""Prefixes of environment variables that children must not see: CELERY_BROKER_URL of the user's shell would
override the demo's own broker (celery/app/utils.py) and send the workload to a real one."""


@dataclass(frozen=True, slots=True)
class Role:
    """One process to start: what it is called, how it starts, and the queues it consumes as a worker of a system."""

    name: str
    command: Sequence[str]
    what: str
    system: str = ""
    queues: tuple[str, ...] = ()


def pid_file(folder: Path, role: Role) -> Path:
    """Where the pid of a role's process stands once it was started."""
    return folder / f"{role.name}.pid"


@dataclass(frozen=True, slots=True)
class Child:
    """A role's running process, the leader of a session and process group of its own."""

    role: Role
    process: subprocess.Popen[bytes]
    log: Path

    def alive(self) -> bool:
        return self.process.poll() is None

    def ending(self) -> str:
        """How it ended, when it has."""
        code = self.process.returncode
        end = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        return f"ended unexpectedly with {end}"

    def failure(self, what: str) -> ChildFailed:
        """The error that says ``what`` it did, with the last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        headline = f"{self.role.name} (pid {self.process.pid}) {what}; its log ends:"
        return ChildFailed("\n    ".join([headline, *(lines or ["(nothing written)"])]))


class Supervisor:
    """The demo's children in the order they started; stopped in the reverse order, stage by stage."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = child_environment(settings)
        self._stages: list[list[Child]] = []

    def children(self) -> list[Child]:
        return [child for stage in self._stages for child in stage]

    def start(self, *roles: Role) -> list[Child]:
        """Starts the roles as one stage."""
        self._stages.append([])
        for role in roles:
            # One by one: what runs is known, and stopped, even if the next cannot start.
            self._stages[-1].append(self._spawn(role))
        return self._stages[-1]

    def _spawn(self, role: Role) -> Child:
        log = self.folder / f"{role.name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - commands of our own making, no shell
                role.command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        pid_file(self.folder, role).write_text(f"{process.pid}\n")
        return Child(role, process, log)

    def check(self) -> None:
        """Raises ChildFailed if a child has ended; the one started first, for the others may have died of it."""
        for child in self.children():
            if not child.alive():
                raise child.failure(child.ending())

    async def pause(self, seconds: float) -> None:
        """Sleeps while every child lives; raises ChildFailed otherwise."""
        end = time.monotonic() + seconds
        self.check()
        while (left := end - time.monotonic()) > 0:
            await sleep(min(TICK, left))
            self.check()

    async def stop(self) -> None:
        """Ends every child and whatever it started: SIGTERM, then SIGKILL for what is left when patience ends."""
        while self._stages:
            await _stop_stage(self._stages[-1])
            self._stages.pop()


async def _stop_stage(stage: Sequence[Child]) -> None:
    for child in stage:
        # To the leader alone: a Celery worker's pool would be torn down under its running jobs.
        child.process.terminate()
    deadline = time.monotonic() + PATIENCE
    while any(child.alive() for child in stage) and time.monotonic() < deadline:  # noqa: ASYNC110 - no event tells
        await sleep(TICK)
    for child in stage:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()


def _die_with_parent() -> Callable[[], None] | None:
    """What a child does before exec, on Linux, so that it ends even when the demo is killed with SIGKILL."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: the fork should do as little as possible
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def child_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without the user's queue settings, plus ``settings``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_SETTINGS)}
    return kept | {"PYTHONUNBUFFERED": "1"} | _import_path(kept) | dict(settings)


def _import_path(environment: Mapping[str, str]) -> dict[str, str]:
    """Lets children import the same packages of ours as this process does, even from a checkout that is not installed.

    Children run in the temporary folder, so that a user's own exporter.py in the current directory is not theirs.
    """
    roots = dict.fromkeys(map(_root, OWN_PACKAGES))
    added = [root for root in roots if root not in ("", sysconfig.get_path("purelib"))]
    return {"PYTHONPATH": os.pathsep.join(filter(None, [*added, environment.get("PYTHONPATH")]))} if added else {}


def _root(package: str) -> str:
    """The directory from which a package is imported; empty if it is not there."""
    found = importlib.util.find_spec(package)
    return "" if found is None or found.origin is None else str(Path(found.origin).resolve().parents[1])
