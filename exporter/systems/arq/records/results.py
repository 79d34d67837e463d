"""What an ended ARQ job left in `arq:result:<id>` (arq/worker.py `run_job`, arq/jobs.py `serialize_result`).

It is the same dict for every ending. Of a value that is too long its head and its tail are read.
"""

from __future__ import annotations

from typing import Final

import msgspec

from exporter.model import Outcome, Unreadable
from exporter.systems.arq.records.endings import End, end_of
from exporter.systems.arq.records.fields import HEAD_BYTES, TAIL_BYTES, Fields, UnreadableResult, is_cut, name_of
from exporter.systems.arq.records.serializers import ENCODINGS, Serializer, encoding_of

__all__ = ["HEAD_BYTES", "TAIL_BYTES", "Result", "Serializer", "UnreadableResult", "is_cut", "read_result"]

NO_TASK: Final = "<unknown>"
"""What arq writes where it could not read the job, which it could not run then."""
SURELY_RAN: Final = 1.0
"""Seconds. arq writes the same for a job aborted before its start and for one aborted while it ran. The first takes a
round trip to Redis: from here on it was not that. So for what else may be an early end."""

_MOST_TRIES: Final = 1_000_000
_LATEST_MS: Final = 253_402_300_800_000  # the year 10000


class Result(msgspec.Struct, frozen=True, gc=False):
    """How a job ended. Times are Unix seconds."""

    queue: str | None
    """None where it isn't told: before arq 0.20, or beyond what was read."""
    task: str | None
    """None where arq itself could not tell."""
    outcome: Outcome
    exception: str | None
    """Of a failure the name of the class, without its module; UNKNOWN where it isn't told."""
    tries: int
    """How often it was started; the last start may have come to nothing."""
    retried: int
    """Attempts that ended in a retry. A `_job_try` given by the producer counts as if they had been."""
    enqueued: float | None
    started: float | None
    """When the last attempt began; None where none ran, or nobody can tell whether it did."""
    finished: float | None
    """None where it stands beyond what was read."""


def read_result(head: bytes, tail: bytes = b"", serializer: Serializer = Serializer.AUTO) -> Result:
    """What the value tells of which `head` and, where that is cut, `tail` are given. Raises UnreadableResult."""
    encoding = encoding_of(head, serializer)
    return _result(encoding.result(head, tail), keeps_classes=encoding is ENCODINGS[Serializer.PICKLE])


def _result(fields: Fields, *, keeps_classes: bool) -> Result:
    tries = fields["t"]
    if type(tries) is not int or not 1 <= tries <= _MOST_TRIES:
        raise UnreadableResult(Unreadable.MALFORMED)
    name = name_of(fields["f"])
    task = None if name == NO_TASK else name
    end = end_of(fields, task, tries, keeps_classes=keeps_classes)
    enqueued, started, finished = _time(fields, "et"), _time(fields, "st"), _time(fields, "ft")
    if not _ran(end, started, finished):
        started = None
    queue = name_of(fields["q"]) if "q" in fields else None
    return Result(queue, task, end.outcome, end.exception, tries, tries - 1, enqueued, started, finished)


def _time(fields: Fields, field: str) -> float | None:
    """Seconds; None where it is 0, which is arq's word for not known."""
    value = fields.get(field, 0)
    # Not isinstance: a bool is an int.
    if type(value) not in (int, float) or not 0 <= value < _LATEST_MS:  # type: ignore[operator]
        raise UnreadableResult(Unreadable.MALFORMED)
    return value / 1000 if value else None  # type: ignore[operator]


def _ran(end: End, started: float | None, finished: float | None) -> bool:
    """Whether an attempt is known to have run from `started` on."""
    if end.ran is False or started is None or finished is None:
        return bool(end.ran)
    # Below 0 where the clock was set back meanwhile: when it started is not known then.
    return finished - started >= (0.0 if end.ran else SURELY_RAN)
