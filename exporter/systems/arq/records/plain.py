"""JSON and msgpack, as users have arq write them (`job_serializer`): from bytes to fields.

Both are read alike: a run of whole items is made a map of its own by what a map begins and ends with, and msgspec
reads it. It builds nothing of arguments and results, however large or deep, and goes over the bytes once.

Where a value was cut, what stands before a key is tried as such a map. That is no guess: if it is one, to the last
byte, the key is one of the outermost map's, and not one within an argument. The same goes for what follows on a key in
JSON, which closes its maps. In msgpack the last items of a result within the result look the same: see _STARTS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, Final

import msgspec

from exporter.model import Unreadable
from exporter.safe.pickles import OPAQUE, Value
from exporter.systems.arq.records.fields import (
    DEFINITION,
    LAST,
    NEEDED,
    RESULT,
    Fields,
    UnreadableResult,
    complete,
    is_cut,
)

LONGEST: Final = 4096
"""Characters. Of a longer text only the head is kept."""
_TRIES: Final = 8
"""What looks like a key is tried so often, as it may stand within arguments and results, too."""
_LONG_TRIES: Final = 2
"""The same where a try may take milliseconds, and few things look alike."""
_NEAR: Final = 64
"""Bytes within which `s` and `r` follow on `et`: two scalars lie between."""
_STARTS: Final = ("et", "st", "ft", "q", "id")
"""Where a run of last fields may begin, the longest first. Not with `s`: `{"s": true, "r": 1}` at the end of a msgpack
result would be taken for the job's own, but no enqueue time stands before it. After `r` nothing else can be."""
_FIRST_MS: Final = 1_000_000_000_000
"""Enqueue times are later than 2001; other numbers that somebody calls `et` are smaller."""
_LENGTHS: Final = tuple(RESULT.index(last) + 1 for last in LAST)


class NoMap(Exception):
    """Bytes that are no map with texts for keys."""


@dataclass(frozen=True, slots=True)
class Format:
    """How a format writes a map, and how one is read."""

    read: Callable[[bytes], Fields]
    """The items of a whole map. Raises NoMap."""
    opened: Callable[[bytes], bytes]
    """What follows on the beginning of a map."""
    as_map: Callable[[bytes, int], bytes]
    """So many items as a map, from the first key to the key after the last."""
    as_last: Callable[[bytes, int], bytes]
    """The same of the last items of a map, from the first key to the end."""
    keys: Mapping[str, re.Pattern[bytes]]
    """The keys of RESULT, as they are written."""
    outcome: re.Pattern[bytes]
    """`et` and `s` with such values as arq gives them, and the key `r`."""

    def definition(self, head: bytes, *, cut: bool) -> Fields:
        """The fields that are known of a job's definition, `f` among them; all where it is whole."""
        try:
            return complete(self.read(head), DEFINITION)
        except NoMap:
            return self._before_arguments(head, cut=cut)

    def result(self, head: bytes, tail: bytes) -> Fields:
        """The fields that are known of a result, `t` and `f` among them; all needed ones where it was whole."""
        try:
            return complete(self.read(head), NEEDED)
        except NoMap:
            # What the head tells goes before: a text cannot pose as a field there.
            return self._ending(tail) | self._beginning(head, cut=is_cut(head))

    def _before_arguments(self, head: bytes, *, cut: bool) -> Fields:
        """`t` and `f`, which every value begins with."""
        if not cut:
            raise UnreadableResult(Unreadable.MALFORMED)
        body = self.opened(head)
        for match in islice(self.keys["a"].finditer(body, 0, LONGEST), _TRIES):
            if fields := self._run(self.as_map(body[: match.start()], 2), ("t", "f")):
                return fields
        raise UnreadableResult(Unreadable.BOUNDS)

    def _beginning(self, head: bytes, *, cut: bool) -> Fields:
        """What the head of a result tells: `t` and `f`; and what stands behind the arguments, if they are not cut."""
        known = self._before_arguments(head, cut=cut)
        body = self.opened(head)
        for at in islice(self._places_of_et(body), _LONG_TRIES):
            if self._run(self.as_map(body[:at], 4), RESULT[:4]):
                return known | self._between(body[at : at + LONGEST])
        return known

    def _places_of_et(self, body: bytes) -> Iterator[int]:
        """Where `et` may stand: what follows on it is known, unless the head ends there."""
        yield from (match.start() for match in self.outcome.finditer(body))
        yield from (match.start() for match in self.keys["et"].finditer(body, max(0, len(body) - _NEAR)))

    def _between(self, piece: bytes) -> Fields:
        """`et`, `s` and `r`, as far as they are whole, of a piece that begins with the first."""
        for number, following in ((3, "st"), (2, "r"), (1, "s")):
            for match in islice(self.keys[following].finditer(piece), _TRIES):
                if fields := self._run(self.as_map(piece[: match.start()], number), RESULT[4 : 4 + number]):
                    return fields
        return {}

    def _ending(self, tail: bytes) -> Fields:
        """The last fields of a result of which only the tail is known: the longest run that ends where it does."""
        for start, length in product(_STARTS, _LENGTHS):
            expected = RESULT[RESULT.index(start) : length]
            for match in [*self.keys[start].finditer(tail)][-_TRIES:]:
                fields = self._run(self.as_last(tail[match.start() :], len(expected)), expected)
                if fields and _is_late(fields.get("et", _FIRST_MS)):
                    return fields
        return {}

    def _run(self, data: bytes, expected: tuple[str, ...]) -> Fields:
        """The fields of a map; none unless they are those expected, in that order."""
        try:
            fields = self.read(data)
        except NoMap:
            return {}
        return fields if tuple(fields) == expected else {}


