"""Pickles of arq (its default): from bytes to fields."""

from __future__ import annotations

import re
from typing import Final

from exporter.model import Unreadable
from exporter.safe.pickles import OPAQUE, End, MalformedPickle, read_items, read_pickle
from exporter.systems.arq.records.fields import (
    DEFINITION,
    LAST,
    NEEDED,
    RESULT,
    TAIL_BYTES,
    Fields,
    UnreadableResult,
    complete,
    in_order,
    is_cut,
)


def definition(head: bytes, *, cut: bool) -> Fields:
    """The fields that are known of a job's definition, `f` among them; all where it is whole."""
    fields, whole = _read(head, cut=cut)
    return complete(fields, DEFINITION) if whole else in_order(fields, DEFINITION)


def result(head: bytes, tail: bytes) -> Fields:
    """The fields that are known of a result, `t` and `f` among them; all needed ones where it was whole."""
    fields, whole = _read(head, cut=is_cut(head))
    if whole:
        return complete(fields, NEEDED)
    # The last value of the head may be a piece of one, and what follows further pieces. It does no harm: nothing
    # counts that isn't in arq's order, and what the tail tells goes before.
    return in_order(fields, _BEFORE_TIMES) | _ending(tail if is_cut(head) else head[-TAIL_BYTES:])


_BEFORE_TIMES: Final = RESULT[: RESULT.index("st")]


def _read(head: bytes, *, cut: bool) -> tuple[Fields, bool]:
    """What a pickled dict tells, and whether it was whole; `cut` says whether it may go on beyond `head`."""
    try:
        reading = read_pickle(head)
    except MalformedPickle:
        raise UnreadableResult(Unreadable.MALFORMED) from None
    if not isinstance(reading.value, dict) or (reading.end is End.CUT and not cut):
        raise UnreadableResult(Unreadable.BOUNDS if reading.end is End.BOUNDS else Unreadable.MALFORMED)
    return reading.value, reading.end is End.WHOLE


_KEY_OPCODES: Final = {
    opcode + field.encode(): place
    for place, field in enumerate(RESULT)
    if field not in {"t", "f", "a", "k"}
    for opcode in (bytes((0x8C, len(field))), b"X" + len(field).to_bytes(4, "little"))
}
"""How picklers write a key where it stands for the first time: SHORT_BINUNICODE, or BINUNICODE before protocol 4."""
_ANY_KEY: Final = re.compile(b"|".join(map(re.escape, _KEY_OPCODES)))
_STARTS: Final = 16
"""What looks like a key is tried so often: as parts of a result may, too, which stand before the last fields."""
_CLOSE: Final = b"u."
"""SETITEMS and STOP: the end of a pickled dict of several items."""


def _ending(tail: bytes) -> Fields:
    """The last fields of a value of which only the tail is known: the longest run that ends where the pickle does."""
    if not tail.endswith(_CLOSE):
        return {}
    for match in [*_ANY_KEY.finditer(tail)][-_STARTS:]:
        if fields := _run_of_fields(tail[match.start() : -len(_CLOSE)], _KEY_OPCODES[match.group()]):
            return fields
    return {}


def _run_of_fields(piece: bytes, place: int) -> Fields:
    """The fields that `piece` holds from the one at `place` on; none unless they are arq's, in its order, to the end.

    A key or value that refers to what stands before the piece is not known.
    """
    try:
        items = read_items(piece)
    except MalformedPickle:
        return {}
    keys, values, expected = items[::2], items[1::2], RESULT[place : place + len(items) // 2]
    whole = len(keys) == len(values) == len(expected) and expected[-1] in LAST
    if not whole or any(key not in (name, OPAQUE) for key, name in zip(keys, expected, strict=True)):
        return {}
    return {name: value for name, value in zip(expected, values, strict=True) if value is not OPAQUE}
