"""The walk over the front of an ARQ queue, against queues that are lists."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.systems.arq.queues.front import LEFT_MS, MAX_PAGES, PAGE, Front

NOW_MS = 1_000_000.0
ABORTED = 1.0

Member = tuple[bytes, float]


def members(count: int, score: float = 1000.0, prefix: str = "job") -> list[Member]:
    """Jobs due one after the other from `score` on."""
    return [(f"{prefix}{number}".encode(), score + number) for number in range(count)]


def reply(page: list[Member]) -> list[bytes]:
    """As ZRANGE gives a page."""
    return [part for job_id, score in page for part in (job_id, b"%f" % score)]


def answer(front: Front, running: Collection[bytes], expired: Collection[bytes] = (), tried: bool = True) -> None:
    """Answers what is asked about the jobs of a page: who runs has a mark, and tries if it has been `tried`."""
    marks = [b"1" if job_id in running else None for job_id, _ in front.page]
    tries = marks if tried else [None] * len(marks)
    front.take_marks([*marks, *tries], sum(job_id not in expired for job_id, _ in front.page))


def walk(queue: list[Member], running: Collection[bytes], expired: Collection[bytes] = ()) -> Front:
    """Walks over `queue`, whose `running` members are in progress and whose `expired` ones lack a definition."""
    front = Front("q")
    front.due = sum(score <= NOW_MS for _, score in queue)
    while front.wants_page:
        _, key, start, stop, _ = front.page_command()
        assert key == b"q"
        assert isinstance(start, int)
        assert isinstance(stop, int)
        page = queue[start : stop + 1]
        front.take_page(reply(page), NOW_MS)
        if front.page:
            marks, definitions = front.page_questions()
            keys = [prefix + job_id for prefix in (b"arq:in-progress:", b"arq:retry:") for job_id, _ in front.page]
            assert marks == ("MGET", *keys)
            assert definitions == ("EXISTS", *(b"arq:job:" + job_id for job_id, _ in front.page))
            answer(front, running, expired)
    return front


def test_an_empty_queue_needs_no_page() -> None:
    front = walk([], ())
    assert front.complete
    assert front.oldest_ready is None


def test_jobs_due_later_are_not_looked_at() -> None:
    front = walk([*members(2), *members(5, NOW_MS + 1, "later")], {b"job0", b"later0"})
    assert front.running == {b"job0": 1000.0}
    assert front.ready == {b"job1": 1001.0}
    assert front.oldest_ready == 1001.0 / 1000


def test_more_running_jobs_than_a_page_holds_are_all_found() -> None:
    queue = members(3 * PAGE + 50)
    running = {job_id for job_id, _ in queue[: 2 * PAGE + 10]}
    front = walk(queue, running)
    assert front.complete
    assert front.running.keys() == running
    assert front.oldest_ready == queue[2 * PAGE + 10][1] / 1000


def test_more_running_jobs_than_are_walked_over_are_not_counted_at_all() -> None:
    queue = members(PAGE * MAX_PAGES + 1)
    front = walk(queue, {job_id for job_id, _ in queue})
    assert front.gave_up
    assert not front.complete
    assert front.oldest_ready is None


def test_exactly_as_many_running_jobs_as_are_walked_over() -> None:
    queue = members(PAGE * MAX_PAGES - 1)
    front = walk(queue, {job_id for job_id, _ in queue})
    assert front.complete
    assert not front.gave_up
    assert len(front.running) == len(queue)


def test_an_aborted_job_has_no_due_time() -> None:
    front = walk([(b"aborted", ABORTED), *members(2, 5000.0)], ())
    assert list(front.ready) == [b"aborted", b"job0", b"job1"]
    assert front.oldest_ready == 5.0


def test_jobs_that_run_behind_a_page_of_aborted_ones_are_found() -> None:
    aborted = [(f"aborted{number:04}".encode(), ABORTED) for number in range(2 * PAGE)]
    front = walk([*aborted, *members(3, 5000.0)], {b"job0"})
    assert front.complete
    assert front.running == {b"job0": 5000.0}
    assert front.oldest_ready == 5.001


def test_a_job_that_is_met_on_two_pages_is_counted_once() -> None:
    # given a queue into whose front a job comes between two pages
    queue = members(PAGE + 5)
    running = {job_id for job_id, _ in queue}
    front = Front("q")
    front.due = len(queue)
    for page in (queue[:PAGE], [(b"new", 0.0), *queue][PAGE:]):
        front.take_page(reply(page), NOW_MS)
        answer(front, running)
    assert front.complete
    assert front.running.keys() == running


def test_nothing_is_known_of_what_runs_once_a_page_failed() -> None:
    front = Front("q")
    front.due = 3
    front.take_page([b"a", b"1000"], NOW_MS)
    answer(front, ())
    front.fail()
    assert not front.complete
    assert not front.gave_up
    assert not front.wants_page
    assert front.page == []
    assert front.ready_jobs is None
    assert front.oldest_ready is None
    assert front.expired is None


def test_ready_jobs_are_doubtful_on_a_page_that_lacks_definitions() -> None:
    queue = members(2 * PAGE)
    running = {job_id for job_id, _ in queue[:PAGE]} - {b"job5"}
    front = walk(queue, running, expired={b"job7", b"job150"})
    assert front.doubtful == {b"job5", *(job_id for job_id, _ in queue[PAGE:])}
    assert not walk(queue, running).doubtful


def test_what_runs_is_known_of_a_queue_whose_depth_is_not() -> None:
    front = Front("q")
    front.take_page([b"a", b"1000", b"b", b"2000"], NOW_MS)
    answer(front, {b"a"})
    assert front.complete
    assert front.running == {b"a": 1000.0}
    assert front.oldest_ready == 2.0
    assert front.ready_jobs is None


def test_jobs_that_were_counted_as_due_and_ended_before_the_walk_are_not_ready() -> None:
    front = Front("q")
    front.due = 9
    front.take_page(reply(members(3)), NOW_MS)
    answer(front, {b"job0"})
    assert front.ready_jobs == 2


def test_at_least_those_are_ready_that_were_met() -> None:
    # given more jobs than stood there when they were counted, and some behind those that were met
    queue = members(3 * PAGE)
    front = Front("q")
    front.due = PAGE - 10
    for start in (0, PAGE):
        front.take_page(reply(queue[start : start + PAGE]), NOW_MS)
        answer(front, {job_id for job_id, _ in queue[:PAGE]})
    assert front.complete
    assert front.ready_jobs == PAGE


def test_a_job_that_starts_while_we_walk_is_counted_once() -> None:
    # given a job that was ready on one page, and then stands on the next one as running
    queue = members(PAGE + 5)
    front = Front("q")
    front.due = len(queue)
    runs = {job_id for job_id, _ in queue}
    front.take_page(reply(queue[:PAGE]), NOW_MS)
    answer(front, runs - {b"job99"})
    front.take_page(reply([(b"new", 0.0), *queue][PAGE:]), NOW_MS)
    answer(front, runs)
    assert (front.ready_jobs, len(front.running)) == (0, len(queue))


@pytest.mark.parametrize(
    ("life", "runs"),
    [
        (310_000, True),  # taken a moment ago
        (LEFT_MS + 1, True),
        (LEFT_MS, False),  # left behind by a cron job
        (1, False),
        (-1, True),  # by something else than arq: it never lapses
        (-2, False),  # gone meanwhile
    ],
)
def test_the_mark_of_a_job_that_was_not_tried_tells_by_its_life_whose_it_is(life: int, runs: bool) -> None:
    front = Front("q")
    front.due = 1
    front.take_page(reply(members(1)), NOW_MS)
    answer(front, {b"job0"}, tried=False)
    assert front.life_questions() == [("PTTL", b"arq:in-progress:job0")]
    front.take_lives([life])
    assert front.life_questions() == []
    assert front.complete
    assert (b"job0" in front.running) is runs
    assert front.ready_jobs == (0 if runs else 1)
    assert (b"job0" in front.doubtful) is not runs, "it may have ended meanwhile"


def test_a_page_of_marks_that_were_left_behind_holds_no_running_job() -> None:
    queue = members(2 * PAGE)
    front = Front("q")
    front.due = len(queue)
    front.take_page(reply(queue[:PAGE]), NOW_MS)
    answer(front, {job_id for job_id, _ in queue}, tried=False)
    assert front.wants_page, "for all that is known so far, all may run"
    front.take_lives([LEFT_MS] * PAGE)
    assert not front.wants_page
    assert (front.complete, front.ready_jobs) == (True, len(queue))


def test_a_ready_job_that_is_due_another_time_now() -> None:
    front = walk(members(3), ())
    assert front.confirm(b"job0", 5000.0, NOW_MS)
    assert not front.confirm(b"job1", NOW_MS + 1, NOW_MS)
    assert not front.confirm(b"job2", None, NOW_MS)
    assert front.oldest_ready == 5.0
    assert front.ready_jobs == 1
    assert front.complete


@given(st.integers(0, 3 * PAGE), st.integers(0, 2 * PAGE), st.integers(0, 3))
def test_ready_and_running_add_up(running: int, ready: int, aborted: int) -> None:
    queue = [
        *((f"aborted{number}".encode(), ABORTED) for number in range(aborted)),
        *members(running, 2000.0, "running"),
        *members(ready, 900_000.0, "ready"),
    ]
    front = walk(queue, {job_id for job_id, _ in queue if job_id.startswith(b"running")})
    assert front.complete
    assert len(front.running) == running
    assert front.ready_jobs == ready + aborted
    assert front.oldest_ready == (900.0 if ready else None)
