"""An exporter of two is killed, a broker is down, both exporters are killed: what is told, and what goes on as before.

One after the other, in this order, while a queue of another broker stands still.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

import pytest

from tests.alertmanager import EXECUTABLE
from tests.e2e.alerting import FACTOR, Expected, Labels, Stack, assert_told, enqueue_arq, unexpected
from tests.e2e.apps import ARQ_WORKER, worker
from tests.servers import RedisServer, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs("prometheus", EXECUTABLE, "redis-server")]

NUMBERS = {
    "stalled_seconds": 300 / FACTOR,
    # Nothing here is about waits. Jobs wait for as long as the test takes.
    "wait_seconds": 900,
}
WELL, DOWN = "well", "down"
"""The brokers: one that is up all the time, and one that is not."""
IDLE = "arq:idle"
"""A queue of both that nobody works on."""
READY = 5
FAILURES = 8
"""More than a task may fail, and too few for an error budget to mean something."""
REPEATS = 2
"""How often an alert is told again before it counts as going on."""
DEADLINE = 60.0
LONG = int(900 / FACTOR) + 2
"""Seconds after which an exporter knows of a queue's progress what one that has just started does not."""
JUMP = 2.5
"""What two replicas may differ by: a time that one sees at its scrape, the other at its own."""
LONGEST_PAUSE = 5.0
"""Seconds between two samples of a recorded series, on a busy machine: it has one each second."""
CRITICAL, WARNING = {"severity": "critical"}, {"severity": "warning"}

STALLED = {name: Expected("QueueStalled", "pager", {"broker": name, "queue": IDLE} | CRITICAL) for name in (WELL, DOWN)}
FAILING = Expected("TaskFailing", "chat", {"broker": DOWN, "system": "arq", "task": "hold"} | WARNING)
BROKER_DOWN = Expected("BrokerDown", "pager", {"broker": DOWN} | CRITICAL)
EXPORTER_DOWN = Expected("ExporterDown", "chat", WARNING)
ALL_DOWN = Expected("ExportersAllDown", "pager", CRITICAL)
RECORDED = (
    "queue:taskqueue_queue_ready_jobs:max",
    "queue:taskqueue_queue_last_progress_timestamp_seconds:min",
    "queue:taskqueue_target_stalled_seconds:effective",
)
"""What the alert of a queue that stands still reads."""


