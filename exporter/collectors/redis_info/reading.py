"""INFO as text, and numbers in it. redis-py's own reading takes five times as long, and takes `1_0` for a number."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.core import Metric

from exporter.brokers.errors import Reply
from exporter.catalogue import Family
from exporter.collectors.redis_info.tables import NEVER, Row

MOST_LINES: Final = 10_000
"""Of one reply. Redis writes some hundreds; millions would hold up the loop for seconds."""
Fields = dict[str, str]
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?")


class Unreadable(ValueError):
    """A reply that is of another kind than the command gives. One line."""


def fields(reply: Reply) -> Fields:
    """The lines of an answer of INFO by field; the headlines of sections (`# Keyspace`) are fields without value."""
    if not isinstance(reply, bytes):
        raise Unreadable(f"found {type(reply).__name__}, wanted text")
    if (count := reply.count(b"\n")) > MOST_LINES:
        raise Unreadable(f"found {count} lines, wanted at most {MOST_LINES}")
    found = {}
    for line in reply.decode("utf-8", "surrogateescape").split("\r\n"):
        field, _, value = line.partition(":")
        found[field] = value
    return found


def parts(value: str) -> Fields:
    """`keys=1,expires=0` by part."""
    return dict(pair.split("=", 1) for pair in value.split(",") if "=" in pair)


def number(text: str) -> float | None:
    """The number that a text is, None where it is none (or infinite)."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None


class Reader:
    """Makes families of fields. `base` are the labels broker and server of all."""

    def __init__(self, base: tuple[str, str]) -> None:
        self.base = base
        self.problems: list[str] = []
        """What was no number, and what was cut: one line each."""

    def value(self, found: Mapping[str, str], row: Row, where: str = "INFO") -> float | None:
        """The value of a row's field in base units: None where the server has none, or where it is no number."""
        field, _, divisor = row
        text = found.get(field)
        if text is None or NEVER.get(field) == text:
            return None
        if (value := number(text)) is None:
            self.problems.append(f"{where} {field} is no number")
            return None
        return value / divisor

    def table(self, found: Mapping[str, str], rows: Iterable[Row], labels: tuple[str, ...] = ()) -> Iterator[Metric]:
        """The families of a table."""
        labels = (*self.base, *labels)
        for row in rows:
            if (value := self.value(found, row)) is not None:
                yield row[1].metric([(labels, value)])

    def lines(self, lines: Mapping[str, tuple[tuple[str, ...], str]], rows: Iterable[Row]) -> Iterator[Metric]:
        """The families of a table whose fields are parts of `lines`: by field their labels, and their text."""
        split = [(where, (*self.base, *labels), parts(text)) for where, (labels, text) in lines.items()]
        for row in rows:
            values = ((labels, self.value(found, row, f"INFO {where},")) for where, labels, found in split)
            yield row[1].metric((labels, value) for labels, value in values if value is not None)

    def one(self, family: Family, value: float, *labels: str) -> Metric:
        """A family with one sample."""
        return family.metric([((*self.base, *labels), value)])
