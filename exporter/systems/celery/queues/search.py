"""The search for Celery's queues: by their bindings, which producers write too."""

from __future__ import annotations

from typing import Final

from exporter.brokers.pulls import Pulls
from exporter.safe.documents import shown
from exporter.systems.base import Discovery
from exporter.systems.celery.layout import BINDINGS
from exporter.systems.keys import key_text

# Exchanges whose queues carry no tasks: remote control, its replies, events.
_NO_TASKS: Final = ("pidbox", "celeryev")
# A reply queue that never goes away leaves its binding behind: sets of a million members were seen.
_MAX_BINDINGS: Final = 10_000
_MAX_PREFIXES: Final = 100


class Search:
    """Finds queues, also those that no worker ever consumed, and the key prefixes that stand before them."""

    def __init__(self, pulls: Pulls, separator: str) -> None:
        self.prefixes: frozenset[str] = frozenset({""})
        self._pulls = pulls
        self._separator = separator
        self._misread: str | None = None

    @property
    def problem(self) -> str | None:
        """What the last search could not read."""
        if self._misread is None:
            return None
        return f"found the binding {shown(self._misread)}, wanted three parts between {self._separator!r}"

    async def queues(self) -> set[str]:
        """The queues by their keys."""
        found: set[str] = set()
        prefixes = {""}
        self._misread = None
        async for keys in self._pulls.scan("MATCH", f"*{BINDINGS}*", "TYPE", "set"):
            for key in keys:
                prefix, _, exchange = key_text(key).partition(BINDINGS)
                if not exchange.endswith(_NO_TASKS):
                    found.update(prefix + queue for queue in await self._bound(key))
                    prefixes.add(prefix)
            if len(found) > Discovery.KNOWN_QUEUES:
                break
        self.prefixes = frozenset(sorted(prefixes)[:_MAX_PREFIXES])
        return found

    async def _bound(self, key: bytes) -> set[str]:
        """The queues bound to an exchange: the last of the three parts of each member."""
        found: set[str] = set()
        async for members in self._pulls.members(key):
            for member in members:
                parts = key_text(member).split(self._separator)
                if len(parts) == 3:
                    found.add(parts[2])
                else:
                    self._misread = key_text(member)
            if len(found) > _MAX_BINDINGS:
                break
        return found - {""}
