"""Each end of a job is counted once, and as it was, in whatever order it is told of."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import permutations

import pytest

from exporter.model import Finished, Outcome, Retried
from exporter.safe.text import UNKNOWN
from exporter.systems.arq.ends import by_job, retries
from exporter.systems.arq.ends.ends import LEAST_HOLD, LONGEST_HOLD, MEMORY, SHORT_MEMORY, Ends
from exporter.systems.arq.ends.witnesses import Told
from tests.systems.sinks import RecordingSink

QUEUE = "arq:queue"
BEAT = 5.0
AT = 1_000_000.0
"""When the jobs end, by all clocks unless said otherwise."""


class Bench:
    """Ends, with clocks that a test moves, and what came of them."""

    def __init__(self) -> None:
        self.monotonic = 100.0
        self.progress: list[tuple[str, float]] = []
        self.reach = -1.0
        self.sink = RecordingSink()
        self.ends = Ends(
            lambda queue, at: self.progress.append((queue, at)),
            lambda: self.reach,
            lambda: AT + self.monotonic - 100.0,
            lambda: self.monotonic,
        )

    @classmethod
    def hooked(cls) -> Bench:
        """In which the queue has an instrumented worker."""
        bench = cls()
        bench.ends.watch([QUEUE], BEAT)
        return bench

    def later(self, seconds: float) -> None:
        """All records are read meanwhile."""
        self.monotonic += seconds
        self.ends.watch([QUEUE], BEAT)
        self.ends.release(self.monotonic)

    @property
    def finished(self) -> list[Finished]:
        return [event for event in self.sink.events if isinstance(event, Finished)]

    @property
    def retried(self) -> int:
        """As the ledger counts it."""
        return sum(event.retried for event in self.sink.events if isinstance(event, Finished | Retried))

    @property
    def waits(self) -> list[float]:
        events = [event for event in self.sink.events if isinstance(event, Finished | Retried)]
        return [event.wait for event in events if event.wait is not None]

    def outcomes(self) -> Counter[Outcome]:
        return Counter(event.outcome for event in self.finished)


def record(job_id: str = "1", outcome: Outcome | None = Outcome.SUCCEEDED, **fields: object) -> Told:
    """How an attempt ended that ran for a second, 2 s after it was due."""
    told = {
        **{"queue": QUEUE, "task": "task", "job_id": job_id, "outcome": outcome, "exception": None, "attempt": 1},
        **{"due": AT - 3, "start": AT - 1, "end": AT, "kept": True},
        **fields,
    }
    told.setdefault("written", told["end"])
    return Told(**told)  # type: ignore[arg-type]


def end(job_id: str = "1", outcome: Outcome = Outcome.SUCCEEDED, **fields: object) -> Finished:
    return Finished(**{"queue": QUEUE, "task": "task", "job_id": job_id, "at": AT, "outcome": outcome, **fields})  # type: ignore[arg-type]


def find(
    bench: Bench, event: Finished, started: float | None = AT - 1.001, finished: float | None = AT + 0.001
) -> None:
    bench.ends.found(event, bench.sink, started, finished)


def vanish(bench: Bench, job_id: str = "1") -> None:
    bench.ends.vanished(end(job_id, Outcome.UNKNOWN, at=bench.monotonic - 100 + AT), bench.sink)


# -- without the hook -------------------------------------------------------------------------------------------


def test_without_the_hook_nothing_waits() -> None:
    bench = Bench()
    find(bench, end())
    vanish(bench, "2")
    assert bench.outcomes() == {Outcome.SUCCEEDED: 1, Outcome.UNKNOWN: 1}
    assert bench.progress == [(QUEUE, AT), (QUEUE, AT)]


def test_results_of_queues_without_the_hook_do_not_wait_while_others_have_it() -> None:
    bench = Bench.hooked()
    find(bench, end(queue="other"))
    assert bench.outcomes() == {Outcome.SUCCEEDED: 1}


def test_an_end_that_nobody_kept_waits_a_moment_in_any_queue() -> None:
    """A first worker with the hook may just have come."""
    bench = Bench()
    bench.ends.watch([], 0)
    vanish(bench)
    assert not bench.finished
    bench.ends.told(record(kept=False), bench.sink)
    assert bench.outcomes() == {Outcome.SUCCEEDED: 1}

    vanish(bench, "2")
    bench.monotonic += LEAST_HOLD
    bench.ends.release(bench.monotonic)
    assert bench.outcomes()[Outcome.UNKNOWN] == 1


@pytest.mark.parametrize("outcome", [Outcome.EXPIRED, Outcome.NOT_FOUND, Outcome.UNDECODABLE])
def test_what_no_worker_ran_waits_for_no_record(outcome: Outcome) -> None:
    bench = Bench.hooked()
    find(bench, end(outcome=outcome))
    assert bench.outcomes() == {outcome: 1}


# -- one end, several witnesses ---------------------------------------------------------------------------------


def tell_kept(bench: Bench) -> None:
    bench.ends.told(record(), bench.sink)


def tell_unkept(bench: Bench) -> None:
    bench.ends.told(record(kept=False), bench.sink)


@pytest.mark.parametrize("late", [0.0, BEAT + 1])
@pytest.mark.parametrize("order", list(permutations(["record", "other"])))
@pytest.mark.parametrize("kept", [True, False])
def test_an_end_is_counted_once(kept: bool, order: tuple[str, ...], late: float) -> None:
    bench = Bench.hooked()
    other = (lambda bench: find(bench, end())) if kept else vanish
    steps = {"record": tell_kept if kept else tell_unkept, "other": other}
    for step in order:
        steps[step](bench)
        bench.later(late)
    bench.later(LONGEST_HOLD)
    unseen = not kept and order[0] == "other" and late
    assert bench.outcomes() == {Outcome.UNKNOWN if unseen else Outcome.SUCCEEDED: 1}
    assert bench.sink.lost_events == bool(unseen), "how it ended was told too late"
    assert len(bench.progress) == 1


@pytest.mark.parametrize("kept", [True, False])
def test_who_is_alone_is_counted_after_a_while(kept: bool) -> None:
    bench = Bench.hooked()
    bench.ends.told(record("told", kept=kept), bench.sink)
    find(bench, end("found"))
    vanish(bench, "vanished")
    bench.later(BEAT - 0.1)
    assert len(bench.finished) == (0 if kept else 1), "nothing comes for a record of an end that is not kept"
    bench.later(0.2)
    assert bench.outcomes() == {Outcome.SUCCEEDED: 2, Outcome.UNKNOWN: 1}


def test_a_record_waits_for_a_result_that_has_to_be_searched_for() -> None:
    bench = Bench.hooked()
    bench.ends.results_take = 7.0
    tell_kept(bench)
    bench.later(BEAT + 6.9)
    find(bench, end(outcome=Outcome.FAILED, exception="KeyError"))
    tell_kept(bench)
    bench.later(BEAT + 7.1)
    assert bench.outcomes() == {Outcome.FAILED: 1, Outcome.SUCCEEDED: 1}


def test_records_that_are_not_read_are_waited_for_within_bounds() -> None:
    bench = Bench.hooked()
    vanish(bench)
    bench.monotonic += LONGEST_HOLD - 1
    bench.ends.release()
    assert not bench.finished
    bench.monotonic += 2
    bench.ends.release()
    assert bench.outcomes() == {Outcome.UNKNOWN: 1}


def test_where_results_are_not_followed_records_are_counted_at_once() -> None:
    bench = Bench.hooked()
    bench.ends.alone = True
    tell_kept(bench)
    tell_unkept(bench)
    assert bench.outcomes() == {Outcome.SUCCEEDED: 2}
    assert held(bench) == 0


def test_the_last_records_of_a_worker_that_went_are_waited_for() -> None:
    bench = Bench.hooked()
    bench.ends.watch([], 0)
    find(bench, end())
    assert not bench.finished
    bench.monotonic += BEAT + 1
    find(bench, end("2"))
    assert len(bench.finished) == 1, "of that no record can come"


@pytest.mark.parametrize("ahead", [-3600.0, -3.0, 0.0, 3.0, 3600.0])
@pytest.mark.parametrize("kept", [True, False])
def test_workers_clocks_may_be_wrong(ahead: float, kept: bool) -> None:
    """Of the first jobs of a first worker with the hook nothing waits but the ends that nobody kept."""
    bench = Bench()
    bench.ends.listen()
    start, last = AT - 1 + ahead, AT + ahead
    if kept:
        find(bench, end(at=min(last, AT)), start, last)
    else:
        vanish(bench)
    bench.ends.watch([QUEUE], BEAT)
    bench.ends.told(record(start=start, end=last, kept=kept), bench.sink)
    bench.later(BEAT + 1)
    assert bench.outcomes() == {Outcome.SUCCEEDED: 1}
    assert all(event.at <= AT for event in bench.finished)


def test_nothing_ends_in_the_future() -> None:
    bench = Bench.hooked()
    bench.ends.told(record(end=AT + 3600, kept=False), bench.sink)
    assert [event.at for event in bench.finished] == [AT]


def test_a_beat_may_be_short_and_a_record_takes_its_time() -> None:
    bench = Bench()
    bench.ends.watch([QUEUE], 0.1)
    find(bench, end())
    bench.monotonic += LEAST_HOLD - 0.1
    bench.ends.release(bench.monotonic)
    assert not bench.finished


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_counted_while_no_records_were_read_is_not_counted_again(kept: bool) -> None:
    bench = Bench.hooked()
    if kept:
        find(bench, end())
    else:
        vanish(bench)
    for _ in range(20):
        bench.monotonic += MEMORY / 2
        bench.ends.release()
    assert len(bench.finished) == 1
    bench.ends.told(record(kept=kept), bench.sink)
    bench.later(LONGEST_HOLD)
    assert len(bench.finished) == 1
    assert bench.sink.lost_events == (0 if kept else 1)


@pytest.mark.parametrize("kept", [True, False])
def test_a_record_that_was_written_late_is_not_counted_alone(kept: bool) -> None:
    """Its worker had no right to write before: what else told of it is forgotten by now."""
    bench = Bench.hooked()
    bench.ends.told(record(kept=kept, written=AT + MEMORY + 1), bench.sink)
    bench.later(LONGEST_HOLD)
    assert not bench.finished
    assert bench.sink.lost_events == (0 if kept else 1)
    # but it says how an end was that is told of now
    find(bench, end("2", exception=UNKNOWN, outcome=Outcome.FAILED))
    late = record("2", Outcome.FAILED, exception="KeyError", written=AT + MEMORY + 1)
    bench.ends.told(late, bench.sink)
    assert [event.exception for event in bench.finished] == ["KeyError"]


def test_a_record_that_is_just_not_too_late_finds_what_was_counted() -> None:
    bench = Bench.hooked()
    vanish(bench)
    bench.later(BEAT + 1)
    bench.later(MEMORY - 1 - BEAT)
    bench.later(0.5)
    bench.ends.told(record(kept=False, written=AT + MEMORY), bench.sink)
    assert len(bench.finished) == 1


def test_where_records_are_all_there_is_they_may_be_late() -> None:
    bench = Bench.hooked()
    bench.ends.alone = True
    bench.ends.told(record(written=AT + MEMORY + 1), bench.sink)
    assert len(bench.finished) == 1


def test_queues_without_the_hook_do_not_wait_for_the_slow_beats_of_others() -> None:
    bench = Bench()
    bench.ends.watch([QUEUE], 30)
    bench.ends.vanished(end(outcome=Outcome.UNKNOWN, queue="other"), bench.sink)
    vanish(bench, "hooked")
    bench.ends.vanished(end("anywhere", Outcome.UNKNOWN, queue=UNKNOWN), bench.sink)
    bench.monotonic += LEAST_HOLD + 0.1
    bench.ends.release(bench.monotonic)
    assert [event.queue for event in bench.finished] == ["other"]
    bench.monotonic += 30
    bench.ends.release(bench.monotonic)
    assert len(bench.finished) == 3
    assert [queue for queue, _ in bench.progress] == ["other", QUEUE], "of no queue that isn't known"


def test_a_beat_of_hours_holds_nothing_up_for_hours() -> None:
    bench = Bench()
    bench.ends.watch([QUEUE], 36_000)
    find(bench, end())
    bench.monotonic += LONGEST_HOLD + 0.1
    bench.ends.release(bench.monotonic)
    assert len(bench.finished) == 1


def test_who_cannot_read_records_waits_for_none() -> None:
    bench = Bench()
    bench.ends.listen()
    vanish(bench)
    assert not bench.finished
    bench.ends.ignore()
    vanish(bench, "2")
    assert len(bench.finished) == 2


# -- an id that is used again -----------------------------------------------------------------------------------


def test_a_result_and_a_record_of_different_lives_are_two_ends() -> None:
    bench = Bench.hooked()
    find(bench, end(), AT - 11, AT - 10)
    bench.ends.told(record(outcome=Outcome.FAILED, exception="ValueError"), bench.sink)
    bench.later(BEAT + 1)
    assert bench.outcomes() == {Outcome.SUCCEEDED: 1, Outcome.FAILED: 1}


def test_of_two_lives_each_record_finds_its_result() -> None:
    bench = Bench.hooked()
    find(bench, end(), AT - 1.001, AT + 0.001)
    find(bench, end(), AT - 11.001, AT - 9.999)
    bench.ends.told(record(start=AT - 11, end=AT - 10, due=AT - 12), bench.sink)
    bench.ends.told(record(), bench.sink)
    assert sorted(bench.waits) == [1.0, 2.0]


def test_of_two_ends_a_record_belongs_to_the_one_that_it_expects() -> None:
    bench = Bench.hooked()
    find(bench, end(), None, AT + 5)
    vanish(bench)
    bench.ends.told(record(outcome=Outcome.FAILED, exception="KeyError", kept=False), bench.sink)
    assert bench.outcomes() == {Outcome.FAILED: 1}
    bench.later(BEAT + 1)
    assert bench.outcomes() == {Outcome.FAILED: 1, Outcome.SUCCEEDED: 1}


def test_a_result_that_could_not_be_written_at_all_is_not_missed() -> None:
    bench = Bench.hooked()
    tell_kept(bench)
    bench.later(BEAT + 1)
    vanish(bench)
    bench.later(BEAT + 1)
    assert bench.outcomes() == {Outcome.SUCCEEDED: 1}


def test_a_record_of_the_next_life_is_not_late_for_the_last() -> None:
    """A mixed fleet that runs one id again and again, and keeps nothing."""
    bench = Bench.hooked()
    vanish(bench)
    bench.later(BEAT + 1)
    assert bench.outcomes() == {Outcome.UNKNOWN: 1}
    bench.ends.told(record(kept=False, start=AT + 8, end=AT + 9), bench.sink)
    vanish(bench)
    bench.later(BEAT + 1)
    assert bench.outcomes() == {Outcome.UNKNOWN: 1, Outcome.SUCCEEDED: 1}
    assert bench.sink.lost_events == 0


# -- who says what ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["record", "result"])
@pytest.mark.parametrize(
    ("result", "told", "outcome", "exception"),
    [
        pytest.param((Outcome.FAILED, "KeyError"), (Outcome.SUCCEEDED, None), Outcome.FAILED, "KeyError", id="repr"),
        pytest.param((Outcome.FAILED, UNKNOWN), (Outcome.FAILED, "KeyError"), Outcome.FAILED, "KeyError", id="json"),
        pytest.param((Outcome.FAILED, UNKNOWN), (Outcome.ABORTED, None), Outcome.ABORTED, None, id="aborted in json"),
        pytest.param((Outcome.FAILED, UNKNOWN), (Outcome.SUCCEEDED, None), Outcome.FAILED, UNKNOWN, id="unserialized"),
        pytest.param((Outcome.UNKNOWN, None), (Outcome.FAILED, "KeyError"), Outcome.FAILED, "KeyError", id="cut"),
    ],
)
def test_the_record_says_what_the_result_does_not(
    result: tuple[Outcome, str | None],
    told: tuple[Outcome, str | None],
    outcome: Outcome,
    exception: str | None,
    first: str,
) -> None:
    bench = Bench.hooked()
    record_of_it = record(outcome=told[0], exception=told[1])
    if first == "record":
        bench.ends.told(record_of_it, bench.sink)
    find(bench, end(outcome=result[0], exception=result[1], wait=9.0, run=1.002))
    if first == "result":
        bench.ends.told(record_of_it, bench.sink)
    (finished,) = bench.finished
    assert (finished.outcome, finished.exception) == (outcome, exception)
    assert finished.wait == 2.0, "the record knows when it was due"
    assert finished.run == (1.0 if result[0] is Outcome.UNKNOWN else 1.002)


def test_the_record_says_how_long_an_aborted_job_ran() -> None:
    bench = Bench.hooked()
    bench.ends.told(record(outcome=Outcome.ABORTED), bench.sink)
    find(bench, end(outcome=Outcome.ABORTED), None)
    assert [event.run for event in bench.finished] == [1.0]


# -- retries ----------------------------------------------------------------------------------------------------


def attempt(number: int, outcome: Outcome | None, *, kept: bool = True) -> Told:
    begin = AT - 100 + 10 * number
    return record(outcome=outcome, attempt=number, start=begin, end=begin + 1, due=begin - number, kept=kept)


def test_a_retry_counts_when_it_is_told_and_not_again() -> None:
    bench = Bench.hooked()
    bench.ends.told(attempt(1, None), bench.sink)
    bench.ends.told(attempt(2, None), bench.sink)
    assert bench.retried == 2
    bench.ends.told(attempt(3, Outcome.SUCCEEDED), bench.sink)
    find(bench, end(retried=2, attempt=3), AT - 70, AT - 69)
    assert bench.retried == 2
    assert bench.waits == [1.0], "of the first attempt"


def test_retries_of_which_nobody_told_count_at_the_end() -> None:
    bench = Bench.hooked()
    bench.ends.told(attempt(2, None), bench.sink)
    find(bench, end(retried=2, attempt=3), AT - 70, AT - 69)
    bench.later(BEAT + 1)
    assert bench.retried == 2
    assert not bench.waits


def test_a_retry_that_is_told_after_the_end_was_counted_by_it() -> None:
    """Two workers ran the attempts, and one tells later than the other."""
    bench = Bench.hooked()
    bench.ends.told(attempt(2, Outcome.FAILED, kept=False), bench.sink)
    bench.ends.told(attempt(1, None), bench.sink)
    assert bench.retried == 1
    assert bench.waits == [1.0]
    # the next life of that id
    bench.ends.told(attempt(3, None), bench.sink)
    assert bench.retried == 2


def test_retries_of_the_next_life_are_not_those_that_nobody_told_of() -> None:
    bench = Bench.hooked()
    find(bench, end(retried=1, attempt=2, at=AT - 60), AT - 70, AT - 60)
    bench.later(BEAT + 1)
    assert bench.retried == 1
    bench.ends.told(record(outcome=None), bench.sink)
    assert bench.retried == 2


def test_an_end_of_which_nothing_is_kept_ends_the_count_of_retries() -> None:
    bench = Bench.hooked()
    bench.ends.told(attempt(1, None), bench.sink)
    vanish(bench)
    bench.later(BEAT + 1)
    find(bench, end(retried=1, attempt=2), AT - 70, AT - 69)  # its next life, without the hook
    bench.later(BEAT + 1)
    assert bench.retried == 2


# -- memory -----------------------------------------------------------------------------------------------------


def test_who_works_without_the_hook_leaves_a_trace() -> None:
    bench = Bench.hooked()
    tell_kept(bench)
    find(bench, end())
    assert not bench.ends.last_untold
    vanish(bench, "2")
    came = bench.monotonic
    bench.later(BEAT + 1)
    assert dict(bench.ends.last_untold) == {QUEUE: came}
    find(bench, end("3", outcome=Outcome.EXPIRED))
    assert dict(bench.ends.last_untold) == {QUEUE: bench.monotonic}


def held(bench: Bench) -> int:
    """How many things are remembered, of any kind."""
    ends = bench.ends
    found = sum(len(waiting._order) for waiting in ends._waiting.values()) + len(ends._passed._order)
    told = len(ends._records._order) + sum(len(counted._order) for counted in ends._counted.values())
    return found + told + len(ends._retries)


def test_nothing_is_remembered_for_ever() -> None:
    bench = Bench.hooked()
    for number in range(20):
        bench.ends.told(record(f"kept {number}"), bench.sink)
        bench.ends.told(record(f"unkept {number}", kept=False), bench.sink)
        vanish(bench, f"vanished {number}")
        find(bench, end(f"found {number}", retried=1))
    bench.later(BEAT + 1)
    assert len(bench.finished) == 80
    bench.reach = AT + 1  # of results that ended before none is counted any more
    bench.later(MEMORY + 1)
    assert held(bench) == 0


def test_memory_is_bounded_and_nothing_is_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_job, "LIMIT", 10)
    monkeypatch.setattr(retries, "LIMIT", 10)
    bench = Bench.hooked()
    for number in range(100):
        bench.ends.told(record(str(number)), bench.sink)
        vanish(bench, f"vanished {number}")
        bench.ends.told(record(f"retried {number}", outcome=None), bench.sink)
        find(bench, end(f"tried again {number}", outcome=Outcome.EXPIRED, retried=1))
    bench.ends.release()
    assert held(bench) <= 6 * 10
    bench.later(BEAT + 1)
    for number in range(100):
        find(bench, end(str(number)))
    bench.later(BEAT + 1)
    assert bench.outcomes() == {Outcome.SUCCEEDED: 100, Outcome.UNKNOWN: 100, Outcome.EXPIRED: 100}
    assert bench.sink.lost_events == 90, "whether these were counted is not known"
    find(bench, end(queue="other"))
    assert bench.outcomes()[Outcome.SUCCEEDED] == 101, "of a queue without the hook it is"


def test_a_long_job_may_have_begun_before_records_were_forgotten() -> None:
    bench = Bench.hooked()
    tell_kept(bench)
    bench.later(BEAT + 1)
    bench.reach = AT + 1
    bench.later(1)
    find(bench, end("long", at=AT + 7), AT - 3600, AT + 7)
    bench.later(BEAT + 1)
    assert bench.outcomes() == {Outcome.SUCCEEDED: 2}


def test_ends_in_the_future_keep_nothing_from_being_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_job, "LIMIT", 10)
    bench = Bench.hooked()
    for number in range(50):
        bench.ends.told(record(f"wrong {number}", start=9e9, end=9e9), bench.sink)
        bench.later(BEAT + 1)
    bench.sink.lost_events = 0
    for number in range(5):
        times = AT + bench.monotonic, AT + bench.monotonic + 1
        find(bench, end(f"right {number}", at=times[1]), *times)
    bench.later(BEAT + 1)
    assert len(bench.finished) == 55
    assert bench.sink.lost_events == 0


def test_while_no_worker_has_the_hook_little_is_remembered() -> None:
    bench = Bench.hooked()
    bench.monotonic += BEAT + 1
    bench.ends.watch([], 0)
    find(bench, end())
    vanish(bench, "2")
    bench.monotonic += LEAST_HOLD + SHORT_MEMORY + 0.1
    bench.ends.release(bench.monotonic)
    bench.monotonic += SHORT_MEMORY + 0.1
    bench.ends.release(bench.monotonic)
    assert len(bench.finished) == 2
    assert held(bench) == 0


# -- by chance --------------------------------------------------------------------------------------------------


@dataclass
class Life:
    """What one life of a job leaves: witnesses, and when each comes."""

    job_id: str
    hooked: bool
    kept: bool
    at: float
    outcome: Outcome
    witnesses: list[tuple[float, str]] = field(default_factory=list)

    @property
    def counted_as(self) -> Outcome:
        return self.outcome if self.hooked or self.kept else Outcome.UNKNOWN


def lives(chance: random.Random) -> list[Life]:
    """Some ids, used again and again 2 s after the last end at the soonest."""
    made = []
    for number in range(chance.randint(1, 6)):
        at = 0.0
        kept = chance.random() < 0.5
        for _ in range(chance.randint(1, 8)):
            at += chance.uniform(2, 30)
            outcome = chance.choice([Outcome.SUCCEEDED, Outcome.FAILED, Outcome.ABORTED])
            life = Life(f"job {number}", chance.random() < 0.5, kept, at, outcome)
            life.witnesses.append((at + chance.uniform(0, 0.3), "found" if kept else "vanished"))
            if life.hooked:
                life.witnesses.append((at + chance.uniform(0, 1.5), "told"))
            made.append(life)
    return made


@pytest.mark.parametrize("seed", range(200))
def test_whatever_comes_in_whatever_order(seed: int) -> None:
    bench = Bench.hooked()
    made = lives(random.Random(seed))
    steps = sorted(((at, what, life) for life in made for at, what in life.witnesses), key=lambda step: step[:2])
    now = 0.0
    for at, what, life in steps:
        while at - now > 1:
            bench.later(1)
            now += 1
        bench.later(at - now)
        now = at
        times = AT + life.at - 1, AT + life.at
        if what == "told":
            told = record(life.job_id, life.outcome, kept=life.kept, start=times[0], end=times[1], due=times[0] - 2)
            bench.ends.told(told, bench.sink)
        elif what == "found":
            find(bench, end(life.job_id, life.outcome, at=times[1]), times[0] - 0.001, times[1] + 0.001)
        else:
            vanish(bench, life.job_id)
    for _ in range(int(LONGEST_HOLD)):
        bench.later(1)
    assert bench.outcomes() == Counter(life.counted_as for life in made)
    assert bench.sink.lost_events == 0
    assert len(bench.waits) == sum(life.hooked for life in made)
