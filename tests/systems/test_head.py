"""The head of a ready list, against a model that knows everything."""

from __future__ import annotations

from collections import deque
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from exporter.systems.head import Head

# What happens between two looks: jobs pushed, jobs taken; and whether the look fails to read the head.
STEPS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans()), max_size=40)


@given(STEPS)
def test_whatever_happens_it_never_says_what_is_not_so(steps: list[tuple[int, int, bool]]) -> None:
    head, names = Head(), count()
    waiting: deque[tuple[int, float]] = deque()  # job, when it was pushed
    looked_at = None
    for number, (pushed, taken, blind) in enumerate(steps):
        now = float(number)
        waiting.extend((next(names), now - 0.5) for _ in range(pushed))
        left_really = min(taken, len(waiting))
        for _ in range(left_really):
            waiting.popleft()
        left = head.note(None if blind or not waiting else waiting[0][0], len(waiting), now)
        # a job is said to have left only if one did
        assert not left or left_really
        assert not left or looked_at is not None
        # the head's age is right to one look, and never before it was pushed
        if head.since is not None:
            assert waiting
            assert 0 <= head.since - waiting[0][1] <= 1.0
        looked_at = now


@given(st.integers(1, 5), st.integers(0, 5))
def test_jobs_pushed_into_an_empty_list_have_the_age_of_the_look_that_found_them(first: int, more: int) -> None:
    head = Head()
    head.note(None, 0, 10.0)
    head.note("a", first, 11.0)
    head.note("a", first + more, 12.0)
    assert head.since == 11.0


def test_age_is_unknown_at_the_first_look() -> None:
    head = Head()
    assert head.note("a", 3, 10.0) is False
    assert head.since is None


def test_age_is_unknown_once_the_head_changed_behind_others() -> None:
    head = Head()
    head.note(None, 0, 10.0)
    head.note("a", 2, 11.0)
    assert head.note("b", 2, 12.0) is True
    assert head.since is None


def test_age_is_unknown_after_a_look_that_could_not_read_the_head() -> None:
    head = Head()
    head.note(None, 0, 10.0)
    head.note("a", 1, 11.0)
    assert head.note(None, 1, 12.0) is False
    assert head.since is None
    assert head.note("a", 1, 13.0) is False
    assert head.since is None


def test_a_depth_that_fell_is_a_job_that_left_though_the_head_is_not_known() -> None:
    head = Head()
    head.note(None, 5, 10.0)
    assert head.note(None, 4, 11.0) is True
    assert head.note(None, 4, 12.0) is False
    assert head.note(None, 6, 13.0) is False


def test_age_is_known_where_the_list_was_empty_until_now() -> None:
    head = Head(empty=True)
    head.note("a", 3, 10.0)
    assert head.since == 10.0
