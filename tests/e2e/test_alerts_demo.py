"""The demo deserves some alerts, and gets these; none that it does not deserve.

Time runs ten times as fast in the rules, but not in the demo. `TEST_DEMO_SECONDS=600` runs it for ten minutes, with the
rules as they are.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from subprocess import TimeoutExpired

import pytest

from tests.e2e.alerting import run_prometheus
from tests.e2e.prometheus import PrometheusServer
from tests.servers import LOOPBACK, ROOT, Process, free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs("prometheus", "redis-server")]

REAL_SECONDS = os.environ.get("TEST_DEMO_SECONDS")
"""How long the demo runs with rules that are not hastened."""
FACTOR = 1.0 if REAL_SECONDS else 10.0
SECONDS = float(REAL_SECONDS or 70)
DEADLINE = 60.0
NUMBERS = {"stalled_seconds": 300 / FACTOR, "unstaffed_seconds": 180 / FACTOR, "failures": 3}
"""What the rules compare with where they are hastened: fewer jobs fail in a minute than in ten."""


@dataclass(frozen=True)
class Deserved:
    """An alert, and why the workload of `exporter/demo/workload.py` deserves it.

    `labels` are those that it must have, `always` says that it fires in every run that is long enough.
    """

    alertname: str
    why: str
    labels: Mapping[str, str]
    always: bool = True

    def is_one(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is deserved for this."""
        return labels["alertname"] == self.alertname and self.labels.items() <= labels.items()


ARQ, CELERY = {"system": "arq"}, {"system": "celery"}
ARCHIVE = {"arq": ARQ | {"queue": "arq:archive"}, "celery": CELERY | {"queue": "archive"}}
DEFAULT = {"arq": ARQ | {"queue": "arq:queue"}, "celery": CELERY | {"queue": "default"}}
REPORTS = CELERY | {"queue": "reports"}
UNSTAFFED = "no worker consumes the queue"
HALF = "every second job fails: a little more or less than the target of a half"

DESERVED = (
    Deserved("QueueNoWorkers", f"{UNSTAFFED}; Celery's workers tell which they consume", ARCHIVE["celery"]),
    *(Deserved("QueueStalled", UNSTAFFED, queue) for queue in ARCHIVE.values()),
    *(Deserved("QueueWaitTooLong", UNSTAFFED, queue, always=bool(REAL_SECONDS)) for queue in ARCHIVE.values()),
    *(Deserved("TaskFailing", "all its jobs fail", queue | {"task": "sync_contacts"}) for queue in DEFAULT.values()),
    *(
        Deserved("TaskFailing", "no worker knows it", queue | {"task": "renamed_task"}, False)
        for queue in DEFAULT.values()
    ),
    *(
        Deserved("TaskFailing", HALF, queue | {"task": task}, always=False)
        for queue in DEFAULT.values()
        for task in ("charge_card", "call_partner")
    ),
    *(
        Deserved("RetryStorm", "more than a third of its attempts are retried", queue | {"task": task}, always=False)
        for queue in DEFAULT.values()
        for task in ("fetch_feed", "sync_contacts")
    ),
    *(
        Deserved("FunctionNotFound", "no worker knows it", queue | {"task": "renamed_task"})
        for queue in DEFAULT.values()
    ),
    *(
        Deserved(name, "about a sixth of its jobs fail or expire, and a hundredth may", queue, always=False)
        for queue in (*DEFAULT.values(), REPORTS)
        for name in ("JobFailureBudgetFastBurn", "JobFailureBudgetSlowBurn")
    ),
    Deserved("JobsExpired", "the last of a burst expire", REPORTS | {"task": "build_report"}),
)
HOST = ("HostDiskFilling", "HostMemoryPressure")
"""The demo shows the machine that it runs on, which may deserve them: that is no matter of the demo's."""


@dataclass(slots=True)
class Watched:
    """A demo, and the Prometheus that watched it."""

    prometheus: PrometheusServer
    seconds: float

    def fired(self) -> list[dict[str, str]]:
        """The labels of all that fired at any time, but for the Watchdog and what is the machine's."""
        window = f"{int(self.seconds) + 60}s"
        fired = self.prometheus.vector(f'last_over_time(ALERTS{{alertstate="firing"}}[{window}])')
        return [labels for labels, _ in fired if labels["alertname"] not in ("Watchdog", *HOST)]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A demo that was watched for as long as it takes."""
    directory = tmp_path_factory.mktemp("demo")
    port = free_port()
    command = [sys.executable, "-m", "exporter.cli", "demo", "--port", str(port)]
    demo = Process(command, directory / "demo.log", cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        prometheus = run_prometheus(directory, [f"{LOOPBACK}:{port}"], FACTOR, {} if REAL_SECONDS else NUMBERS)
        try:
            wait_until(lambda: prometheus.value("up") == 1, DEADLINE)
            began = time.monotonic()
            wait_until(lambda: not demo.running or time.monotonic() - began > SECONDS, SECONDS + DEADLINE, 1.0)
            assert demo.running, demo.log
            yield Watched(prometheus, time.monotonic() - began)
        finally:
            prometheus.stop()
    finally:
        end(demo)


def end(demo: Process) -> None:
    """Ends it as Ctrl-C does: then it takes its processes with it."""
    demo.signal(signal.SIGINT)
    try:
        demo.wait(DEADLINE)
    except TimeoutExpired:
        demo.stop()
        raise


def test_nothing_fires_that_is_not_deserved(watched: Watched) -> None:
    undeserved = [labels for labels in watched.fired() if not any(one.is_one(labels) for one in DESERVED)]
    assert undeserved == []


@pytest.mark.parametrize("deserved", [one for one in DESERVED if one.always], ids=lambda one: one.alertname)
def test_what_is_deserved_fires(watched: Watched, deserved: Deserved) -> None:
    assert any(deserved.is_one(labels) for labels in watched.fired()), deserved


def test_every_rule_can_be_evaluated(watched: Watched) -> None:
    assert watched.prometheus.broken_rules() == []
