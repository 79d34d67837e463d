"""Job events in, counters and histograms out: exact, capped, and born at 0."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from exporter.exposition import OPENMETRICS, TEXT, Renderer
from exporter.ledger import FAMILIES, Ledger
from exporter.model import Enqueued, Finished, JobEvent, Known, Outcome, Retried, Started
from exporter.safe.limits import Limits
from exporter.safe.text import UNKNOWN
from tests.servers import Series, parse_metrics, series

T0 = 1_700_000_000.0
HOLD = 30.0


class Clock:
    """Monotonic time, as the test wants it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(limits: Limits | None = None, *, birth_hold: float = 0.0, clock: Clock | None = None) -> Ledger:
    outcomes = (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.UNKNOWN)
    return Ledger("toy", "main", outcomes, limits or Limits(), Counter(), birth_hold=birth_hold, clock=clock or Clock())


def values(ledger: Ledger) -> dict[Series, float]:
    """What an answer shows. It is not said to have been sent."""
    return parse_metrics(b"".join(Renderer().render(ledger.families(), TEXT)).decode())


def of(family: str, task: str = "lay", queue: str = "bricks", **labels: str) -> Series:
    return series(f"taskqueue_{family}", system="toy", broker="main", queue=queue, task=task, **labels)


def done(n: int = 0, outcome: Outcome = Outcome.SUCCEEDED, task: str = "lay", queue: str = "bricks") -> Finished:
    return Finished(queue, task, f"id-{n}", T0 + n, outcome)


def failed(exception: str | None, job_id: str = "j") -> Finished:
    return Finished("bricks", "lay", job_id, T0, Outcome.FAILED, run=2.0, exception=exception)


# -- counting ---------------------------------------------------------------------------------------------------


def test_a_jobs_life_is_counted() -> None:
    ledger = make()

    ledger.record([
        Enqueued("bricks", "lay", "1", T0),
        Started("bricks", "lay", "1", T0 + 3, wait=3.0),
        Retried("bricks", "lay", "1", T0 + 4, run=1.0),
        Started("bricks", "lay", "1", T0 + 9, attempt=2),
        Finished("bricks", "lay", "1", T0 + 11, Outcome.SUCCEEDED, run=2.0, attempt=2),
    ])  # fmt: skip

    found = values(ledger)
    assert found[of("jobs_enqueued_total")] == 1
    assert found[of("jobs_started_total")] == 2
    assert found[of("jobs_retried_total")] == 1
    assert found[of("jobs_finished_total", outcome="succeeded")] == 1
    assert found[of("job_wait_seconds_count")] == 1
    assert found[of("job_wait_seconds_sum")] == 3
    assert found[of("job_run_seconds_count")] == 1
    assert found[of("job_run_seconds_sum")] == 2
    assert found[of("job_failed_run_seconds_total")] == 1
    last = series(
        "taskqueue_task_last_finished_timestamp_seconds", system="toy", broker="main", task="lay", outcome="succeeded"
    )
    assert found[last] == T0 + 11


def test_every_outcome_of_the_system_is_an_explicit_zero() -> None:
    ledger = make()

    ledger.record([done()])

    found = values(ledger)
    outcomes = {dict(labels)["outcome"]: v for (name, labels), v in found.items() if name.endswith("finished_total")}
    assert outcomes == {"succeeded": 1, "failed": 0, "unknown": 0}
    assert found[of("jobs_retried_total")] == found[of("job_run_seconds_count")] == 0


def test_what_was_never_seen_to_happen_is_absent() -> None:
    ledger = make()

    ledger.record([done()])

    names = {name for name, _ in values(ledger)}
    assert not names & {"taskqueue_jobs_enqueued_total", "taskqueue_jobs_started_total"}


def test_what_is_known_only_at_the_end_counts_then() -> None:
    ledger = make()

    ledger.record([Finished("bricks", "lay", "1", T0, Outcome.SUCCEEDED, wait=0.3, run=1.0, attempt=4, retried=3)])

    found = values(ledger)
    assert found[of("jobs_retried_total")] == 3
    assert found[of("job_wait_seconds_count")] == 1


def test_a_known_task_is_born_and_counts_nothing() -> None:
    ledger = make()

    ledger.record([Known("bricks", "lay", Outcome.FAILED, T0), Known("bricks", "nap")])

    found = values(ledger)
    assert found[of("jobs_finished_total", outcome="failed")] == 0
    assert found[of("jobs_finished_total", task="nap", outcome="failed")] == 0
    last = {dict(k[1])["task"]: v for k, v in found.items() if "last_finished" in k[0]}
    assert last == {"lay": T0}


