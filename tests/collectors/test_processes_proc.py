"""What /proc may say: layouts of systemd, odd names, numbers used again, and what it hides."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from exporter import catalogue as c
from exporter.collectors.processes import look
from exporter.collectors.processes.options import Group
from tests.collectors.process_files import System, made_up_proc
from tests.collectors.process_groups import Start, Watch, by_command, cpu, of
from tests.servers import ROOT, series

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize(
    ("unit", "group", "is_in"),
    [
        ("celery.service", "0::/system.slice/celery.service", True),
        ("celery.service", "0::/system.slice/celery.service/workers", True),
        ("celery.service", "0::/celery.service", True),
        ("celery.service", "0::/system.slice/docker-4f2a.scope/system.slice/celery.service", False),  # a container's
        ("celery.service", "0::/system.slice/quadlet.service/libpod-1/system.slice/celery.service", False),
        ("celery.service", "0::/machine.slice/container@web.service/system.slice/celery.service", False),
        ("celery.service", "0::/docker/4f2a/system.slice/celery.service", False),
        ("docker-4f2a.scope", "0::/system.slice/docker-4f2a.scope/system.slice/celery.service", True),
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
        ("arq.service", "0::/user.slice/user-1000.slice/user@1000.service/arq.service", True),
        ("user@1000.service", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/arq.service", True),
        ("user-1000.slice", "0::/user.slice/user-1000.slice/session-2.scope", True),
        ("cpu.service", "0::/system.slice/_cpu.service", True),  # escaped by systemd
        ("a.b.service", "0::/system.slice/axb.service", False),
    ],
)
def test_units_in_the_layouts_of_systemd(unit: str, group: str, is_in: bool, tmp_path: Path) -> None:
    proc = made_up_proc(tmp_path, cgroup=group)

    assert of(Watch(Group(name="g", unit=unit), proc=proc).look(), c.PROCESS_MEMBERS) == is_in


@pytest.mark.parametrize("root", ["/../..", "/docker/4f2a"])
def test_units_are_those_below_the_root_of_process_1(root: str, tmp_path: Path) -> None:
    """As it is in a container with the host's processes, and in one that runs systemd."""
    proc = made_up_proc(tmp_path, cgroup=f"0::{root}/system.slice/celery.service", init=f"0::{root}/init.scope")
    groups = [Group(name=unit, unit=f"{unit}.service") for unit in ("celery", "arq")]

    found = Watch(*groups, proc=proc).look()

    assert [of(found, c.PROCESS_MEMBERS, unit) for unit in ("celery", "arq")] == [1, 0]


def test_what_several_groups_ask_for_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc = made_up_proc(tmp_path, cgroup="0::/a.slice/b.service")
    system = System(monkeypatch)
    units = [Group(name=f"u{n}", unit="b.service" if n % 2 else "a.slice") for n in range(4)]

    found = Watch(*units, *(by_command("^w", f"c{n}") for n in range(4)), proc=proc).look()

    assert {of(found, c.PROCESS_MEMBERS, f"{way}{n}") for way in "uc" for n in range(4)} == {1}
    opened = Counter(path.removeprefix(f"{proc}/7/") for path in system.opened)
    assert (opened["cgroup"], opened["cmdline"]) == (1, 1)


# -- what /proc may say -----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("state", "threads"), [("Z", 1), ("X", 0)])
def test_what_has_ended_is_no_member(state: str, threads: int, tmp_path: Path) -> None:
    proc = made_up_proc(tmp_path, state=state, threads=threads)

    assert of(Watch(by_command("^w"), proc=proc).look(), c.PROCESS_MEMBERS) == 0


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


def test_a_machine_that_slept_was_booted_no_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {time.CLOCK_BOOTTIME: 5000.0, time.CLOCK_MONOTONIC: 4000.0}
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    monkeypatch.setattr(time, "clock_gettime", clocks.__getitem__)

    found = Watch(by_command("^w"), proc=made_up_proc(tmp_path)).look()

    assert of(found, c.PROCESS_OLDEST) == 1_000_000 - 5000 + 1234 / os.sysconf("SC_CLK_TCK")


def test_the_start_does_not_move_with_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(by_command("^w"), proc=made_up_proc(tmp_path))
    before = watch.look()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)

    assert of(watch.look(), c.PROCESS_OLDEST) == of(before, c.PROCESS_OLDEST)


@pytest.mark.parametrize("name", ["cmdline", "limits"])
def test_what_may_not_be_read_is_a_problem_that_names_no_process(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be logged anew with each process that comes and goes."""
    System(monkeypatch).refused[name] = errno.EACCES
    watch = Watch(by_command("^w"), Group(name="u", unit="b.service"), proc=made_up_proc(tmp_path))

    found = watch.look()

    assert watch.problems == (f"g: found a {name} in /proc that cannot be read (Permission denied), wanted all",)
    assert {dict(labels)["group"] for _, labels in found} == {"u"}


def test_an_error_names_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    System(monkeypatch).refused["stat"] = errno.EMFILE

    with pytest.raises(OSError, match=r"^\[Errno 24\] Too many open files$"):
        Watch(by_command("^w"), proc=made_up_proc(tmp_path)).look()


# -- what a pattern is searched in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "pattern", "is_in"),
    [
        ("a" * 2000 + "needle", "needle -x$", True),
        ("a" * 2042 + "needle", "needle", True),
        ("a" * 2042 + "needle", "needle$", False),  # it goes on
        ("a" * 2043 + "needle", "needle", False),
    ],
)
def test_of_a_command_line_2_kib_are_searched(command: str, pattern: str, is_in: bool, tmp_path: Path) -> None:
    watch = Watch(by_command(pattern), proc=made_up_proc(tmp_path, cmd=command))

    assert of(watch.look(), c.PROCESS_MEMBERS) == is_in


def test_a_search_that_takes_too_long_is_a_problem_and_goes_on_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = made_up_proc(tmp_path)
    for pid in range(8, 12):
        shutil.copytree(proc / "7", proc / str(pid))
        (proc / str(pid) / "cmdline").write_text(f"w {pid}")
    seconds = itertools.count(step=0.1)
    monkeypatch.setattr(time, "thread_time", lambda: next(seconds))
    watch = Watch(by_command("^w"), Group(name="u", unit="b.service"), proc=proc)

    first = watch.look()
    problems = watch.problems
    looks = [watch.look() for _ in range(3)]

    assert problems == ("g: found no end of searching command lines within 0.25 s, wanted a simpler pattern",)
    assert {dict(labels)["group"] for _, labels in first} == {"u"}
    assert of(looks[-1], c.PROCESS_MEMBERS) == 5
    assert watch.problems == ()


# -- what it hides ----------------------------------------------------------------------------------------------


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

        refusal: OSError | None = None

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def stat(self, path: str) -> object:
            assert path == folder
            return SimpleNamespace(st_size=0)

        def listdir(self, path: str) -> list[str]:
            if path == folder and self.refusal:
                raise self.refusal
            return os.listdir(path)

    older = Older()
    monkeypatch.setattr(look, "os", older)
    watch = Watch(Group(name="g", pid_file=str(pid_file)))
    listed = watch.look()
    assert of(listed, c.PROCESS_FDS) == process.num_fds()
    for error in (errno.EACCES, errno.EMFILE):
        older.refusal = OSError(error, os.strerror(error))
        found = watch.look()
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
