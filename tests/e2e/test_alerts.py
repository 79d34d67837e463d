"""What goes wrong with real workers and a real Redis reaches a webhook, and so does its end; nothing else does.

All of it happens at the same time, each on a broker of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.alertmanager import EXECUTABLE
from tests.e2e.alerting import (
    ARQ_QUEUE,
    FACTOR,
    Expected,
    Scenario,
    Stack,
    assert_told,
    enqueue_arq,
    unexpected,
)
from tests.e2e.apps import ARQ_WORKER, make_celery, worker
from tests.servers import Process, RedisServer, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs("prometheus", EXECUTABLE, "redis-server")]

NUMBERS = {
    "stalled_seconds": 300 / FACTOR,
    "unstaffed_seconds": 180 / FACTOR,
    # Nothing here is about waits. Jobs wait for as long as the test takes.
    "wait_seconds": 900,
}
STAFF, PILE, WORK, MEMORY = "staff", "pile", "work", "memory"
"""The brokers: one without workers, one with too few, one whose jobs end badly, one that may forget jobs."""
MAIL = "mail"
BACKLOG = 100 + 3 + 1
"""One more than a queue may hold beside what the three slots of its worker take."""
FAILING, RENAMED = "hold", "renamed"
FAILURES = 8
"""More than a task may fail, and too few for an error budget to mean something."""
DEADLINE = 90.0
AT_ONCE = os.devnull
"""A gate that stands open."""


def celery_worker(name: str, queue: str) -> tuple[str, ...]:
    """The command of a worker of one queue."""
    return (
        *("celery", "--app", "tests.e2e.apps:celery_worker", "worker", "--hostname", f"{name}@e2e", "--queues", queue),
        *("--pool", "solo", "--task-events", "--heartbeat-interval", "1", "--loglevel", "info"),
        *("--without-gossip", "--without-mingle"),
    )


@dataclass(slots=True)
class Site:
    """Where it happens."""

    directory: Path
    servers: dict[str, RedisServer]
    stack: Stack
    kept: ExitStack

    def start(self, broker: str, command: tuple[str, ...]) -> Process:
        """A worker."""
        return self.kept.enter_context(worker(self.directory, self.servers[broker].url(), *command))

    def enqueue(self, broker: str, function: str, count: int, *args: object) -> None:
        """Jobs to ARQ's queue."""
        enqueue_arq(self.servers[broker].url(), function, count, *args)

    def send(self, broker: str, task: str, count: int, *args: object) -> None:
        """Tasks to Celery's queue."""
        app = make_celery(self.servers[broker].url())
        app.conf.task_send_sent_event = True
        for _ in range(count):
            app.send_task(task, args, queue=MAIL)
        app.close()


# -- what goes wrong --------------------------------------------------------------------------------------------


def workers_stopped(site: Site) -> Scenario:
    """The only Celery worker is shut down, as for a deployment that fails."""
    command = celery_worker("one", MAIL)
    first = site.start(STAFF, command)

    def cause() -> None:
        site.stack.until(f'taskqueue_queue_workers{{broker="{STAFF}", queue="{MAIL}"}} == 1')
        first.stop()
        site.send(STAFF, "hold", 3, AT_ONCE)

    queue = {"system": "celery", "broker": STAFF, "queue": MAIL}
    return Scenario(
        [
            Expected("QueueNoWorkers", "pager", queue | {"severity": "critical"}, ["3 jobs are ready"]),
            Expected("NoWorkersAtAll", "chat", {"system": "celery", "broker": STAFF, "severity": "warning"}),
            Expected("QueueStalled", "pager", queue, inhibited_by="QueueNoWorkers"),
        ],
        cause,
        lambda: site.start(STAFF, command),
    )


def jobs_pile_up(site: Site) -> Scenario:
    """An ARQ worker is busy with jobs that take long, and more come than its queue should hold."""
    gate = site.directory / "gate"
    site.start(PILE, ARQ_WORKER)
    return Scenario(
        [
            Expected(
                "QueueBacklog",
                "chat",
                {"system": "arq", "broker": PILE, "queue": ARQ_QUEUE, "severity": "warning"},
                ["101 jobs are ready"],
            )
        ],
        lambda: site.enqueue(PILE, "hold", BACKLOG, str(gate)),
        gate.touch,
    )


def jobs_fail(site: Site) -> Scenario:
    """Producers forget an argument of a task: it fails, in workers of both systems."""
    site.start(WORK, ARQ_WORKER)
    site.start(WORK, celery_worker("two", MAIL))

    def cause() -> None:
        site.enqueue(WORK, FAILING, FAILURES)
        site.enqueue(WORK, FAILING, 2, AT_ONCE)
        site.send(WORK, FAILING, FAILURES)

    def heal() -> None:
        site.enqueue(WORK, FAILING, 2, AT_ONCE)
        site.send(WORK, FAILING, 2, AT_ONCE)

    task = {"broker": WORK, "task": FAILING, "severity": "warning"}
    return Scenario(
        [
            Expected("TaskFailing", "chat", task | {"system": "arq", "queue": ARQ_QUEUE}, ["80%"]),
            Expected("TaskFailing", "chat", task | {"system": "celery", "queue": MAIL}, ["100%"]),
        ],
        cause,
        heal,
    )


