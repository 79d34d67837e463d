"""JSON and msgpack as users have arq write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from exporter.systems.arq.records.results import Result, Serializer
from tests.systems.arq_stage import ET, FT, QUEUE, ST, Serialize

JSON, MSGPACK = Serializer.JSON, Serializer.MSGPACK


def json_by(default: Callable[[Any], Any] | None = None, **options: Any) -> Serialize:
    return lambda values: json.dumps(values, default=default, **options).encode()


SERIALIZERS: dict[str, Serialize] = {
    "json": json_by(repr),
    "compact json": msgspec.json.Encoder(enc_hook=repr).encode,
    "json in lines": lambda values: b"\n " + json_by(repr, separators=(" ,\t", " :\n"))(values) + b"\n",
    "msgpack": msgspec.msgpack.Encoder(enc_hook=repr).encode,
}
every_serializer = pytest.mark.parametrize("serialize", SERIALIZERS.values(), ids=SERIALIZERS)
BOTH = {JSON: SERIALIZERS["json"], MSGPACK: SERIALIZERS["msgpack"]}
TOLD = {"enqueued": ET / 1000, "started": ST / 1000, "finished": FT / 1000, "queue": QUEUE, "task": "f", "tries": 1}


def knows(result: Result, **expected: Any) -> None:
    told = {name: getattr(result, name) for name in TOLD | expected}
    assert told == TOLD | expected
