"""What an ended ARQ job left in `arq:result:<id>` (arq/worker.py `run_job`, arq/jobs.py `serialize_result`).

A dict is pickled there, with the keys of FIELDS in that order. It is the same dict for every ending: which one it was,
`s` and the exception in `r` tell. Of a value that is too long its head and its tail are read.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from exporter.model import Outcome, Unreadable
from exporter.safe.pickles import OPAQUE, End, Global, MalformedPickle, Object, Value, read_items, read_pickle
from exporter.safe.text import UNKNOWN

HEAD_BYTES: Final = 65_536
"""Of a value, to be read first."""
TAIL_BYTES: Final = 512
"""Of a value that is longer: times and queue stand at its end."""

FIELDS: Final = ("t", "f", "a", "k", "et", "s", "r", "st", "ft", "q", "id")
"""try, function, args, kwargs, enqueue time, success, result, start time, finish time, queue (since arq 0.20), job id
(since 0.26); times in milliseconds."""
_NEEDED: Final = frozenset(FIELDS) - {"q", "id"}
_LAST: Final = frozenset({"ft", "q", "id"})
"""The key a value may end with."""

NO_TASK: Final = "<unknown>"
"""What arq writes where it could not read the job, which it could not run then."""
MAX_TRIES: Final = "MaxTriesExceeded"
"""The exception of a job that ran out of tries: arq's own says nothing about it."""
SURELY_RAN: Final = 1.0
"""Seconds. arq writes the same for a job aborted before its start and for one aborted while it ran. The first takes a
round trip to Redis: from here on it was not that."""

_MOST_TRIES: Final = 1_000_000
_LATEST_MS: Final = 253_402_300_800_000  # the year 10000
_Fields = dict[str, Value]


class UnreadableResult(Exception):
    """A value that says nothing about how a job ended."""

    def __init__(self, reason: Unreadable) -> None:
        super().__init__(reason)
        self.reason = reason


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


def is_cut(head: bytes) -> bool:
    """Whether the value is longer than its head (or just as long): then its tail is wanted."""
    return len(head) >= HEAD_BYTES


def read_result(head: bytes, tail: bytes = b"") -> Result:
    """What the value tells of which `head` and, where that is cut, `tail` are given. Raises UnreadableResult."""
    return _result(_fields(head, tail))


# -- from bytes to fields ---------------------------------------------------------------------------------------


def _fields(head: bytes, tail: bytes) -> _Fields:
    """The fields that are known. `t` and `f` are always among them, all needed ones where the value was whole."""
    if head and not b"\x80\x02" <= head[:2] <= b"\x80\x05":
        raise UnreadableResult(Unreadable.ENCODING)  # a serializer of the user's own
    try:
        reading = read_pickle(head)
    except MalformedPickle:
        raise UnreadableResult(Unreadable.MALFORMED) from None
    if not isinstance(reading.value, dict) or (reading.end is End.CUT and not is_cut(head)):
        raise UnreadableResult(Unreadable.BOUNDS if reading.end is End.BOUNDS else Unreadable.MALFORMED)
    if reading.end is End.WHOLE:
        return _complete(reading.value)
    return _gathered(reading.value, tail if is_cut(head) else head[-TAIL_BYTES:])


def _complete(fields: _Fields) -> _Fields:
    if not fields.keys() >= _NEEDED:
        raise UnreadableResult(Unreadable.MALFORMED)
    return fields


def _gathered(begun: _Fields, tail: bytes) -> _Fields:
    """What the head of a value tells and, where it ends, the tail.

    The last value of the head may be a piece of one, and what follows further pieces. It does no harm: nothing counts
    that isn't in arq's order, and what the tail tells goes before.
    """
    head: _Fields = {}
    for expected, (key, value) in zip(FIELDS[: FIELDS.index("st")], begun.items(), strict=False):
        if key != expected:
            break
        head[key] = value
    if "f" not in head:
        raise UnreadableResult(Unreadable.BOUNDS)
    return head | _ending(tail)


_KEY_OPCODES: Final = {
    opcode + field.encode(): place
    for place, field in enumerate(FIELDS)
    if field not in {"t", "f", "a", "k"}
    for opcode in (bytes((0x8C, len(field))), b"X" + len(field).to_bytes(4, "little"))
}
"""How picklers write a key where it stands for the first time: SHORT_BINUNICODE, or BINUNICODE before protocol 4."""
_ANY_KEY: Final = re.compile(b"|".join(map(re.escape, _KEY_OPCODES)))
_STARTS: Final = 16
"""What looks like a key is tried so often: as parts of a result may, too, which stand before the last fields."""
_CLOSE: Final = b"u."
"""SETITEMS and STOP: the end of a pickled dict of several items."""


def _ending(tail: bytes) -> _Fields:
    """The last fields of a value of which only the tail is known: the longest run that ends where the pickle does."""
    if not tail.endswith(_CLOSE):
        return {}
    for match in [*_ANY_KEY.finditer(tail)][-_STARTS:]:
        if fields := _run_of_fields(tail[match.start() : -len(_CLOSE)], _KEY_OPCODES[match.group()]):
            return fields
    return {}