def a_task_is_renamed(site: Site) -> Scenario:
    """One job, the very first, of a name that no worker knows. The workers are those of the jobs that fail."""

    def cause() -> None:
        site.send(WORK, RENAMED, 1)
        site.enqueue(WORK, RENAMED, 1)

    task = {"broker": WORK, "task": RENAMED, "severity": "warning"}
    return Scenario(
        [
            Expected("FunctionNotFound", "chat", task | {"system": "arq", "queue": ARQ_QUEUE}),
            Expected("FunctionNotFound", "chat", task | {"system": "celery", "queue": MAIL}),
        ],
        cause,
        lambda: None,  # it was one job
    )


def redis_may_evict(site: Site) -> Scenario:
    """Someone lets a Redis with a limit forget keys, as a cache does."""
    server = site.servers[MEMORY]

    def policy(name: str) -> Callable[[], object]:
        return lambda: server.client().config_set("maxmemory-policy", name)

    return Scenario(
        [Expected("RedisCanEvictJobs", "chat", {"broker": MEMORY, "severity": "warning"}, ["allkeys-lru"])],
        policy("allkeys-lru"),
        policy("noeviction"),
    )


SCENARIOS = (workers_stopped, jobs_pile_up, jobs_fail, a_task_is_renamed, redis_may_evict)
NAMES = tuple(scenario.__name__ for scenario in SCENARIOS)


# -- the story --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Story:
    """Everything that went wrong and was put right, and what was told of it."""

    stack: Stack
    scenarios: dict[str, Scenario]
    inhibited: dict[str, set[str]] = field(default_factory=dict)
    """What kept each alert quiet that was not to be told."""
    told_before: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """What was told of it all the same, before it was put right."""
    wrong: set[str] = field(default_factory=lambda: set(NAMES))

    def put_right_what_was_told(self) -> bool:
        """Returns whether that is all."""
        for name in self.wrong.copy():
            scenario = self.scenarios[name]
            if scenario.has_fired(self.stack):
                self.inhibited |= {one.alertname: self.stack.inhibited(one.all_labels) for one in scenario.untold}
                self.told_before |= {
                    one.alertname: self.stack.sent("firing", one.all_labels) for one in scenario.untold
                }
                self.wrong.remove(name)
                scenario.heal()
        return not self.wrong

    def is_over(self) -> bool:
        """Whether the end of all was told."""
        return all(scenario.is_over(self.stack) for scenario in self.scenarios.values())


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Everything goes wrong at once; each is put right when it was told, and it ends when the end of all was told."""
    with ExitStack() as kept:
        servers = {}
        for name in (STAFF, PILE, WORK, MEMORY):
            options = {"maxmemory": "100mb"} if name == MEMORY else {}
            servers[name] = RedisServer(tmp_path_factory.mktemp(name), **options)
            kept.callback(servers[name].stop)
        directory = tmp_path_factory.mktemp("alerts")
        stack = Stack(directory, servers, NUMBERS)
        kept.callback(stack.stop)
        site = Site(directory, servers, stack, kept)
        told = Story(stack, {scenario.__name__: scenario(site) for scenario in SCENARIOS})
        for scenario in told.scenarios.values():
            scenario.cause()
        # What is not told in time is for the tests to say, each of its own.
        for condition in (told.put_right_what_was_told, told.is_over):
            with suppress(AssertionError):
                wait_until(condition, DEADLINE, 0.2)
        yield told


@pytest.mark.parametrize("name", NAMES)
def test_it_is_told_to_whom_it_concerns(story: Story, name: str) -> None:
    for expected in story.scenarios[name].told:
        assert_told(story.stack, expected)


@pytest.mark.parametrize("name", NAMES)
def test_its_end_is_told(story: Story, name: str) -> None:
    for expected in story.scenarios[name].told:
        assert story.stack.statuses(expected.all_labels) == ["firing", "resolved"], expected


def test_what_follows_from_another_is_not_told(story: Story) -> None:
    expected = [one for scenario in story.scenarios.values() for one in scenario.untold]
    assert story.inhibited == {one.alertname: {one.inhibited_by} for one in expected}
    assert story.told_before == {one.alertname: [] for one in expected}


def test_every_rule_can_be_evaluated(story: Story) -> None:
    assert story.stack.prometheus.broken_rules() == []


def test_nothing_else_fires(story: Story) -> None:
    expected = [one for scenario in story.scenarios.values() for one in scenario.expected]
    fired = unexpected(story.stack, expected)
    assert fired == [], [labels["alertname"] for labels in fired]


def test_the_watchdog_is_heard_of_all_the_time(story: Story) -> None:
    told = story.stack.sent("firing", {"alertname": "Watchdog"})
    assert len(told) > 1
    assert {alert["receiver"] for alert in told} == {"dead-man"}
