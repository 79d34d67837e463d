"""What exporters left in Redis that were killed amid a question, or stopped while Redis hung: their members of the set
that names lists of answers, and lists that last for ever, as a busy worker answered when the first list had expired."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

from exporter.brokers.errors import Command, Reply
from exporter.brokers.pulls import Pulls
from exporter.systems.celery.control.messages import OWN
from exporter.systems.keys import key_text, pattern

EVERY: Final = 600.0
"""Seconds between two looks for them."""
MOST: Final = 1_000
"""Cleared at once."""


async def clear_leftovers(
    pulls: Pulls,
    bindings: bytes,
    separator: str,
    lists: Callable[[str], Collection[bytes]],
    do: Callable[[Iterable[Command]], Awaitable[list[Reply]]],
) -> None:
    """Clears them. `bindings` is that set, `lists` gives the lists of answers to a routing key. A list that will expire
    is that of an exporter that asks now. Raises BrokerError, as `do` does for an error reply."""
    found: set[bytes] = set()
    async for members in pulls.members(bindings, "MATCH", pattern(OWN) + "*"):
        found.update(members)
        if len(found) >= MOST:
            break
    keys = {member: lists(key_text(member).partition(separator)[0]) for member in found}
    ages = iter(await do(("PTTL", key) for of_one in keys.values() for key in of_one))
    dead = [member for member, of_one in keys.items() if max(int(next(ages)) for _ in of_one) < 0]
    await do(command for member in dead for command in _cleared(bindings, member, keys[member]))


def _cleared(bindings: bytes, member: bytes, lists: Collection[bytes]) -> list[Command]:
    return [("SREM", bindings, member), ("DEL", *lists)]
