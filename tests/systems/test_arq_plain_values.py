"""What ARQ results in JSON and msgpack say: cut ones, broken ones, hostile ones."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Outcome, Unreadable
from exporter.safe.text import UNKNOWN
from exporter.systems.arq.records import fields, plain
from exporter.systems.arq.records.fields import HEAD_BYTES, RESULT, TAIL_BYTES, UnreadableResult
from exporter.systems.arq.records.results import Result, Serializer, read_result
from tests.safe.hostile import nothing_runs
from tests.safe.hostile_plain import JSON_BROKEN, JSON_VALUES, MSGPACK_BROKEN, MSGPACK_VALUES, mangled
from tests.systems.arq_plain import BOTH, JSON, MSGPACK, SERIALIZERS, every_serializer, json_by, knows
from tests.systems.arq_stage import ET, HUGE, QUEUE, Serialize, read_whole, refused, shortened, written

BY_NAME = {JSON: plain.JSON, MSGPACK: plain.MSGPACK}
LONG = ["x" * 70_000, [7] * 70_000, [{"et": 1, "s": True, "r": 1}] * 9000, {"a": 1, "k": [{"st": 1, "ft": 2}] * 9000}]
LAST_OF = {"st": 1, "ft": 2, "q": "q", "id": "i"}


@every_serializer
@pytest.mark.parametrize("missing", [(), ("id",), ("q", "id")])
def test_long_values_by_their_ends(serialize: Serialize, missing: tuple[str, ...]) -> None:
    queue = QUEUE if "q" not in missing else None

    def read(**changes: Any) -> Result:
        return read_whole(written(serialize=without, **changes))

    def without(values: dict[str, Any]) -> bytes:
        return serialize({key: value for key, value in values.items() if key not in missing})

    for long in LONG:
        for short in (None, 1, "a", LAST_OF, [{"id": 1}] * 25, [LAST_OF, "s", "r"], '", "st": 1}', "é" * 30):
            knows(read(a=(long,), r=short), outcome=Outcome.SUCCEEDED, queue=queue)
            knows(read(k={"r": long, "s": 1}, r=short), outcome=Outcome.SUCCEEDED, queue=queue)
            knows(read(a=(short,), r=long), outcome=Outcome.SUCCEEDED, queue=queue)
            knows(read(a=(short,), s=False, r=long), outcome=Outcome.FAILED, exception=UNKNOWN, queue=queue)
        knows(read(a=(long,), s=False, r=TimeoutError()), exception="TimeoutError", queue=queue)
        knows(read(a=(long,), r=long), outcome=Outcome.UNKNOWN, enqueued=None, queue=queue)
        assert read(a=(long,), s=False, r=asyncio.CancelledError()).outcome is Outcome.ABORTED


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(RESULT) | st.text(max_size=5), inner),
    max_leaves=12,
)  # fmt: skip
FAILURES = st.sampled_from([ValueError("x"), TimeoutError(), asyncio.CancelledError(), "max 0 retries exceeded", ""])


@given(arguments=st.lists(VALUES, max_size=3), named=st.dictionaries(st.text(max_size=5), VALUES, max_size=3),
       end=st.tuples(st.just(True), VALUES) | st.tuples(st.just(False), FAILURES | VALUES),
       serialize=st.sampled_from(list(SERIALIZERS.values())), data=st.data())  # fmt: skip
def test_of_a_cut_value_nothing_is_told_that_is_not_so(
    arguments: list[Any], named: dict[str, Any], end: tuple[bool, Any], serialize: Serialize, data: st.DataObject
) -> None:
    value = written(serialize=serialize, a=arguments, k=named, s=end[0], r=end[1])
    whole = read_result(value)
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(10):
            length = data.draw(st.integers(1, len(value)))
            patch.setattr(fields, "HEAD_BYTES", length)
            tail = value[-data.draw(st.integers(1, len(value))) :]
            try:
                told = read_result(value[:length], tail)
            except UnreadableResult:  # shorter than number of tries and name are
                continue
            check_part(told, whole)


def check_part(told: Result, whole: Result) -> None:
    """What a part tells is what the whole tells, or nothing."""
    assert (told.task, told.tries, told.retried) == (whole.task, whole.tries, whole.retried)
    for name in ("queue", "enqueued", "finished"):
        assert getattr(told, name) in (None, getattr(whole, name))
    if told.outcome is not Outcome.UNKNOWN:
        assert told.outcome is whole.outcome or whole.outcome is Outcome.ABORTED
    if told.exception not in (None, UNKNOWN):
        assert told.exception == whole.exception


@pytest.mark.parametrize("serializer", BOTH)
def test_a_value_about_as_long_as_a_head(serializer: Serializer) -> None:
    serialize = BOTH[serializer]
    for length in range(HEAD_BYTES - 260, HEAD_BYTES + 50, 3):
        aborted = read_whole(written(serialize=serialize, s=False, a="x" * length, r=asyncio.CancelledError()))
        knows(aborted, outcome=Outcome.ABORTED, exception=None)
        knows(read_whole(written(serialize=serialize, r="x" * length)), outcome=Outcome.SUCCEEDED, exception=None)


@pytest.mark.parametrize("serializer", BOTH)
def test_every_length_of_a_head(serializer: Serializer, monkeypatch: pytest.MonkeyPatch) -> None:
    value = written(serialize=BOTH[serializer], a=("x" * TAIL_BYTES, {"et": ET}), s=False, r=asyncio.CancelledError())
    for length in range(value.index(b"xxx"), len(value)):
        monkeypatch.setattr(fields, "HEAD_BYTES", length)
        knows(read_result(value[:length], value[-TAIL_BYTES:]), outcome=Outcome.ABORTED, exception=None)


@pytest.mark.parametrize("serializer", BOTH)
def test_what_a_head_tells_where_the_tail_tells_nothing(
    serializer: Serializer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with an id of unusual length. Each field is told from where the key that follows on it is whole."""
    value = written(serialize=BOTH[serializer], s=False, r=asyncio.CancelledError(), id="i" * 2 * TAIL_BYTES)
    ends = {name: next(BY_NAME[serializer].keys[name].finditer(value)).end() for name in ("s", "r", "st")}
    for length in range(ends["s"] - 1, len(value) - 1):
        monkeypatch.setattr(fields, "HEAD_BYTES", length)
        result = read_result(value[:length], value[-TAIL_BYTES:])

        assert (result.enqueued is not None) is (length >= ends["s"])
        assert (result.outcome is not Outcome.UNKNOWN) is (length >= ends["r"])
        assert (result.outcome is Outcome.ABORTED) is (length >= ends["st"])


