"""Tests that are ended leave no server behind. Where they share the work among processes they may: those are waited
for only so long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT, wait_until

ENDLESS = """
import time
from pathlib import Path
import pytest
from tests.servers import Process

HERE = Path(__file__).parent

@pytest.fixture
def server():
    process = Process(["sleep", "600"], HERE / "log", cwd=HERE)
    (HERE / "told").write_text(str(process.pid))
    (HERE / "told").rename(HERE / "pid")
    yield process
    process.stop()

def test_endless(server):
    while True:
        time.sleep(0.1)
"""


def test_what_a_fixture_started_ends_with_the_tests(tmp_path: Path) -> None:
    file = tmp_path / "test_endless.py"
    file.write_text(ENDLESS)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-n0"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    tests = subprocess.Popen(
        [*command, "--rootdir", tmp_path, "-c", os.devnull, file], cwd=ROOT, env=env, stdout=subprocess.DEVNULL
    )
    try:
        pid = int(wait_until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text(), 30))
        tests.send_signal(signal.SIGTERM)
        assert tests.wait(30) == pytest.ExitCode.INTERRUPTED
    finally:
        tests.kill()
        tests.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
