"""The layout of what arq keeps of a job (arq/jobs.py `serialize_job`, `serialize_result`): dicts, their keys in order.

Which serializer wrote them makes no difference to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, TypeAlias

from exporter.model import Unreadable
from exporter.safe.pickles import Object, Value

HEAD_BYTES: Final = 65_536
"""Of a result, to be read first."""
TAIL_BYTES: Final = 512
"""Of a result that is longer: times and queue stand at its end."""

DEFINITION: Final = ("t", "f", "a", "k", "et")
"""The keys of `arq:job:<id>`: try (if the producer gave one), function, args, kwargs, enqueue time in milliseconds."""
RESULT: Final = (*DEFINITION, "s", "r", "st", "ft", "q", "id")
"""The keys of `arq:result:<id>`: those of the job, and success, result, start time, finish time, queue (since arq 0.20)
and job id (since 0.26)."""
NEEDED: Final = frozenset(RESULT) - {"q", "id"}
LAST: Final = ("id", "q", "ft")
"""The key a result may end with."""

Fields: TypeAlias = dict[str, Value]


class UnreadableResult(Exception):
    """A value that says nothing about how a job ended, or which one it is."""

    def __init__(self, reason: Unreadable) -> None:
        super().__init__(reason)
        self.reason = reason


def is_cut(head: bytes) -> bool:
    """Whether the result is longer than its head (or just as long): then its tail is wanted."""
    return len(head) >= HEAD_BYTES


def complete(fields: Fields, needed: Collection[str]) -> Fields:
    """The fields of a value that is whole. Raises UnreadableResult where one that is needed is missing."""
    if not fields.keys() >= set(needed):
        raise UnreadableResult(Unreadable.MALFORMED)
    return fields


def in_order(begun: Fields, order: Iterable[str]) -> Fields:
    """The fields that a value begins with, as far as they are arq's in its order. Raises UnreadableResult where those
    that every value begins with are not among them."""
    known: Fields = {}
    for expected, (key, value) in zip(order, begun.items(), strict=False):
        if key != expected:
            break
        known[key] = value
    if "f" not in known:
        raise UnreadableResult(Unreadable.BOUNDS)
    return known


def name_of(value: Value) -> str:
    """A name; a member of a `StrEnum` is pickled as its class called with its value. Raises UnreadableResult."""
    name = value.first if isinstance(value, Object) else value
    if not isinstance(name, str):
        raise UnreadableResult(Unreadable.MALFORMED)
    return name
