"""How arq's values are encoded: by pickle, or by what a user gave to arq as `job_serializer`."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Protocol

from exporter.model import Unreadable
from exporter.systems.arq.records import pickled
from exporter.systems.arq.records.fields import Fields, UnreadableResult
from exporter.systems.arq.records.plain import JSON, MSGPACK


class Serializer(enum.StrEnum):
    """The encoding of a broker's jobs and results."""

    AUTO = "auto"  # each value tells by its first bytes
    PICKLE = "pickle"
    JSON = "json"
    MSGPACK = "msgpack"


class Encoding(Protocol):
    """From bytes to fields. Raises UnreadableResult, nothing else."""

    def definition(self, head: bytes, *, cut: bool) -> Fields:
        """The fields that are known of a job's definition, `f` among them."""
        ...

    def result(self, head: bytes, tail: bytes) -> Fields:
        """The fields that are known of a result, `t` and `f` among them; all needed ones where it was whole."""
        ...


ENCODINGS: Final[Mapping[Serializer, Encoding]] = {
    Serializer.PICKLE: pickled,
    Serializer.JSON: JSON,
    Serializer.MSGPACK: MSGPACK,
}


def encoding_of(head: bytes, serializer: Serializer) -> Encoding:
    """What reads a value that begins so. Raises UnreadableResult where it isn't written as it should be, or as
    nothing that is read."""
    if not head:
        raise UnreadableResult(Unreadable.MALFORMED)
    told = told_by(head)
    if told is None or serializer not in (told, Serializer.AUTO):
        raise UnreadableResult(Unreadable.ENCODING)
    return ENCODINGS[told]


def told_by(head: bytes) -> Serializer | None:
    """The encoding of a dict that begins so; None where it is none of ours. No two of them begin alike.

    Pickles begin so since protocol 2; msgpack's 0x80 would be a dict of nothing.
    """
    if b"\x80\x02" <= head[:2] <= b"\x80\x05":
        return Serializer.PICKLE
    if head[:1] in _MSGPACK_MAPS:
        return Serializer.MSGPACK
    return Serializer.JSON if head[:_MOST_SPACE].lstrip(_SPACE)[:1] == b"{" else None


_MSGPACK_MAPS: Final = frozenset(bytes((first,)) for first in (*range(0x81, 0x90), 0xDE, 0xDF))
_SPACE: Final = b" \t\r\n"
_MOST_SPACE: Final = 64
"""Bytes of white space before a JSON document, which is what no serializer writes."""
