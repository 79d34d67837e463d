"""Supervision of child processes."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from exporter.demo import processes
from exporter.demo.errors import ChildFailed
from exporter.demo.processes import Child, Role, Supervisor, child_environment, pid_file
from tests.servers import wait_until

STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print("ready", flush=True)
grandchild.wait()
"""


def python(name: str, code: str) -> Role:
    return Role(name, [sys.executable, "-c", code], "")


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest_asyncio.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(tmp_path, {})
    yield supervisor
    await supervisor.stop()


def written(child: Child, text: str) -> None:
    wait_until(lambda: text in child.log.read_text(), deadline=20)


async def test_a_child_that_ignores_sigterm_and_its_own_children_are_killed(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    (child,) = supervisor.start(python("stubborn", STUBBORN))
    written(child, "ready")
    family = psutil.Process(child.process.pid).children()

    await supervisor.stop()

    assert not child.alive()
    assert len(family) == 1
    wait_until(lambda: all(map(gone, family)), deadline=20)


async def test_stages_stop_in_reverse_order(supervisor: Supervisor, tmp_path: Path) -> None:
    code = "import atexit, signal, sys; signal.signal(15, lambda *_: sys.exit()); print('ready', flush=True); "
    diary = tmp_path / "diary"
    for name in ("first", "second"):
        note = f"open({str(diary)!r}, 'a').write('{name} ')"
        (child,) = supervisor.start(python(name, f"{code} atexit.register(lambda: {note}); signal.pause()"))
        written(child, "ready")

    await supervisor.stop()

    assert diary.read_text().split() == ["second", "first"]


async def test_a_death_is_told_with_the_end_of_the_log(supervisor: Supervisor) -> None:
    (child,) = supervisor.start(python("worker", "import sys; [print('line', n) for n in range(99)]; sys.exit(3)"))

    with pytest.raises(ChildFailed) as raised:
        await supervisor.pause(20)

    headline, *log = str(raised.value).splitlines()
    assert headline == f"worker (pid {child.process.pid}) ended unexpectedly with exit code 3; its log ends:"
    assert log[-1].strip() == "line 98"
    assert len(log) == processes.TAIL_LINES


def test_children_never_see_the_users_own_queue_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CELERY_BROKER_URL", "ARQ_REDIS", "TASKQUEUE_EXPORTER_BIRTH_HOLD"):
        monkeypatch.setenv(name, "theirs")

    environment = child_environment({"TASKQUEUE_EXPORTER_REDIS_URL": "ours"})

    assert "theirs" not in environment.values()
    assert environment["TASKQUEUE_EXPORTER_REDIS_URL"] == "ours"
    assert environment["PATH"]


async def test_the_pid_of_a_child_stands_in_the_folder(supervisor: Supervisor, tmp_path: Path) -> None:
    role = python("worker", "input()")

    (child,) = supervisor.start(role)

    assert pid_file(tmp_path, role).read_text() == f"{child.process.pid}\n"
