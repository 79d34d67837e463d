"""The lists of a queue, one for each priority step: how many jobs stand there, and what is at their heads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from exporter.brokers.errors import BrokerError, Command, Reply, ReplyTooLarge
from exporter.brokers.pulls import Pulls
from exporter.systems.celery.layout import list_key
from exporter.systems.keys import Problems

FINE_STEPS: Final = tuple(range(10))
"""Read of a queue that has jobs at one of these beside the steps we know of: its depth would lack them."""
# Heads read in one go: whole messages, of any size.
_PEEKED_LISTS: Final = 50
_PEEKED_BEHIND: Final = 5
FRONT: Final = 10
"""Messages looked at where the head alone does not tell which job is due for longest."""

List = tuple[str, int]
"""A queue and a priority."""


class Lists:
    """The lists of all queues of a broker."""

    def __init__(self, pulls: Pulls, steps: Collection[int], separator: str, only: str | None = None) -> None:
        """`only` is the option `global_keyprefix`."""
        self._pulls = pulls
        self._only = only
        self._separator = separator
        self._usual = tuple(sorted({0, *steps}))
        self._all = tuple(sorted({*self._usual, *FINE_STEPS}))
        self._fine: set[str] = set()  # queues that were seen to use other steps

    def steps(self, queue: str) -> tuple[int, ...]:
        """The priorities that are read of a queue."""
        return self._all if queue in self._fine else self._usual

    async def depths(
        self, queues: Collection[str], problems: Problems, beside: Sequence[Command] = ()
    ) -> tuple[dict[List, int], list[Reply]]:
        """Jobs by queue and priority; a queue of which a list cannot be read is left out whole. And the replies to
        what is asked `beside`, as nearly at the same moment as can be: an error each where those are too large."""
        self._fine.intersection_update(queues)
        await self._look_for_fine_steps(queues, problems)
        lists = [(queue, priority) for queue in queues for priority in self.steps(queue)]
        questions: list[Command] = [("LLEN", self._key(where)) for where in lists]
        try:
            replies = await self._pulls.many([*beside, *questions])
        except ReplyTooLarge as error:
            if not beside:
                raise
            replies = [*(error for _ in beside), *await self._pulls.many(questions)]
        depths = dict(zip(lists, replies[len(beside) :], strict=True))
        for queue in queues:
            own = [(queue, priority) for priority in self.steps(queue)]
            if problems.note(queue, *(depths[where] for where in own)):
                for where in own:
                    del depths[where]
        return depths, replies[: len(beside)]

    async def heads(self, lists: Sequence[List], problems: Problems) -> dict[List, bytes]:
        """The message at the head of each list."""
        found = await self._peek(lists, (-1, -1), _PEEKED_LISTS, problems)
        return {where: messages[0] for where, messages in found.items() if messages}

    async def tails(self, lists: Sequence[List], problems: Problems) -> dict[List, bytes]:
        """The message at the end of each list, that was pushed last."""
        found = await self._peek(lists, (0, 0), _PEEKED_LISTS, problems)
        return {where: messages[0] for where, messages in found.items() if messages}

    async def fronts(self, lists: Sequence[List], problems: Problems) -> dict[List, list[bytes]]:
        """The first messages of each list, `FRONT` at most, the head first."""
        return await self._peek(lists, (-FRONT, -1), _PEEKED_BEHIND, problems)

    async def _peek(
        self, lists: Sequence[List], part: tuple[int, int], at_once: int, problems: Problems
    ) -> dict[List, list[bytes]]:
        found: dict[List, list[bytes]] = {}
        for start in range(0, len(lists), at_once):
            try:
                await self._peek_at(lists[start : start + at_once], part, found, problems)
            except BrokerError as error:  # the depths stand
                problems.add(f"heads of queues not read: {error}")
                break
        return found

    async def _look_for_fine_steps(self, queues: Collection[str], problems: Problems) -> None:
        """Notes the queues that have jobs at steps which are not configured here: one command for each queue."""
        unusual = [step for step in self._all if step not in self._usual]
        usual = [queue for queue in queues if queue not in self._fine and unusual]
        replies = await self._pulls.many(("EXISTS", *(self._key((queue, step)) for step in unusual)) for queue in usual)
        for queue, reply in zip(usual, replies, strict=True):
            if not problems.note(queue, reply) and reply:
                self._fine.add(queue)

    async def _peek_at(
        self, lists: Sequence[List], part: tuple[int, int], found: dict[List, list[bytes]], problems: Problems
    ) -> None:
        try:
            replies = await self._pulls.many(("LRANGE", self._key(where), *part) for where in lists)
        except ReplyTooLarge as error:
            if len(lists) == 1:
                problems.add(f"head not read: {error}", lists[0][0])
                return
            half = len(lists) // 2
            await self._peek_at(lists[:half], part, found, problems)
            await self._peek_at(lists[half:], part, found, problems)
            return
        for where, messages in zip(lists, replies, strict=True):
            if not problems.note(where[0], messages):
                found[where] = [bytes(message) for message in reversed(messages)]

    def _key(self, where: List) -> bytes:
        return list_key(*where, self._separator, self._only)
