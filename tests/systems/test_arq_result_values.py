"""What ARQ results say that arq's own function wrote: old ones, cut ones, broken ones, hostile ones."""

from __future__ import annotations

import asyncio
import pickle
import random
from typing import Any

import pytest

from exporter.model import Outcome, Unreadable
from exporter.systems.arq.records.fields import HEAD_BYTES, RESULT, TAIL_BYTES, UnreadableResult, is_cut
from exporter.systems.arq.records.results import SURELY_RAN, Result, read_result
from tests.safe.hostile import BOMBS, CALLS, HOSTILE, mutated, nothing_runs
from tests.systems.arq_stage import ET, FT, HUGE, QUEUE, ST, ShopError, read_whole, refused, shortened, written


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("error", [ValueError("x"), ValueError("x" * HUGE), ShopError(order=1)])
def test_every_binary_protocol(protocol: int, error: Exception) -> None:
    result = read_whole(written(protocol, s=False, r=error))

    name = "ShopError" if isinstance(error, ShopError) else "ValueError"
    assert result == Result(
        QUEUE, "f", Outcome.FAILED, name, 1, 0, ET / 1000, ST / 1000, FT / 1000
    )  # fmt: skip


@pytest.mark.parametrize(("missing", "queue"), [(("id",), QUEUE), (("q", "id"), None)])
@pytest.mark.parametrize("returned", [None, "x" * HUGE])
def test_older_arqs(missing: tuple[str, ...], queue: str | None, returned: str | None) -> None:
    fields = {key: value for key, value in pickle.loads(written(r=returned)).items() if key not in missing}
    result = read_whole(pickle.dumps(fields))

    assert (result.queue, result.outcome, result.finished) == (queue, Outcome.SUCCEEDED, FT / 1000)


@pytest.mark.parametrize("took", [0.0, 0.002, SURELY_RAN - 0.001, SURELY_RAN, 60.0])
def test_an_aborted_job_is_known_to_have_run_where_it_took_long(took: float) -> None:
    result = read_whole(written(s=False, r=asyncio.CancelledError(), ft=ST + round(took * 1000)))

    assert result.outcome is Outcome.ABORTED
    assert (result.started is not None) is (took >= SURELY_RAN)


def test_a_clock_that_was_set_back_hides_the_start_only() -> None:
    result = read_whole(written(ft=ST - 5))

    assert (result.outcome, result.started, result.finished) == (Outcome.SUCCEEDED, None, (ST - 5) / 1000)


def test_what_the_tail_refers_to_elsewhere_is_not_known() -> None:
    result = read_whole(written(r=[QUEUE, "x" * HUGE]))  # the queue's name is the same object

    assert (result.queue, result.outcome, result.started, result.finished) == (
        None, Outcome.SUCCEEDED, ST / 1000, FT / 1000,
    )  # fmt: skip


def test_a_result_without_its_tail() -> None:
    head = written(r="x" * HUGE)[:HEAD_BYTES]

    assert is_cut(head)
    for tail in (b"", b"u.", b"\x8c\x02ftu.", written(r="x" * HUGE)[-TAIL_BYTES:-1], b"\x8c\x02st" * 100 + b"u."):
        assert read_result(head, tail) == Result(None, "f", Outcome.SUCCEEDED, None, 1, 0, ET / 1000, None, None)


@pytest.mark.parametrize("length", range(HEAD_BYTES - 250, HEAD_BYTES + 50, 7))
def test_a_result_about_as_long_as_a_head(length: int) -> None:
    result = read_whole(written(s=False, r=ValueError("x" * length)))

    assert result == Result(QUEUE, "f", Outcome.FAILED, "ValueError", 1, 0, ET / 1000, ST / 1000, FT / 1000)


