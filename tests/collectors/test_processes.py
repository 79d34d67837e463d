"""Groups of real processes that come and go, against what psutil says of them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from exporter import catalogue as c
from exporter.collectors.processes import Processes
from tests.collectors.process_groups import BURN, Start, Watch, by_command, cpu, end, of, used, waiting
from tests.servers import ROOT, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


# -- what a group tells -----------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_members(start: Start, word: str) -> None:
    members = [start(), start(BURN.format(seconds=0.2))]

    found = Watch(by_command(word)).look()

    assert of(found, c.PROCESS_MEMBERS) == 2
    assert of(found, c.PROCESS_THREADS) == sum(one.num_threads() for one in members)
    assert of(found, c.PROCESS_VIRTUAL) == sum(one.memory_info().vms for one in members)
    assert of(found, c.PROCESS_RESIDENT) == pytest.approx(sum(one.memory_info().rss for one in members), rel=0.05)
    assert of(found, c.PROCESS_FDS) == sum(one.num_fds() for one in members)
    worst = max(one.num_fds() / one.rlimit(psutil.RLIMIT_NOFILE)[0] for one in members)
    assert of(found, c.PROCESS_FD_RATIO) == worst
    assert of(found, c.PROCESS_OLDEST) == pytest.approx(min(one.create_time() for one in members), abs=1.5)
    assert of(found, c.PROCESS_NEWEST) == pytest.approx(max(one.create_time() for one in members), abs=1.5)
    assert of(found, c.PROCESS_OLDEST) <= of(found, c.PROCESS_NEWEST) <= time.time()
    assert cpu(found) == pytest.approx(sum(map(used, members)), abs=0.021)
    assert cpu(found) >= 0.2
    assert of(found, c.PROCESS_STARTS) == 0


def test_the_limit_of_descriptors_is_the_soft_one(start: Start, word: str) -> None:
    limited = "import resource, time; resource.setrlimit(resource.RLIMIT_NOFILE, (50, 100))"
    process = start(f"{limited}; print('up', flush=True); time.sleep(100)")

    found = Watch(by_command(word)).look()

    assert of(found, c.PROCESS_FD_RATIO) == process.num_fds() / 50


def test_a_process_whose_main_thread_has_ended_lives_while_others_run(start: Start, word: str) -> None:
    """Of the main thread the kernel says that it is a zombie without memory, files and command line."""
    process = start(
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(100,)).start()\n"
        "print('up', flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE)

    found = Watch(by_command(word)).look()

    assert of(found, c.PROCESS_MEMBERS) == 1
    assert of(found, c.PROCESS_THREADS) == process.num_threads() == 2
    assert of(found, c.PROCESS_VIRTUAL) > of(found, c.PROCESS_RESIDENT) > 1024 * 1024
    assert of(found, c.PROCESS_FDS) >= 3
    assert of(found, c.PROCESS_OLDEST) == pytest.approx(process.create_time(), abs=1.5)


def test_a_group_that_nobody_is_in_says_0_and_no_start() -> None:
    found = Watch(by_command("no such command as this [0-9]")).look()

    assert {name for name, _ in found} == {family.name for family in Processes.families} - {
        c.PROCESS_OLDEST.name,
        c.PROCESS_NEWEST.name,
        c.PROCESS_FD_RATIO.name,
    }
    assert set(found.values()) == {0}


def test_without_groups_there_is_nothing(tmp_path: Path) -> None:
    assert Watch(proc=tmp_path / "not even read").look() == {}
    assert not Processes.enabled_by_default(Processes.Options())


def test_a_process_may_be_in_several_groups(start: Start, word: str) -> None:
    start()

    found = Watch(by_command(word, "a"), by_command(f"python.*{word}$", "b"), by_command(f"^{word}", "c")).look()

    assert [of(found, c.PROCESS_MEMBERS, group) for group in "abc"] == [1, 1, 0]


LOOKS_FOR_ITSELF = """
import sys
from exporter.collectors.processes import Processes
from exporter.collectors.processes.options import Group, ProcessesOptions
group = Group(name="g", command=sys.argv[1])
print(next(iter(Processes(ProcessesOptions(groups=(group,))).collect())).samples[0].value)
"""


def test_the_exporter_itself_is_in_no_group_of_a_command(start: Start, word: str) -> None:
    start()
    command = [sys.executable, "-c", LOOKS_FOR_ITSELF, word]

    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=30)

    assert done.stdout == "1\n"  # and not 2, though its command line holds the word, too


# -- command lines that others write ----------------------------------------------------------------------------


def test_a_command_line_made_to_keep_the_pattern_busy_does_not() -> None:
    """Searched whole, this one takes 20 s, in which the exporter does nothing else."""
    command = ["python celery " * 2400, "-c", "echo up; read line"]
    with psutil.Popen(command, executable="/bin/sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hostile:
        assert hostile.stdout.readline()
        watch, begun = Watch(by_command("python .*celery .*worker of nobody")), time.thread_time()

        found = watch.look()

        assert time.thread_time() - begun < 0.5
        assert of(found, c.PROCESS_MEMBERS) == 0
        hostile.communicate()


@pytest.mark.parametrize(("before", "is_in"), [(1900, [1, 0, 1]), (1990, [1, 1, 1]), (2100, [0, 0, 1])])
def test_of_a_command_line_2_kib_are_searched(before: int, is_in: list[int], start: Start, word: str) -> None: ...


# -- members that come and go -----------------------------------------------------------------------------------


def test_what_members_used_stays_when_they_are_gone(start: Start, word: str) -> None:
    watch = Watch(by_command(word))
    first, second = start(BURN.format(seconds=0.3)), start()
    watch.look()
    before = watch.look()
    assert cpu(before) == pytest.approx(used(first) + used(second), abs=0.041)

    end(first)
    left = watch.look()
    third = start(BURN.format(seconds=0.2))
    after = watch.look()

    assert of(left, c.PROCESS_MEMBERS) == 1
    assert cpu(left) == pytest.approx(cpu(before), abs=0.021)
    assert of(after, c.PROCESS_MEMBERS) == 2
    assert cpu(after) == pytest.approx(cpu(before) + used(third), abs=0.041)
    assert of(after, c.PROCESS_OLDEST) == pytest.approx(second.create_time(), abs=1.5)
    assert of(after, c.PROCESS_OLDEST) < of(after, c.PROCESS_NEWEST)


def test_starts_are_those_after_the_first_look(start: Start, word: str) -> None:
    watch = Watch(by_command(word))
    running = start()

    starts = [of(watch.look(), c.PROCESS_STARTS)]
    for _ in range(2):
        running = start()
        starts.append(of(watch.look(), c.PROCESS_STARTS))
        end(running)
        starts.append(of(watch.look(), c.PROCESS_STARTS))

    assert starts == [0, 1, 1, 2, 2]


def test_a_process_that_changes_its_command_line_is_no_new_one(word: str) -> None:
    """By exec(2), or as Celery's workers do: they write what they work on into their command line."""
    code = "import time; print('up', flush=True); time.sleep(100)"
    script = f'echo up; read go; exec {sys.executable} -c "$0" {word}'
    with waiting(["sh", "-c", script, code]) as (process, go):
        watch = Watch(by_command(f"^sh .*{word}", "before"), by_command(f"^{sys.executable}.*{word}", "after"))
        first = watch.look()
        go()
        process.stdout.readline()

        found = watch.look()

        assert [of(first, c.PROCESS_MEMBERS, group) for group in ("before", "after")] == [1, 0]
        assert [of(found, c.PROCESS_MEMBERS, group) for group in ("before", "after")] == [0, 1]
        assert [of(found, c.PROCESS_STARTS, group) for group in ("before", "after")] == [0, 0]


def test_a_zombie_does_not_run_and_its_last_cpu_time_counts(word: str) -> None:
    watch = Watch(by_command(word))
    burn = BURN.format(seconds=0.3).replace("time.sleep(100)", "")
    code = f"import sys\nprint('up', flush=True)\nsys.stdin.readline()\n{burn}"
    with waiting([sys.executable, "-c", code, word]) as (process, go):
        before = watch.look()
        go()
        wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)

        found = watch.look()

        assert of(before, c.PROCESS_MEMBERS) == 1
        assert of(found, c.PROCESS_MEMBERS) == 0
        assert cpu(found) >= 0.27 > cpu(before)
