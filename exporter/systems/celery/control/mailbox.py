"""One question to all workers, and their answers: celery's remote control, as kombu's `pidbox.py` and
`transport/redis.py` send it.

The question is published on a channel that every worker listens to. The answers come in a list that a binding names,
one message each. We write that protocol ourselves because kombu's consumer of the answers gives back the messages of
other consumers by its own `visibility_timeout` (`QoS.restore_visible`): jobs of an application with a longer one would
run twice.

Nothing is left behind: the list is made to expire before any answer comes, and workers that find no binding send none.
Where we are killed before the binding is taken back, it stays until an exporter asks for the first time: see
`leftovers`.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Final
from uuid import uuid4

import msgspec

from exporter.brokers.errors import BrokerError, Command, ReplyTooLarge
from exporter.brokers.errors import Reply as RedisReply
from exporter.brokers.pulls import Pulls
from exporter.safe.text import one_line
from exporter.systems.celery.control.answers import Method
from exporter.systems.celery.control.leftovers import EVERY, clear_leftovers
from exporter.systems.celery.control.messages import (
    EXCHANGE,
    LARGEST_ANSWER,
    OWN,
    REPLY_EXCHANGE,
    Reply,
    question,
    read_reply,
)
from exporter.systems.celery.events.frames import JSON
from exporter.systems.celery.layout import BINDINGS, list_key
from exporter.systems.keys import key_bytes

PATIENCE: Final = 1.0
"""Seconds that answers are waited for (celery's default)."""
MOST_ANSWERS: Final = 10_000
"""Read to one question."""
MOST_BYTES: Final = 64 << 20
"""Of all answers to one question."""
KEPT: Final = 30.0
"""Seconds after which the list of answers is gone, should we be."""
LATE: Final = 5.0
"""Seconds for which it stays after the question: an answer that comes late goes with it."""
_FIRST_LOOK, _LONGEST_LOOK = 0.01, 0.1
_MARK: Final = b"taskqueue-exporter"


class Round(msgspec.Struct):
    """What came of one question."""

    listening: int = 0
    """How many got it: workers, and whoever else listens to that channel."""
    answers: int = 0
    unreadable: int = 0
    """Answers that could not be read: in another format, too large, not what was asked for."""
    reason: str = ""
    """Why the first of them could not."""

    @property
    def unanswered(self) -> int:
        """How many that got it gave no answer that could be read."""
        return self.listening - self.answers

    def not_read(self, reason: str) -> None:
        """One more that could not."""
        self.unreadable += 1
        self.reason = self.reason or reason


class Mailbox:
    """Asks all workers of a database. One question at a time."""

    def __init__(
        self,
        pulls: Pulls,
        separator: str,
        steps: Collection[int],
        accepted: Collection[str] = JSON,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`steps` are the priority steps of the application, `accepted` the formats that are read."""
        self._pulls = pulls
        self._separator = separator
        self._priorities = _priorities(steps)
        self._accepted = accepted
        self._clock = clock
        # Of this mailbox alone, so that nobody else gets our answers; the same for good, so that what may be left of
        # one question goes with the next.
        self._id = OWN + uuid4().hex
        self._cleared: dict[str, float] = {}  # when leftovers were, by key prefix

    async def ask(self, prefix: str, method: Method, take: Callable[[Reply], None]) -> Round:
        """Asks under one key prefix; each answer goes to `take` as soon as it came, which may raise ValueError where it
        cannot be read. Raises BrokerError."""
        done = Round()
        try:
            await self._clear(prefix)
            await self._open(prefix)
            await self._ask(prefix, method, take, done)
        except BaseException:
            with suppress(BrokerError):
                await self._close(prefix)
            raise
        await self._close(prefix)
        return done

    async def _ask(self, prefix: str, method: Method, take: Callable[[Reply], None], done: Round) -> None:
        ticket = str(uuid4())
        channel = key_bytes(f"{prefix}/{self._pulls.access.db}.{EXCHANGE}")
        message = question(method, ticket, self._id, self._clock() + PATIENCE, self._accepted)
        done.listening = int(await self._pulls.one("PUBLISH", channel, message))
        await self._collect(prefix, ticket, take, done)

    # -- the list of answers ------------------------------------------------------------------------------------

    async def _open(self, prefix: str) -> None:
        keys = self._keys(prefix)
        lists = [command for key in keys for command in _emptied(key, KEPT)]
        await self._do([*lists, ("SADD", *self._binding(prefix))])

    async def _close(self, prefix: str) -> None:
        """From now on no answer is sent, and those that are on their way soon go."""
        lists = [command for key in self._keys(prefix) for command in _emptied(key, LATE)]
        await self._do([("SREM", *self._binding(prefix)), *lists])

    async def _clear(self, prefix: str) -> None:
        """Clears what others left, now and then."""
        now = time.monotonic()
        if now - self._cleared.get(prefix, -math.inf) < EVERY:
            return
        bindings, _ = self._binding(prefix)
        await clear_leftovers(self._pulls, bindings, self._separator, lambda one: self._keys(prefix, one), self._do)
        self._cleared[prefix] = now

    async def _do(self, commands: Iterable[Command]) -> list[RedisReply]:
        replies = await self._pulls.many(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise BrokerError(one_line(f"{type(reply).__name__}: {reply}"))
        return replies

    def _keys(self, prefix: str, reply_to: str | None = None) -> list[bytes]:
        """The lists of answers to a routing key: to ours, unless another is given."""
        queue = f"{prefix}{reply_to or self._id}.{REPLY_EXCHANGE}"
        return [list_key(queue, step, self._separator) for step in self._priorities]

    def _binding(self, prefix: str) -> tuple[bytes, bytes]:
        """The set of an exchange, and our member: routing key, pattern, queue."""
        member = self._separator.join((self._id, "", f"{self._id}.{REPLY_EXCHANGE}"))
        return key_bytes(prefix + BINDINGS + REPLY_EXCHANGE), key_bytes(member)

    # -- the answers --------------------------------------------------------------------------------------------

    async def _collect(self, prefix: str, ticket: str, take: Callable[[Reply], None], done: Round) -> None:
        """Returns once all have answered, or were waited for."""
        left, look = MOST_BYTES, _FIRST_LOOK
        end = time.monotonic() + PATIENCE
        while done.answers + done.unreadable < min(done.listening, MOST_ANSWERS) and left > 0:
            waiting = await self._waiting(prefix)
            for key in waiting[: MOST_ANSWERS - done.answers - done.unreadable]:
                left -= await self._take_one(key, ticket, take, done)
            if not waiting:
                if time.monotonic() >= end:
                    return
                await asyncio.sleep(look)
                look = min(2 * look, _LONGEST_LOOK)

    async def _waiting(self, prefix: str) -> list[bytes]:
        """The lists, each as often as it holds answers, but for the mark at its end."""
        keys = self._keys(prefix)
        counts = await self._do(("LLEN", key) for key in keys)
        waiting: list[bytes] = []
        for key, count in zip(keys, counts, strict=True):
            waiting += [key] * min(int(count) - 1, MOST_ANSWERS)
        return waiting

    async def _take_one(self, key: bytes, ticket: str, take: Callable[[Reply], None], done: Round) -> int:
        """One message: one at a time, as they may be large. Its size."""
        try:
            message = await self._pulls.one("LPOP", key)
        except ReplyTooLarge as error:
            done.not_read(str(error))
            return LARGEST_ANSWER
        if message is None or message == _MARK:
            return 0
        try:
            reply = read_reply(message, ticket, self._accepted)
            if reply is not None:
                take(reply)
                done.answers += 1
        except ValueError as error:
            done.not_read(str(error))
        return len(message)


def _emptied(key: bytes, seconds: float) -> list[Command]:
    """Leaves a list with nothing but a mark, which makes it last until it expires: a list without an element is none,
    and one that an answer makes would stay."""
    return [("DEL", key), ("LPUSH", key, _MARK), ("PEXPIRE", key, int(1000 * seconds))]


def _priorities(steps: Collection[int]) -> list[int]:
    """The priorities to which an answer may go, which has the priority 0 (`Channel.priority`)."""
    ordered = sorted(steps)
    return sorted({0, ordered[bisect(ordered, 0) - 1]}) if ordered else [0]