def _run_of_fields(piece: bytes, place: int) -> _Fields:
    """The fields that `piece` holds from the one at `place` on; none unless they are arq's, in its order, to the end.

    A key or value that refers to what stands before the piece is not known.
    """
    try:
        items = read_items(piece)
    except MalformedPickle:
        return {}
    keys, values, expected = items[::2], items[1::2], FIELDS[place : place + len(items) // 2]
    whole = len(keys) == len(values) == len(expected) and expected[-1] in _LAST
    if not whole or any(key not in (name, OPAQUE) for key, name in zip(keys, expected, strict=True)):
        return {}
    return {name: value for name, value in zip(expected, values, strict=True) if value is not OPAQUE}


# -- from fields to a result ------------------------------------------------------------------------------------


def _result(fields: _Fields) -> Result:
    tries = fields["t"]
    if type(tries) is not int or not 1 <= tries <= _MOST_TRIES:
        raise UnreadableResult(Unreadable.MALFORMED)
    name = _text(fields["f"])
    task = None if name == NO_TASK else name
    outcome, exception = _end_of(fields, task, tries)
    enqueued, started, finished = _time(fields, "et"), _time(fields, "st"), _time(fields, "ft")
    if not _ran(outcome, exception, started, finished):
        started = None
    queue = _text(fields["q"]) if "q" in fields else None
    return Result(queue, task, outcome, exception, tries, tries - 1, enqueued, started, finished)


def _text(value: Value) -> str:
    """A name; a member of a `StrEnum` is pickled as its class called with its value."""
    text = value.first if isinstance(value, Object) else value
    if not isinstance(text, str):
        raise UnreadableResult(Unreadable.MALFORMED)
    return text


def _time(fields: _Fields, field: str) -> float | None:
    """Seconds; None where it is 0, which is arq's word for not known."""
    value = fields.get(field, 0)
    # Not isinstance: a bool is an int.
    if type(value) not in (int, float) or not 0 <= value < _LATEST_MS:  # type: ignore[operator]
        raise UnreadableResult(Unreadable.MALFORMED)
    return value / 1000 if value else None  # type: ignore[operator]


def _ran(outcome: Outcome, exception: str | None, started: float | None, finished: float | None) -> bool:
    """Whether an attempt is known to have run from `started` on."""
    if outcome in _NOT_RUN or exception == MAX_TRIES:
        return False
    if started is None or finished is None:
        return outcome is not Outcome.ABORTED
    # Below 0 where the clock was set back meanwhile: when it started is not known then.
    return finished - started >= (SURELY_RAN if outcome is Outcome.ABORTED else 0.0)


_NOT_RUN: Final = frozenset({Outcome.EXPIRED, Outcome.NOT_FOUND, Outcome.UNDECODABLE})

_End = tuple[Outcome, str | None]
_UNREADABLE_JOB: Final = Global("arq.jobs", "DeserializationError"), "unable to deserialize job"
_EARLY_END: Final = Global("arq.worker", "JobExecutionFailed")
_CANCELLED: Final = Global("asyncio.exceptions", "CancelledError")
_TRIES_USED_UP: Final = re.compile(r"max (\d{1,9}) retries exceeded")


def _end_of(fields: _Fields, task: str | None, tries: int) -> _End:
    """The outcome, and of a failure the exception."""
    if "s" not in fields:
        return Outcome.UNKNOWN, None
    success = fields["s"]
    if not isinstance(success, bool):
        raise UnreadableResult(Unreadable.MALFORMED)
    if success:
        return Outcome.SUCCEEDED, None
    return _early_end(fields.get("r"), task, tries) or (Outcome.FAILED, _class_name(fields.get("r")))


def _early_end(raised: Value, task: str | None, tries: int) -> _End | None:
    """How a job ended that arq itself ended.

    A job that waits for another's result raises the other's exception: what is said there about the other does not
    hold for the one that waited.
    """
    if not isinstance(raised, Object):
        return None
    if raised.by == _CANCELLED:
        return Outcome.ABORTED, None
    if (raised.by, raised.first) == _UNREADABLE_JOB and task is None:
        return Outcome.UNDECODABLE, None
    if raised.by == _EARLY_END and isinstance(raised.first, str):
        return _failed_execution(raised.first, task, tries)
    return None


def _failed_execution(message: str, task: str | None, tries: int) -> _End | None:
    """The early ends that only a message tells apart."""
    if task is None:
        return (Outcome.EXPIRED, None) if message == "job expired" else None
    if message.startswith("function ") and message.endswith(" not found") and task in message:
        return Outcome.NOT_FOUND, None
    used_up = _TRIES_USED_UP.fullmatch(message)
    return (Outcome.FAILED, MAX_TRIES) if used_up and tries > int(used_up[1]) else None


def _class_name(raised: Value) -> str:
    """The name of an exception's class, without its module; UNKNOWN where it isn't told.

    It isn't where arq could not pickle the result: then a message stands in its place, and whether the job succeeded
    nobody kept.
    """
    if isinstance(raised, Object):
        return _class_called(raised)
    if isinstance(raised, Global) and _looks_like_class(raised):  # the first piece of an exception that was cut
        return _last_name(raised)
    return UNKNOWN


def _class_called(raised: Object) -> str:
    """By the class, or by a function that takes the class, as `copyreg._reconstructor(C, ...)` and `partial(C)` do."""
    if _looks_like_class(raised.by):
        return _last_name(raised.by)
    if raised.by.module in _MAKERS:
        return _last_name(raised.first) if isinstance(raised.first, Global) and raised.by.name != "getattr" else UNKNOWN
    return _last_name(raised.first if isinstance(raised.first, Global) else raised.by)


_MAKERS: Final = frozenset({"copyreg", "copy_reg", "functools", "builtins", "__builtin__", "operator"})
"""Modules whose functions make exceptions, and which have no exceptions in lower case."""


def _looks_like_class(named: Global) -> bool:
    return _last_name(named)[:1].isupper()


def _last_name(named: Global) -> str:
    return named.name.rpartition(".")[2]
