"""Since when the oldest ready job of a list is due, by its first messages."""

from __future__ import annotations

import math
from typing import Any

import pytest

from exporter.systems.celery.queues.front import Front, read_front, with_tail
from tests.systems.celery_queues import message
from tests.systems.observing import START

NOW = START
SENT = {"sent": START - 50, "sent later": START - 20}
BACK: dict[str, Any] = {"redelivered": True}


def front(*messages: str, depth: int | None = None) -> Front:
    texts = [text.encode() for text in messages]
    return read_front(texts, len(texts) if depth is None else depth, SENT.get, NOW)


def test_a_job_is_due_since_it_was_sent() -> None:
    seen = front(message("sent"), depth=7)
    assert (seen.oldest(None), seen.odd) == (START - 50, False)


def test_a_clock_ahead_of_ours_makes_no_job_due_later_than_now() -> None:
    assert read_front([message("1").encode()], 1, {"1": NOW + 5}.get, NOW).oldest(None) == NOW


def test_a_job_nobody_told_of_is_due_since_it_was_first_seen() -> None:
    seen = front(message("unknown"), depth=7)
    assert (seen.oldest(NOW - 3), seen.oldest(None), seen.odd) == (NOW - 3, None, False)


def test_what_is_no_task_is_due_since_it_was_first_seen() -> None:
    assert front("no task", depth=7).oldest(NOW - 3) == NOW - 3


def test_an_eta_that_is_past_is_when_the_job_became_due() -> None:
    assert front(message("unknown", eta=NOW - 9)).oldest(NOW - 3) == NOW - 9


def test_a_job_that_is_to_come_is_not_due() -> None:
    assert front(message("sent", eta=NOW + 9)).oldest(NOW - 3) == math.inf


def test_behind_jobs_with_an_eta_the_first_without_tells() -> None:
    assert front(message("a", eta=NOW + 9), message("sent later"), depth=50).oldest(None) == START - 20
    assert front(message("a", eta=NOW - 9), message("sent later"), depth=50).oldest(None) == START - 20
    assert front(message("a", eta=NOW - 30), message("sent later"), depth=50).oldest(None) == START - 30


def test_where_none_of_the_first_tells_it_is_unknown() -> None:
    heads = [message("a", eta=NOW + 9), message("b", eta=NOW - 9)]
    assert front(*heads, depth=50).oldest(NOW - 3) is None
    assert front(*heads).oldest(NOW - 3) == NOW - 9


def test_of_jobs_that_came_back_to_the_head_the_one_sent_first_counts() -> None:
    seen = front(message("sent later", **BACK), message("sent", **BACK), message("unknown"), depth=50)
    assert seen.oldest(None) is None
    seen = front(message("sent later", **BACK), message("sent"), message("unknown"), depth=50)
    assert seen.oldest(None) == START - 50


def test_a_job_that_came_back_is_not_due_since_it_was_seen_again() -> None:
    assert front(message("unknown", **BACK)).oldest(NOW - 3) is None


def test_a_retry_is_not_due_since_its_job_was_sent() -> None:
    assert front(message("sent", retries=1)).oldest(NOW - 3) == NOW - 3
    assert front(message("sent", retries=1, eta=NOW - 9)).oldest(NOW - 3) == NOW - 9


@pytest.mark.parametrize(
    ("text", "depth", "odd"),
    [
        (message("1"), 5, False),
        (message("1", eta=NOW - 1), 5, True),
        (message("1", eta=NOW - 1), 1, False),
        (message("1", **BACK), 5, True),
        ("no task", 5, False),
    ],
)
def test_more_is_looked_at_only_where_it_may_tell_more(text: str, depth: int, *, odd: bool) -> None:
    assert front(text, depth=depth).odd is odd


@pytest.mark.parametrize(
    ("last", "oldest"),
    [
        (message("sent later"), START - 20),  # pushed as any other
        (message("sent", **BACK), START - 50),
        (message("unknown", **BACK), None),
        (message("sent", retries=1, **BACK), None),
        (message("sent", eta=NOW - 90, **BACK), START - 50),
        (message("unknown", eta=NOW + 9, **BACK), START - 20),
        ("no task", START - 20),
    ],
)
def test_a_job_that_its_task_gave_back_stands_at_the_end(last: str, oldest: float | None) -> None:
    seen = with_tail(front(message("sent later"), depth=50), last.encode(), SENT.get, NOW)
    assert seen.oldest(NOW - 3) == oldest


def test_beside_one_that_was_given_back_a_job_nobody_told_of_is_due_since_it_was_first_seen() -> None:
    for sent, oldest in (("sent", START - 50), ("unknown", None)):
        seen = with_tail(front(message("other"), depth=50), message(sent, **BACK).encode(), SENT.get, NOW)
        assert seen.oldest(NOW - 3) == oldest
