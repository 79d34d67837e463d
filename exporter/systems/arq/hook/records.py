"""The records of taskqueue-hooks, read: a hash for each worker, and an entry of a stream for each attempt that ended.

Anyone who may write to the broker may write such records, and a newer hook may write other ones: what is not as
promised is counted as undecodable, and nothing that is too long or beyond reason is taken in. Nothing here raises.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec

from exporter.model import Outcome, Unreadable
from exporter.systems.arq.ends.witnesses import Told
from exporter.systems.keys import key_text

VERSION: Final = b"1"
LONGEST_WORKER: Final = 512
"""Characters of a worker's id, and of a job's."""
LONGEST_TASK: Final = 256
LONGEST_EXCEPTION: Final = 128
LONGEST_QUEUE: Final = 512
LONGEST_VERSION: Final = 64
RUNNING_BYTES: Final = 1 << 20
"""Of a worker's list of running jobs: a thousand take some 200 KiB."""
LARGEST_ODD: Final = 1 << 17
"""The same for what msgspec refuses, and the standard library reads more slowly."""
BEATS: Final = (0.05, 600.0)
"""Seconds between two writes of a worker that are believed."""
EARLIEST_DUE: Final = 86_400.0
"""No due time: arq gives a deferred job that is aborted the score 1 (arq/jobs.py)."""
_LATEST: Final = 1e10  # the year 2286
_MOST: Final = 10**12
_MOST_TRIES: Final = 1_000_000
_LONGEST_NUMBER: Final = 32

WORKER_FIELDS: Final = ("v", "queue", "started", "at", "beat", "slots", "busy", "functions", "arq", "records")
"""Of a worker's hash those that are read."""
ENTRY_FIELDS: Final = (
    *(b"v", b"worker", b"n", b"job", b"task", b"outcome", b"exception"),
    *(b"try", b"due", b"start", b"end", b"written", b"kept"),
)
"""Of an entry of the stream, in the order in which they are written."""
_OUTCOMES: Final[dict[bytes, Outcome | None]] = {
    b"succeeded": Outcome.SUCCEEDED,
    b"failed": Outcome.FAILED,
    b"aborted": Outcome.ABORTED,
    b"retried": None,
}
_KEPT: Final = {b"1": True, b"0": False}
_REFUSED: Final = (msgspec.MsgspecError, ValueError, RecursionError)

Raw: TypeAlias = bytes | None


class WorkerRecord(msgspec.Struct, frozen=True, gc=False):
    """A worker as it was `at`. Times are Unix seconds by its clock, `beat` is in seconds."""

    queue: str
    started: float
    at: float
    beat: float
    slots: int
    busy: int
    functions: int
    version: str
    """Of arq."""
    records: int
    """How many it has made of ends."""


class Progress(msgspec.Struct, frozen=True, gc=False):
    """How many running jobs report progress, and when the one that is silent for longest last did."""

    jobs: int = 0
    oldest: float | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An entry of a stream: the `n`-th that its worker made, and what it tells if that can be read."""

    worker: str
    n: int
    told: Told | Unreadable


class _Running(msgspec.Struct, gc=False):
    """One of a worker's running jobs, with the one field of it that is used."""

    reported: float | None = None


class _UnreadableRecord(Exception):
    def __init__(self, reason: Unreadable) -> None:
        super().__init__(reason)
        self.reason = reason


_RUNNING: Final = msgspec.json.Decoder(list[_Running])


def read_worker(values: Sequence[Raw]) -> WorkerRecord | Unreadable | None:
    """The worker whose WORKER_FIELDS have these values; None where there are none."""
    if all(value is None for value in values):
        return None
    try:
        version, queue, started, at, beat, slots, busy, functions, arq, records = values
        _check_version(version)
        return WorkerRecord(
            _text(queue, LONGEST_QUEUE),
            _time(started),
            _time(at),
            min(max(_number(beat), BEATS[0]), BEATS[1]),
            _whole(slots, 0, _MOST),
            _whole(busy, 0, _MOST),
            _whole(functions, 0, _MOST),
            _text(arq, LONGEST_VERSION),
            _whole(records, 0, _MOST),
        )
    except _UnreadableRecord as error:
        return error.reason