@dataclass(slots=True)
class Site:
    """Where it happens."""

    servers: dict[str, RedisServer]
    stack: Stack

    def wait_until_told(self, expected: Expected, status: str = "firing", **labels: str) -> None:
        """Of an alert with these labels, too."""
        wanted = expected.all_labels | labels
        self.stack.webhook.wait_for(lambda: self.stack.sent(status, wanted), DEADLINE)

    def wait_until_told_again(self, expected: Expected) -> None:
        """As often as it takes to know that it goes on."""
        before = len(self.stack.sent("firing", expected.all_labels))
        wait_until(lambda: len(self.stack.sent("firing", expected.all_labels)) >= before + REPEATS, DEADLINE)

    def told_since(self, start: int, labels: Labels) -> set[tuple[str, str]]:
        """Names and statuses of the alerts with these labels in notifications from the one of that number on."""
        return {
            (alert["labels"]["alertname"], alert["status"])
            for notification in self.stack.webhook.received[start:]
            for alert in notification["alerts"]
            if labels.items() <= alert["labels"].items()
        }

    def wait_until_inhibited(self, expected: Expected, by: Expected) -> None:
        """Alertmanager says so."""
        wait_until(lambda: by.alertname in self.stack.inhibited(expected.all_labels), DEADLINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two replicas, two brokers, and in both a queue that stands still, of which somebody was told."""
    with ExitStack() as kept:
        servers = {}
        for name in (WELL, DOWN):
            # One that comes back without its jobs would deserve another alert.
            servers[name] = RedisServer(tmp_path_factory.mktemp(name), appendonly="yes")
            kept.callback(servers[name].stop)
            enqueue_arq(servers[name].url(), "hold", READY, "/nowhere", queue=IDLE)
        directory = tmp_path_factory.mktemp("alerts")
        stack = Stack(directory, servers, NUMBERS)
        kept.callback(stack.stop)
        kept.enter_context(worker(directory, servers[DOWN].url(), *ARQ_WORKER))
        here = Site(servers, stack)
        for expected in STALLED.values():
            here.wait_until_told(expected)
        yield here


def steady(stack: Stack, recorded: str, since: float) -> tuple[set[float], float]:
    """The values that a recorded series of the idle queue took, and the longest time in which it had none."""
    labels = f'{{broker="{WELL}", queue="{IDLE}"}}'
    samples = stack.prometheus.samples(recorded + labels, since)
    times = [at for at, _ in samples]
    return {value for _, value in samples}, max(later - at for at, later in pairwise(times))


def assert_nothing_changed(site: Site, start: int, began: float) -> None:
    """The alerts of queues that stand still were told as before, and what they read had one value all the time."""
    told = site.told_since(start, {"queue": IDLE})
    assert told == {("QueueStalled", "firing")}
    for recorded in RECORDED:
        values, longest = steady(site.stack, recorded, began)
        assert max(values) - min(values) < JUMP, (recorded, values)
        assert longest < LONGEST_PAUSE, (recorded, longest)


def test_a_killed_exporter_is_told_and_nothing_else_changes(site: Site) -> None:
    stack, killed = site.stack, site.stack.replicas[1]
    start, began = len(stack.webhook.received), time.time()
    # when
    killed.kill()
    site.wait_until_told(EXPORTER_DOWN, instance=killed.instance)
    site.wait_until_told_again(STALLED[WELL])
    # then
    assert_told(stack, EXPORTER_DOWN)
    assert_nothing_changed(site, start, began)


def test_an_exporter_that_comes_back_changes_nothing_either(site: Site) -> None:
    stack, (survivor, killed) = site.stack, site.stack.replicas
    # given another that has run for long
    stack.until(f'last_over_time(process_start_time_seconds{{instance="{survivor.instance}"}}[2s] offset {LONG}s)')
    start, began = len(stack.webhook.received), time.time()
    # when
    killed.start()
    site.wait_until_told(EXPORTER_DOWN, "resolved", instance=killed.instance)
    stack.until(f'taskqueue_queue_last_progress_timestamp_seconds{{instance="{killed.instance}", broker="{WELL}"}}')
    site.wait_until_told_again(STALLED[WELL])
    # then
    assert stack.statuses(EXPORTER_DOWN.all_labels) == ["firing", "resolved"]
    assert_nothing_changed(site, start, began)


def test_a_broker_that_is_down_keeps_its_own_alerts_quiet(site: Site) -> None:
    stack = site.stack
    # given a task that fails there, beside the queues that stand still
    enqueue_arq(site.servers[DOWN].url(), "hold", FAILURES)
    for expected in STALLED.values():
        site.wait_until_told_again(expected)
    site.wait_until_told(FAILING)
    # when
    site.servers[DOWN].stop()
    site.wait_until_told(BROKER_DOWN)
    site.wait_until_inhibited(FAILING, BROKER_DOWN)
    quiet_since = len(stack.webhook.received)
    # then nobody is told of it any more, while the other broker's goes on
    site.wait_until_told_again(STALLED[WELL])
    assert site.told_since(quiet_since, {"broker": DOWN}) <= {("BrokerDown", "firing")}
    assert site.told_since(quiet_since, {"broker": WELL}) == {("QueueStalled", "firing")}
    assert_told(stack, BROKER_DOWN)
    # and when it is back
    site.servers[DOWN].restart()
    site.wait_until_told(BROKER_DOWN, "resolved")
    assert stack.statuses(BROKER_DOWN.all_labels) == ["firing", "resolved"]


def test_both_exporters_killed_is_told_once(site: Site) -> None:
    stack = site.stack
    site.wait_until_told_again(STALLED[WELL])
    start = len(stack.webhook.received)
    # when
    for replica in stack.replicas:
        replica.kill()
    site.wait_until_told(ALL_DOWN)
    site.wait_until_told_again(ALL_DOWN)
    # then not of each of them, though each is down
    assert_told(stack, ALL_DOWN)
    for replica in stack.replicas:
        one = Expected("ExporterDown", "chat", WARNING | {"instance": replica.instance})
        site.wait_until_inhibited(one, ALL_DOWN)
    assert site.told_since(start, EXPORTER_DOWN.all_labels) == set()
    # and when they are back
    for replica in stack.replicas:
        replica.start()
    site.wait_until_told(ALL_DOWN, "resolved")
    assert stack.statuses(ALL_DOWN.all_labels) == ["firing", "resolved"]


def test_nothing_else_fired(site: Site) -> None:
    expected = [*STALLED.values(), FAILING, BROKER_DOWN, EXPORTER_DOWN, ALL_DOWN]
    fired = unexpected(site.stack, expected)
    assert fired == [], [labels["alertname"] for labels in fired]
