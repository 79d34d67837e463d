"""Whom a group takes in by pid file and by unit."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from exporter import catalogue as c
from exporter.collectors.processes.options import Group
from tests.cgroups import NotPermitted, enter, not_permitted, real_groups, remove
from tests.collectors.process_files import made_up_proc
from tests.collectors.process_groups import Start, Watch, by_command, cpu, end, of
from tests.servers import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MASTER = """
import os, signal, sys, time
for _ in range(2):
    if not os.fork():
        if not os.fork():
            time.sleep(100)
        time.sleep(100)
print("forked", flush=True)
time.sleep(100)
"""
"""A master with two children that have a child each."""


# -- pid files --------------------------------------------------------------------------------------------------


@pytest.fixture
def pid_file(tmp_path: Path) -> Path:
    return tmp_path / "x.pid"


def by_file(path: Path) -> Watch:
    return Watch(Group(name="g", pid_file=str(path)))


@pytest.mark.parametrize("text", ["{pid}", "{pid}\n", " {pid} \n", "{pid}\n/var/lib/data\n5432\n"])
def test_a_pid_file_is_its_process(text: str, start: Start, pid_file: Path) -> None:
    process = start()
    pid_file.write_text(text.format(pid=process.pid))

    found = by_file(pid_file).look()

    assert of(found, c.PROCESS_MEMBERS) == 1
    assert of(found, c.PROCESS_VIRTUAL) == process.memory_info().vms


def test_a_masters_descendants_are_members(start: Start, pid_file: Path) -> None:
    master = start(MASTER)
    wait_until(lambda: len(master.children(recursive=True)) == 4)
    pid_file.write_text(str(master.pid))
    watch = by_file(pid_file)

    whole = watch.look()
    master.children(recursive=False)[0].children()[0].kill()
    wait_until(lambda: len([one for one in master.children(recursive=True) if one.status() != "zombie"]) == 3)
    left = watch.look()

    assert of(whole, c.PROCESS_MEMBERS) == 5
    assert of(left, c.PROCESS_MEMBERS) == 4


def test_a_service_that_is_stopped_has_no_members_and_is_no_problem(start: Start, pid_file: Path) -> None:
    process = start()
    pid_file.write_text(str(process.pid))
    watch = by_file(pid_file)
    running = watch.look()

    end(process)
    stale = watch.look()
    pid_file.unlink()
    missing = watch.look()

    assert [of(found, c.PROCESS_MEMBERS) for found in (running, stale, missing)] == [1, 0, 0]
    assert cpu(running) == cpu(stale) == cpu(missing)
    assert watch.problems == ()


def test_a_process_that_started_long_after_its_pid_file_was_written_is_neither_it_nor_none(
    start: Start, pid_file: Path
) -> None:
    """The clock was wrong at the boot, or the number is another one's now: nobody can tell."""
    process = start()
    pid_file.write_text(str(process.pid))
    os.utime(pid_file, (process.create_time() - 60, process.create_time() - 60))
    watch = by_file(pid_file)

    assert watch.look() == {}
    assert watch.problems == (
        "g: found a process that started after the file was written, wanted the one that it is about",
    )


def test_a_number_that_went_to_another_after_the_process_was_seen_is_a_service_that_is_stopped(
    tmp_path: Path, pid_file: Path
) -> None:
    proc = made_up_proc(tmp_path)
    stat = proc / "7" / "stat"
    pid_file.write_text("7")
    watch = Watch(Group(name="g", pid_file=str(pid_file)), proc=proc)
    running = watch.look()
    stat.write_text(stat.read_text().replace(" 1234 ", " 9000000000000 "))  # after any pid file

    stale = watch.look()
    problems = watch.problems
    os.utime(pid_file, (0, 0))

    assert [of(found, c.PROCESS_MEMBERS) for found in (running, stale)] == [1, 0]
    assert problems == ()
    assert watch.look() == {}  # of this file nothing is known


def test_a_clock_that_is_set_afterwards_makes_no_other_process(
    start: Start, pid_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file.write_text(str(start().pid))
    watch = by_file(pid_file)
    watch.look()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)

    assert of(watch.look(), c.PROCESS_MEMBERS) == 1


def test_a_master_that_ended_and_was_not_reaped_does_not_run(start: Start, pid_file: Path) -> None:
    process = start()
    pid_file.write_text(str(process.pid))
    process.kill()
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)

    assert of(by_file(pid_file).look(), c.PROCESS_MEMBERS) == 0


@pytest.mark.parametrize("text", ["", "\n", "abc", "-1", "0", "12 34", "1.5", "\x1b[31m"])
def test_a_pid_file_without_a_number_is_a_problem_and_the_group_absent(text: str, pid_file: Path) -> None:
    pid_file.write_text(text)
    watch = by_file(pid_file)

    assert watch.look() == {}
    (problem,) = watch.problems
    assert problem.isprintable()
    assert problem.startswith("g: found ")
    assert problem.endswith(", wanted the number of a process")


def test_a_number_that_no_process_can_have_is_a_service_that_is_stopped(pid_file: Path) -> None:
    pid_file.write_text("9" * 300)

    assert of(by_file(pid_file).look(), c.PROCESS_MEMBERS) == 0


def test_a_pid_file_that_cannot_be_read_is_a_problem_and_other_groups_are_there(tmp_path: Path) -> None:
    watch = Watch(Group(name="bad", pid_file=str(tmp_path)), by_command("no such command [0-9]", "good"))

    found = watch.look()

    assert watch.problems == ("bad: found no file that can be read (Is a directory), wanted one",)
    assert {dict(labels)["group"] for _, labels in found} == {"good"}


def test_a_pipe_as_pid_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert by_file(tmp_path / "pipe").look() == {}


# -- units ------------------------------------------------------------------------------------------------------


def test_a_unit_of_systemd_in_its_own_hierarchy(start: Start) -> None:
    one, other = start(), start()
    try:
        with real_groups("systemd", below_root=True) as made:
            folder = made["systemd"] / "tqe-test.service"
            folder.mkdir()
            try:
                enter(folder, one.pid)
                watch = Watch(
                    Group(name="g", unit="tqe-test.service"),
                    Group(name="slice", unit=made["systemd"].name),
                    Group(name="other", unit="test.service"),
                )
                found = watch.look()
                assert of(found, c.PROCESS_MEMBERS) == 1
                assert of(found, c.PROCESS_VIRTUAL) == one.memory_info().vms
                assert of(found, c.PROCESS_MEMBERS, "slice") == 1
                assert of(found, c.PROCESS_MEMBERS, "other") == 0
                assert other.is_running()
            finally:
                end(one)
                remove(folder)
    except NotPermitted as error:
        not_permitted(error)
