"""Real Celery workers: who lives, with how many slots, and who consumes a queue."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import celery
import pytest

from tests.e2e.apps import START_DEADLINE, celery_producer, kill, make_celery, worker
from tests.e2e.reading import Metrics, queue
from tests.e2e.truth import SHOWN_AT_ONCE, total
from tests.servers import Exporter, RedisServer, Series, StartExporter, series, wait_until

BEAT = 1.0
"""Seconds between two heartbeats of the workers here."""
STALE = 3 * BEAT
INTERVAL = 1.0
"""Seconds between two questions: the least."""
TURNS = 5
FIRST, SECOND = "first@e2e", "second@e2e"


def command(name: str, queues: str, *more: str, pool: str = "prefork", slots: int = 2) -> tuple[str, ...]:
    """A worker that sends heartbeats and the events of its tasks."""
    return (
        *("celery", "--app", "tests.e2e.apps:celery_worker", "worker", "--hostname", name, "--queues", queues),
        *("--pool", pool, "--concurrency", str(slots), "--task-events", "--loglevel", "info"),
        *("--without-gossip", "--without-mingle", *(more or ("--heartbeat-interval", str(int(BEAT))))),
    )


def configuration(server: RedisServer, **celery_options: object) -> str:
    given = {"inspect_interval": INTERVAL} | celery_options
    section = ", ".join(f"{name}: {str(value).lower()}" for name, value in given.items())
    return f"brokers: [{{name: default, url: '{server.url()}', celery: {{{section}}}}}]"


def of_worker(metrics: Metrics, family: str, name: str, **more: str) -> float | None:
    """The value of `taskqueue_worker_<family>` of one worker; None where it is absent."""
    return metrics.get(series(f"taskqueue_worker_{family}", system="celery", broker="default", worker=name, **more))


def staff(metrics: Metrics, name: str) -> tuple[float | None, float | None, float | None]:
    """A queue's workers, slots and busy slots."""
    return tuple(queue(metrics, family, "celery", name) for family in ("workers", "slots", "busy_slots"))  # type: ignore[return-value]


def when(exporter: Exporter, condition: Callable[[Metrics], object], deadline: float = START_DEADLINE) -> Metrics:
    """The first answer that meets the condition."""

    def ask() -> Metrics | None:
        metrics = exporter.metrics()
        return metrics if condition(metrics) else None

    found = wait_until(ask, deadline)
    assert found is not None
    return found


def counters(metrics: Metrics) -> dict[Series, float]:
    """What is counted of jobs."""
    return {key: value for key, value in metrics.items() if key[0].startswith("taskqueue_job") and "total" in key[0]}


def jobs_seen(metrics: Metrics) -> tuple[float, float]:
    """How many attempts were started, and how many jobs ended."""
    started, finished = (f"taskqueue_jobs_{what}_total" for what in ("started", "finished"))
    return total(metrics, started, task="hold"), total(metrics, finished, task="hold")


