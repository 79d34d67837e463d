"""What workers took and have not acknowledged: one hash for all queues of a database, and what its messages say.

A score in `unacked_index` is when the message was delivered, by the worker's clock. Nothing refreshes it (kombu 5.4 to
5.7, `QoS.append`): a job that is held for its ETA or runs (acknowledged late) for longer than the visibility timeout
is delivered once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from exporter.brokers import bounded
from exporter.brokers.errors import BrokerError, Command, Reply, ReplyTooLarge
from exporter.brokers.pulls import Pulls
from exporter.systems.celery.layout import UNACKED, UNACKED_INDEX
from exporter.systems.celery.queues.messages import Delivered, read_delivered
from exporter.systems.keys import Problems, key_bytes

MOST_UNACKED: Final = 20_000
"""Messages that are looked at one by one, under all prefixes; where there are more, their jobs' states are unknown."""
NEW_MESSAGES: Final = 20_000
"""Read at one scrape; what stands there for longer is remembered."""
NEW_BYTES: Final = 16 << 20
"""The same, in bytes."""
_FIRST_PAGE: Final = 50
_LARGEST_PAGE: Final = 500
_PAGE_BYTES: Final = 1 << 19
"""Aimed at for one reply, by the size of the messages before: a millisecond to decode."""

Messages = Mapping[bytes, Delivered | None]
"""By delivery tag; None for one that cannot be read."""


class Counted(msgspec.Struct, frozen=True):
    """How many messages are unacknowledged under all key prefixes, when the oldest was delivered, and the prefixes
    where they are few enough to be looked at."""

    messages: int | None
    oldest: float | None
    few: Sequence[str]


async def count_unacked(pulls: Pulls, prefixes: Collection[str], problems: Problems) -> Counted:
    """Without a look at the messages."""
    where = sorted(prefixes)
    replies = await pulls.many(
        command
        for prefix in where
        for command in (
            ("HLEN", key_bytes(prefix + UNACKED)),
            ("ZRANGE", key_bytes(prefix + UNACKED_INDEX), 0, 0, "WITHSCORES"),
        )
    )
    counts, indexes = replies[::2], replies[1::2]
    messages = None if problems.note(UNACKED, *counts) else sum(map(int, counts))
    oldest = None
    if not problems.note(UNACKED, *indexes):
        oldest = min((float(index[1]) for index in indexes if index), default=None)
    return Counted(messages, oldest, _few(where, counts))


def _few(prefixes: Sequence[str], counts: Sequence[Reply]) -> Sequence[str]:
    few: list[str] = []
    room = MOST_UNACKED
    for prefix, count in zip(prefixes, counts, strict=True):
        if not isinstance(count, Exception) and int(count) <= room:
            room -= int(count)
            few.append(prefix)
    return few


class Unacked:
    """The messages themselves. They never change under a delivery tag, so each is read once."""

    def __init__(self, pulls: Pulls) -> None:
        self._pulls = pulls
        self._known: dict[str, dict[bytes, Delivered | None]] = {}
        self._page = _FIRST_PAGE

    def questions(self, prefixes: Collection[str]) -> list[Command]:
        """The commands whose replies `read` wants, to be sent together with those that count what waits: a job that a
        worker takes meanwhile would be missed, or counted twice."""
        return [("HKEYS", key_bytes(prefix + UNACKED)) for prefix in prefixes]

    async def read(
        self, prefixes: Collection[str], replies: Collection[Reply], problems: Problems
    ) -> Mapping[str, Messages]:
        """By key prefix, what stands there; without the prefixes where not all is read yet."""
        budget = _Budget(self._page)
        whole: dict[str, Messages] = {}
        known, self._known = self._known, {}
        for prefix, tags in zip(prefixes, replies, strict=True):
            if problems.note(UNACKED, tags):
                continue
            before = known.get(prefix, {})
            self._known[prefix] = {tag: before[tag] for tag in tags if tag in before}
            await asyncio.sleep(0)
            new = [tag for tag in tags if tag not in before]
            if await self._learn(prefix, new, budget, problems):
                whole[prefix] = self._known[prefix]
        self._page = budget.page
        return whole

    async def _learn(self, prefix: str, tags: Sequence[bytes], budget: _Budget, problems: Problems) -> bool:
        """Reads messages, as far as the budget goes. Whether all were."""
        done = 0
        while done < len(tags) and budget.left:
            page = tags[done : done + budget.fitting]
            try:
                texts = await self._pulls.one("HMGET", key_bytes(prefix + UNACKED), *page)
            except ReplyTooLarge as error:
                budget.overrun()
                if len(page) > 1:
                    continue
                texts = [b""]
                problems.add(f"message not read: {error}", UNACKED)
            except BrokerError as error:
                problems.add(f"messages not read: {error}", UNACKED)
                return False
            for tag, text in zip(page, texts, strict=True):
                if text is not None:  # else it is acknowledged by now
                    self._known[prefix][tag] = read_delivered(text)
            budget.spend(len(page), sum(len(text) for text in texts if text is not None))
            done += len(page)
            await asyncio.sleep(0)
        return done == len(tags)


class _Budget:
    """What may be read at one scrape, and how much of it at once."""

    def __init__(self, page: int) -> None:
        """`page` as the messages before had it."""
        self.page = page
        self._messages, self._bytes = NEW_MESSAGES, NEW_BYTES

    @property
    def left(self) -> bool:
        """Whether any is."""
        return self._messages > 0 and self._bytes > 0

    @property
    def fitting(self) -> int:
        """How many messages to read next."""
        return min(self.page, self._messages)

    def spend(self, messages: int, size: int) -> None:
        """For a page that was read."""
        self._messages -= messages
        self._bytes -= size
        fitting = _PAGE_BYTES * messages // max(1, size)
        self.page = max(1, min(_LARGEST_PAGE, fitting, 4 * self.page))

    def overrun(self) -> None:
        """For one that was too large to be."""
        self._bytes -= bounded.REPLY_BYTES
        self.page = max(1, self.page // 8)
