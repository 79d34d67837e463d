"""What stands in Redis of jobs that may have ended, looked at over the feed's connection."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Final

import msgspec

from exporter.brokers.pulls import Command, Reply
from exporter.brokers.push import PushConnection
from exporter.safe.text import one_line
from exporter.systems.arq.layout import JOB, RESULT
from exporter.systems.keys import key_bytes

PAGE: Final = 32
"""Jobs looked at in one go: the server reads and answers that in one piece, so that nothing happens in between."""

_OTHER: Final = b"?"
_DATABASE: Final = re.compile(rb"^db(\d+):", re.MULTILINE)


class Denied(Exception):
    """The server does not let us look."""


class Question(msgspec.Struct, gc=False):
    """Which job, how many bytes of its definition, and in which queues it may be."""

    job_id: bytes
    length: int
    queues: Collection[str]

    def commands(self) -> Iterable[Command]:
        """What to ask. The result last: it is written when all else goes."""
        yield ("GETRANGE", JOB + self.job_id, 0, self.length - 1)
        for queue in self.queues:
            yield ("ZSCORE", key_bytes(queue), self.job_id)
        yield ("EXISTS", RESULT + self.job_id)


class Glance(msgspec.Struct, gc=False):
    """What stood there of a job at one moment."""

    job_id: bytes
    definition: bytes
    """The beginning of it, empty where there is none."""
    queue: str | None
    """Whose member it is, of those asked for."""
    kept: bool
    """Whether there is a result."""

    @property
    def ended(self) -> bool:
        """Whether nothing is left of it, but perhaps the result."""
        return not self.definition and self.queue is None


async def look(data: PushConnection, questions: Collection[Question]) -> list[Glance]:
    """The answers, in order. Raises Denied, and BrokerError when the connection is lost."""
    replies = iter(await data.many([command for question in questions for command in question.commands()]))
    return [_glance(question, [*islice(replies, len(question.queues) + 2)]) for question in questions]


async def other_databases(data: PushConnection, db: int) -> bool:
    """Whether other databases of the server than `db` hold keys. Raises Denied, and BrokerError."""
    (told,) = await data.many([("INFO", "keyspace")])
    text = _allowed(told)
    return not isinstance(text, bytes) or any(int(found) != db for found in _DATABASE.findall(text))


def _glance(question: Question, replies: list[Reply]) -> Glance:
    definition, *scores, kept = map(_allowed, replies)
    if definition is None:  # of another type: not arq's, but something is there
        definition = _OTHER
    queue = next((queue for queue, score in zip(question.queues, scores, strict=True) if score is not None), None)
    return Glance(question.job_id, definition, queue, bool(kept))


def _allowed(reply: Reply) -> Reply:
    """The reply; None for an error, as of a key of another type. Raises Denied."""
    if not isinstance(reply, Exception):
        return reply
    if str(reply).startswith("NOPERM"):
        raise Denied(one_line(str(reply)))
    return None
