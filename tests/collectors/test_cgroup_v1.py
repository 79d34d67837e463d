"""A real exporter in real groups of cgroup v1, which limit it: what it tells against the kernel's files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from exporter import catalogue as c
from exporter.catalogue import Family
from tests.cgroups import NotPermitted, not_permitted, real_groups
from tests.servers import EXPORTER_PYTHON, ROOT, Exporter, series, wait_until

MIB = 1024 * 1024
LIMIT = 192 * MIB
Groups = dict[str, Path]
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def groups() -> Iterator[Groups]:
    """New groups with a limit to each thing."""
    try:
        with real_groups("memory", "cpu", "cpuacct", "pids") as made:
            (made["memory"] / "memory.limit_in_bytes").write_text(str(LIMIT))
            (made["pids"] / "pids.max").write_text("60")
            yield made
    except NotPermitted as error:
        not_permitted(error)


def inside(groups: Sequence[Path], *command: str) -> list[str]:
    """A command that puts itself into groups first; the same process, so that signals reach it."""
    folders = " ".join(map(str, groups))
    script = f'set -e; for group in {folders}; do echo $$ > "$group/cgroup.procs"; done; exec "$@"'
    return ["sh", "-c", script, "sh", *command]


@pytest.fixture
def exporter(groups: Groups, tmp_path: Path) -> Iterator[Exporter]:
    command = inside([*groups.values()], EXPORTER_PYTHON, "-m", "exporter.cli")
    exporter = Exporter(tmp_path, "--collector.cgroup", redis_url=NOWHERE, command=command)
    yield exporter
    exporter.stop()


def told(exporter: Exporter) -> dict[str, float]:
    """What it tells of its groups, without devices."""
    found = exporter.metrics(("collect[]", "cgroup"))
    assert found[series("taskqueue_collector_success", collector="cgroup", broker="")] == 1, exporter.log
    return {
        name: value for (name, labels), value in found.items() if name.startswith("taskqueue_cgroup_") and not labels
    }


def field(file: Path, key: str) -> int:
    return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.split()[0] == key)


def counters(groups: Groups) -> dict[Family, float]:
    """What only grows, as the kernel's files have it."""
    stat = groups["cpu"] / "cpu.stat"
    return {
        c.CGROUP_CPU_USAGE: int((groups["cpuacct"] / "cpuacct.usage").read_text()) / 1e9,
        c.CGROUP_CPU_USER: field(groups["cpuacct"] / "cpuacct.stat", "user") / 100,
        c.CGROUP_CPU_SYSTEM: field(groups["cpuacct"] / "cpuacct.stat", "system") / 100,
        c.CGROUP_CPU_PERIODS: field(stat, "nr_periods"),
        c.CGROUP_CPU_THROTTLED_PERIODS: field(stat, "nr_throttled"),
        c.CGROUP_CPU_THROTTLED: field(stat, "throttled_time") / 1e9,
        c.CGROUP_MEMORY_FAILCNT: int((groups["memory"] / "memory.failcnt").read_text()),
        c.CGROUP_MEMORY_MAX_USAGE: int((groups["memory"] / "memory.max_usage_in_bytes").read_text()),
    }


def use_up_quota(groups: Groups) -> None:
    """Limits the group to a fifth of a CPU, and uses more until the kernel has stopped it."""
    (groups["cpu"] / "cpu.cfs_period_us").write_text("50000")
    (groups["cpu"] / "cpu.cfs_quota_us").write_text("10000")
    with subprocess.Popen(inside([groups["cpu"]], sys.executable, "-c", "while True: pass")) as burner:
        try:
            wait_until(lambda: field(groups["cpu"] / "cpu.stat", "throttled_time"))
        finally:
            burner.kill()


def test_limits_and_use_are_those_of_the_group(exporter: Exporter, groups: Groups) -> None:
    use_up_quota(groups)

    before, found, after = counters(groups), told(exporter), counters(groups)

    assert found[c.CGROUP_MEMORY_LIMIT.name] == LIMIT
    assert found[c.CGROUP_CPU_LIMIT.name] == 0.2
    assert found[c.CGROUP_THREADS_MAX.name] == 60
    assert found[c.CGROUP_OOM_EVENTS.name] == 0
    for family, value in before.items():
        assert value <= found[family.name] <= after[family], family.name
    # Its own, and no more of the machine's.
    assert found[c.CGROUP_CPU_THROTTLED_PERIODS.name] > 0
    assert found[c.CGROUP_CPU_THROTTLED.name] > 0
    assert 0.1 < found[c.CGROUP_CPU_USAGE.name] < 30
    assert found[c.CGROUP_CPU_USER.name] + found[c.CGROUP_CPU_SYSTEM.name] == pytest.approx(
        found[c.CGROUP_CPU_USAGE.name], abs=0.05
    )
    assert 20 * MIB < found[c.CGROUP_MEMORY_RSS.name] <= found[c.CGROUP_MEMORY_WORKING_SET.name] + MIB
    assert found[c.CGROUP_MEMORY_WORKING_SET.name] <= found[c.CGROUP_MEMORY_USAGE.name] < LIMIT
    assert 1 <= found[c.CGROUP_THREADS.name] <= 60


def test_a_process_that_is_killed_for_want_of_memory_is_counted(exporter: Exporter, groups: Groups) -> None:
    hog = "open('/proc/self/oom_score_adj', 'w').write('1000'); b'x' * (400 * 1024 * 1024)"

    killed = subprocess.run(inside([groups["memory"]], sys.executable, "-c", hog), check=False, timeout=30)
    wait_until(lambda: told(exporter)[c.CGROUP_OOM_EVENTS.name])
    found = told(exporter)

    assert killed.returncode == -9
    assert found[c.CGROUP_OOM_EVENTS.name] == field(groups["memory"] / "memory.oom_control", "oom_kill") == 1
    assert found[c.CGROUP_MEMORY_FAILCNT.name] > 0


LOOK = """
import json
from exporter.collectors.cgroup import Cgroup
collector = Cgroup()
numbers = {sample.name: sample.value for metric in collector.collect() for sample in metric.samples}
print(json.dumps([numbers, list(collector.problems)]))
"""


def test_in_a_namespace_it_sees_its_own_group_and_never_the_machines(groups: Groups) -> None:
    """As runtimes make it: the controller `memory` is mounted anew inside. All others show the machine's groups."""
    mount = 'umount /sys/fs/cgroup/memory; mount -t cgroup -o memory none /sys/fs/cgroup/memory; exec "$@"'
    command = ["unshare", "--cgroup", "--mount", "sh", "-ec", mount, "sh", sys.executable, "-c", LOOK]

    done = subprocess.run(inside([*groups.values()], *command), capture_output=True, cwd=ROOT, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    found, problems = json.loads(done.stdout)

    assert found[c.CGROUP_MEMORY_LIMIT.name] == LIMIT
    assert found[c.CGROUP_MEMORY_USAGE.name] < LIMIT
    assert c.CGROUP_CPU_USAGE.name not in found
    assert c.CGROUP_CPU_LIMIT.name not in found
    assert "found no folder of the group / (cpu), wanted its mount" in problems