def test_the_last_end_never_goes_back() -> None:
    ledger = make()

    ledger.record([done(50), done(10), Known("other", "lay", Outcome.SUCCEEDED, T0 + 20)])

    assert [v for k, v in values(ledger).items() if "last_finished" in k[0]] == [T0 + 50]


def test_buckets_are_cumulative_and_their_bounds_are_inclusive() -> None:
    ledger = Ledger("toy", "main", (), Limits(), Counter(), run_buckets=(1.0, 2.0))

    for run in (0.5, 1.0, 1.5, 2.0, 9.0):
        ledger.record([Finished("bricks", "lay", "1", T0, Outcome.SUCCEEDED, run=run)])

    found = values(ledger)
    assert [found[of("job_run_seconds_bucket", le=le)] for le in ("1.0", "2.0", "+Inf")] == [2, 4, 5]
    assert found[of("job_run_seconds_sum")] == 14


@pytest.mark.parametrize("odd", [-1.0, math.nan, math.inf])
def test_an_impossible_duration_is_not_observed(odd: float) -> None:
    ledger = make()

    ledger.record([Finished("bricks", "lay", "1", T0, Outcome.SUCCEEDED, run=odd, wait=odd)])

    found = values(ledger)
    assert found[of("jobs_finished_total", outcome="succeeded")] == 1
    assert found[of("job_run_seconds_count")] == found[of("job_wait_seconds_count")] == 0


TASKS = st.sampled_from(["a", "b", "c", "d\n", "\ud800"])
EVENTS = st.one_of(
    st.builds(Enqueued, TASKS, TASKS, st.just("i"), st.just(T0)),
    st.builds(Started, TASKS, TASKS, st.just("i"), st.just(T0), st.none() | st.floats(0, 1e5)),
    st.builds(Retried, TASKS, TASKS, st.just("i"), st.just(T0), st.none() | st.floats(0, 1e5)),
    st.builds(
        Finished, TASKS, TASKS, st.just("i"), st.just(T0), st.sampled_from(Outcome), st.none(), st.none(),
        st.none() | st.sampled_from(["E1", "E2", "E3", "E4"]),
    ),
)  # fmt: skip


@given(st.lists(EVENTS, max_size=60))
def test_totals_are_exact_whatever_is_folded(events: list[JobEvent]) -> None:
    ledger = make(Limits(task_queues=3, queues=2, exceptions_per_task=2))

    ledger.record(events)

    found = values(ledger)
    for kind, family in ((Enqueued, "jobs_enqueued"), (Started, "jobs_started"), (Retried, "jobs_retried")):
        assert total(found, family) == sum(isinstance(event, kind) for event in events)
    finished = [event for event in events if isinstance(event, Finished)]
    failures = sum(event.outcome is Outcome.FAILED for event in finished)
    assert total(found, "jobs_finished") == len(finished)
    assert total(found, "jobs_finished", outcome="failed") == total(found, "job_exceptions") == failures


def total(found: dict[Series, float], family: str, **labels: str) -> float:
    wanted = labels.items()
    return sum(v for (name, has), v in found.items() if name == f"taskqueue_{family}_total" and wanted <= set(has))


def test_a_histogram_that_grows_while_it_is_rendered_is_not_torn() -> None:
    ledger = make()
    ledger.record([Finished("bricks", "lay", "1", T0, Outcome.SUCCEEDED, run=1.0)])

    (run,) = [metric for metric in ledger.families() if metric.name == "taskqueue_job_run_seconds"]
    samples = iter(run.samples)
    first = next(samples)
    ledger.record([Finished("bricks", "lay", "2", T0, Outcome.SUCCEEDED, run=1.0)])

    found = {sample.name: sample.value for sample in [first, *samples]}
    assert found["taskqueue_job_run_seconds_count"] == found["taskqueue_job_run_seconds_sum"] == 1


