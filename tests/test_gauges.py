"""Observations become families: what is unknown is absent, what is zero is 0, and caps keep the sums."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from exporter import gauges
from exporter.gauges import Gauges
from exporter.model import JobState, Observation, QueueState, WorkerState
from exporter.safe.limits import Limits
from tests.servers import Series, series

COUNTS = st.integers(0, 1000)
QUEUES = st.builds(
    QueueState,
    queue=st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=3),
    jobs=st.dictionaries(st.sampled_from(JobState), COUNTS),
    ready_by_priority=st.dictionaries(st.integers(0, 9), COUNTS),
    kept_results=st.dictionaries(st.sampled_from(["completed", "failed"]), COUNTS),
    expired_jobs=st.none() | COUNTS,
)


def make(queues: int = 1000, workers: int = 1000) -> Gauges:
    return Gauges("toy", "main", Limits(queues=queues, workers=workers))


def shown(table: Gauges, seen: Observation, folded: Counter[str] | None = None) -> dict[Series, float]:
    """Every series of an observation, without the labels that all share."""
    found: dict[Series, float] = {}
    for family in table.families(seen, Counter() if folded is None else folded):
        for sample in family.samples:
            assert (sample.labels.pop("system"), sample.labels.pop("broker")) == ("toy", "main")
            key = series(sample.name.removeprefix("taskqueue_"), **sample.labels)
            assert key not in found, key
            found[key] = sample.value
    return found


# -- true or absent ---------------------------------------------------------------------------------------------


def test_what_is_not_known_is_absent() -> None:
    assert shown(make(), Observation()) == {}
    assert shown(make(), Observation(queues=[QueueState("q")])) == {}


def test_what_is_zero_is_0() -> None:
    queue = QueueState("q", jobs={JobState.READY: 0}, paused=False, workers=0, slots=0, busy_slots=0, expired_jobs=0)
    nothing = Observation(queues=[queue], workers=[], unacked_jobs=0, abort_requests=0)

    assert shown(make(), nothing) == {
        series("queue_jobs", queue="q", state="ready"): 0,
        series("queue_paused", queue="q"): 0,
        series("queue_workers", queue="q"): 0,
        series("queue_slots", queue="q"): 0,
        series("queue_busy_slots", queue="q"): 0,
        series("queue_expired_jobs", queue="q"): 0,
        series("unacked_jobs"): 0,
        series("abort_requests"): 0,
        series("workers"): 0,
    }


def test_workers_counts_those_that_live_and_are_known() -> None:
    up, down = WorkerState("a", up=True), WorkerState("b", up=False)

    assert shown(make(), Observation(workers=[up, down]))[series("workers")] == 1
    assert series("workers") not in shown(make(), Observation(workers=None))
    some = shown(make(), Observation(workers=[up, down], all_workers=False))
    assert (series("workers") in some, some[series("worker_up", worker="b")]) == (False, 0)


def test_names_are_cleaned() -> None:
    seen = Observation(
        queues=[QueueState("a\nb", paused=True), QueueState("\udcff", paused=True)],
        workers=[WorkerState("w\x1b", up=True, version="1\n")],
    )

    for _, labels in shown(make(), seen):
        for _, value in labels:
            assert value.isprintable()
            assert value.encode()


def test_every_field_of_the_model_has_its_row() -> None:
    covered = {row[0].name.removeprefix("taskqueue_queue_") for row in gauges.QUEUE_GAUGES}
    assert len(covered) == len(QueueState.__slots__) - 1  # all but the name
    covered = {row[0].name for row in gauges.WORKER_GAUGES}
    assert len(covered) == len(WorkerState.__slots__) - 2  # all but the name and the queues, which queues tell


# -- caps -------------------------------------------------------------------------------------------------------


def test_queues_beyond_the_cap_become_one_with_explicit_zeros() -> None:
    queues = [
        QueueState(
            name,
            jobs={JobState.READY: ready, JobState.RUNNING: 0},
            ready_by_priority={0: ready, 9: 0},
            kept_results={"failed": 0},
            oldest_ready=5.0,
            workers=1,
            paused=False,
            expired_jobs=None if name == "b" else ready,
            reported_jobs={"failed": 3},
            reported_running=1,
        )
        for name, ready in (("a", 1), ("b", 2), ("c", 3))
    ]
    folded = Counter({"queue": 0, "worker": 0})

    found = shown(make(queues=1), Observation(queues=queues), folded)

    other = {key: value for key, value in found.items() if ("queue", "__other__") in key[1]}
    assert other == {
        series("queue_jobs", queue="__other__", state="ready"): 5,
        series("queue_jobs", queue="__other__", state="running"): 0,
        series("queue_priority_jobs", queue="__other__", priority="0"): 5,
        series("queue_priority_jobs", queue="__other__", priority="9"): 0,
        series("queue_kept_results", queue="__other__", state="failed"): 0,
        series("queue_expired_jobs", queue="__other__"): 3,
    }
    assert found[series("queue_jobs", queue="a", state="ready")] == 1
    assert found[series("queue_oldest_ready_timestamp_seconds", queue="a")] == 5
    assert folded == {"queue": 2, "worker": 0}


@given(queues=st.lists(QUEUES, max_size=8, unique_by=lambda queue: queue.queue), cap=st.integers(1, 8))
def test_totals_are_exact_whatever_the_cap(queues: list[QueueState], cap: int) -> None:
    seen = Observation(queues=queues)
    found = shown(make(queues=cap), seen)

    def totals(found: dict[Series, float]) -> Counter[tuple[str, tuple[tuple[str, str], ...]]]:
        sums: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        for (name, labels), value in found.items():
            key = name, tuple(sorted(label for label in labels if label[0] != "queue"))
            sums[key] += value  # type: ignore[assignment]
        return sums

    assert totals(found) == totals(shown(make(), seen))
    assert len({dict(labels)["queue"] for _, labels in found} - {"__other__"}) <= cap


def test_the_same_queues_stay_at_the_cap() -> None:
    table = make(queues=2)

    def named(*names: str) -> set[str]:
        seen = Observation(queues=[QueueState(name, paused=False) for name in names])
        return {value for _, labels in shown(table, seen) for _, value in labels}

    assert named("x", "y") == {"x", "y"}
    assert named("a", "b", "x", "y") == {"x", "y"}
    assert named("a", "b", "y") == {"y", "a"}


def test_a_queue_with_jobs_comes_before_an_empty_one_that_was_there_first() -> None:
    table = make(queues=1)
    shown(table, Observation(queues=[QueueState("empty", jobs={JobState.READY: 0})]))

    found = shown(
        table,
        Observation(
            queues=[QueueState("empty", jobs={JobState.READY: 0}), QueueState("live", jobs={JobState.READY: 3})]
        ),
    )

    assert found[series("queue_jobs", queue="live", state="ready")] == 3
    assert found[series("queue_jobs", queue="__other__", state="ready")] == 0


def test_a_queue_called_other_is_not_the_other() -> None:
    found = shown(make(queues=1), Observation(queues=[QueueState("__other__", jobs={JobState.READY: 7})]))

    ((_, labels),) = found
    assert dict(labels)["queue"].startswith("__other__~")


def test_workers_beyond_the_cap_are_left_out_those_gone_first() -> None:
    workers = [WorkerState("gone", up=False), WorkerState("a", up=True), WorkerState("b", up=True)]
    folded = Counter({"queue": 0, "worker": 0})
    table = make(workers=2)
    shown(table, Observation(workers=workers[:1]))

    found = shown(table, Observation(workers=workers), folded)

    assert {dict(labels)["worker"] for name, labels in found if name == "worker_up"} == {"a", "b"}
    assert found[series("workers")] == 2, "who is left out still counts"
    assert folded == {"queue": 0, "worker": 1}


def test_folding_counts_at_every_observation() -> None:
    table, folded = make(queues=1), Counter({"queue": 0})
    for _ in range(3):
        shown(table, Observation(queues=[QueueState("a"), QueueState("b")]), folded)

    assert folded["queue"] == 3


# -- running jobs by task ---------------------------------------------------------------------------------------


def running(table: Gauges, folded: Counter[str], tasks: dict[str, int] | None) -> dict[str, float]:
    """The running jobs by task that an Observation with `tasks` gives."""
    families = table.families(Observation(running=tasks), folded)
    return {s.labels["task"]: s.value for family in families for s in family.samples if "task" in s.labels}


def test_a_task_that_no_longer_runs_is_an_explicit_zero() -> None:
    table = make()

    assert running(table, Counter(), {"a": 2, "b": 1}) == {"a": 2, "b": 1}
    assert running(table, Counter(), {"a": 1}) == {"a": 1, "b": 0}


def test_what_runs_is_absent_where_it_cannot_be_known() -> None:
    table = make()
    running(table, Counter(), {"a": 1})

    assert running(table, Counter(), None) == {}


def test_running_tasks_beyond_the_cap_are_summed_up() -> None:
    table = Gauges("toy", "main", Limits(task_queues=2))
    folded: Counter[str] = Counter()

    assert running(table, folded, {"a": 1, "b": 2, "c": 3, "d": 4}) == {"a": 1, "b": 2, "__other__": 7}
    assert folded["task"] == 2
    assert running(table, folded, {"b": 2, "c": 3}) == {"b": 2, "c": 3, "__other__": 0}
