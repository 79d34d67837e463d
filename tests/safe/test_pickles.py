"""Reading pickles without running them: right where they are right, and harmless where they are hostile."""

from __future__ import annotations

import pickle
import pickletools
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.safe import opcodes
from exporter.safe.operands import TEXT_BYTES
from exporter.safe.pickles import (
    MAX_BYTES,
    MAX_OPCODES,
    OPAQUE,
    End,
    Global,
    MalformedPickle,
    Object,
    Reading,
    Tuple,
    read_items,
    read_pickle,
)
from tests.safe.hostile import BOMBS, CALLS, HOSTILE, MARKER, mutated, nothing_runs

MEMORY = 2 * 1024 * 1024
"""Bytes that reading any pickle may take at once."""
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

TEXTS = st.text(st.characters(), max_size=200)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**2000), 2**2000), st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False), TEXTS,
)  # fmt: skip
DICTS = st.dictionaries(TEXTS, st.one_of(SCALARS, st.dictionaries(TEXTS, SCALARS, max_size=3)), max_size=12)


def whole(data: bytes) -> Any:
    reading = read_pickle(data)
    assert reading.end is End.WHOLE
    return reading.value


# -- what picklers write ----------------------------------------------------------------------------------------


@given(value=DICTS, protocol=st.sampled_from(PROTOCOLS))
def test_dicts_of_scalars_are_read_back(value: dict[str, Any], protocol: int) -> None:
    written = pickle.dumps(value, protocol)

    for data in (written, pickletools.optimize(written), pickle._dumps(value, protocol)):  # type: ignore[attr-defined]
        assert whole(data) == value
        assert repr(whole(data)) == repr(value)  # True is not 1, and -0.0 not 0.0


def test_every_opcode_there_is_has_its_handler() -> None:
    assert opcodes.OPCODES.keys() == {opcode.code.encode("latin-1") for opcode in pickletools.opcodes}


