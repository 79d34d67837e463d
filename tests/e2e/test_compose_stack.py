"""The stack of docker-compose.yml without containers: the same commands, environments and configuration files, at the
same paths (see `stack.py`), until the dashboards show what they should. Then it is taken down bit by bit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.alertmanager import EXECUTABLE as ALERTMANAGER
from tests.dashboards import dashboards
from tests.deploy import composed
from tests.deploy.composed import Service
from tests.e2e.stack import (
    ABSENT,
    DEADLINE,
    NEEDS,
    SHOWN_WITHIN,
    Container,
    Stack,
    StackPrometheus,
)
from tests.e2e.untold import surprises
from tests.grafana_answers import Asking, Selection
from tests.namespaces import Namespace, NotPermitted, network_namespace
from tests.servers import ROOT, parse_metrics, series, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs(*NEEDS, "prometheus", "amtool", "redis-server", "redis-cli", "wget")]

SAMPLE: Final = composed.services("sample")
RUNNING: Final = tuple(name for name in SAMPLE if name not in ABSENT)
WORKERS: Final = ("arq-1", "arq-2", "celery-1", "celery-2")
EXPORTER_PORT: Final = 10177
ALERTMANAGER_PORT: Final = 9093
ALL: Final = Selection("All")
UNTOLD: Final = {
    "tq-exporter: Disks and network: File systems: ": "a container sees only what is mounted into it",
    "tq-exporter: Disks and network: Used space: ": "a container sees only what is mounted into it",
    "tq-exporter: Processes: ": "a container sees only its own processes",
    "tq-redis: Replication: Silence between master and replica": "the sample's Redis has no replica",
    "tq-system: ARQ: Health records: ": "written each 5 s; whose they are takes two scrapes between two writings",
}
"""How queries begin that have no data here, beside those of `untold.py`, and why."""


@pytest.fixture(scope="module")
def namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    """Of the two stacks of this file."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(network_namespace()), stack.enter_context(network_namespace())
        except NotPermitted as error:
            if os.environ.get("CI") == "true":
                pytest.fail(f"no network namespace can be made: {error}", pytrace=False)
            pytest.skip(f"no network namespace can be made: {error}")
        yield made


