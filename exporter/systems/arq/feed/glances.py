"""What stands in Redis of jobs that may have ended, looked at over the feed's connection."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Final

import msgspec

from exporter.brokers.errors import Command, Reply
from exporter.brokers.push import PushConnection
from exporter.safe.text import one_line
from exporter.systems.arq.layout import JOB, RESULT
from exporter.systems.keys import key_bytes

PAGE: Final = 32
"""Jobs looked at in one go: few enough that little happens in between."""

_OTHER: Final = b"?"
_DATABASE: Final = re.compile(rb"^db(\d+):", re.MULTILINE)
_RUN_ID: Final = re.compile(rb"^run_id:(\w+)", re.MULTILINE)


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


class ServerState(msgspec.Struct, frozen=True):
    """Of a server, seen from a database."""

    run_id: bytes
    """Another after a restart, and of the replica that took its place."""
    empty: bool
    """Whether the database holds no key."""
    others: bool
    """Whether other databases do."""


async def look(data: PushConnection, questions: Collection[Question]) -> list[Glance]:
    """The answers, in order. Raises Denied, and BrokerError when the connection is lost."""
    replies = iter(await data.many([command for question in questions for command in question.commands()]))
    return [_glance(question, [*islice(replies, len(question.queues) + 2)]) for question in questions]


async def look_at_server(data: PushConnection, db: int) -> ServerState:
    """What it is and holds, as seen from database `db`. Raises Denied, and BrokerError when the connection is lost."""
    told = [_allowed(reply) for reply in await data.many([("INFO", "server"), ("INFO", "keyspace")])]
    server, keyspace = (text if isinstance(text, bytes) else b"" for text in told)
    run_id = _RUN_ID.search(server)
    databases = {int(found) for found in _DATABASE.findall(keyspace)}
    return ServerState(run_id[1] if run_id else b"", db not in databases, not databases <= {db})


def _glance(question: Question, replies: list[Reply]) -> Glance:
    definition, kept = _allowed(replies[0]), _allowed(replies[-1])
    scores = [_score(reply) for reply in replies[1:-1]]
    if definition is None:  # of another type: not arq's, but something is there
        definition = _OTHER
    queue = next((queue for queue, score in zip(question.queues, scores, strict=True) if score is not None), None)
    return Glance(question.job_id, definition, queue, bool(kept))


def _score(reply: Reply) -> Reply:
    """As `_allowed`; None, too, for a queue that we may not read: others may be ours to read."""
    return None if " key" in str(reply) and isinstance(reply, Exception) else _allowed(reply)


def _allowed(reply: Reply) -> Reply:
    """The reply; None for an error, as of a key of another type. Raises Denied."""
    if not isinstance(reply, Exception):
        return reply
    if str(reply).startswith("NOPERM"):
        raise Denied(one_line(str(reply)))
    return None