class Plain:
    """An object with a state."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.items = [1, {2}, frozenset({3}), b"4", bytearray(b"5"), (6, 7, 8, 9)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_of_objects_their_maker_and_first_argument_are_kept(protocol: int) -> None:
    value = {
        "error": ValueError("message", 2), "bare": KeyError(), "nested": OSError({"a": 1}), "class": ValueError,
        "path": Path("a"), "plain": Plain(1), "last": 7,
    }  # fmt: skip
    builtins = "builtins" if protocol > 2 else "exceptions"

    read = whole(pickle.dumps(value, protocol))

    assert read["error"] == Object(Global(builtins, "ValueError"), "message")
    assert read["bare"] == Object(Global(builtins, "KeyError"), None)
    assert read["nested"] == Object(Global(builtins, "OSError"), None)
    assert read["class"] == Global(builtins, "ValueError")
    assert read["path"].by.name == "PosixPath"
    maker = (Global(__name__, "Plain"), None) if protocol > 1 else (Global("copy_reg", "_reconstructor"), Global(__name__, "Plain"))  # noqa: E501  # fmt: skip
    assert (read["plain"].by, read["plain"].first) == maker
    assert read["last"] == 7


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_not_kept_is_opaque(protocol: int) -> None:
    value = {"list": [1, [2]], "empty": [], "tuple": (1, 2, 3, 4), "huge": 1 << 5000, "dict": {1: 2, (3,): 4, "a": 5}}

    read = whole(pickle.dumps(value, protocol))

    assert read == {"list": OPAQUE, "empty": OPAQUE, "tuple": Tuple(1), "huge": OPAQUE, "dict": {"a": 5}}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_of_a_long_text_the_head_is_kept(protocol: int) -> None:
    read = whole(pickle.dumps({"text": "é" * 10_000, "last": 1}, protocol))

    assert read["text"].startswith("é" * 500)
    assert len(read["text"]) <= TEXT_BYTES
    assert read["last"] == 1


def test_what_follows_the_pickle_is_not_read() -> None:
    assert whole(pickle.dumps({"a": 1}) + b"\xff\xff") == {"a": 1}


# -- what was cut -----------------------------------------------------------------------------------------------


@given(value=st.dictionaries(TEXTS, SCALARS, max_size=12), protocol=st.sampled_from(PROTOCOLS), data=st.data())
def test_a_head_tells_what_stands_in_it(value: dict[str, Any], protocol: int, data: st.DataObject) -> None:
    written = pickle.dumps(value, protocol)
    reading = read_pickle(written[: data.draw(st.integers(0, len(written) - 1))])

    assert reading.end is End.CUT
    told = reading.value
    assert told is None or isinstance(told, dict)
    assert list((told or {}).items()) == list(value.items())[: len(told or {})]


@given(value=DICTS, protocol=st.sampled_from([2, 3, 4, 5]), data=st.data())
def test_in_a_head_only_what_was_being_built_comes_in_pieces(
    value: dict[str, Any], protocol: int, data: st.DataObject
) -> None:
    value = {"first": 1, **value, "dict": {"of": 1, "two": 2}, "last": 2}
    written = pickle.dumps(value, protocol)
    told = read_pickle(written[: data.draw(st.integers(30, len(written) - 1))]).value

    assert isinstance(told, dict)
    for (key, known), (expected, true) in zip(told.items(), value.items(), strict=False):
        assert key == expected
        if known != true:
            assert isinstance(true, dict)
            break


def test_where_opcodes_run_out_the_rest_is_told() -> None:
    reading = read_pickle(pickle.dumps({"a": 1, "b": list(range(MAX_OPCODES)), "c": 3}))

    assert reading == Reading({"a": 1, "b": OPAQUE}, End.BOUNDS, MAX_OPCODES)


def test_where_bytes_run_out_the_rest_is_told() -> None:
    reading = read_pickle(pickle.dumps({"a": 1, "b": "x" * MAX_BYTES, "c": 3}))

    assert (reading.value, reading.end) == ({"a": 1}, End.BOUNDS)


def test_items_from_the_middle() -> None:
    text = "the same object"
    data = pickle.dumps({"a": text, "b": 1, "c": text, "d": "y"}, 4)

    assert read_items(data[data.index(b"\x8c\x01b") : -2]) == ["b", 1, "c", OPAQUE, "d", "y"]


@pytest.mark.parametrize(
    "piece",
    [b"K", b"X\x05\x00\x00\x00ab", b"(K\x01", b"K\x01s", b"u", b"N.", b"\x95", b"\xff", b"K\x01\x95\x00", b"2" * 9000],
)
def test_a_piece_that_holds_no_whole_items(piece: bytes) -> None:
    with pytest.raises(MalformedPickle):
        read_items(piece)


# -- hostile ones -----------------------------------------------------------------------------------------------


def read_any(data: bytes) -> Reading | None:
    try:
        return read_pickle(data)
    except MalformedPickle:
        return None


def test_the_corpus_is_large_enough() -> None:
    assert len(CALLS) + len(BOMBS) >= 30
    calling = {b"R", b"\x81", b"\x92", b"i", b"o", b"b", b"c", b"\x93", b"\x82", b"\x83", b"\x84", b"P", b"Q"}
    used = {opcode.code.encode("latin-1") for body in CALLS.values() for opcode in opcodes_of(body)}
    assert calling <= used


def opcodes_of(body: bytes) -> Iterator[pickletools.OpcodeInfo]:
    for opcode, _, _ in pickletools.genops(body + b"."):
        yield opcode


@pytest.mark.parametrize("label", HOSTILE)
def test_a_hostile_pickle_runs_nothing_and_ends(label: str) -> None:
    data = HOSTILE[label]
    with nothing_runs():
        reading = read_any(data)

    assert reading is None or reading.opcodes <= min(MAX_OPCODES, len(data))


@pytest.mark.parametrize("label", HOSTILE)
def test_a_hostile_pickle_takes_little_memory(label: str) -> None:
    data = HOSTILE[label]
    tracemalloc.start()
    try:
        for _ in range(3):
            read_any(data)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < MEMORY
    assert kept < MEMORY // 4


def test_the_watch_sees_what_runs() -> None:
    with pytest.raises(AssertionError), nothing_runs():
        pickle.loads(HOSTILE["STACK_GLOBAL REDUCE"])
    with pytest.raises(AssertionError), nothing_runs():
        pickle.loads(HOSTILE["open"]).close()
    assert not MARKER.exists()


# -- at random --------------------------------------------------------------------------------------------------

SEEDS = [
    *(data for label, data in HOSTILE.items() if len(data) < 2000 and label in CALLS | BOMBS),
    *(pickle.dumps({"t": 1, "f": "f", "a": (1,), "k": {}, "s": False, "r": error, "q": "q"}, protocol)
      for protocol in PROTOCOLS for error in (ValueError("x"), None, Plain(1), {"a": [1]}, OSError(1, "x"))),
]  # fmt: skip


def test_whatever_it_is_nothing_runs_and_it_ends() -> None:
    count = 300_000
    chance = random.Random(1)
    opcodes_run = 0
    with nothing_runs():
        for _ in range(count):
            data = mutated(chance, SEEDS)
            if (reading := read_any(data)) is not None:
                assert reading.opcodes <= len(data)
                opcodes_run += reading.opcodes
    assert opcodes_run > 5 * count  # else it would not be read far enough to show anything
