"""Celery's queues while real workers take jobs from them: by state, by age, under prefixes and behind exchanges."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.apps import kill, worker
from tests.e2e.queues_app import LETTERS, MANY, NEWS, PARCELS, SETTINGS, TOPICS, producer, send_by, worker_command
from tests.e2e.reading import Metrics, jobs, oldest, queue, success, unacked
from tests.servers import Exporter, Process, RedisServer, StartExporter, series, wait_until

DEADLINE = 25.0
IDLE: dict[str, float] = {"ready": 0, "scheduled": 0, "reserved": 0, "running": 0}


class Stage:
    """A Redis, an exporter of it, and the workers that a test starts."""

    def __init__(self, server: RedisServer, directory: Path, stack: ExitStack) -> None:
        self.server, self.directory, self.stack = server, directory, stack
        self.gate = directory / "gate"

    def produce(self, **settings: Any) -> Any:
        return self.stack.enter_context(producer(self.server.url(), **settings))

    def work(self, name: str, *queues: str, concurrency: int = 2) -> Process:
        command = worker_command(name, *queues, concurrency=concurrency)
        return self.stack.enter_context(worker(self.directory, self.server.url(), *command))


@pytest.fixture
def stage(redis_server: RedisServer, tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(redis_server, tmp_path, stack)


def when(exporter: Exporter, **wanted: Mapping[str, float]) -> Metrics:
    """The first answer in which these queues have just these jobs."""
    seen: dict[str, Mapping[str, float]] = {}

    def look() -> Metrics:
        metrics = exporter.metrics()
        seen.update({name: jobs(metrics, "celery", name) for name in wanted})
        return metrics if seen == wanted else {}

    try:
        return wait_until(look, DEADLINE, 0.2)
    except AssertionError:
        raise AssertionError(f"wanted {wanted}, saw last {seen}") from None


def total(metrics: Metrics, *queues: str) -> float | None:
    """Jobs of queues in all states together; None where one of the states is not known."""
    found = [jobs(metrics, "celery", name) for name in queues]
    return sum(sum(states.values()) for states in found) if all(len(states) == 4 for states in found) else None


# -- states -----------------------------------------------------------------------------------------------------


def test_jobs_in_a_workers_hands_are_told_apart_by_queue(stage: Stage, start_exporter: StartExporter) -> None:
    # given a worker with two slots, one of which runs a job that is acknowledged late
    app = stage.produce()
    stage.work("one", "celery", "letters")
    app.send_task("hold", (str(stage.gate),), queue="celery")
    app.send_task("hold.late", (str(stage.gate),), queue="letters")
    client = stage.server.client()
    wait_until(lambda: client.hlen("unacked") == 1 and not client.llen("celery"), DEADLINE)
    # and more jobs than it can run, some of them due later
    for name, later in (("celery", 2), ("letters", 1)):
        for _ in range(3):
            app.send_task("hold", (str(stage.gate),), queue=name)
        for _ in range(later):
            app.send_task("hold", (str(stage.gate),), queue=name, countdown=600)
    app.send_task("hold", (str(stage.gate),), queue="letters", eta=datetime.now(UTC) + timedelta(hours=1))
    # when an exporter starts in the middle
    celery = {"inspect_interval": 1}
    config = json.dumps({"brokers": [{"name": "default", "url": stage.server.url(), "celery": celery}]})
    exporter = start_exporter(config=config)
    # then what runs is told by the workers' answers
    before = when(
        exporter,
        celery={"ready": 0, "scheduled": 2, "reserved": 3, "running": 1},
        letters={"ready": 0, "scheduled": 2, "reserved": 3, "running": 1},
    )
    assert unacked(before) == 11
    assert success(before, "celery") == 1
    assert before[series("taskqueue_unacked_visibility_timeout_seconds", system="celery", broker="default")] == 3600
    # and once the jobs ended, all that is left is due later
    stage.gate.touch()
    left = {"ready": 0, "scheduled": 2, "reserved": 0, "running": 0}
    after = when(exporter, celery=left, letters=left)
    assert queue(after, "oldest_running_timestamp_seconds", "celery", "celery") is None


def test_the_states_of_a_workload_add_up(stage: Stage, start_exporter: StartExporter) -> None:
    # given an exporter that knows what runs
    queues, slots = ("celery", "letters"), 2
    app = stage.produce()
    stage.work("one", *queues, concurrency=slots)
    exporter = start_exporter(redis_url=stage.server.url())
    when(exporter, celery=IDLE, letters=IDLE)
    # when jobs come and end
    count, record = 60, stage.directory / "ended"
    record.touch()
    for number in range(count):
        later = 0.5 if number % 5 == 0 else None
        app.send_task("sleep", (0.1, str(record)), queue=queues[number % 2], countdown=later)
    seen: list[tuple[int, float, int]] = []
    while not seen or seen[-1][0]:
        before = count - record.stat().st_size
        added = total(exporter.metrics(), *queues)
        after = count - record.stat().st_size
        if added is not None:
            seen.append((after, added, before))
    # then at every scrape they are what has not ended, but for those on their way from one state to the next
    assert [one for one in seen if not one[0] - slots <= one[1] <= one[2] + slots] == []
    assert len(seen) > 10
    when(exporter, celery=IDLE, letters=IDLE)


def test_a_job_whose_worker_is_killed_is_there_once_until_it_ends(
    stage: Stage, start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a job that is acknowledged late, in a worker that is killed
    settings = {"broker_transport_options": {"visibility_timeout": 2}, "worker_prefetch_multiplier": 1}
    monkeypatch.setenv(SETTINGS, json.dumps(settings))
    app = stage.produce(**settings)
    first = stage.work("first", "celery", concurrency=1)
    exporter = start_exporter(redis_url=stage.server.url())
    app.send_task("hold.late", (str(stage.gate),), queue="celery")
    when(exporter, celery=IDLE | {"running": 1})
    kill(first)
    # then it is in nobody's hands, once that is known
    lost = when(exporter, celery=IDLE | {"reserved": 1})
    assert unacked(lost) == 1
    # and when another worker gives it back and takes it, it runs
    stage.work("second", "celery", concurrency=1)
    when(exporter, celery=IDLE | {"running": 1})
    stage.gate.touch()
    when(exporter, celery=IDLE)


# -- the oldest ready -------------------------------------------------------------------------------------------


def test_the_oldest_ready_job_of_a_backlog_is_right_to_a_second(
    stage: Stage, start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTINGS, json.dumps({"worker_prefetch_multiplier": 1}))
    app, client = stage.produce(), stage.server.client()
    exporter = start_exporter(redis_url=stage.server.url())
    wait_until(
        lambda: exporter.metrics()[series("taskqueue_feed_connected", system="celery", broker="default", feed="events")]
    )
    sent: dict[str, float] = {}
    # given a backlog that was sent over some time
    for _ in range(12):
        time.sleep(0.15)  # the age of each is another
        sent[app.send_task("sleep", (0.2,), queue="celery").id] = time.time()

    def head() -> float:
        message: Any = client.lindex("celery", -1)
        return sent[json.loads(str(message, "utf-8"))["headers"]["id"]] if message else time.time()

    # when a worker works it off, and another exporter starts in the middle
    stage.work("one", "celery", concurrency=1)
    late = start_exporter(redis_url=stage.server.url())
    known = 0
    while client.llen("celery"):
        before = head()
        found, other = oldest(exporter.metrics(), "celery", "celery"), oldest(late.metrics(), "celery", "celery")
        after = head()
        # then the age is right, and that of one that did not hear of the jobs is absent
        if found is not None:
            known += 1
            assert before - 1 <= found <= after + 1
        else:
            assert not client.llen("celery")
        assert other is None or before - 1 <= other <= after + 1
    assert known > 3
    wait_until(lambda: oldest(exporter.metrics(), "celery", "celery") is None, DEADLINE)


def test_jobs_with_an_eta_that_nobody_takes_are_due_when_it_comes(stage: Stage, start_exporter: StartExporter) -> None:
    app = stage.produce()
    eta = datetime.now(UTC) - timedelta(minutes=5)
    app.send_task("hold", ("gate",), queue="celery", countdown=600)
    exporter = start_exporter(redis_url=stage.server.url())
    assert oldest(exporter.metrics(), "celery", "celery") is None
    app.send_task("hold", ("gate",), queue="celery", eta=eta)
    late = start_exporter(redis_url=stage.server.url())  # that did not hear of it
    assert oldest(late.metrics(), "celery", "celery") == pytest.approx(eta.timestamp(), abs=1)


# -- exchanges, prefixes, priorities ----------------------------------------------------------------------------


def test_jobs_that_come_by_any_exchange_are_of_their_queues(stage: Stage, start_exporter: StartExporter) -> None:
    app = stage.produce()
    stage.work("one", *MANY, concurrency=1)
    client = stage.server.client()
    exporter = start_exporter(redis_url=stage.server.url())
    idle = dict.fromkeys(MANY, IDLE)
    when(exporter, **idle)
    # given a worker whose slot is taken, by a job of which Celery tells the default queue
    send_by(app, PARCELS, "parcel.heavy", str(stage.gate), task="hold.late")
    when(exporter, **idle | {"parcels": IDLE | {"running": 1}})
    # when jobs come by each exchange, due later so that all get to it
    app.send_task("hold", (str(stage.gate),), queue="celery", countdown=600)
    send_by(app, LETTERS, "letters", str(stage.gate), countdown=600)
    send_by(app, PARCELS, "parcel.heavy", str(stage.gate), countdown=600)
    send_by(app, TOPICS, "mail.new.big", str(stage.gate), countdown=600)
    send_by(app, NEWS, "any", str(stage.gate), countdown=600)
    # then each is in its queue
    one = IDLE | {"scheduled": 1}
    when(exporter, **dict.fromkeys(MANY, one) | {"parcels": one | {"running": 1}})
    assert client.hlen("unacked") == 6


def test_every_transport_option_of_the_layout_is_followed(stage: Stage, start_exporter: StartExporter) -> None:
    # given producers that set all of them, beside others that set none
    options = {"priority_steps": list(range(10)), "sep": ":", "global_keyprefix": "app:", "visibility_timeout": 60}
    app, other = stage.produce(broker_transport_options=options), stage.produce()
    for number in range(70):
        app.send_task("hold", ("gate",), queue="celery", priority=(1, 4, 5, 8)[number % 4])
    other.send_task("hold", ("gate",), queue="elsewhere")
    celery = {"separator": ":", "priority_steps": list(range(10)), "global_keyprefix": "app:", "visibility_timeout": 60}
    config = json.dumps({"brokers": [{"name": "default", "url": stage.server.url(), "celery": celery}]})
    metrics = start_exporter(config=config).metrics()
    # then all jobs are there, under Celery's name of the queue, and nothing else
    assert jobs(metrics, "celery", "celery")["ready"] == 70
    found = [queue(metrics, "priority_jobs", "celery", "celery", priority=str(step)) for step in range(10)]
    assert found == [0, 18, 0, 0, 18, 17, 0, 0, 17, 0]
    names = {dict(labels)["queue"] for name, labels in metrics if name == "taskqueue_queue_jobs"}
    assert names == {"celery", "letters", "parcels", "topics", "news.here"} & names
    assert metrics[series("taskqueue_unacked_visibility_timeout_seconds", system="celery", broker="default")] == 60
    assert success(metrics, "celery") == 1


def test_under_a_prefix_a_worker_and_its_jobs_are_seen_whole(
    stage: Stage, start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"broker_transport_options": {"global_keyprefix": "app:"}}
    monkeypatch.setenv(SETTINGS, json.dumps(settings))
    app = stage.produce(**settings)
    stage.work("one", "celery", "letters", concurrency=1)
    celery = {"global_keyprefix": "app:"}
    config = json.dumps({"brokers": [{"name": "default", "url": stage.server.url(), "celery": celery}]})
    exporters = start_exporter(config=config), start_exporter(redis_url=stage.server.url())
    app.send_task("hold", (str(stage.gate),), queue="celery")
    app.send_task("hold", (str(stage.gate),), queue="celery")
    app.send_task("hold", (str(stage.gate),), queue="letters", countdown=600)
    busy, later = IDLE | {"running": 1, "reserved": 1}, IDLE | {"scheduled": 1}
    when(exporters[0], celery=busy, letters=later)
    when(exporters[1], **{"app:celery": busy, "app:letters": later})