@pytest.fixture(scope="module")
def stack(namespaces: tuple[Namespace, Namespace], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of the profile `sample` that can run here."""
    made = Stack(namespaces[0], tmp_path_factory.mktemp("stack"), SAMPLE)
    try:
        made.start("prometheus", "alertmanager", "redis", "exporter", *WORKERS, "workload")
        for name in RUNNING:
            # Each by its own health check. Workers take a while to say for the first time how they are.
            wait_until(partial(made.is_well, name), DEADLINE, 0.5)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def prometheus(stack: Stack) -> StackPrometheus:
    return StackPrometheus(stack.namespace, stack.running["prometheus"])


# -- processes --------------------------------------------------------------------------------------------------


def test_all_run_but_what_is_not_here(stack: Stack) -> None:
    assert {*stack.running} == {*RUNNING} == {*SAMPLE} - {*ABSENT}


@pytest.mark.parametrize("name", RUNNING)
def test_a_service_has_no_rights(stack: Stack, name: str) -> None:
    status = dict(line.split(":\t", 1) for line in proc(stack, name, "status").splitlines() if ":\t" in line)
    user, group = SAMPLE[name].user
    assert status["Uid"].split() == [str(user)] * 4
    assert status["Gid"].split() == [str(group)] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("name", RUNNING)
def test_a_service_can_write_where_compose_lets_it(stack: Stack, name: str) -> None:
    kernel = ("/proc", "/sys", "/dev")
    mounts = [line.split() for line in proc(stack, name, "mountinfo").splitlines()]
    options = {fields[4]: fields[5].split(",") for fields in mounts}
    writable = {path for path, given in options.items() if "rw" in given and not path.startswith(kernel)}
    assert "ro" in options["/"]
    assert writable == {mount.target for mount in SAMPLE[name].mounts if not mount.read_only}


def proc(stack: Stack, name: str, file: str) -> str:
    return Path(f"/proc/{stack.running[name].pid}/{file}").read_text()


@pytest.mark.parametrize(
    ("name", "program"), [("prometheus", "prometheus"), ("alertmanager", ALERTMANAGER), ("redis", "redis-server")]
)
def test_a_program_is_the_one_that_this_machine_has_first(
    stack: Stack, name: str, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = shutil.which(program) or ""
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True, timeout=30)
    with capsys.disabled():
        print(f"\n{found}: {(told.stdout + told.stderr).splitlines()[0]}")
    assert Path(f"/proc/{stack.running[name].pid}/exe").samefile(found)


# -- watch: now, as the Watchdog takes a minute to come ----------------------------------------------------------


@pytest.fixture(scope="module")
def watch(
    stack: Stack, namespaces: tuple[Namespace, Namespace], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A Redis that is there already, and the exporter of the profile `watch` with its URL."""
    services = {"redis": SAMPLE["redis"], "exporter-watch": watching(REDIS_URL="redis://redis:6379/0")}
    made = Stack(namespaces[1], tmp_path_factory.mktemp("watch"), services)
    try:
        made.start(*services)
        yield made
    finally:
        made.stop()


def watching(**environment: str) -> Service:
    return composed.services("watch", environment)["exporter-watch"]


def test_watch_watches_the_redis_of_its_url(watch: Stack) -> None:
    wait_until(partial(watch.is_well, "exporter-watch"), DEADLINE, 0.2)
    status, body = watch.get(EXPORTER_PORT, "/metrics")
    assert status == 200
    assert parse_metrics(body.decode())[series("taskqueue_broker_up", broker="default")] == 1


def test_watch_without_a_url_is_refused(watch: Stack, tmp_path: Path) -> None:
    exporter = Container(watching(), watch.namespace, tmp_path, [])
    done = exporter.run(exporter.argv)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "found no broker, wanted TASKQUEUE_EXPORTER_REDIS_URL=redis://" in done.stderr


STARTS_ONE = """
import sys, time
from pathlib import Path
from tests.deploy.composed import service
from tests.e2e.stack import Container
from tests.namespaces import Namespace
container = Container(service("sample", "alertmanager"), Namespace(sys.argv[1]), Path(sys.argv[2]), [])
print(container.start().pid, flush=True)
time.sleep(60)
"""


def test_a_service_ends_with_whoever_started_it(watch: Stack, tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTS_ONE, watch.namespace.name, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        exe = Path(f"/proc/{int(starter.stdout.readline())}/exe")
        wait_until(lambda: exe.samefile(shutil.which(ALERTMANAGER) or ""), DEADLINE)
        starter.kill()
    wait_until(lambda: not exe.exists(), DEADLINE)


# -- configuration ----------------------------------------------------------------------------------------------


def test_grafana_finds_what_it_is_told_of(stack: Stack) -> None:
    grafana = stack.containers["grafana"]
    files = {
        "/etc/grafana/grafana.ini": "grafana.ini",
        "/etc/grafana/provisioning/dashboards/taskqueue.yml": "provisioning/dashboards/taskqueue.yml",
        "/etc/grafana/provisioning/datasources/prometheus.yml": "provisioning/datasources/prometheus.yml",
        "/var/lib/grafana/dashboards/tq-overview.json": "dashboards/tq-overview.json",
    }
    for path, source in files.items():
        assert grafana.run(["cat", path]).stdout == (ROOT / "grafana" / source).read_text(), path
    assert grafana.run(["mkdir", "/var/lib/grafana/plugins"]).returncode == 0
    assert grafana.run(["touch", "/var/lib/grafana/dashboards/made"]).returncode != 0


def test_prometheus_scrapes_all_that_it_is_told_of(prometheus: StackPrometheus) -> None:
    told = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    wanted = {
        (one["job_name"], target) for one in told for given in one["static_configs"] for target in given["targets"]
    }

    def up() -> bool:
        targets = prometheus.api("targets")["activeTargets"]
        found = {(one["labels"]["job"], one["labels"]["instance"]) for one in targets if one["health"] == "up"}
        assert {(one["labels"]["job"], one["labels"]["instance"]) for one in targets} == wanted
        return found == wanted

    wait_until(up, DEADLINE, 1.0)


def test_all_rules_are_evaluated(prometheus: StackPrometheus) -> None:
    config = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text())
    files = [ROOT / "prometheus" / name for name in config["rule_files"]]
    wanted = {group["name"] for file in files for group in yaml.safe_load(file.read_text())["groups"]}

    def evaluated() -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = prometheus.api("rules")["groups"]
        assert {group["name"] for group in groups} == wanted
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules = wait_until(evaluated, DEADLINE, 1.0)
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


def test_alertmanager_hears_of_the_watchdog(stack: Stack, prometheus: StackPrometheus) -> None:
    def told() -> bool:
        status, body = stack.get(ALERTMANAGER_PORT, '/api/v2/alerts?filter=alertname%3D"Watchdog"')
        assert status == 200, body
        return bool(json.loads(body))

    wait_until(told, 2 * DEADLINE, 1.0)
    known = [one["url"] for one in prometheus.api("alertmanagers")["activeAlertmanagers"]]
    assert known == [f"http://alertmanager:{ALERTMANAGER_PORT}/api/v2/alerts"]


def test_every_query_of_the_dashboards_has_data(stack: Stack, prometheus: StackPrometheus) -> None:
    began = time.time() - SHOWN_WITHIN
    # What takes longest; all others are asked then.
    (overview,) = (one for one in dashboards() if one.uid == "tq-overview")
    (last,) = (one for one in overview.panels if one.title == "Failures: pace of the budget")
    wait_until(lambda: not asking(prometheus, began).panel(last, ALL.of(overview)).empty, SHOWN_WITHIN, 2.0)

    wait_until(lambda: unexplained(prometheus, began) == [], DEADLINE, 5.0)
    assert [name for name in stack.running if not stack.running[name].running] == []


def asking(prometheus: StackPrometheus, began: float) -> Asking:
    return Asking(prometheus, began, time.time(), factor=1.0)


def unexplained(prometheus: StackPrometheus, began: float) -> list[str]:
    """Queries that have no data and should, or have some and should not. AssertionError where one has an error."""
    found = surprises(asking(prometheus, began).shown(dashboards(), ALL), ("arq", "celery"))
    silent = {reason: [one for one in found if one.startswith(f"no data: {reason}")] for reason in UNTOLD}
    explained = {one for ones in silent.values() for one in ones}
    not_silent = [f"data: {reason}" for reason, ones in silent.items() if not ones]
    return [*(one for one in found if one not in explained), *not_silent]


# -- the end ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ended(stack: Stack, prometheus: StackPrometheus) -> dict[str, int]:
    """All was stopped but for the Redis; with which exit codes. From here on `prometheus` answers no more."""
    return stack.stop(*(name for name in reversed(RUNNING) if name != "redis"))


def test_what_is_asked_to_end_does(ended: dict[str, int]) -> None:
    # Here the workload is ended by SIGTERM itself, in a container the init process is, by the same.
    assert {name: code for name, code in ended.items() if code != 0} == {"workload": -15}


def test_health_checks_say_that_it_is_gone(stack: Stack, ended: dict[str, int]) -> None:
    def gone(name: str) -> bool:
        # The workload's last job that is put off has to become due.
        return wait_until(lambda: stack.asked(name).returncode != 0, 20.0, 0.5)

    with ThreadPoolExecutor() as pool:  # some take seconds to say so
        assert all(pool.map(gone, ("prometheus", "alertmanager", "exporter", "arq-1", "celery-1", "workload")))
