"""Celery's events as kombu's Redis transport publishes them: a JSON envelope around a body of one event or several.

The body is JSON, or msgpack where that is accepted. What is neither (a pickle, a compressed body) is counted and never
opened. Sources: kombu's `transport/virtual/base.py` (`prepare_message`, `Message.serializable`) and `serialization.py`
(`register_msgpack`), celery's `events/dispatcher.py`.
"""

from __future__ import annotations

import binascii
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec

from exporter.model import Unreadable
from exporter.systems.keys import is_key

LONGEST_NAME: Final = 512
"""Characters of a name or an id: they are remembered, so longer ones are not read."""
MOST_EVENTS: Final = 10_000
"""Read of one message. Workers send 24 at a time."""
LARGEST_MESSAGE: Final = 4 << 20
"""Bytes of a message: as much as msgspec reads in a few hundredths of a second."""
LARGEST_ODD: Final = 1 << 19
"""The same for what msgspec refuses: the standard library makes 170,000 lists out of as much."""
LARGEST_ODD_PACKED: Final = LARGEST_ODD // 3
"""The same for an event in msgpack, where a list takes one byte instead of three."""
JSON: Final = frozenset({"json"})
"""What is accepted unless more is: names of `FORMATS`."""
_NAMES: Final = ("uuid", "hostname", "name", "queue", "exchange", "routing_key", "sw_ver")
T = TypeVar("T")
_Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
_Pid = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of any type, with the fields that we use (celery's `docs/userguide/monitoring.rst`)."""

    type: str
    uuid: _Name = ""
    hostname: _Name = ""
    timestamp: float = 0.0  # of the sender's clock, Unix time whatever its `utcoffset` says
    name: _Name | None = None
    queue: _Name | None = None
    exchange: _Name | None = None
    routing_key: _Name | None = None
    retries: _Count | None = None
    eta: str | None = None
    runtime: float | None = None
    exception: str | None = None
    traceback: str | None = None
    expired: bool | None = None
    requeue: bool | None = None
    freq: float | None = None
    active: _Count | None = None
    processed: _Count | None = None
    pid: _Pid | None = None
    sw_ver: _Name | None = None


class Frame(msgspec.Struct, frozen=True, gc=False):
    """What one message held: the events that could be read, and how many could not, by reason."""

    events: list[Event]
    unreadable: Mapping[Unreadable, int]


class _Headers(msgspec.Struct, gc=False):
    compression: str | None = None


class _Properties(msgspec.Struct, gc=False):
    body_encoding: str | None = None


class _Envelope(msgspec.Struct, gc=False):
    body: str
    content_type: str | None = msgspec.field(name="content-type", default=None)
    headers: _Headers | None = None
    properties: _Properties | None = None


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_EVENTS: Final = msgspec.json.Decoder(list[Event] | Event)
_PACKED: Final = msgspec.msgpack.Decoder(list[Event] | Event)
_PACKED_EVENT: Final = msgspec.msgpack.Decoder(Event)
_PACKED_EACH: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_READABLE: Final[Mapping[Unreadable, int]] = {}
# Refused by msgspec: also what the standard library reads, lone surrogates and NaN. 24 events for one, else.
_REFUSED: Final = (msgspec.MsgspecError, ValueError)


class _Unreadable(Exception):
    def __init__(self, reason: Unreadable) -> None:
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Format:
    """A format of bodies: how its events are read, and how they are counted where they are not."""

    content_type: str
    read: Callable[[Any], Frame]
    count: Callable[[Any], int]


# -- messages ---------------------------------------------------------------------------------------------------


def read_frame(payload: bytes, accepted: Collection[str] = JSON) -> Frame:
    """The events in a message, if its body is of an accepted format. Never raises."""
    form, body = _UNKNOWN, None
    try:
        if len(payload) > LARGEST_MESSAGE:
            raise _Unreadable(Unreadable.BOUNDS)
        form, body = _body(payload, accepted)
        return form.read(body)
    except _Unreadable as error:
        return Frame([], {error.reason: form.count(body)})
    except RecursionError:
        return Frame([], {Unreadable.BOUNDS: form.count(body)})
    except ValueError:
        return Frame([], {Unreadable.MALFORMED: form.count(body)})


def count_events(payload: bytes, accepted: Collection[str] = JSON) -> int:
    """How many events a message holds, without reading them: for those that have to be dropped. Never raises."""
    try:
        form, body = _body(payload, accepted)
    except (_Unreadable, ValueError, RecursionError):
        return 1
    return form.count(body)


def _body(payload: bytes, accepted: Collection[str]) -> tuple[_Format, bytes | str]:
    """The body, and what it is. Raises _Unreadable, ValueError, RecursionError."""
    try:
        envelope = _ENVELOPE.decode(payload)
    except _REFUSED:
        envelope = _convert(_read_odd(payload), _Envelope)
    form = _format(envelope, accepted)
    encoding = envelope.properties.body_encoding if envelope.properties is not None else None
    if encoding == "base64":
        return form, binascii.a2b_base64(envelope.body)
    if encoding and encoding.lower() != "utf-8":  # kombu's transport option of that name
        raise _Unreadable(Unreadable.ENCODING)
    return form, envelope.body


def _format(envelope: _Envelope, accepted: Collection[str]) -> _Format:
    compressed = envelope.headers is not None and envelope.headers.compression
    for name in () if compressed else accepted:
        if FORMATS[name].content_type == envelope.content_type:
            return FORMATS[name]
    raise _Unreadable(Unreadable.ENCODING)


def _gather(items: Sequence[Any], read: Callable[[Any], Event]) -> Frame:
    """Each event alone, so that a bad one spoils no other."""
    events: list[Event] = []
    beyond = len(items) - MOST_EVENTS
    unreadable = Counter({Unreadable.BOUNDS: beyond} if beyond > 0 else {})
    for item in items[:MOST_EVENTS]:
        try:
            events.append(read(item))
        except _Unreadable as error:
            unreadable[error.reason] += 1
    return Frame(events, unreadable)


def _bounded(read: list[Event] | Event) -> Frame:
    events = read if isinstance(read, list) else [read]
    if len(events) > MOST_EVENTS:
        return Frame(events[:MOST_EVENTS], {Unreadable.BOUNDS: len(events) - MOST_EVENTS})
    return Frame(events, _READABLE)


def _why(item: Any) -> Unreadable:
    """What is wrong with something that is no event, or no envelope of any."""
    names = [item.get(name) for name in _NAMES] if isinstance(item, dict) else []
    too_long = any(isinstance(name, str) and len(name) > LONGEST_NAME for name in names)
    return Unreadable.BOUNDS if too_long else Unreadable.MALFORMED


# -- JSON -------------------------------------------------------------------------------------------------------


def _read_json(body: bytes | str) -> Frame:
    """Raises _Unreadable, ValueError, RecursionError."""
    try:
        read = _EVENTS.decode(body)
    except _REFUSED:
        document = _read_odd(body)
        items = document if isinstance(document, list) else [document]
        return _gather(items, _convert_event)
    return _bounded(read)


def _count_json(body: bytes | str) -> int:
    """By what every event has once. Texts within an event have their quotes escaped."""
    return max(1, body.count(b'"type":') if isinstance(body, bytes) else body.count('"type":'))


def _read_odd(text: bytes | str) -> Any:
    """By the standard library. Raises _Unreadable, ValueError, RecursionError."""
    if len(text) > LARGEST_ODD:
        raise _Unreadable(Unreadable.BOUNDS)
    return json.loads(text)


def _convert_event(item: Any) -> Event:
    """One whose names are text: they may become keys, and labels."""
    event = _convert(item, Event)
    if not all(is_key(getattr(event, name) or "") for name in _NAMES):
        raise _Unreadable(Unreadable.MALFORMED)
    return event


def _convert(item: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(item, kind)
    except _REFUSED:
        raise _Unreadable(_why(item)) from None


# -- msgpack ----------------------------------------------------------------------------------------------------


def _read_packed(body: bytes | str) -> Frame:
    """Raises _Unreadable, ValueError, RecursionError."""
    if isinstance(body, str):
        raise ValueError("text is no msgpack")
    if _count_packed(body) > MOST_EVENTS:  # it says so before any is read
        raise _Unreadable(Unreadable.BOUNDS)
    try:
        read = _PACKED.decode(body)
    except _REFUSED:
        items = _PACKED_EACH.decode(body) if _length_packed(body) is not None else [body]
        return _gather(items, _convert_packed)
    return _bounded(read)


def _convert_packed(item: bytes | msgspec.Raw) -> Event:
    try:
        return _PACKED_EVENT.decode(item)
    except _REFUSED:
        raise _Unreadable(_why_packed(item)) from None


def _why_packed(item: bytes | msgspec.Raw) -> Unreadable:
    if len(memoryview(item)) > LARGEST_ODD_PACKED:
        return Unreadable.BOUNDS
    try:
        return _why(msgspec.msgpack.decode(item))
    except _REFUSED:
        return Unreadable.MALFORMED


def _count_packed(body: bytes | str) -> int:
    """As the list itself says, but for one that cannot be so long."""
    length = None if isinstance(body, str) else _length_packed(body)
    return max(1, min(length or 1, len(body)))


def _length_packed(body: bytes) -> int | None:
    """Of a list, by its first bytes (msgpack's `spec.md`, "array format family"); None of anything else."""
    first = body[0] if body else 0
    if first & 0xF0 == 0x90:
        return first & 0x0F
    size = {0xDC: 2, 0xDD: 4}.get(first)
    return int.from_bytes(body[1 : 1 + size], "big") if size is not None else None


FORMATS: Final[Mapping[str, _Format]] = {
    "json": _Format("application/json", _read_json, _count_json),
    "msgpack": _Format("application/x-msgpack", _read_packed, _count_packed),
}
"""What bodies can be read of, by kombu's names for serializers."""
_UNKNOWN: Final = _Format("", lambda _: Frame([], _READABLE), lambda _: 1)
