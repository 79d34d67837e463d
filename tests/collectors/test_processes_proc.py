"""What /proc may say: layouts of systemd, odd names, numbers used again, and what it hides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from exporter import catalogue as c
from exporter.collectors.processes import look
from exporter.collectors.processes.options import Group
from tests.collectors.process_groups import Start, Watch, by_command, cpu, of
from tests.servers import ROOT, series

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize(
    ("unit", "group", "is_in"),
    [
        ("celery.service", "0::/system.slice/celery.service", True),
        ("celery.service", "0::/system.slice/celery.service/workers", True),
        ("celery.service", "0::/celery.service", True),
        ("celery.service", "0::/../../system.slice/celery.service", True),  # seen from a container
        ("celery.service", "5:cpu:/\n1:name=systemd:/system.slice/celery.service\n0::/", True),
        ("celery.service", "5:memory:/system.slice/celery.service\n1:name=systemd:/\n0::/", False),
        ("celery.service", "0::/system.slice/xcelery.service", False),
        ("celery.service", "0::/system.slice/celery.servicex", False),
        ("celery.service", "0::/system.slice/celery@1.service", False),
        ("celery@1.service", "0::/system.slice/system-celery.slice/celery@1.service", True),
        ("celery@1.service", "0::/system.slice/system-celery.slice/celery@12.service", False),
        ("celery@.service", "0::/system.slice/system-celery.slice/celery@12.service", True),
        ("celery@.service", "0::/system.slice/celery.service", False),
        ("arq.service", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/arq.service", True),
        ("user-1000.slice", "0::/user.slice/user-1000.slice/session-2.scope", True),
        ("cpu.service", "0::/system.slice/_cpu.service", True),  # escaped by systemd
        ("a.b.service", "0::/system.slice/axb.service", False),
    ],
)
def test_units_in_the_layouts_of_systemd(unit: str, group: str, is_in: bool, tmp_path: Path) -> None:
    proc = made_up_proc(tmp_path, cgroup=group)

    assert of(Watch(Group(name="g", unit=unit), proc=proc).look(), c.PROCESS_MEMBERS) == is_in


# -- what /proc may say -----------------------------------------------------------------------------------------


def made_up_proc(
    directory: Path, *, comm: str = "worker", state: str = "S", cgroup: str = "0::/", cmd: str = "w"
) -> Path:
    """Process 1, and process 7 with 2.5 s of CPU time, 3 threads and 1024 pages."""
    for pid, name, of_state in ((1, "init", "S"), (7, comm, state)):
        folder = directory / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "fd").mkdir()
        fields = f"{of_state} 1 7 7 0 -1 4194304 9 0 0 0 200 50 8 8 20 0 3 0 1234 8192000 1024 18446744073709551615"
        (folder / "stat").write_text(f"{pid} ({name}) {fields} 0 0\n")
        (folder / "cmdline").write_text("" if pid == 1 else f"{cmd}\0-x\0")
        (folder / "cgroup").write_text("0::/\n" if pid == 1 else f"{cgroup}\n")
        (folder / "limits").write_text("Limit   Soft  Hard  Units\nMax open files   unlimited   unlimited   files\n")
    return directory / "proc"


@pytest.mark.parametrize("comm", ["a b", ") S 1 (", "x)", "((", "\n", "1 2 3 4"])
def test_a_name_with_brackets_and_blanks_moves_no_field(comm: str, tmp_path: Path) -> None:
    found = Watch(by_command("^w -x$"), proc=made_up_proc(tmp_path, comm=comm)).look()

    assert of(found, c.PROCESS_MEMBERS) == 1
    assert of(found, c.PROCESS_CPU, mode="user") == 2.0
    assert of(found, c.PROCESS_CPU, mode="system") == 0.5
    assert of(found, c.PROCESS_THREADS) == 3
    assert of(found, c.PROCESS_VIRTUAL) == 8192000
    assert of(found, c.PROCESS_RESIDENT) == 1024 * os.sysconf("SC_PAGE_SIZE")


def test_a_process_without_a_limit_has_no_ratio(tmp_path: Path) -> None:
    found = Watch(by_command("^w"), proc=made_up_proc(tmp_path)).look()

    assert of(found, c.PROCESS_MEMBERS) == 1
    assert series(c.PROCESS_FD_RATIO.name, group="g") not in found


@pytest.mark.parametrize("state", ["Z", "X"])
def test_what_has_ended_is_no_member(state: str, tmp_path: Path) -> None:
    assert of(Watch(by_command("^w"), proc=made_up_proc(tmp_path, state=state)).look(), c.PROCESS_MEMBERS) == 0


def test_a_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    proc = made_up_proc(tmp_path)
    watch = Watch(by_command("^w"), proc=proc)
    before = watch.look()
    stat = proc / "7" / "stat"
    stat.write_text(stat.read_text().replace(" 200 50 ", " 100 0 ").replace(" 1234 ", " 5678 "))

    found = watch.look()

    assert cpu(before) == 2.5
    assert cpu(found) == 3.5
    assert of(found, c.PROCESS_STARTS) == 1


def test_the_start_does_not_move_with_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(by_command("^w"), proc=made_up_proc(tmp_path))
    before = watch.look()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)

    assert of(watch.look(), c.PROCESS_OLDEST) == of(before, c.PROCESS_OLDEST)


def test_a_proc_that_hides_processes_is_an_error_and_no_0(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()

    with pytest.raises(OSError, match="found no process 1 in /proc, wanted all processes to be shown"):
        Watch(by_command("x"), proc=tmp_path).look()


AS_NOBODY = """
import json, os
from exporter.collectors.processes import Processes
from exporter.collectors.processes import look
from exporter.collectors.processes.options import Group, ProcessesOptions
os.setgid(65534), os.setuid(65534)
collector = Processes(ProcessesOptions(groups=(Group(name="g", pid_file="{path}"),)))
try:
    print(json.dumps({{s.name: s.value for metric in collector.collect() for s in metric.samples}}))
