"""A question to all workers, and an answer, as kombu's Redis transport carries them (kombu's `pidbox.py`, `_publish`
and `_publish_reply`)."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection
from typing import Final
from uuid import uuid4

import msgspec

from exporter.safe.documents import shown
from exporter.systems.celery.control.answers import Method
from exporter.systems.celery.events.frames import FORMATS, LONGEST_NAME

LARGEST_ANSWER: Final = 4 << 20
"""Bytes; what is larger is not read."""
EXCHANGE: Final = "celery.pidbox"
REPLY_EXCHANGE: Final = "reply." + EXCHANGE
OWN: Final = "taskqueue-exporter-"
"""What the names of our lists of answers begin with, so that an ACL can tell them from those of others."""


class Reply(msgspec.Struct, frozen=True):
    """The answer of one worker, as JSON."""

    worker: str
    answer: bytes


def question(method: Method, ticket: str, reply_to: str, expires: float, accepted: Collection[str]) -> bytes:
    """A message to all workers. In JSON, unless an application accepts none."""
    body = {
        "method": method.value,
        "arguments": {},
        "destination": None,
        "pattern": None,
        "matcher": None,
        "ticket": ticket,
        "reply_to": {"exchange": REPLY_EXCHANGE, "routing_key": reply_to},
    }
    plain = "json" in accepted
    encoded = msgspec.json.encode(body) if plain else msgspec.msgpack.encode(body)
    message = {
        "body": base64.b64encode(encoded).decode(),
        "content-encoding": "utf-8" if plain else "binary",
        "content-type": FORMATS["json" if plain else "msgpack"].content_type,
        "headers": {"clock": 1, "expires": expires},
        "properties": {
            "delivery_mode": 1,
            "delivery_info": {"exchange": EXCHANGE, "routing_key": ""},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
    }
    return json.dumps(message).encode()


def read_reply(message: bytes, ticket: str, accepted: Collection[str]) -> Reply | None:
    """The answer in a message; None where it answers another question. Raises ValueError where it cannot be read."""
    if len(message) > LARGEST_ANSWER:
        raise ValueError(f"an answer has {len(message)} bytes, more than are read")
    try:
        envelope = _MESSAGE.decode(message)
        if envelope.headers.ticket != ticket:
            return None
        answers = _ANSWERS.decode(_plain(envelope, accepted))
    except (msgspec.MsgspecError, binascii.Error, RecursionError, TypeError):  # what has no likeness in JSON
        raise ValueError("an answer is broken") from None
    if len(answers) != 1:
        raise ValueError("an answer is not that of one worker")
    ((worker, answer),) = answers.items()
    if not 0 < len(worker) <= LONGEST_NAME:
        raise ValueError("an answer names no worker")
    return Reply(worker, bytes(answer))


class _Headers(msgspec.Struct, gc=False):
    ticket: str = ""
    compression: str | None = None


class _Properties(msgspec.Struct, gc=False):
    body_encoding: str | None = None


class _Message(msgspec.Struct, gc=False):
    body: str
    content_type: str | None = msgspec.field(name="content-type", default=None)
    headers: _Headers = msgspec.field(default_factory=_Headers)
    properties: _Properties = msgspec.field(default_factory=_Properties)


_MESSAGE: Final = msgspec.json.Decoder(_Message)
_ANSWERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _plain(message: _Message, accepted: Collection[str]) -> bytes | str:
    """The body, as JSON. Workers answer in the format of their tasks (`task_serializer`)."""
    formats = {FORMATS[name].content_type: name for name in accepted}
    name = formats.get(message.content_type or "")
    if name is None:
        raise ValueError(f"an answer is in {shown(message.content_type)}, which is not read")
    if message.headers.compression:
        raise ValueError("an answer is compressed, and not read")
    body = base64.b64decode(message.body) if message.properties.body_encoding == "base64" else message.body
    if name == "json" or isinstance(body, str):
        return body
    return msgspec.json.encode(msgspec.msgpack.decode(body))
