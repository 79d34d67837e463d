"""The search for Celery's queues: by their bindings, which producers write too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exporter.brokers.pulls import Pulls
from exporter.safe.documents import shown
from exporter.systems.base import Discovery
from exporter.systems.celery.layout import BINDINGS, queue_name
from exporter.systems.celery.queues.routes import Binding, Routes
from exporter.systems.keys import key_text, pattern

# Exchanges whose queues carry no tasks: remote control, its replies, events.
_NO_TASKS: Final = ("pidbox", "celeryev")
# A reply queue that never goes away leaves its binding behind: sets of a million members were seen.
_MAX_BINDINGS: Final = 10_000
_MAX_ROUTED: Final = 100_000
"""Bindings remembered to tell where messages go, of all exchanges."""
_MAX_PREFIXES: Final = 100


class Search:
    """Finds queues, also those that no worker ever consumed, and the key prefixes that stand before them."""

    def __init__(self, pulls: Pulls, separator: str, only: str | None = None) -> None:
        """`only` is the option `global_keyprefix`."""
        self.prefixes: frozenset[str] = frozenset({only or ""})
        self.routes = Routes({}, only)
        self.homes: Mapping[str, frozenset[str]] | None = None
        """The key prefixes of each queue by its name; None until a search has ended."""
        self._pulls = pulls
        self._separator = separator
        self._only = only
        self._misread: str | None = None

    @property
    def problem(self) -> str | None:
        """What the last search could not read."""
        if self._misread is None:
            return None
        return f"found the binding {shown(self._misread)}, wanted three parts between {self._separator!r}"

    async def queues(self) -> set[str]:
        """The queues, as we call them."""
        found = _Found(self._only)
        self._misread = None
        where = "*" if self._only is None else pattern(self._only)
        async for keys in self._pulls.scan("MATCH", f"{where}{BINDINGS}*", "TYPE", "set"):
            for key in keys:
                await self._look_at(key, found)
            if len(found.homes) > Discovery.KNOWN_QUEUES:
                break
        self.prefixes = frozenset(sorted(found.prefixes)[:_MAX_PREFIXES])
        self.routes = Routes(found.exchanges, self._only)
        self.homes = found.homes
        return set(found.homes)

    async def _look_at(self, key: bytes, found: _Found) -> None:
        prefix, _, exchange = self._parts(key)
        if not exchange.endswith(_NO_TASKS):
            found.add(prefix, exchange, await self._bound(key))

    def _parts(self, key: bytes) -> tuple[str, str, str]:
        """The key prefix, `_kombu.binding.`, and the exchange."""
        if self._only is None:
            return key_text(key).partition(BINDINGS)
        return self._only, BINDINGS, key_text(key).removeprefix(self._only + BINDINGS)

    async def _bound(self, key: bytes) -> list[Binding]:
        """The bindings of an exchange: of each member the routing key, the pattern (of a topic), and the queue."""
        found: list[Binding] = []
        async for members in self._pulls.members(key):
            for member in members:
                parts = key_text(member).split(self._separator)
                if len(parts) == 3:
                    found.append(Binding(parts[0], bool(parts[1]), parts[2]))
                else:
                    self._misread = key_text(member)
            if len(found) > _MAX_BINDINGS:
                break
        return [binding for binding in found if binding.queue]


class _Found:
    """What a search has found so far."""

    def __init__(self, only: str | None) -> None:
        self.exchanges: dict[tuple[str, str], list[Binding]] = {}
        self.homes: dict[str, frozenset[str]] = {}
        self.prefixes = {only or ""}
        self._only = only
        self._routed = 0

    def add(self, prefix: str, exchange: str, bindings: list[Binding]) -> None:
        """An exchange under a key prefix."""
        self.prefixes.add(prefix)
        for queue in {binding.queue for binding in bindings}:
            name = queue_name(queue, prefix, self._only) or queue
            self.homes[name] = self.homes.get(name, frozenset()) | {prefix}
        self._routed += len(bindings)
        if len(bindings) <= _MAX_BINDINGS and self._routed <= _MAX_ROUTED:  # else where messages go is not known
            self.exchanges[prefix, exchange] = bindings