POSING = [
    {"s": False, "r": "TimeoutError()"},
    {"et": 1, "s": False, "r": 1},
    {"et": ET, "x": False, "r": 1},
    {"st": 1, "ft": 2, "q": "q"},
]


@every_serializer
def test_the_end_of_a_long_result_does_not_pose_as_the_jobs_own(serialize: Serialize) -> None:
    for last in POSING:
        result = read_whole(written(serialize=serialize, a="x" * HUGE, r=["x" * HUGE, last]))
        knows(result, outcome=Outcome.UNKNOWN, exception=None, enqueued=None)
    for last in (*POSING, {"et": ET - 1, "s": False, "r": 1}):
        result = read_whole(written(serialize=serialize, r=["x" * HUGE, last]))
        knows(result, outcome=Outcome.SUCCEEDED, exception=None)


@pytest.mark.parametrize(
    "changes",
    [
        {"t": 0}, {"t": True}, {"t": 1.0}, {"t": None}, {"t": 1_000_001}, {"t": "1"}, {"t": [1]},
        {"f": None}, {"f": 7}, {"f": ["f"]}, {"f": {"f": 1}}, {"et": -1}, {"et": None}, {"et": True}, {"et": "0"},
        {"et": 1 << 62}, {"st": -1}, {"st": [1]}, {"st": 1e300}, {"ft": None}, {"ft": {}},
        {"s": None}, {"s": 1}, {"s": "yes"}, {"s": []}, {"q": None}, {"q": 1}, {"q": [QUEUE]},
    ],
    ids=shortened,
)  # fmt: skip
def test_fields_of_a_wrong_kind(changes: dict[str, Any]) -> None:
    for serialize in SERIALIZERS.values():
        assert refused(written(serialize=serialize, **changes)) is Unreadable.MALFORMED