def test_two_workers_on_a_host_with_queues_and_pools_of_their_own(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    # given a queue that nobody is known to consume: neither how many workers it has, nor that it has none
    url, gate = redis_server.url(), tmp_path / "gate"
    with celery_producer(url) as hold:
        hold.apply_async((str(gate),), queue="mail")
        exporter = start_exporter(config=configuration(redis_server), env=SHOWN_AT_ONCE)
        assert staff(exporter.metrics(), "mail") == (None, None, None)
        with (
            worker(tmp_path, url, *command(FIRST, "mail,shared")) as first,
            worker(tmp_path, url, *command(SECOND, "shared", pool="threads", slots=3)) as second,
        ):
            # when two workers came, each has what it is
            metrics = when(
                exporter,
                lambda seen: (
                    staff(seen, "shared") == (2, 5, 1)
                    and None not in (of_worker(seen, "registered_tasks", name) for name in (FIRST, SECOND))
                    and None not in (of_worker(seen, "reserved_jobs", name) for name in (FIRST, SECOND))
                ),
            )
            assert staff(metrics, "mail") == (1, 2, 1)
            for name, slots, busy in ((FIRST, 2, 1), (SECOND, 3, 0)):
                assert of_worker(metrics, "up", name) == 1
                assert of_worker(metrics, "slots", name) == slots
                assert of_worker(metrics, "busy_slots", name) == busy
                assert of_worker(metrics, "registered_tasks", name) == 1
                assert of_worker(metrics, "reserved_jobs", name) == 0
                assert of_worker(metrics, "info", name, version=celery.__version__) == 1
            # and one that starts to consume another queue is seen to
            app = make_celery(url)
            app.control.add_consumer("late", destination=[SECOND])
            when(exporter, lambda seen: staff(seen, "late")[:2] == (1, 3), 3 * TURNS * INTERVAL)
            app.control.cancel_consumer("shared", destination=[SECOND])
            when(exporter, lambda seen: staff(seen, "shared")[:2] == (1, 2), 3 * TURNS * INTERVAL)
            app.close()
            # and one that is stopped is gone at once
            second.signal(signal.SIGTERM)
            second.wait(START_DEADLINE)
            stopped = time.monotonic()
            when(exporter, lambda seen: of_worker(seen, "up", SECOND) is None, BEAT)
            assert time.monotonic() - stopped < BEAT
            assert staff(exporter.metrics(), "late") == (0, 0, 0)
            gate.touch()
            first.signal(signal.SIGTERM)


def test_a_killed_worker_is_down_soon_and_no_counter_falls_when_it_is_forgotten(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    # given a worker that ran a job, and runs another
    url, gate = redis_server.url(), tmp_path / "gate"
    config = configuration(redis_server, forget_workers_after=6)
    exporter = start_exporter(config=config, env=SHOWN_AT_ONCE)
    with celery_producer(url) as hold, worker(tmp_path, url, *command(FIRST, "mail")) as process:
        wait_until(lambda: of_worker(exporter.metrics(), "up", FIRST), START_DEADLINE)
        hold.apply_async((os.devnull,), queue="mail")
        hold.apply_async((str(gate),), queue="mail")
        before = when(exporter, lambda seen: staff(seen, "mail") == (1, 2, 1) and jobs_seen(seen) == (2, 1))
        # when it is killed
        kill(process)
        killed = time.monotonic()
        # then it is down as soon as three heartbeats are missing, and nobody consumes its queue any more
        seen = when(exporter, lambda seen: of_worker(seen, "up", FIRST) == 0, STALE + 2)
        assert time.monotonic() - killed < STALE + 1
        assert staff(seen, "mail") == (0, 0, 0)
        assert of_worker(seen, "slots", FIRST) is None
        # and once it is forgotten, what it did still counts
        after = when(exporter, lambda seen: of_worker(seen, "up", FIRST) is None)
        assert staff(after, "mail") == (0, 0, 0)
    assert all(counters(after)[key] >= value for key, value in counters(before).items())
    assert jobs_seen(after) == (2, 1)


@pytest.mark.parametrize("events", [True, False])
def test_a_worker_without_heartbeats_lives_by_its_answers(
    redis_server: RedisServer,
    start_exporter: StartExporter,
    tmp_path: Path,
    events: bool,
) -> None:
    exporter = start_exporter(config=configuration(redis_server, events=events))
    with worker(tmp_path, redis_server.url(), *command(FIRST, "mail", "--without-heartbeat")) as process:
        seen = when(exporter, lambda seen: staff(seen, "mail")[:2] == (1, 2))
        assert of_worker(seen, "up", FIRST) == 1
        assert of_worker(seen, "last_heartbeat_timestamp_seconds", FIRST) is None
        kill(process)
        seen = when(exporter, lambda seen: staff(seen, "mail") == (0, 0, 0), 6 * INTERVAL)
        assert of_worker(seen, "up", FIRST) is None  # nothing tells that it was not stopped


def live(metrics: Metrics) -> float | None:
    """How many workers live; None where that is absent."""
    return metrics.get(series("taskqueue_workers", system="celery", broker="default"))


def watch(exporter: Exporter, seconds: float) -> list[Metrics]:
    """What it shows meanwhile."""
    end = time.monotonic() + seconds
    seen: list[Metrics] = []
    while time.monotonic() < end:
        seen.append(exporter.metrics())
        time.sleep(0.1)
    return seen


def states_of(metrics: Metrics) -> tuple[float | None, float | None]:
    """How many jobs of the queue `mail` run, and are reserved."""
    running, reserved = (queue(metrics, "jobs", "celery", "mail", state=state) for state in ("running", "reserved"))
    return running, reserved


@pytest.mark.parametrize("beats", [True, False])
def test_a_busy_solo_worker_is_not_said_to_be_gone(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path, beats: bool
) -> None:
    url, gate = redis_server.url(), tmp_path / "gate"
    more = ("--heartbeat-interval", "1") if beats else ("--without-heartbeat",)
    with (
        celery_producer(url) as hold,
        worker(tmp_path, url, *command(FIRST, "mail", *more, pool="solo", slots=1)) as process,
    ):
        # given a worker that was busy before the exporter came: it answers nothing, and sends no heartbeats
        wait_until(lambda: "ready." in process.log, START_DEADLINE)
        hold.apply_async((str(gate),), queue="mail")
        wait_until(lambda: "received" in process.log, START_DEADLINE)
        exporter = start_exporter(config=configuration(redis_server), env=SHOWN_AT_ONCE)
        # then nobody says that there is none
        for seen in watch(exporter, 3 * STALE):
            assert (live(seen), staff(seen, "mail"), of_worker(seen, "up", FIRST)) == (None, (None, None, None), None)
        # and once it is idle, it is there
        gate.touch()
        when(exporter, lambda seen: (live(seen), staff(seen, "mail")[:2]) == (1, (1, 1)))
        # when it is busy again for longer than three heartbeats, it is not down, nor is what it has said to rest
        gate.unlink()
        hold.apply_async((str(gate),), queue="mail")
        for seen in watch(exporter, 4 * STALE):
            assert live(seen) in (None, 1)
            assert staff(seen, "mail")[0] in (None, 1)
            assert of_worker(seen, "up", FIRST) in (None, 1)
        assert (live(seen), states_of(seen)[0]) == (None, None)
        # when it is killed, that is known
        kill(process)
        when(exporter, lambda seen: (live(seen), staff(seen, "mail")) == (0, (0, 0, 0)), STALE + 6 * INTERVAL)


def test_what_runs_in_a_worker_that_shuts_down_is_not_said_to_rest(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    url, gate = redis_server.url(), tmp_path / "gate"
    exporter = start_exporter(config=configuration(redis_server), env=SHOWN_AT_ONCE)
    with celery_producer(url) as hold, worker(tmp_path, url, *command(FIRST, "mail")) as process:
        hold.apply_async((str(gate),), queue="mail")
        when(exporter, lambda seen: states_of(seen) == (1, 0) and staff(seen, "mail")[0] == 1)
        # when it is told to stop, it is gone at once; what runs there is not
        process.signal(signal.SIGTERM)
        when(exporter, lambda seen: of_worker(seen, "up", FIRST) is None and staff(seen, "mail")[0] == 0)
        assert {states_of(seen)[0] for seen in watch(exporter, STALE)} == {None}
        gate.touch()
        when(exporter, lambda seen: states_of(seen)[0] == 0 and jobs_seen(seen) == (1, 1))


def test_a_queue_that_a_worker_has_just_begun_to_consume_is_not_said_to_have_none(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    url = redis_server.url()
    exporter = start_exporter(config=configuration(redis_server, inspect_interval=3))
    with worker(tmp_path, url, *command(FIRST, "mail")):
        when(exporter, lambda seen: staff(seen, "mail")[:2] == (1, 2))
        app = make_celery(url)
        app.control.add_consumer("late")
        app.close()
        counts: list[float | None] = []

        def consumed(seen: Metrics) -> bool:
            counts.append(staff(seen, "late")[0])
            return counts[-1] == 1

        when(exporter, consumed, 10)
        assert set(counts) == {None, 1}


def test_all_pools_tell_their_slots(redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path) -> None:
    url = redis_server.url()
    exporter = start_exporter(config=configuration(redis_server))
    with (
        worker(tmp_path, url, *command("solo@e2e", "a", pool="solo", slots=1)),
        worker(tmp_path, url, *command("scales@e2e", "b", "--autoscale", "4,1")),
    ):
        seen = when(exporter, lambda seen: None not in (*staff(seen, "a"), *staff(seen, "b")))
        assert (staff(seen, "a"), staff(seen, "b")) == ((1, 1, 0), (1, 4, 0))