def read_progress(running: Raw) -> Progress | None:
    """What a worker's list of running jobs tells; None where it cannot be read."""
    if running is None or len(running) > RUNNING_BYTES:
        return None
    try:
        jobs = _RUNNING.decode(running)
    except _REFUSED:
        odd = _read_odd(running)
        if odd is None:
            return None
        jobs = odd
    times = [job.reported for job in jobs if job.reported is not None and 0 <= job.reported <= _LATEST]
    return Progress(len(times), min(times, default=None))


def read_entry(queue: str, fields: Sequence[bytes]) -> Entry | Unreadable:
    """An entry of the stream of a queue: names and values in turn."""
    try:
        values = _values(fields)
        _check_version(values[0])
        worker, n = _text(values[1], LONGEST_WORKER), _whole(values[2], 1, _MOST)
    except _UnreadableRecord as error:
        return error.reason
    try:
        return Entry(worker, n, _told(queue, values))
    except _UnreadableRecord as error:
        return Entry(worker, n, error.reason)


def _told(queue: str, values: Sequence[bytes]) -> Told:
    _, _, _, job, task, outcome, exception, attempt, due, start, end, written, kept = values
    if outcome not in _OUTCOMES or kept not in _KEPT:
        raise _UnreadableRecord(Unreadable.MALFORMED)
    return Told(
        queue=queue,
        task=_text(task, LONGEST_TASK),
        job_id=_text(job, LONGEST_WORKER),
        outcome=_OUTCOMES[outcome],
        exception=_text(exception, LONGEST_EXCEPTION) or None,
        attempt=_whole(attempt, 1, _MOST_TRIES),
        due=_due(due),
        start=_time(start),
        end=_time(end),  # before its start where the clock was set back: only as it is it fits its result
        written=_time(written),
        kept=_KEPT[kept],
    )


def _values(fields: Sequence[bytes]) -> Sequence[bytes]:
    """Those of ENTRY_FIELDS. A newer hook may add others."""
    if tuple(fields[::2]) == ENTRY_FIELDS:
        values = fields[1::2]
        if len(values) == len(ENTRY_FIELDS):
            return values
    by_name = dict(zip(fields[::2], fields[1::2], strict=False))
    if not by_name.keys() >= set(ENTRY_FIELDS):
        # Of another version it need not have the same fields.
        _check_version(by_name.get(b"v"))
        raise _UnreadableRecord(Unreadable.MALFORMED)
    return [by_name[name] for name in ENTRY_FIELDS]


def _check_version(version: Raw) -> None:
    if version != VERSION:
        newer = version is not None and version.isdigit() and version.lstrip(b"0") not in (b"", VERSION)
        raise _UnreadableRecord(Unreadable.ENCODING if newer else Unreadable.MALFORMED)


def _text(raw: Raw, limit: int) -> str:
    if raw is None:
        raise _UnreadableRecord(Unreadable.MALFORMED)
    text = key_text(raw) if len(raw) <= 4 * limit else None
    if text is None or len(text) > limit:
        raise _UnreadableRecord(Unreadable.BOUNDS)
    return text


def _whole(raw: Raw, least: int, most: int) -> int:
    if raw is None or not raw.isdigit() or len(raw) > _LONGEST_NUMBER:
        raise _UnreadableRecord(Unreadable.MALFORMED)
    number = int(raw)
    if not least <= number <= most:
        raise _UnreadableRecord(Unreadable.MALFORMED)
    return number


def _number(raw: Raw) -> float:
    try:
        number = float(raw) if raw is not None and len(raw) <= _LONGEST_NUMBER else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number <= _LATEST:  # NaN neither
        raise _UnreadableRecord(Unreadable.MALFORMED)
    return number


_time = _number


def _due(raw: bytes) -> float | None:
    """None too where it is no time: that the job ended is true all the same."""
    try:
        due = _time(raw)
    except _UnreadableRecord:
        return None
    return due if due >= EARLIEST_DUE else None


def _read_odd(text: bytes) -> list[_Running] | None:
    """By the standard library, which reads lone surrogates and NaN. Each alone: a bad one spoils no other."""
    try:
        document: Any = json.loads(text) if len(text) <= LARGEST_ODD else None
    except (ValueError, RecursionError):
        return None
    return [_converted(item) for item in document] if isinstance(document, list) else None


def _converted(item: Any) -> _Running:
    try:
        return msgspec.convert(item, _Running)
    except _REFUSED:
        return _Running()
