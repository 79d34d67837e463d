"""How an ARQ job ended, by what arq and the user's serializer kept of it (arq/worker.py `run_job`).

arq writes `s`, whether the job succeeded, and as `r` of a failure the exception itself. A pickle keeps its class. Any
other serializer keeps what the user made of it: its text (`default=str`), its repr (`default=repr`), a dict of their
own. Where it could make nothing of it (plain `json.dumps`), arq writes UNSERIALIZED in its place.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from exporter.model import Outcome, Unreadable
from exporter.safe.pickles import Global, Object, Value
from exporter.safe.text import UNKNOWN
from exporter.systems.arq.records.fields import Fields, UnreadableResult

MAX_TRIES: Final = "MaxTriesExceeded"
"""The exception of a job that ran out of tries: arq's own says nothing about it."""
UNSERIALIZED: Final = "unable to serialize result"
"""Written for a result, or an exception, that could not be serialized; `s` is false then, whatever it was."""


class End(msgspec.Struct, frozen=True, gc=False):
    """How a job ended."""

    outcome: Outcome
    exception: str | None = None
    """Of a failure the name of the class, without its module; UNKNOWN where it isn't told."""
    ran: bool | None = True
    """Whether an attempt ran until this end; None where only the time it took can tell."""


def end_of(fields: Fields, task: str | None, tries: int, *, keeps_classes: bool) -> End:
    """The end that the fields of a result tell.

    A failure is what arq calls one, as long as nothing tells more. So a job that was aborted, or whose function its
    worker did not know, counts as failed where the serializer kept nothing of why: as arq itself counts it.
    `keeps_classes`: an exception is kept as what it was, so that what is none cannot be an early end.
    """
    if "s" not in fields:
        return End(Outcome.UNKNOWN)
    success, raised = fields["s"], fields.get("r")
    if not isinstance(success, bool):
        raise UnreadableResult(Unreadable.MALFORMED)
    if success:
        return End(Outcome.SUCCEEDED)
    if end := _early_end(raised, task, tries):
        return end
    if task is None:  # it expired or could not be decoded; it never ran and failed
        return End(Outcome.UNKNOWN, ran=False)
    if keeps_classes or "r" not in fields:  # too long to be an early end's
        return End(Outcome.FAILED, _class_name(raised))
    return End(Outcome.FAILED, _class_name(raised), ran=None if _hides_early_end(raised) else True)


# -- jobs that arq itself ended ---------------------------------------------------------------------------------

_CANCELLED: Final = Global("asyncio.exceptions", "CancelledError")
_EARLY_END: Final = Global("arq.worker", "JobExecutionFailed")
_UNREADABLE_JOB: Final = Global("arq.jobs", "DeserializationError")
_TRIES_USED_UP: Final = re.compile(r"max (\d{1,9}) retries exceeded")
_REPR: Final = re.compile(r"(\w+)\((?:(['\"])(.*)\2)?\)", re.DOTALL)


def _early_end(raised: Value, task: str | None, tries: int) -> End | None:
    """How a job ended that arq itself ended.

    A job that waits for another's result raises the other's exception: what is said there about the other does not
    hold for the one that waited.
    """
    if _is_cancelled(raised):
        return End(Outcome.ABORTED, ran=None)
    if task is None:
        if _message(raised, _UNREADABLE_JOB) == "unable to deserialize job":
            return End(Outcome.UNDECODABLE, ran=False)
        return End(Outcome.EXPIRED, ran=False) if _message(raised, _EARLY_END) == "job expired" else None
    message = _message(raised, _EARLY_END) or ""
    if message.startswith("function ") and message.endswith(" not found") and repr(task) in message:
        return End(Outcome.NOT_FOUND, ran=False)
    used_up = _TRIES_USED_UP.fullmatch(message)
    return End(Outcome.FAILED, MAX_TRIES, ran=False) if used_up and tries > int(used_up[1]) else None


def _is_cancelled(raised: Value) -> bool:
    """By its class or its repr. Its text is empty, as that of many a failure."""
    return raised.by == _CANCELLED if isinstance(raised, Object) else raised == "CancelledError()"


def _message(raised: Value, by: Global) -> str | None:
    """What an exception of arq's says; where only a text was kept, what it says if it is one: plain or as a repr."""
    if isinstance(raised, Object):
        return raised.first if raised.by == by and isinstance(raised.first, str) else None
    if not isinstance(raised, str):
        return None
    called = _REPR.fullmatch(raised)
    return called[3] if called and called[1] == by.name else raised


_EARLY_WORDS: Final = re.compile(r"CancelledError|JobExecutionFailed|retries exceeded|['\">] not found")


def _hides_early_end(raised: Value) -> bool:
    """Whether what was kept may be all that is left of an early end, of which nothing ran."""
    return not isinstance(raised, str) or raised in ("", UNSERIALIZED) or bool(_EARLY_WORDS.search(raised))


# -- exceptions -------------------------------------------------------------------------------------------------


def _class_name(raised: Value) -> str:
    """The name of an exception's class, without its module; UNKNOWN where it isn't told.

    A text tells it only where it is what arq makes of a timeout, which bears no message. Any other that looks like a
    repr, `ValueError('bad')`, may as well be the message of quite another exception, in which people like to quote
    the first; `HTTPConnectionPool(...)` begins many a message and is no exception at all. The same goes for a dict's
    keys. Of UNSERIALIZED nobody even kept whether the job succeeded.
    """
    if isinstance(raised, Object):
        return _class_called(raised)
    if isinstance(raised, Global) and _looks_like_class(raised):  # the first piece of an exception that was cut
        return _last_name(raised)
    return "TimeoutError" if raised == "TimeoutError()" else UNKNOWN


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