@pytest.mark.parametrize(
    "changes",
    [
        {"t": 0}, {"t": -1}, {"t": True}, {"t": 1.0}, {"t": None}, {"t": 1_000_001}, {"t": 1 << 5000}, {"t": "1"},
        {"f": None}, {"f": b"f"}, {"f": 7}, {"f": ["f"]}, {"f": {"f": 1}},
        {"et": -1}, {"et": None}, {"et": True}, {"et": "0"}, {"et": float("nan")}, {"et": float("inf")},
        {"et": 1 << 99}, {"st": -1}, {"st": [1]}, {"st": 1e300}, {"ft": None}, {"ft": {}}, {"ft": 1 << 5000},
        {"s": None}, {"s": 1}, {"s": "yes"}, {"s": []}, {"q": None}, {"q": 1}, {"q": [QUEUE]},
    ],
    ids=shortened,
)  # fmt: skip
def test_fields_of_a_wrong_kind(changes: dict[str, Any]) -> None:
    for more in ({}, {"s": False, "r": ValueError()}):
        fields: dict[str, Any] = more | changes
        assert refused(written(**fields)) is Unreadable.MALFORMED


@pytest.mark.parametrize(
    "changes",
    [{"t": 0}, {"f": 7}, {"et": -1}, {"s": 1}, {"st": -1}, {"st": "1"}, {"ft": None}, {"q": 1}],
    ids=shortened,
)
def test_fields_of_a_wrong_kind_in_a_value_that_is_cut(changes: dict[str, Any]) -> None:
    assert refused(written(**changes, r="x" * HUGE)) is Unreadable.MALFORMED


@pytest.mark.parametrize("missing", RESULT[:-2])
def test_a_field_that_is_missing(missing: str) -> None:
    fields = pickle.loads(written())
    del fields[missing]

    assert refused(pickle.dumps(fields)) is Unreadable.MALFORMED


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", Unreadable.MALFORMED),
        (written(protocol=0), Unreadable.ENCODING),
        (written(protocol=1), Unreadable.ENCODING),
        (b"\x80", Unreadable.ENCODING),
        (b"\x80\x06" + written()[2:], Unreadable.ENCODING),
        (b"\x80\x04", Unreadable.MALFORMED),
        (written()[:-1], Unreadable.MALFORMED),
        (written()[:100], Unreadable.MALFORMED),
        (pickle.dumps([1]), Unreadable.MALFORMED),
        (pickle.dumps({}), Unreadable.MALFORMED),
        (pickle.dumps(list(range(HUGE))), Unreadable.BOUNDS),
        (pickle.dumps({"t": 1, "x": list(range(HUGE))}), Unreadable.BOUNDS),
        (pickle.dumps("x" * HUGE), Unreadable.MALFORMED),
    ],
)
def test_values_that_say_nothing(value: bytes, reason: Unreadable) -> None:
    assert refused(value) is reason


# -- hostile ones -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", HOSTILE)
def test_no_hostile_value_passes_as_a_result(label: str) -> None:
    with nothing_runs():
        refused(HOSTILE[label])


@pytest.mark.parametrize("place", ["a", "r"])
@pytest.mark.parametrize("label", sorted(CALLS.keys() | BOMBS.keys()))
def test_a_hostile_part_of_a_result_runs_nothing(label: str, place: str) -> None:
    body = (CALLS | BOMBS)[label]
    marker = b"\x8c\x06marker\x94"
    value = written(**{"s": False, place: "marker"})  # type: ignore[arg-type]
    assert marker in value

    with nothing_runs():
        try:
            outcome = read_whole(value.replace(marker, body)).outcome
        except UnreadableResult:
            outcome = Outcome.UNDECODABLE

    assert outcome in {Outcome.FAILED, Outcome.UNKNOWN, Outcome.UNDECODABLE}


def test_whatever_it_is_it_is_a_result_or_refused() -> None:
    count, chance, read = 30_000, random.Random(2), 0
    seeds = [
        written(protocol, s=False, r=error) for protocol in (2, 4, 5) for error in (ValueError("x"), "x", [1, {2}])
    ]
    head = written(r="x" * HUGE)[:HEAD_BYTES]
    with nothing_runs():
        for _ in range(count):
            value = mutated(chance, seeds)
            for parts in ((value, b""), (head, value)):
                try:
                    read_result(*parts)
                    read += 1
                except UnreadableResult:
                    pass
    assert read > count


def test_forged_tails_cost_little() -> None:
    tail = (b"\x8c\x01s\x88" * TAIL_BYTES)[: TAIL_BYTES - 2] + b"u."

    assert read_result(written(r="x" * HUGE)[:HEAD_BYTES], tail).finished is None
