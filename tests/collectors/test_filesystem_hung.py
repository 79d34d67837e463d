"""A mount that hangs for real: FUSE without a server, in a mount namespace of the exporter's own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.collectors import hung_mount
from tests.servers import EXPORTER_PYTHON, ROOT, Exporter, Series, StartExporter, wait_until

SIZE, AVAIL, ERROR = (f"taskqueue_host_filesystem_{name}" for name in ("size_bytes", "avail_bytes", "device_error"))
DEADLINE = 9.5


class Mounts:
    """A mount that hangs, one that does not, and the process that holds both."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self._process = process
        self.hung, self.healthy = str(directory / "hung"), str(directory / "healthy")

    @property
    def enter(self) -> tuple[str, ...]:
        """The command that starts an exporter where the mounts are."""
        inside = ("nsenter", f"--mount=/proc/{self._process.pid}/ns/mnt", f"--wd={ROOT}")
        return (*inside, EXPORTER_PYTHON, "-m", "exporter.cli")

    def fill(self, size: int) -> None:
        """Writes into the healthy one."""
        Path(f"/proc/{self._process.pid}/root{self.healthy}/file").write_bytes(bytes(size))

    def answer(self) -> None:
        """From now on the silent one is served."""
        assert self._process.stdin is not None
        self._process.stdin.write("answer\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Ends the server: what waits for it fails."""
        self._process.kill()
        self._process.wait()


@contextmanager
def hung_mounts(directory: Path) -> Iterator[Mounts]:
    for name in ("hung", "healthy"):
        (directory / name).mkdir()
    script = [sys.executable, hung_mount.__file__, str(directory / "hung"), str(directory / "healthy")]
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", *script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        if said != "ready\n":
            leave_out(said + process.stdout.read())
        yield Mounts(process, directory)
    finally:
        process.kill()
        process.communicate()


def leave_out(reason: str) -> None:
    """As with network namespaces: fail under CI, skip elsewhere."""
    text = f"no file system can be mounted: {reason.strip().splitlines()[-1:]}"
    if os.environ.get("CI") == "true":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    with hung_mounts(tmp_path) as made:
        yield made


@pytest.fixture
def exporter(mounts: Mounts, start_exporter: StartExporter) -> Exporter:
    return start_exporter("--collector.host", "--collector.filesystem", config="brokers: []", command=mounts.enter)


def of_mount(found: Mapping[Series, float], mountpoint: str) -> dict[str, float]:
    """Values of the families of one mount."""
    return {name: value for (name, labels), value in found.items() if ("mountpoint", mountpoint) in labels}


def succeeded(found: Mapping[Series, float]) -> bool:
    return found["taskqueue_collector_success", frozenset({("collector", "filesystem"), ("broker", "")})] == 1


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def timed(exporter: Exporter) -> tuple[float, dict[Series, float]]:
    began = time.monotonic()
    found = exporter.metrics()
    return time.monotonic() - began, found


@pytest.mark.needs("unshare", "nsenter")
def test_a_mount_that_hangs_costs_its_own_numbers_only(mounts: Mounts, exporter: Exporter) -> None:
    # given a mount that does not answer: the first scrape waits for it, but not for ever
    took, found = timed(exporter)
    assert took < DEADLINE
    assert of_mount(found, mounts.hung) == {ERROR: 1}
    assert not succeeded(found)
    assert mounts.hung in exporter.log
    before = of_mount(found, mounts.healthy)[AVAIL]
    # when the others are used, then they are fresh, and later scrapes do not wait
    mounts.fill(400_000)
    took, found = timed(exporter)
    assert took < 1
    assert of_mount(found, mounts.healthy)[AVAIL] <= before - 400_000
    assert of_mount(found, mounts.hung) == {ERROR: 1}
    # and no scrape adds a thread, nor a line to the log
    stood, logged = threads(exporter.pid), exporter.log
    for _ in range(50):
        exporter.metrics()
    wait_until(lambda: threads(exporter.pid) <= stood)
    assert exporter.log == logged


@pytest.mark.needs("unshare", "nsenter")
def test_it_is_back_when_its_server_answers_and_fails_at_once_without(mounts: Mounts, exporter: Exporter) -> None:
    # given
    assert of_mount(exporter.metrics(), mounts.hung) == {ERROR: 1}
    # when its server answers, then it is there with its numbers, without a restart
    mounts.answer()
    found = wait_until(lambda: [found for found in [exporter.metrics()] if succeeded(found)])[0]
    assert of_mount(found, mounts.hung)[SIZE] == hung_mount.BLOCKS * hung_mount.BLOCK
    assert of_mount(found, mounts.hung)[AVAIL] == hung_mount.AVAILABLE * hung_mount.BLOCK
    assert of_mount(found, mounts.hung)[ERROR] == 0
    # when the server is gone, then its mount fails, and nothing waits
    mounts.end()
    took, found = timed(exporter)
    assert took < 1
    assert of_mount(found, mounts.hung) == {ERROR: 1}
    assert of_mount(found, mounts.healthy)[ERROR] == 0


@pytest.mark.needs("unshare", "nsenter")
def test_the_exporter_ends_while_a_mount_hangs(mounts: Mounts, exporter: Exporter) -> None:
    assert of_mount(exporter.metrics(), mounts.hung) == {ERROR: 1}

    began = time.monotonic()
    assert exporter.stop() == 0

    assert time.monotonic() - began < 5
