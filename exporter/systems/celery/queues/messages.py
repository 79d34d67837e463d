"""Messages of tasks as they stand in a queue's list and in `unacked`: of each its headers, never the body.

Sources: celery's `app/amqp.py` (`as_task_v2`), kombu's `transport/redis.py` (`QoS.append`, `_do_restore_message`). What
has no id in its headers (Celery's protocol 1, other programs' messages) is not read.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import msgspec

from exporter.systems.celery.events.fields import due_time

LARGEST_ODD: Final = 1 << 19
"""Bytes of a message that msgspec refuses (a lone surrogate, NaN) and the standard library reads all the same."""
_REFUSED: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_Name = Annotated[str, msgspec.Meta(max_length=512)]


class Message(msgspec.Struct, frozen=True, gc=False):
    """What a message says of its job."""

    job: str
    due: float | None  # Unix time of its ETA
    retries: int
    redelivered: bool  # a worker had it before


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """A message in a worker's hands, and how it was sent: kombu finds its queue by that."""

    message: Message | None
    """None for what is no task of Celery's."""
    exchange: str
    routing_key: str


class _Headers(msgspec.Struct, gc=False):
    id: _Name
    eta: _Name | None = None
    retries: int | None = None
    redelivered: bool | None = None


class _Envelope(msgspec.Struct, gc=False):
    headers: _Headers


_Record = tuple[_Envelope, _Name | None, _Name | None]
_Route = tuple[dict[str, Any], _Name | None, _Name | None]
_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_RECORD: Final = msgspec.json.Decoder(_Record)


def read_message(text: bytes) -> Message | None:
    """A message of a list; None for what is no task of Celery's. Never raises."""
    envelope = _read(_ENVELOPE, _Envelope, text)
    return None if envelope is None else _message(envelope)


def read_delivered(text: bytes) -> Delivered | None:
    """A message of `unacked`: in JSON, it, the exchange and the routing key; None for what is none. Never raises."""
    record = _read(_RECORD, _Record, text)
    if record is None:
        record = _read_odd(_Route, text)
        return None if record is None else Delivered(None, record[1] or "", record[2] or "")
    return Delivered(_message(record[0]), record[1] or "", record[2] or "")


def _message(envelope: _Envelope) -> Message | None:
    headers = envelope.headers
    due = due_time(headers.eta)
    if not headers.id or (headers.eta and due is None):
        return None
    return Message(headers.id, due, headers.retries or 0, bool(headers.redelivered))


def _read(decoder: msgspec.json.Decoder[Any], kind: Any, text: bytes) -> Any:
    try:
        return decoder.decode(text)
    except _REFUSED:
        return _read_odd(kind, text)


def _read_odd(kind: Any, text: bytes) -> Any:
    if len(text) > LARGEST_ODD:
        return None
    try:
        return msgspec.convert(json.loads(text), kind)
    except _REFUSED:
        return None
