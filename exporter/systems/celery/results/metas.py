"""What a kept result says of how its job ended (celery's `backends/base.py`, `_get_result_meta`).

Read as JSON, or as msgpack where that is accepted; what is neither is never opened. `date_done` is written with its
offset whatever `timezone` and `enable_utc` say (celery 5.4 to 5.7, `app.now()`); older ones wrote UTC without it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Annotated, Any, Final

import msgspec

from exporter.model import Outcome, Unreadable
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.events.fields import due_time
from exporter.systems.celery.events.frames import LARGEST_ODD, LONGEST_NAME

NOT_REGISTERED: Final = "NotRegistered"
_CHORD_ERROR: Final = "ChordError"
_BY_THE_WORKER: Final = frozenset(
    {NOT_REGISTERED, "WorkerLostError", "TimeLimitExceeded", "MaybeEncodingError", "EncodeError", "Terminated"}
)
"""Failures that a worker writes for a job that could not: without a traceback."""
_EXPIRED: Final = "expired"
_KEPT: Final = ("status", "task_id", "date_done", "name", "worker", "queue", "retries")
_PACKED_MAPS: Final = frozenset({*range(0x81, 0x90), 0xDE, 0xDF})
"""The first bytes of a map in msgpack that is not empty (its `spec.md`)."""
_REFUSED: Final = (msgspec.MsgspecError, ValueError)
_Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
_NOTHING: Final = (b"null", b"\xc0")


class Result(msgspec.Struct, frozen=True, gc=False):
    """How a job ended."""

    job_id: str
    at: float  # Unix time, by its worker's clock
    outcome: Outcome
    exception: str | None = None  # of a failure
    name: str | None = None
    queue: str | None = None  # the routing key: often, not always, the queue's name
    worker: str | None = None
    retries: int | None = None
    doubtful: bool = False
    """It may be of a job that never ran: Celery writes results for those behind a failure in a chain or a chord."""


class _Meta(msgspec.Struct, frozen=True, gc=False):
    status: str
    task_id: _Name = ""
    date_done: str | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    traceback: msgspec.Raw = msgspec.Raw(b"null")
    # Those below are written with `result_extended` alone.
    name: _Name | msgspec.UnsetType | None = msgspec.UNSET
    worker: _Name | msgspec.UnsetType | None = msgspec.UNSET
    queue: _Name | None = None
    retries: _Count | None = None


class _Raised(msgspec.Struct, frozen=True, gc=False):
    exc_type: _Name | None = None
    exc_message: Any = None


_JSON: Final = msgspec.json.Decoder(_Meta)
_PACKED: Final = msgspec.msgpack.Decoder(_Meta)
_RAISED: Final = msgspec.json.Decoder(_Raised)
_PACKED_RAISED: Final = msgspec.msgpack.Decoder(_Raised)


def read_result(job_id: str, value: bytes, accepted: Collection[str]) -> Result | Unreadable | None:
    """How the job ended whose result is `value`; None where it did not, or never ran. Never raises."""
    try:
        if value[:1] == b"{" and "json" in accepted:
            return _read(job_id, _read_json(value), _RAISED)
        if value and value[0] in _PACKED_MAPS and "msgpack" in accepted:
            return _read(job_id, _PACKED.decode(value), _PACKED_RAISED)
    except OverflowError:
        return Unreadable.BOUNDS
    except RecursionError:
        return Unreadable.BOUNDS
    except _REFUSED:
        return Unreadable.MALFORMED
    return Unreadable.ENCODING


def _read(job_id: str, meta: _Meta, raised: msgspec.json.Decoder[_Raised] | Any) -> Result | Unreadable | None:
    if meta.status not in ("SUCCESS", "FAILURE", "REVOKED"):
        return None
    at = due_time(meta.date_done)
    if at is None or meta.task_id != job_id:
        return Unreadable.MALFORMED
    error = _Raised() if meta.status == "SUCCESS" else _error(meta.result, raised)
    if _never_ran(meta, error):
        return None
    exception = _class(error.exc_type) if meta.status == "FAILURE" else None
    outcome = _outcome(meta.status, error)
    return Result(
        *(job_id, at, outcome, exception if outcome is Outcome.FAILED else None),
        name=meta.name or None,
        queue=meta.queue,
        worker=meta.worker or None,
        retries=meta.retries,
        doubtful=_doubtful(meta, error),
    )


def _outcome(status: str, error: _Raised) -> Outcome:
    if status == "SUCCESS":
        return Outcome.SUCCEEDED
    if status == "FAILURE":
        return Outcome.NOT_FOUND if error.exc_type == NOT_REGISTERED else Outcome.FAILED
    # `TaskRevokedError(reason)`; the reasons: expired, revoked, terminated.
    message = error.exc_message
    reason = message[0] if isinstance(message, list) and message else message
    return Outcome.EXPIRED if reason == _EXPIRED else Outcome.ABORTED


def _error(result: msgspec.Raw, raised: msgspec.json.Decoder[_Raised] | Any) -> _Raised:
    """What was raised. A result that an application wrote itself may be anything."""
    try:
        found: _Raised = raised.decode(result)
    except _REFUSED:
        return _Raised()
    return found


def _never_ran(meta: _Meta, error: _Raised) -> bool:
    """With `result_extended` the jobs behind a failure in a chain have a name, and no worker."""
    return meta.worker is None and meta.status != "SUCCESS" and error.exc_type != NOT_REGISTERED


def _doubtful(meta: _Meta, error: _Raised) -> bool:
    """The body of a chord that never ran, or the group of a chord's body."""
    if meta.status != "FAILURE" or meta.name is not msgspec.UNSET:
        return False
    untraced = bytes(meta.traceback) in _NOTHING and error.exc_type not in _BY_THE_WORKER
    return untraced or error.exc_type == _CHORD_ERROR


def _class(exc_type: str | None) -> str:
    """The class as events show it: Celery writes the qualified name."""
    name = (exc_type or "").rpartition(".")[2]
    return name if name.isidentifier() else UNKNOWN


def _read_json(value: bytes) -> _Meta:
    try:
        return _JSON.decode(value)
    except _REFUSED:
        return _read_odd(value)


def _read_odd(value: bytes) -> _Meta:
    """What the standard library reads, and msgspec does not: NaN and lone surrogates, in what the job gave back."""
    if len(value) > LARGEST_ODD:
        raise OverflowError
    found = json.loads(value)
    if not isinstance(found, dict):
        raise ValueError("no result")
    kept = {name: found[name] for name in _KEPT if name in found}
    result = found.get("result")
    if isinstance(result, dict):
        message = result.get("exc_message")
        expired = isinstance(message, list) and message[:1] == [_EXPIRED]
        kept["result"] = {"exc_type": result.get("exc_type"), "exc_message": [_EXPIRED] if expired else []}
    kept["traceback"] = bool(found.get("traceback")) or None
    return _JSON.decode(msgspec.json.encode(kept))