def _is_late(enqueued: Value) -> bool:
    return isinstance(enqueued, int | float) and enqueued >= _FIRST_MS


# -- values -----------------------------------------------------------------------------------------------------

_Scalar = bool | int | float | str | None
_KEPT: Final = frozenset(RESULT) - {"a", "k", "id"}


def _fields(items: Mapping[str, msgspec.Raw], decode: Callable[[msgspec.Raw], _Scalar]) -> Fields:
    return {key: _scalar(raw, decode) if key in _KEPT else OPAQUE for key, raw in items.items()}


def _scalar(raw: msgspec.Raw, decode: Callable[[msgspec.Raw], _Scalar]) -> Value:
    try:
        value = decode(raw)
    except ValueError:  # a list, bytes, a number beyond all bounds, a text that is no Unicode
        return OPAQUE
    return value[:LONGEST] if isinstance(value, str) else value


# -- JSON -------------------------------------------------------------------------------------------------------

_JSON: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_JSON_SCALAR: Final = msgspec.json.Decoder(_Scalar)
_PYTHONS_OWN: Final = re.compile(rb"NaN|Infinity|\\u[dD][89a-fA-F]")
"""What the standard library's `json` writes, and msgspec refuses: numbers that are none, and halves of characters."""


def _read_json(data: bytes) -> Fields:
    try:
        return _fields(_JSON.decode(data), _JSON_SCALAR.decode)
    except RecursionError:
        raise NoMap from None
    except ValueError:
        if not (data.rstrip().endswith(b"}") and _PYTHONS_OWN.search(data)):
            raise NoMap from None
    return _read_pythons_json(data)


def _read_pythons_json(data: bytes) -> Fields:
    """By the standard library: slower, and at most 64 KiB of values are built for a moment."""
    try:
        found: Any = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise NoMap from None
    if not isinstance(found, dict):
        raise NoMap
    return {key: _leaf(value) if key in _KEPT else OPAQUE for key, value in found.items()}


def _leaf(value: Any) -> Value:
    if isinstance(value, str):
        return OPAQUE if _HALVES.search(value) else value[:LONGEST]
    return value if value is None or isinstance(value, bool | int | float) else OPAQUE


_HALVES: Final = re.compile("[\ud800-\udfff]")


def _json_items(piece: bytes, _number: int) -> bytes:
    items = piece.rstrip()
    return b"{" + items[:-1] + b"}" if items.endswith(b",") else b""


JSON: Final = Format(
    read=_read_json,
    opened=lambda data: data.lstrip()[1:],
    as_map=_json_items,
    as_last=lambda piece, _number: b"{" + piece,
    keys={field: re.compile(rb'"%s"\s*:' % field.encode()) for field in RESULT},
    outcome=re.compile(rb'"et"\s*:\s*\d{13}\s*,\s*"s"\s*:\s*(?:true|false)\s*,\s*"r"\s*:'),
)

# -- msgpack ----------------------------------------------------------------------------------------------------

_MSGPACK: Final = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_MSGPACK_SCALAR: Final = msgspec.msgpack.Decoder(_Scalar)
_MAP_HEADERS: Final = {0xDE: 3, 0xDF: 5}
"""Bytes of map16 and map32; a fixmap's is one."""


def _read_msgpack(data: bytes) -> Fields:
    try:
        return _fields(_MSGPACK.decode(data), _MSGPACK_SCALAR.decode)
    except (ValueError, RecursionError):
        raise NoMap from None


def _msgpack_items(piece: bytes, number: int) -> bytes:
    return bytes((0x80 | number,)) + piece


MSGPACK: Final = Format(
    read=_read_msgpack,
    opened=lambda data: data[_MAP_HEADERS.get(data[0], 1) :],
    as_map=_msgpack_items,
    as_last=_msgpack_items,
    keys={field: re.compile(re.escape(bytes((0xA0 | len(field),)) + field.encode())) for field in RESULT},
    outcome=re.compile(rb"\xa2et[\xcf\xd3].{8}\xa1s[\xc2\xc3]\xa1r", re.DOTALL),
)
