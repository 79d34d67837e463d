"""Fixtures of the collectors' tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from tests.collectors.hanging import Hanging
from tests.collectors.process_groups import Start, end, mark


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Start `python -c code`, with a word in its command line that no other process has; killed in the end."""
    with ExitStack() as stack:

        def start(code: str = "import time; print('up', flush=True); time.sleep(100)", word: str = "") -> psutil.Popen:
            command = [sys.executable, "-c", code, word or mark(request)]
            process = psutil.Popen(command, stdout=subprocess.PIPE, text=True)
            stack.callback(end, process)
            assert process.stdout.readline()
            return process

        yield start


@pytest.fixture
def word(request: pytest.FixtureRequest) -> str:
    return mark(request)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    """A statvfs that answers, and hangs for the paths that it is told."""
    made = Hanging()
    yield made
    made.release()