@every_serializer
def test_fields_that_are_missing_or_cut(serialize: Serialize) -> None:
    values = msgspec.msgpack.decode(written(serialize=BOTH[MSGPACK]))
    for missing in RESULT[:-2]:
        value = serialize({key: value for key, value in values.items() if key != missing})
        assert refused(value) is Unreadable.MALFORMED
    value = serialize(values).rstrip()
    for length in range(len(value)):
        assert refused(value[:length]) in (Unreadable.MALFORMED, Unreadable.ENCODING)
    knows(read_whole(serialize(dict(reversed(values.items())) | {"new": [1]})), outcome=Outcome.SUCCEEDED)


def test_what_only_python_writes_as_json() -> None:
    parts: dict[str, Any]
    changes: dict[str, Any]
    for odd in (float("nan"), float("inf"), "\ud800", [float("-inf"), {"a": "\udfff"}]):
        for long in (None, "x" * HUGE):
            for parts in (
                {"a": [odd, long]},
                {"r": [odd, long]},
                {"a": [odd], "r": long},
                {"k": {"a": long, "b": odd}},
            ):
                result = read_whole(written(serialize=json_by(), **parts))
                knows(result, outcome=Outcome.SUCCEEDED)
    for changes in ({"f": "\ud800"}, {"q": "\ud800"}, {"ft": float("nan")}):
        assert refused(written(serialize=json_by(), **changes)) is Unreadable.MALFORMED


# -- hostile ones -----------------------------------------------------------------------------------------------

MEMORY = 5 * 1024 * 1024
"""Bytes that reading any value may take at once, where the standard library must build 64 KiB of JSON."""

PARTS: dict[str, tuple[Serializer, bytes]] = {
    **{f"json, {label}": (JSON, value) for label, value in JSON_VALUES.items()},
    **{f"msgpack, {label}": (MSGPACK, value) for label, value in MSGPACK_VALUES.items()},
}


@pytest.mark.parametrize("label", PARTS)
@pytest.mark.parametrize("place", ["a", "r"])
def test_a_hostile_part_of_a_result_says_nothing_false(label: str, place: str) -> None:
    serializer, part = PARTS[label]
    marker = BOTH[serializer]({"": "marker"})[1:].removesuffix(b"}").removeprefix(b'"": ').removeprefix(b"\xa0")
    changes: dict[str, Any] = {"s": False, "r": asyncio.CancelledError()} | {place: "marker"}
    value = written(serialize=BOTH[serializer], **changes)
    assert marker in value
    value = value.replace(marker, part)
    tracemalloc.start()
    with nothing_runs():
        for data in (value, value + b"x", value[: len(value) // 2]):
            try:
                result = read_whole(data)
            except UnreadableResult:
                continue
            assert (result.task, result.tries) == ("f", 1)
            assert result.outcome in {Outcome.ABORTED if place == "a" else Outcome.FAILED, Outcome.UNKNOWN}
            assert result.exception in (None, UNKNOWN)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEMORY


def test_no_broken_value_passes_as_a_result() -> None:
    with nothing_runs():
        for value in (*JSON_BROKEN.values(), *MSGPACK_BROKEN.values(), *(part for _, part in PARTS.values())):
            refused(value)


def test_whatever_it_is_it_is_a_result_or_refused() -> None:
    chance, read = random.Random(4), 0
    seeds = [written(serialize=serialize, s=False, a=[1, {"et": 2}], r="x") for serialize in SERIALIZERS.values()]
    heads = [written(serialize=serialize, r="x" * HUGE)[:HEAD_BYTES] for serialize in BOTH.values()]
    with nothing_runs():
        for number in range(6_000):
            value = mangled(chance, seeds)
            for parts in ((value, b""), (heads[number % 2], value)):
                try:
                    read_result(*parts)
                    read += 1
                except UnreadableResult:
                    pass
    assert read > 2_000
