"""What the queue systems in a Redis share: how they are made, and the search for queues."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, KeysView
from typing import ClassVar, Final

import msgspec

from exporter.brokers.errors import BrokerError
from exporter.brokers.pulls import Pulls
from exporter.brokers.turn import Turn
from exporter.model import Feed, Observation, Outcome, Permissions
from exporter.safe.text import one_line


class SystemOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A system's section below a broker in the configuration file. Systems may subclass it."""

    enabled: bool = True
    queues: tuple[str, ...] = ()
    """Queues to watch whether or not the search finds them."""
    discover: bool = True
    """Search the broker for queues."""


class RedisSystem(ABC):
    """A queue system in a Redis; see `model.QueueSystem` for what the methods promise."""

    name: ClassVar[str]
    Options: ClassVar[type[SystemOptions]] = SystemOptions
    outcomes: ClassVar[Collection[Outcome]] = ()

    def __init__(
        self,
        pulls: Pulls,
        options: SystemOptions,
        clock: Callable[[], float] = time.time,
        turn: Turn | None = None,
    ) -> None:
        """`turn` is where all feeds of a process decode; `clock` gives Unix time."""
        self.pulls = pulls
        self.options = options
        self.clock = clock
        self.turn = turn or Turn()

    @abstractmethod
    async def observe(self) -> Observation: ...

    @abstractmethod
    def permissions(self) -> Collection[Permissions]: ...

    @property
    def feeds(self) -> Collection[Feed]:
        """Nothing to follow, unless a system says otherwise."""
        return ()

    async def close(self) -> None:  # noqa: B027  a default, not an omission
        """Nothing runs in the background, unless a system says otherwise."""


Search = Callable[[], Awaitable[Collection[str]]]
"""Walks over a broker's keys and gives the queues it finds."""


class Discovery:
    """Searches the broker for queues, in the background, as a walk over all keys is too slow for a scrape.

    It is driven by scrapes: `queues()` starts a search when the last one is old enough, and only the very first
    search is waited for. A broker nobody scrapes is not searched. Queues once found stay known for a while, as an empty
    ARQ or Celery queue leaves no key behind; beyond `KNOWN_QUEUES` those that the search no longer finds make room.
    """

    INTERVAL: Final = 1.0
    BUSY_SHARE: Final = 0.02
    """Of the time, at most this share is spent searching: a keyspace of millions is walked less often."""
    KNOWN_QUEUES: Final = 10_000
    MEMORY: Final = 3600.0
    """Seconds after which a queue that the search no longer finds is forgotten: names may be made for one use."""
    PATIENCE: Final = 1.0
    """Seconds that the first search is waited for where queues are configured: those can be observed without it."""

    def __init__(self, search: Search | None, configured: Collection[str] = ()) -> None:
        self._search = search
        self._configured = frozenset(configured)
        self._known: dict[str, float] = dict.fromkeys(configured, 0.0)  # in a stable order; when it was last found
        self._appeared: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._next = 0.0
        self._done_once = search is None
        self.problem: str | None = None
        """Why the last search failed, if it did."""

    async def queues(self) -> KeysView[str]:
        """Every queue known by now, in a stable order.

        Raises BrokerError while none is configured and no search has succeeded.
        """
        if self._search is not None and self._task is None and time.monotonic() >= self._next:
            self._task = asyncio.create_task(self._run(self._search))
        if not self._done_once and self._task is not None:
            # wait() cancels nothing: whoever waits may give up, the search goes on for the next scrape.
            await asyncio.wait({self._task}, timeout=self.PATIENCE if self._known else None)
        if not self._done_once:
            self.problem = self.problem or "no search for queues has ended yet"
            if not self._known:
                raise BrokerError(self.problem)
        return self._known.copy().keys()

    def appeared(self, queue: str) -> bool:
        """Whether the queue came into being while we watched: an earlier search did not find it."""
        return queue in self._appeared

    async def close(self) -> None:
        """Ends a search that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, search: Search) -> None:
        began = time.monotonic()
        try:
            found = await search()
        except Exception as error:  # whatever it is: the next search may do better, and the known queues stand
            self.problem = f"search for queues failed: {one_line(str(error))}"
            self._next = time.monotonic() + (self.INTERVAL if self._done_once else 0.0)
        else:
            self.problem = None
            self._remember(found)
            self._done_once = True
            ended = time.monotonic()
            self._next = ended + max(self.INTERVAL, (ended - began) / self.BUSY_SHARE)
        finally:
            self._task = None

    def _remember(self, found: Collection[str]) -> None:
        now = time.monotonic()
        new = sorted(queue for queue in found if queue not in self._known)
        self._known.update({queue: now for queue in found if queue in self._known})
        self._forget(now, len(self._known) + len(new) - self.KNOWN_QUEUES, frozenset(found) | self._configured)
        room = max(0, self.KNOWN_QUEUES - len(self._known))
        self._known.update(dict.fromkeys(new[:room], now))
        if self._done_once:
            self._appeared.update(new[:room])
        if len(new) > room:
            self.problem = f"found {len(new) - room} queues beyond {self.KNOWN_QUEUES}: not watched"

    def _forget(self, now: float, excess: int, needed: Collection[str]) -> None:
        """Drops queues that are not `needed`: those not found for long, and `excess` others."""
        gone = sorted((queue for queue in self._known if queue not in needed), key=self._known.__getitem__)
        for place, queue in enumerate(gone):
            if place < excess or now - self._known[queue] > self.MEMORY:
                del self._known[queue]
                self._appeared.discard(queue)
