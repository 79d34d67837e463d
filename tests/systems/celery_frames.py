"""Celery's events, and messages of them as kombu publishes them."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import msgspec

from exporter.systems.celery.events.frames import Event
from tests.systems.observing import START

WORKER = "celery@one"
_clock = itertools.count(1)


def fields(kind: str, uuid: str = "a", at: float = START, worker: str = WORKER, **more: Any) -> dict[str, Any]:
    """One event as `celery.events.Event` makes it."""
    common = {"hostname": worker, "utcoffset": 0, "pid": 7, "clock": next(_clock), "timestamp": at, "type": kind}
    return {**({"uuid": uuid} if kind.startswith("task-") else {}), **more, **common}


def event(kind: str, uuid: str = "a", at: float = START, worker: str = WORKER, **more: Any) -> Event:
    """The same, read."""
    known = {name: value for name, value in more.items() if name in Event.__struct_fields__}
    return Event(kind, uuid if kind.startswith("task-") else "", worker, at, **known)


def envelope(body: str, **changes: Any) -> bytes:
    """A message of kombu's Redis transport around `body`, which is encoded already."""
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"hostname": WORKER},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": "celeryev", "routing_key": "task.multi"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": "3a2f",
            },
            **changes,
        }
    ).encode()


def frame(events: object, **changes: Any) -> bytes:
    """A message of one event or a list of them."""
    return raw_frame(json.dumps(events).encode(), **changes)


def raw_frame(body: bytes, **changes: Any) -> bytes:
    """A message with any bytes as its body."""
    return envelope(base64.b64encode(body).decode(), **changes)


def packed_frame(events: object, **changes: Any) -> bytes:
    """A message in msgpack."""
    return raw_packed_frame(msgspec.msgpack.encode(events), **changes)


def raw_packed_frame(body: bytes, **changes: Any) -> bytes:
    """A message that says that its body is msgpack."""
    return raw_frame(body, **{"content-type": "application/x-msgpack", "content-encoding": "binary", **changes})


def channel(kind: str, db: int = 0, prefix: str = "") -> str:
    """Where an event of a kind is published; several of tasks at a time are of the kind `task-multi`."""
    return f"{prefix}/{db}.celeryev/{kind.replace('-', '.')}"
