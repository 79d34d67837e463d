"""Results on their way in: read over the feed's connection in bounded pipelines, decoded one by one in the turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Final, Generic, TypeVar

import msgspec

from exporter.brokers.errors import Command
from exporter.brokers.push import PushConnection
from exporter.brokers.turn import Turn
from exporter.model import Unreadable
from exporter.systems.arq.layout import RESULT
from exporter.systems.arq.records.results import HEAD_BYTES, TAIL_BYTES, Result, UnreadableResult, is_cut, read_result
from exporter.systems.arq.records.serializers import Serializer
from exporter.systems.keys import read_string

T = TypeVar("T")

PAGE: Final = 128
"""Results read in one go, 8 MiB at most."""
LONGEST_KEY: Final = len(RESULT) + 1024
"""Bytes. The values of longer keys are not read."""


class Value(msgspec.Struct, gc=False):
    """What stands at a key: the whole of a small result, both ends of a large one."""

    key: bytes
    head: bytes | None  # None: not a string, or a key that is not read
    tail: bytes = b""


async def read_values(data: PushConnection, keys: Collection[bytes]) -> list[Value]:
    """What stands at the keys, at most a PAGE of them. Those that hold nothing (any more) are left out.

    Raises BrokerError when the connection is lost or reading is refused.
    """
    heads = await data.many([("GETRANGE", key, 0, HEAD_BYTES - 1) for key in keys])
    values = [Value(key, read_string(head)) for key, head in zip(keys, heads, strict=True) if head != b""]
    cut = [value for value in values if value.head is not None and is_cut(value.head)]
    ends: list[Command] = [("GETRANGE", value.key, -TAIL_BYTES, -1) for value in cut]
    for value, tail in zip(cut, await data.many(ends), strict=True):
        value.tail = read_string(tail) or b""
    return values


async def decode(turn: Turn, values: Collection[T], take: Callable[[T], None]) -> None:
    """Gives each value to `take` in a step of the turn, and returns when all are taken. Cancelled, it takes no more."""
    if values:
        page = _Decoding(values, take)
        turn.wake(page)
        try:
            await page.done
        finally:
            turn.leave(page)


def decoded(value: Value, serializer: Serializer) -> Result | Unreadable:
    """The result in a value, or why there is none."""
    if len(value.key) > LONGEST_KEY:
        return Unreadable.BOUNDS
    if value.head is None:
        return Unreadable.MALFORMED
    try:
        return read_result(value.head, value.tail, serializer)
    except UnreadableResult as error:
        return error.reason
    except Exception:  # whatever a hostile value made of the reader: good ones are decoded in the same turn
        return Unreadable.MALFORMED


class _Decoding(Generic[T]):
    """A page of values as a member of the turn."""

    __slots__ = ("_take", "_values", "done")

    def __init__(self, values: Collection[T], take: Callable[[T], None]) -> None:
        self._values = deque(values)
        self._take = take
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def step(self) -> bool:
        try:
            self._take(self._values.popleft())
        except Exception as error:  # a fault of ours: it ends the feed, and no other's turn
            self._end(error)
            return False
        if not self._values:
            self._end(None)
        return bool(self._values)

    def _end(self, error: Exception | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
