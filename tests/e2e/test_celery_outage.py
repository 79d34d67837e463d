"""The exporter is cut off while Celery's jobs end: by their results each is counted once, and what nothing tells of is
estimated as lost."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from tests.e2e.apps import START_DEADLINE, kill, worker
from tests.e2e.outage_app import FAIL, HOLD, OK, QUEUES, SETTINGS, make_app, worker_command
from tests.e2e.pushing import NeverFalls, feed
from tests.e2e.truth import SHOWN_AT_ONCE, total
from tests.e2e.truth_record import UNKNOWN
from tests.relay import Relay, relay
from tests.servers import Exporter, Process, RedisServer, StartExporter, wait_until

FINISHED = "taskqueue_jobs_finished_total"
DEADLINE = 60.0
OUTAGE = float(os.environ.get("TEST_OUTAGE_SECONDS", "20"))
"""How long an outage lasts: as short as the tests have time for, a minute in `make test-matrix`."""
SETTLED = 30.0
ENDED = ("SUCCESS", "FAILURE", "REVOKED")

Counts = Counter[tuple[str, str, str]]
"""By queue, task and outcome, or by a part of these."""


@dataclass(slots=True)
class Stage:
    """An exporter behind a relay, workers, and a producer that keeps the truth."""

    exporter: Exporter
    watch: NeverFalls
    relay: Relay
    app: Any
    client: redis.Redis
    workers: list[Process]
    truth: Counts = field(default_factory=Counter)

    def send(self, task: str, outcome: str, *args: object, queue: str = QUEUES[0], **options: Any) -> str:
        """One job, and how it must end."""
        self.truth[queue, task, outcome] += 1
        job_id = options.pop("task_id", uuid4().hex)
        self.app.send_task(task, args, task_id=job_id, queue=queue, **options)
        return str(job_id)

    def send_all_kinds(self, each: int) -> None:
        """Jobs of all outcomes, twenty at a time; half of them into each queue."""
        revoked = [uuid4().hex for _ in range(each)]
        answers = self.app.control.revoke(revoked, reply=True, timeout=10.0, limit=len(self.workers))
        assert len(answers) == len(self.workers)
        for number, job_id in enumerate(revoked):
            queue = QUEUES[number % len(QUEUES)]
            for _ in range(14):
                self.send(OK, "succeeded", queue=queue)
            for name in ("ValueError", "ValueError", "KeyError", "Refused"):
                self.send(FAIL, "failed", name, queue=queue)
            self.send(OK, "aborted", queue=queue, task_id=job_id)
            self.send(OK, "expired", queue=queue, countdown=1.0, expires=0.5)

    def until_written(self, count: int) -> None:
        """Until as many results stand that are ends."""
        wait_until(lambda: self._written() == count, DEADLINE, interval=0.2)

    def _written(self) -> int:
        keys = list(self.client.scan_iter("celery-task-meta-*", count=1000))
        values: Any = self.client.mget(keys) if keys else []
        return sum(json.loads(value)["status"] in ENDED for value in values)

    def shown(self, *labels: str) -> Counter[tuple[str, ...]]:
        """The jobs that ended, by labels."""
        found: Counter[tuple[str, ...]] = Counter()
        for (name, own), value in self.watch.scrape().items():
            if name == FINISHED and ("system", "celery") in own and value:
                found[tuple(dict(own)[label] for label in labels)] += int(value)
        return found

    def until_ended(self, count: int) -> None:
        """Until as many jobs are told to have ended."""
        try:
            wait_until(lambda: sum(self.shown("outcome").values()) == count, DEADLINE, interval=0.2)
        except AssertionError:
            raise AssertionError(f"{self.shown('task', 'outcome')}, wanted {count}\n{self.logs()}") from None

    def logs(self) -> str:
        """What the processes say."""
        return "\n".join(process.log[-2000:] for process in [self.exporter._process, *self.workers])

    def until_told(self, *labels: str) -> None:
        """Until the exporter shows the truth, and then it must go on to."""
        places = [("queue", "task", "outcome").index(label) for label in labels]
        wanted: Counter[tuple[str, ...]] = Counter()
        for key, count in self.truth.items():
            wanted[tuple(key[place] for place in places)] += count
        try:
            wait_until(lambda: self.shown(*labels) == wanted, DEADLINE, interval=0.2)
        except AssertionError:
            raise AssertionError(f"shown {self.shown(*labels)}, truth {wanted}\n{self.logs()}") from None
        scrapes = iter(range(6))
        wait_until(lambda: self.shown(*labels) != wanted or next(scrapes, None) is None, interval=0.5)
        assert self.shown(*labels) == wanted

    def lost(self) -> float:
        return feed(self.watch.scrape(), "lost_events_total", "celery")

    def until_lost(self, count: int) -> None:
        """Until as many starts are estimated to be lost."""
        try:
            wait_until(lambda: self.lost() == count, SETTLED, interval=0.2)
        except AssertionError:
            raise AssertionError(f"lost {self.lost()}, wanted {count}\n{self.logs()}") from None

    def connected(self, state: float) -> None:
        wait_until(lambda: feed(self.watch.scrape(), "connected", "celery") == state, START_DEADLINE)

    def ran(self) -> int:
        """How many jobs the workers have processed, by their own account."""
        answers = self.app.control.inspect(timeout=5.0, limit=len(self.workers)).stats() or {}
        return sum(sum(answer["total"].values()) for answer in answers.values())

    def until_beaten(self) -> None:
        """Until each worker was heard some more times: what it said first may have been ahead of its events."""
        before = feed(self.watch.scrape(), "events_total", "celery")
        wait_until(
            lambda: feed(self.watch.scrape(), "events_total", "celery") >= before + 5 * len(self.workers), SETTLED
        )

    def told_queues(self) -> set[str]:
        """The queues of which it is known who consumes them."""
        return {
            dict(labels)["queue"]
            for (name, labels), value in self.watch.scrape().items()
            if name == "taskqueue_queue_workers" and ("system", "celery") in labels and value
        }

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """The exporter is, meanwhile."""
        self.relay.cut()
        self.connected(0)
        yield
        self.relay.heal()
        self.connected(1)


@contextmanager
def stage(
    server: RedisServer,
    start_exporter: StartExporter,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    switches: str,
    commands: Iterable[tuple[str, ...]],
) -> Iterator[Stage]:
    """Everything up, the workers known."""
    monkeypatch.setenv(SETTINGS, switches)
    url = server.url()
    with ExitStack() as stack:
        between = stack.enter_context(relay(server.port))
        near = url.replace(f":{server.port}", f":{between.port}")
        config = f"brokers: [{{name: default, url: '{near}', celery: {{inspect_interval: 1}}}}]"
        exporter = start_exporter(config=config, env=SHOWN_AT_ONCE)
        workers = [stack.enter_context(worker(directory, url, *command)) for command in commands]
        app = make_app(url, switches)
        stack.callback(app.close)
        one = Stage(exporter, NeverFalls(exporter), between, app, server.client(), workers)
        up = "taskqueue_worker_up"
        wait_until(lambda: total(one.watch.scrape(), up, system="celery") == len(workers), START_DEADLINE)
        yield one


BOTH = (worker_command("first", *QUEUES), worker_command("second", *QUEUES))

Staged = Callable[..., Any]


@pytest.fixture
def staged(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Staged:
    return lambda switches, *commands: stage(
        redis_server, start_exporter, tmp_path, monkeypatch, switches, commands or BOTH
    )


@pytest.mark.slow
def test_a_thousand_jobs_that_end_in_an_outage_are_counted_once(staged: Staged, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with staged("extended sent") as one:
        # given jobs that were counted, and jobs that run
        one.send_all_kinds(2)
        for _ in range(3):
            one.send(HOLD, "succeeded", str(first), queue=QUEUES[1])
        held = {"system": "celery", "task": HOLD}
        wait_until(lambda: total(one.watch.scrape(), "taskqueue_jobs_started_total", **held) == 3, DEADLINE)
        one.until_ended(40)
        # when
        with one.cut_off():
            began = time.monotonic()
            one.send_all_kinds(50)
            first.touch()
            for _ in range(2):
                one.send(HOLD, "succeeded", str(second))
            one.until_written(40 + 1000 + 3)
            wait_until(lambda: time.monotonic() - began > OUTAGE, OUTAGE + 30.0)
            assert sum(one.shown("outcome").values()) == 40
        # then
        one.until_ended(40 + 1000 + 3)
        second.touch()  # while no results are read: their ends are told by events
        one.until_told("queue", "task", "outcome")
        exceptions = "taskqueue_job_exceptions_total"
        for name, count in {"ValueError": 104, "KeyError": 52, "Refused": 52}.items():
            assert total(one.watch.scrape(), exceptions, system="celery", exception=name) == count
        # and what follows
        one.send_all_kinds(2)
        one.until_told("queue", "task", "outcome")
        assert one.lost() <= 2  # the starts of those that ended later, where an event told that before their results


@pytest.mark.slow
def test_short_cuts_in_a_row_count_nothing_twice(staged: Staged) -> None:
    with staged("") as one:
        one.send_all_kinds(1)
        one.until_ended(20)
        for _ in range(3):
            one.send_all_kinds(3)  # some of them end before it
            with one.cut_off():
                one.send_all_kinds(2)
                one.until_written(sum(one.truth.values()))
            one.send_all_kinds(1)  # and some while results are read
        one.until_told("outcome")


@pytest.mark.slow
def test_without_results_what_started_unheard_is_lost(staged: Staged) -> None:
    with staged("") as one:
        # given workers that were heard to start jobs
        for _ in range(20):
            one.send(OK, "succeeded")
        one.until_told("outcome")
        done = one.ran()
        one.until_beaten()
        # when
        with one.cut_off():
            for _ in range(30):
                one.app.send_task(OK, queue=QUEUES[0], ignore_result=True)
            wait_until(lambda: one.ran() == done + 30, DEADLINE, interval=0.2)
        # then
        one.until_lost(30)
        for _ in range(10):
            one.send(OK, "succeeded")
        one.until_told("outcome")
        assert one.lost() == 30


ONLY = (worker_command("only", QUEUES[0]), worker_command("another", QUEUES[1]))


@pytest.mark.slow
def test_a_worker_that_is_restarted_in_the_gap_and_jobs_named_by_its_only_queue(
    staged: Staged, tmp_path: Path, redis_server: RedisServer
) -> None:
    with staged("", *ONLY) as one, ExitStack() as stack:
        # given workers of one queue each, without `task-sent`, that answered
        wait_until(lambda: one.told_queues() == set(QUEUES), SETTLED)
        for queue in QUEUES * 5:
            one.send(OK, "succeeded", queue=queue)
            one.send(FAIL, "failed", "KeyError", queue=queue)
        one.until_told("queue", "task", "outcome")
        # when
        with one.cut_off():
            kill(one.workers[0])
            one.workers[0] = stack.enter_context(worker(tmp_path, redis_server.url(), *ONLY[0]))
            for _ in range(15):
                one.send(OK, "succeeded")
                one.send(FAIL, "failed", "KeyError")
            one.until_written(sum(one.truth.values()))
        # then
        one.until_told("outcome")
        assert one.shown("queue")[(UNKNOWN,)] <= 30, "only what ended unheard has no names"
        wait_until(lambda: one.told_queues() == set(QUEUES), SETTLED)
        known = one.shown("queue", "task", "outcome")
        for _ in range(5):
            one.send(OK, "succeeded")
        one.until_told("outcome")
        assert one.shown("queue", "task", "outcome") - known == {(QUEUES[0], OK, "succeeded"): 5}
        assert one.lost() == 0
