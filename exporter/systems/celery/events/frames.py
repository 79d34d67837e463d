"""Celery's events as kombu's Redis transport publishes them: a JSON envelope around a body of one event or several.

What is no plain JSON (msgpack, a pickle, a compressed body) is counted and never opened. Sources: kombu's
`transport/virtual/base.py` (`prepare_message`, `Message.serializable`), celery's `events/dispatcher.py`.
"""

from __future__ import annotations

import binascii
import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec

from exporter.model import Unreadable

LONGEST_NAME: Final = 512
"""Characters of a name or an id: they are remembered, so longer ones are not read."""
MOST_EVENTS: Final = 10_000
"""Read of one message. Workers send 24 at a time."""
LARGEST_MESSAGE: Final = 4 << 20
"""Bytes of a message: as much as msgspec reads in a few hundredths of a second."""
LARGEST_ODD: Final = 1 << 19
"""The same for what msgspec refuses: the standard library makes 170,000 lists out of as much."""
_NAMES: Final = ("uuid", "hostname", "name", "queue", "sw_ver")
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
    retries: _Count | None = None
    eta: str | None = None
    runtime: float | None = None
    exception: str | None = None
    traceback: str | None = None
    expired: bool | None = None
    requeue: bool | None = None
    freq: float | None = None
    active: _Count | None = None
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
_READABLE: Final[Mapping[Unreadable, int]] = {}
# Refused by msgspec: also what the standard library reads, lone surrogates and NaN. 24 events for one, else.
_REFUSED: Final = (msgspec.MsgspecError, ValueError)


class _Unreadable(Exception):
    def __init__(self, reason: Unreadable, events: bytes | str = b"") -> None:
        self.reason = reason
        self.events = events


def read_frame(payload: bytes) -> Frame:
    """The events in a message. Never raises."""
    body: bytes | str = b""
    try:
        if len(payload) > LARGEST_MESSAGE:
            raise _Unreadable(Unreadable.BOUNDS)
        body = _body(payload)
        try:
            read = _EVENTS.decode(body)
        except _REFUSED:
            return _read_each(_read_odd(body))
    except _Unreadable as error:
        return Frame([], {error.reason: _count(error.events)})
    except RecursionError:
        return Frame([], {Unreadable.BOUNDS: _count(body)})
    except ValueError:
        return Frame([], {Unreadable.MALFORMED: _count(body)})
    events = read if type(read) is list else [read]
    if len(events) > MOST_EVENTS:
        return Frame(events[:MOST_EVENTS], {Unreadable.BOUNDS: len(events) - MOST_EVENTS})
    return Frame(events, _READABLE)


def count_events(payload: bytes) -> int:
    """How many events a message holds, without reading them: for those that have to be dropped. Never raises."""
    try:
        return _count(_body(payload))
    except (_Unreadable, ValueError, RecursionError):
        return 1


def _count(body: bytes | str) -> int:
    """By what every event has once. Texts within an event have their quotes escaped."""
    return max(1, body.count(b'"type":') if isinstance(body, bytes) else body.count('"type":'))


def _body(payload: bytes) -> bytes | str:
    """The JSON of the events. Raises _Unreadable, ValueError, RecursionError."""
    try:
        envelope = _ENVELOPE.decode(payload)
    except _REFUSED:
        envelope = _convert(_read_odd(payload), _Envelope)
    compressed = envelope.headers is not None and envelope.headers.compression
    if envelope.content_type != "application/json" or compressed:
        raise _Unreadable(Unreadable.ENCODING)
    encoding = envelope.properties.body_encoding if envelope.properties is not None else None
    if encoding == "base64":
        return binascii.a2b_base64(envelope.body)
    if encoding and encoding.lower() != "utf-8":  # kombu's transport option of that name
        raise _Unreadable(Unreadable.ENCODING)
    return envelope.body


def _read_odd(text: bytes | str) -> Any:
    """By the standard library. Raises _Unreadable, ValueError, RecursionError."""
    if len(text) > LARGEST_ODD:
        raise _Unreadable(Unreadable.BOUNDS, text)
    return json.loads(text)


def _read_each(document: Any) -> Frame:
    """Each event alone, so that a bad one spoils no other."""
    events: list[Event] = []
    items = document if isinstance(document, list) else [document]
    beyond = len(items) - MOST_EVENTS
    unreadable = Counter({Unreadable.BOUNDS: beyond} if beyond > 0 else {})
    for item in items[:MOST_EVENTS]:
        try:
            events.append(_convert(item, Event))
        except _Unreadable as error:
            unreadable[error.reason] += 1
    return Frame(events, unreadable)


def _convert(item: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(item, kind)
    except _REFUSED:
        raise _Unreadable(Unreadable.BOUNDS if _too_long(item) else Unreadable.MALFORMED) from None


def _too_long(item: Any) -> bool:
    names = [item.get(name) for name in _NAMES] if isinstance(item, dict) else []
    return any(isinstance(name, str) and len(name) > LONGEST_NAME for name in names)
