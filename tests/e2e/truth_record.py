"""What jobs do, and write down about it: one line for each thing that happened, appended to one file by all processes.

For every environment that runs workers, of old libraries too: it imports msgspec, and nothing else that is installed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

RECORD = "E2E_TRUTH_RECORD"
"""The environment variable that names the file."""
WORKER = "E2E_TRUTH_WORKER"
"""The environment variable that says what kind of worker a process is, where there are several."""
HOOKED, PLAIN = "hooked", "plain"
"""The kinds of ARQ workers: instrumented with `taskqueue_hooks`, or not."""
UNKNOWN = "__unknown__"


# -- what jobs raise --------------------------------------------------------------------------------------------


class Refused(Exception):
    """An exception of the application's own."""


# Made anew each time: an exception that is raised again drags its old tracebacks along.
FAILURES: dict[str, Callable[[], Exception]] = {
    "ValueError": lambda: ValueError("no such address"),
    "KeyError": lambda: KeyError("amount"),
    "Refused": lambda: Refused("by the bank", 402),
}


# -- the record -------------------------------------------------------------------------------------------------


class Enqueued(msgspec.Struct, tag=True, frozen=True, gc=False):
    """An enqueuer gave a job away, to be run from `due` on. `fate` is how it must end where no function can tell:
    an outcome, for a failure with its exception (`failed/MaxTriesExceeded`)."""

    job: str
    task: str
    queue: str
    at: float
    due: float
    fate: str | None = None


class Started(msgspec.Struct, tag=True, frozen=True, gc=False):
    """A function began to run, in a worker of that kind."""

    job: str
    at: float
    worker: str = ""


class Ended(msgspec.Struct, tag=True, frozen=True, gc=False):
    """It ended: `retried`, or with an outcome as in `Enqueued.fate`."""

    job: str
    at: float
    how: str
    worker: str = ""


Line = Enqueued | Started | Ended


class Recorder:
    """Appends lines to a file that many processes write to: each line is one write at the file's end."""

    def __init__(self, path: Path | str, worker: str = "") -> None:
        self._worker = worker
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def enqueued(
        self, job: str, task: str, queue: str, *, delay: float = 0.0, fate: str | None = None, at: float | None = None
    ) -> None:
        """`delay` is what the enqueuer asked for; `at` is now unless it was another moment."""
        moment = time.time() if at is None else at
        self._write(Enqueued(job, task, queue, moment, moment + delay, fate))

    def started(self, job: str) -> None:
        self._write(Started(job, time.time(), self._worker))

    def ended(self, job: str, how: str) -> None:
        self._write(Ended(job, time.time(), how, self._worker))

    def _write(self, line: Line) -> None:
        os.write(self._descriptor, msgspec.json.encode(line) + b"\n")


def recorder() -> Recorder:
    """The recorder of a worker process; without a file to write to, what it records goes nowhere."""
    return Recorder(os.environ.get(RECORD, os.devnull), os.environ.get(WORKER, ""))