except OSError as error:
    print(json.dumps(str(error)))
"""


def as_nobody(pid: int, *wrapper: str) -> object:
    """What another user gets of the group of a process."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    with tempfile.NamedTemporaryFile("w") as pid_file:  # not below tmp_path, which is for its owner alone
        pid_file.write(str(pid))
        pid_file.flush()
        os.fchmod(pid_file.fileno(), 0o644)
        command = [*wrapper, sys.executable, "-c", AS_NOBODY.format(path=pid_file.name)]
        return json.loads(subprocess.run(command, capture_output=True, cwd=ROOT, check=True, timeout=30).stdout)


def test_another_users_processes_are_seen_and_their_descriptors_where_the_kernel_tells(start: Start) -> None:
    process = start()

    found = as_nobody(process.pid)

    assert isinstance(found, dict)
    assert found[c.PROCESS_MEMBERS.name] == 1
    assert found.get(c.PROCESS_FDS.name) == (process.num_fds() if os.stat("/proc/self/fd").st_size else None)


def test_descriptors_that_an_older_kernel_does_not_show_are_absent(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.2 the folder has no size, and those of another user's process cannot be listed."""
    process, pid_file = start(), tmp_path / "x.pid"
    pid_file.write_text(str(process.pid))
    folder = f"/proc/{process.pid}/fd"

    class Older:
        """The module `os` of an older kernel, and what another user may do there."""

        may_list = True

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def stat(self, path: str) -> object:
            assert path == folder
            return SimpleNamespace(st_size=0)

        def listdir(self, path: str) -> list[str]:
            if path == folder and not self.may_list:
                raise PermissionError(13, "Permission denied")
            return os.listdir(path)

    older = Older()
    monkeypatch.setattr(look, "os", older)
    watch = Watch(Group(name="g", pid_file=str(pid_file)))
    listed = watch.look()
    older.may_list = False
    found = watch.look()

    assert of(listed, c.PROCESS_FDS) == process.num_fds()
    assert of(found, c.PROCESS_MEMBERS) == 1
    assert not {c.PROCESS_FDS.name, c.PROCESS_FD_RATIO.name} & {name for name, _ in found}
    assert watch.problems == ()


@pytest.mark.parametrize(
    ("hide", "error"),
    [
        (1, "found a process of others that cannot be read in /proc, wanted hidepid=0"),
        (2, "found no process 1 in /proc"),
    ],
)
def test_with_hidepid_there_is_an_error_and_no_0(hide: int, error: str, start: Start) -> None:
    mount = f'mount -t proc -o hidepid={hide} p /proc; exec "$@"'

    found = as_nobody(start().pid, "unshare", "--mount", "sh", "-ec", mount, "sh")

    assert isinstance(found, str)
    assert found.startswith(error)
