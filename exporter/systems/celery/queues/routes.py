"""Which queue a message was sent to, by the bindings that stand in Redis (kombu's `transport/virtual/exchange.py`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from exporter.systems.celery.layout import queue_name

_ANY_WORD: Final = "*"
_ANY_WORDS: Final = "#"
_MOST_ROUTES: Final = 10_000


class Binding(msgspec.Struct, frozen=True, gc=False):
    """One queue of an exchange. `topic` where its routing key has wildcards that count."""

    routing_key: str
    topic: bool
    queue: str

    def takes(self, routing_key: str) -> bool:
        """Whether messages with this routing key go to the queue."""
        return matches(self.routing_key, routing_key) if self.topic else self.routing_key == routing_key


class Routes:
    """The bindings of all exchanges, as one search found them: by key prefix and exchange."""

    def __init__(self, bindings: Mapping[tuple[str, str], Collection[Binding]], only: str | None) -> None:
        """`only` is the option `global_keyprefix`."""
        self._bindings = bindings
        self._only = only
        self._found: dict[tuple[str, str, str], frozenset[str]] = {}

    def queues(self, prefix: str, exchange: str, routing_key: str) -> frozenset[str]:
        """The queues that a message may have come from, as we call them; none where nothing tells.

        More than one where an exchange gives copies to several queues: in `unacked` they are one (they have one
        delivery tag), and which queue's it is nothing tells.
        """
        route = prefix, exchange, routing_key
        found = self._found.get(route)
        if found is None:
            if len(self._found) >= _MOST_ROUTES:
                self._found.clear()
            names = (queue_name(queue, prefix, self._only) for queue in self._lookup(*route))
            found = self._found[route] = frozenset(name for name in names if name)
        return found

    def _lookup(self, prefix: str, exchange: str, routing_key: str) -> Collection[str]:
        if not exchange:  # the default exchange: straight to the queue of that name
            return (routing_key,)
        bindings = self._bindings.get((prefix, exchange), ())
        # A fanout exchange does not look at the routing key, and its bindings do not say that it is one.
        taking = [binding for binding in bindings if binding.takes(routing_key)] or bindings
        return [binding.queue for binding in taking]


def matches(pattern: str, routing_key: str) -> bool:
    """Whether a topic's pattern takes a routing key, as kombu sees it: `*` is anything that ends in no dot, `#` is
    anything. In time by their lengths, unlike the regular expression that stands in the binding."""
    places = {0}
    for number, word in enumerate(pattern.split(".")):
        if number:
            places = {place + 1 for place in places if routing_key.startswith(".", place)}
        if not places:
            return False
        places = _after(word, routing_key, places)
    return len(routing_key) in places


def _after(word: str, text: str, places: set[int]) -> set[int]:
    """Where a word of a pattern can end that begins in one of the places."""
    if word == _ANY_WORDS:
        return set(range(min(places), len(text) + 1))
    if word == _ANY_WORD:
        return {end for end in range(min(places) + 1, len(text) + 1) if text[end - 1] != "."}
    return {place + len(word) for place in places if text.startswith(word, place)}