def test_two_names_whose_mended_forms_are_one_share_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of 48 bits can be made to collide: then no counter may start anew."""
    monkeypatch.setattr("exporter.ledger.ledger.label_text", lambda raw, limit: "mended")
    ledger = make()

    ledger.record([done(task="a\n"), done(task="b\n"), done(task="a\n")])

    assert total(values(ledger), "jobs_finished") == 3


# -- caps -------------------------------------------------------------------------------------------------------


def test_a_million_tasks_are_counted_in_no_more_series_than_the_cap() -> None:
    ledger = make(Limits(task_queues=10))

    for n in range(1_000_000):
        ledger.record([Finished("bricks", f"task-{n}", "i", T0, Outcome.SUCCEEDED)])

    found = values(ledger)
    assert total(found, "jobs_finished") == 1_000_000
    assert found[of("jobs_finished_total", task="__other__", outcome="succeeded")] == 999_990
    assert len({dict(labels)["task"] for _, labels in found}) == 11
    assert size_of(ledger) < 1000


def size_of(ledger: Ledger) -> int:
    """How many entries all of its tables hold."""
    return sum(len(table) for table in vars(ledger).values() if isinstance(table, dict))


def test_beyond_the_cap_the_queue_is_kept_until_there_are_too_many_queues() -> None:
    folded: Counter[str] = Counter()
    ledger = Ledger("toy", "main", (), Limits(task_queues=1, queues=2), folded)

    ledger.record([done(task=f"t{n}", queue=f"q{n}") for n in range(5)])

    found = values(ledger)
    pairs = {(dict(labels)["queue"], dict(labels)["task"]) for _, labels in found if "queue" in dict(labels)}
    assert pairs == {("q0", "t0"), ("q1", "__other__"), ("q2", "__other__"), ("__other__", "__other__")}
    assert folded == {"task": 4, "queue": 2}


def test_what_was_folded_has_no_last_end() -> None:
    ledger = make(Limits(task_queues=1))

    ledger.record([done(task="a"), done(task="b")])

    assert [dict(k[1])["task"] for k in values(ledger) if "last_finished" in k[0]] == ["a"]


def test_exceptions_beyond_the_cap_are_one() -> None:
    folded: Counter[str] = Counter()
    ledger = Ledger("toy", "main", (), Limits(exceptions_per_task=2), folded)

    ledger.record([failed(name) for name in ("A", "B", "C", "D", "A", None)])

    found = values(ledger)
    names = {dict(k[1])["exception"]: v for k, v in found.items() if k[0].endswith("exceptions_total")}
    assert names == {"A": 2, "B": 1, "__other__": 2, UNKNOWN: 1}
    assert folded == {"exception": 2}


def test_names_are_cleaned() -> None:
    ledger = make(Limits(label_bytes=32))

    ledger.record([done(task="x" * 500, queue="a\nb"), failed("E\x00" * 100)])

    for _, labels in values(ledger):
        assert all(text.isprintable() and len(text.encode()) <= 32 for text in dict(labels).values())


# -- birth ------------------------------------------------------------------------------------------------------


def answer(ledger: Ledger) -> dict[Series, float]:
    """What an answer shows that is sent."""
    found = values(ledger)
    ledger.stood(ledger.answers)
    return found


SUCCEEDED = of("jobs_finished_total", outcome="succeeded")


def test_a_new_task_shows_zeros_until_they_stood_and_the_hold_has_passed() -> None:
    clock = Clock()
    ledger = make(birth_hold=HOLD, clock=clock)
    ledger.record([Started("bricks", "lay", "0", T0, wait=1.0), *map(done, range(100)), failed("E")])

    clock.now += 1000  # nobody scrapes
    first = answer(ledger)
    clock.now += HOLD - 1
    still = answer(ledger)
    clock.now += 1
    then = answer(ledger)

    assert first == still
    assert {value for (name, _), value in first.items() if "last_finished" not in name} == {0}
    assert first.keys() == then.keys()
    assert then[SUCCEEDED] == 100
    assert then[of("jobs_started_total")] == then[of("job_wait_seconds_count")] == 1
    assert then[of("job_exceptions_total", exception="E")] == 1


def test_an_answer_that_was_not_sent_does_not_count() -> None:
    clock = Clock()
    ledger = make(birth_hold=HOLD, clock=clock)
    ledger.record([done()])

    values(ledger)
    clock.now += 2 * HOLD

    assert values(ledger)[SUCCEEDED] == 0


def test_what_is_born_while_an_answer_is_made_did_not_stand_in_it() -> None:
    clock = Clock()
    ledger = make(birth_hold=HOLD, clock=clock)
    ledger.record([done(task="early")])

    families = ledger.families()
    ledger.record([done()])
    b"".join(Renderer().render(families, TEXT))
    ledger.stood(ledger.answers)
    clock.now += 2 * HOLD

    found = values(ledger)
    assert found[SUCCEEDED] == 0
    assert found[of("jobs_finished_total", task="early", outcome="succeeded")] == 1


def test_a_new_exception_of_a_known_task_is_born_by_itself() -> None:
    clock = Clock()
    ledger = make(birth_hold=HOLD, clock=clock)
    ledger.record([failed("Old")])
    answer(ledger)
    clock.now += HOLD
    answer(ledger)

    ledger.record([failed("New"), failed("Old")])
    first = answer(ledger)
    clock.now += HOLD
    then = answer(ledger)

    assert first[of("job_exceptions_total", exception="Old")] == 2
    assert first[of("job_exceptions_total", exception="New")] == 0
    assert then[of("job_exceptions_total", exception="New")] == 1


def test_a_counter_that_begins_later_is_born_by_itself() -> None:
    clock = Clock()
    ledger = make(birth_hold=HOLD, clock=clock)
    ledger.record([done()])
    answer(ledger)
    clock.now += HOLD

    ledger.record([Enqueued("bricks", "lay", "1", T0)])
    first = answer(ledger)
    clock.now += HOLD

    assert first[of("jobs_enqueued_total")] == 0
    assert first[SUCCEEDED] == 1
    assert answer(ledger)[of("jobs_enqueued_total")] == 1


def test_nothing_is_held_where_no_hold_is_wanted() -> None:
    ledger = make(birth_hold=0)

    ledger.record([done(), failed("E")])

    assert values(ledger)[SUCCEEDED] == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.booleans()), max_size=40))
def test_no_counter_ever_falls(steps: list[tuple[str, int, bool]]) -> None:
    clock = Clock()
    ledger = make(Limits(task_queues=2), birth_hold=HOLD, clock=clock)
    before: dict[Series, float] = {}

    for task, seconds, sent in steps:
        ledger.record([done(task=task), Finished("q", task, "i", T0, Outcome.FAILED, run=1.0, exception=task)])
        clock.now += seconds
        now = answer(ledger) if sent else values(ledger)
        assert all(now[key] >= value for key, value in before.items())
        before = now


# -- what is rendered -------------------------------------------------------------------------------------------


def test_the_number_of_samples_is_known_before_they_are_made() -> None:
    ledger = make()
    ledger.record([Enqueued("q", "a", "1", T0), Started("q", "b", "2", T0), failed("E"), failed("F"), done()])

    families: list[Metric] = ledger.families()

    assert {metric.name for metric in families} == {family.metric_name for family in FAMILIES}
    for metric in families:
        assert len(metric.samples) == len(list(metric.samples))


def exemplars(ledger: Ledger) -> dict[Series, tuple[str, float, float]]:
    text = b"".join(Renderer().render(ledger.families(), OPENMETRICS)).decode()
    return {
        series(s.name, **s.labels): (s.exemplar.labels["job_id"], s.exemplar.value, float(s.exemplar.timestamp))
        for family in parse_openmetrics(text)  # type: ignore[no-untyped-call]
        for s in family.samples
        if s.exemplar is not None
    }


def test_failures_and_the_slowest_jobs_are_exemplars() -> None:
    ledger = make()

    ledger.record([
        Finished("bricks", "lay", "quick", T0, Outcome.SUCCEEDED, run=0.2, wait=0.1),
        Finished("bricks", "lay", "slow", T0 + 1, Outcome.SUCCEEDED, run=7.0),
        Finished("bricks", "lay", "bad", T0 + 2.5, Outcome.FAILED, run=1.0, exception="E"),
    ])  # fmt: skip

    assert exemplars(ledger) == {
        of("jobs_finished_total", outcome="failed"): ("bad", 1, T0 + 2.5),
        of("job_exceptions_total", exception="E"): ("bad", 1, T0 + 2.5),
        of("job_run_seconds_bucket", le="10.0"): ("slow", 7, T0 + 1),
        of("job_wait_seconds_bucket", le="0.1"): ("quick", 0.1, T0),
    }


def test_the_slowest_job_is_one_of_late() -> None:
    ledger = make()

    ledger.record([Finished("bricks", "lay", "old", T0, Outcome.SUCCEEDED, run=7.0)])
    ledger.record([Finished("bricks", "lay", "new", T0 + 61, Outcome.SUCCEEDED, run=0.2)])

    assert exemplars(ledger) == {of("job_run_seconds_bucket", le="0.5"): ("new", 0.2, T0 + 61)}


@pytest.mark.parametrize("job_id", ["x" * 123, "a\nb", "\ud800"])
def test_an_id_that_cannot_be_an_exemplar_is_none(job_id: str) -> None:
    ledger = make()

    ledger.record([failed("E", job_id)])

    assert exemplars(ledger) == {}


def test_the_longest_id_is_an_exemplar() -> None:
    ledger = make()

    ledger.record([failed("E", "x" * 122)])

    assert set(exemplars(ledger).values()) >= {("x" * 122, 1.0, T0)}
