"""The function of a job, by the beginning of its definition."""

from __future__ import annotations

import functools
import json
import pickle
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from arq.jobs import serialize_job
from hypothesis import given
from hypothesis import strategies as st

from exporter.systems.arq.records.definitions import HEAD_BYTES, task_of
from exporter.systems.arq.records.serializers import Serializer
from tests.safe.hostile import HOSTILE, mutated, nothing_runs
from tests.safe.hostile_plain import JSON_BROKEN, JSON_VALUES, MSGPACK_BROKEN, MSGPACK_VALUES, mangled
from tests.systems.arq_stage import Serialize, Tasks, shortened

WRITTEN_BY: dict[str, tuple[Serializer, Serialize]] = {
    **{
        f"pickle {protocol}": (Serializer.PICKLE, functools.partial(pickle.dumps, protocol=protocol))
        for protocol in (2, 3, 4, 5)
    },
    "json": (Serializer.JSON, lambda job: json.dumps(job).encode()),
    "compact json": (Serializer.JSON, msgspec.json.encode),
    "json in lines": (Serializer.JSON, lambda job: b" \n" + json.dumps(job, indent=4).encode() + b"\n"),
    "json in UTF-8": (Serializer.JSON, lambda job: json.dumps(job, ensure_ascii=False).encode()),
    "msgpack": (Serializer.MSGPACK, msgspec.msgpack.encode),
}
every_serializer = pytest.mark.parametrize(("serializer", "serialize"), WRITTEN_BY.values(), ids=WRITTEN_BY)


def definition(
    serialize: Serialize, task: Any = "send", *arguments: Any, job_try: int | None = None, **named: Any
) -> bytes:
    return serialize_job(task, arguments, named, job_try, 1_700_000_000_000, serializer=serialize)


@every_serializer
@pytest.mark.parametrize(
    "task", ["send", Tasks.SEND, 'a"b', "a\\", "é¡a", "日本", "a\nb", "", "x" * 900], ids=shortened
)
@pytest.mark.parametrize(
    "arguments", [(), ("x" * 5000,), ([7] * 5000,), tuple({"a": 1, "f": "other"} for _ in range(200))], ids=shortened
)
def test_the_function(serializer: Serializer, serialize: Serialize, task: str, arguments: tuple[Any, ...]) -> None:
    for job_try in (None, 3):
        head = definition(serialize, task, *arguments, job_try=job_try, a=[1])[:HEAD_BYTES]

        assert task_of(head) == task_of(head, serializer) == str(task)


@every_serializer
def test_any_other_serializer_than_the_configured_one_is_not_read(serializer: Serializer, serialize: Serialize) -> None:
    for other in set(Serializer) - {serializer, Serializer.AUTO}:
        assert task_of(definition(serialize), other) is None


@every_serializer
def test_a_name_that_goes_on_beyond_what_is_read(serializer: Serializer, serialize: Serialize) -> None:
    assert task_of(definition(serialize, "x" * HEAD_BYTES)[:HEAD_BYTES]) is None


@every_serializer
def test_what_arq_itself_cannot_read(serializer: Serializer, serialize: Serialize) -> None:
    job: dict[str, Any] = {"t": None, "f": "send", "a": (), "k": {}, "et": 1}
    for missing in job:
        assert task_of(serialize({key: value for key, value in job.items() if key != missing})) is None
    for name in (None, 1, ["send"], {"f": "send"}, True):
        assert task_of(serialize(job | {"f": name})) is None
    whole = serialize(job).rstrip()
    for cut in range(len(whole)):
        assert task_of(whole[:cut]) is None


def test_keys_in_another_order() -> None:
    """As producers in other languages may write them. Told where it is whole."""
    job = {"k": {}, "et": 1, "f": "send", "a": (), "t": None}

    for serialize in (pickle.dumps, msgspec.json.encode, msgspec.msgpack.encode):
        assert task_of(serialize(job)) == "send"
        assert task_of(serialize(job | {"k": {"f": "x" * 5000}})[:HEAD_BYTES]) is None


def test_values_that_are_written_in_json_by_python_only() -> None:
    for argument in (float("nan"), float("-inf"), "\ud800"):
        assert task_of(definition(WRITTEN_BY["json"][1], "send", argument)) == "send"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("taf") | st.text(max_size=9), inner, max_size=5)
    ),
    max_leaves=20,
)  # fmt: skip
SERIALIZERS = st.sampled_from([serialize for _, serialize in WRITTEN_BY.values()])


@given(
    task=st.text(max_size=100),
    arguments=st.lists(VALUES, max_size=4),
    length=st.integers(1, 2048),
    serialize=SERIALIZERS,
)
def test_it_is_told_right_or_not_at_all(
    task: str, arguments: list[Any], length: int, serialize: Callable[[Any], bytes]
) -> None:
    whole = definition(serialize, task, *arguments, "x" * length)

    assert task_of(whole[:HEAD_BYTES]) == task
    assert task_of(whole[:length]) in (None, task)


def test_hostile_ones_run_nothing_and_tell_nothing() -> None:
    corpus = [*HOSTILE.values(), *JSON_BROKEN.values(), *MSGPACK_BROKEN.values(), b"", b"hello", b"\x80\x06"]
    with nothing_runs():
        for data in corpus:
            assert task_of(data) is task_of(data[:HEAD_BYTES]) is None


def test_hostile_arguments_hide_no_name() -> None:
    for value in JSON_VALUES.values():
        head = (b'{"t": null, "f": "send", "a": [' + value + b"]}")[:HEAD_BYTES]
        assert task_of(head) == ("send" if len(head) == HEAD_BYTES else None)
    for value in MSGPACK_VALUES.values():
        head = (b"\x85\xa1t\xc0\xa1f\xa4send\xa1a\x91" + value)[:HEAD_BYTES]
        assert task_of(head) == ("send" if len(head) == HEAD_BYTES else None)


def test_whatever_it_is_it_takes_little() -> None:
    chance, seeds = (
        random.Random(3),
        [definition(serialize, "send", [1, {"a": "f"}]) for _, serialize in WRITTEN_BY.values()],
    )
    tracemalloc.start()
    with nothing_runs():
        for _ in range(5_000):
            told = task_of(mangled(chance, seeds)), task_of(mutated(chance, seeds))
            assert all(name is None or isinstance(name, str) for name in told)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 1024 * 1024
