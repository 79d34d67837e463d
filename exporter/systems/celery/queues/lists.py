"""The lists of a queue, one for each priority step: how many jobs stand there, and what is at their heads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from exporter.brokers.pulls import BrokerError, Pulls, ReplyTooLarge
from exporter.systems.celery.layout import list_key
from exporter.systems.keys import Problems

FINE_STEPS: Final = tuple(range(10))
"""Read of a queue that has jobs at one of these beside the steps we know of: its depth would lack them."""
# Heads read in one go: whole messages, of any size.
_PEEKED_LISTS: Final = 50

List = tuple[str, int]
"""A queue and a priority."""


class Lists:
    """The lists of all queues of a broker."""

    def __init__(self, pulls: Pulls, steps: Collection[int], separator: str) -> None:
        self._pulls = pulls
        self._separator = separator
        self._usual = tuple(sorted({0, *steps}))
        self._all = tuple(sorted({*self._usual, *FINE_STEPS}))
        self._fine: set[str] = set()  # queues that were seen to use other steps

    def steps(self, queue: str) -> tuple[int, ...]:
        """The priorities that are read of a queue."""
        return self._all if queue in self._fine else self._usual

    async def depths(self, queues: Collection[str], problems: Problems) -> dict[List, int]:
        """Jobs by queue and priority; a queue of which a list cannot be read is left out whole."""
        self._fine.intersection_update(queues)
        await self._look_for_fine_steps(queues, problems)
        lists = [(queue, priority) for queue in queues for priority in self.steps(queue)]
        replies = await self._pulls.many(("LLEN", list_key(*where, self._separator)) for where in lists)
        depths = dict(zip(lists, replies, strict=True))
        for queue in queues:
            own = [(queue, priority) for priority in self.steps(queue)]
            if problems.note(queue, *(depths[where] for where in own)):
                for where in own:
                    del depths[where]
        return depths

    async def heads(self, lists: list[List], problems: Problems) -> dict[List, bytes]:
        """The message at the head of each list."""
        heads: dict[List, bytes] = {}
        for start in range(0, len(lists), _PEEKED_LISTS):
            try:
                await self._peek_at(lists[start : start + _PEEKED_LISTS], heads, problems)
            except BrokerError as error:  # the depths stand
                problems.add(f"heads of queues not read: {error}")
                break
        return heads

    async def _look_for_fine_steps(self, queues: Collection[str], problems: Problems) -> None:
        """Notes the queues that have jobs at steps which are not configured here: one command for each queue."""
        unusual = [step for step in self._all if step not in self._usual]
        usual = [queue for queue in queues if queue not in self._fine and unusual]
        replies = await self._pulls.many(
            ("EXISTS", *(list_key(queue, step, self._separator) for step in unusual)) for queue in usual
        )
        for queue, reply in zip(usual, replies, strict=True):
            if not problems.note(queue, reply) and reply:
                self._fine.add(queue)

    async def _peek_at(self, lists: list[List], heads: dict[List, bytes], problems: Problems) -> None:
        try:
            messages = await self._pulls.many(("LINDEX", list_key(*where, self._separator), -1) for where in lists)
        except ReplyTooLarge as error:
            if len(lists) == 1:
                problems.add(f"head not read: {error}", lists[0][0])
                return
            half = len(lists) // 2
            await self._peek_at(lists[:half], heads, problems)
            await self._peek_at(lists[half:], heads, problems)
            return
        for where, message in zip(lists, messages, strict=True):
            if not problems.note(where[0], message) and message is not None:
                heads[where] = bytes(message)
