"""Feeds at work: followed for ever, and what each tells about itself."""

from __future__ import annotations

import asyncio
import random
import time
from asyncio import sleep
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

import structlog
from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.brokers.errors import BrokerError, Refused
from exporter.brokers.push import ConnectionLost
from exporter.ledger import Ledger
from exporter.model import Feed, JobEvent, Unreadable
from exporter.safe.text import one_line

FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 5.0
"""Seconds between two attempts to connect, doubled each time from the first; the real ones are up to half shorter, so
that many exporters do not come back to a broker at the same moment."""

STABLE_AFTER: Final = 30.0
"""Seconds for which a connection must have held before the next loss is the first again: a server that ends each one
at once must neither be hammered nor fill the log."""

KINDS: Final = ("job", "worker")

FAMILIES: Final = (
    *(c.FEED_CONNECTED, c.FEED_INFO, c.FEED_EVENTS, c.FEED_LOST, c.FEED_GAP, c.FEED_RECONNECTS, c.FEED_UNDECODABLE),
    *(c.FEED_FORGOTTEN, c.FEED_LAST_EVENT),
)
"""Every family that a feed fills about itself."""

log = structlog.get_logger("exporter.feeds")


class FeedState:
    """The Sink of one feed: job events go on to the ledger, everything else is counted here."""

    def __init__(
        self,
        labels: tuple[str, str, str],
        ledger: Ledger,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`labels` are system, broker, feed."""
        self.mode: str | None = None
        """How the feed sees what happens; None while it sees nothing."""
        self._labels = labels
        self._ledger = ledger
        self._clock = clock
        self._monotonic = monotonic
        self._connections = 0
        self._gap = 0.0
        self._began = self._sees_since = monotonic()
        self._blind_since: float | None = None
        self._astray = False
        self._events = Counter(dict.fromkeys(KINDS, 0))
        self._unreadable = Counter(dict.fromkeys(Unreadable, 0))
        self._lost = 0
        self._forgotten = 0
        self._last_event: float | None = None

    # -- Sink ---------------------------------------------------------------------------------------------------

    def record(self, events: Collection[JobEvent]) -> None:
        self._ledger.record(events)

    def connected(self, mode: str) -> None:
        if self.mode is None:
            self._connections += 1
            if not self._astray:
                self._see()
        self.mode = mode

    def received(self, kind: str, n: int) -> None:
        self._events[kind] += n
        self._last_event = self._clock()

    def lost(self, n: int) -> None:
        self._lost += n

    def undecodable(self, reason: Unreadable, n: int) -> None:
        self._unreadable[reason] += n

    def forgotten(self, n: int) -> None:
        self._forgotten += n

    # -- of the supervisor --------------------------------------------------------------------------------------

    @property
    def stable(self) -> bool:
        """Whether the feed has been connected, and seen all, for a good while."""
        sees = self.mode is not None and self._blind_since is None
        return sees and self._monotonic() - self._sees_since > STABLE_AFTER

    def disconnected(self, since: float | None = None) -> None:
        """Nothing is seen any more, `since` then (None: now); where nothing ever was, since we began."""
        if self.mode is not None:
            self._miss(self._monotonic() if since is None else since)
        elif self._connections == 0:
            self._blind_since = self._began
        self.mode = None

    def astray(self, since: float | None) -> None:
        """Jobs may have ended since then, and may go on to, where the feed does not look though it be connected; None:
        no more."""
        self._astray = since is not None
        if since is not None:
            self._miss(since)
        elif self.mode is not None:
            self._see()

    def _miss(self, since: float) -> None:
        """Not all is seen, since then."""
        missed = max(since, self._sees_since)
        self._blind_since = missed if self._blind_since is None else min(missed, self._blind_since)

    def _see(self) -> None:
        """All is seen from now on."""
        self._gap, self._blind_since, self._sees_since = self._gap_so_far(), None, self._monotonic()

    def _gap_so_far(self) -> float:
        return self._gap if self._blind_since is None else self._gap + self._monotonic() - self._blind_since

    def families(self) -> list[Metric]:
        """What the feed tells about itself."""
        labels = self._labels
        modes = [] if self.mode is None else [((*labels, self.mode), 1)]
        last = [] if self._last_event is None else [(labels, self._last_event)]
        return [
            c.FEED_CONNECTED.metric([(labels, float(self.mode is not None))]),
            c.FEED_INFO.metric(modes),
            c.FEED_EVENTS.metric(((*labels, kind), number) for kind, number in self._events.items()),
            c.FEED_LOST.metric([(labels, self._lost)]),
            c.FEED_GAP.metric([(labels, self._gap_so_far())]),
            c.FEED_RECONNECTS.metric([(labels, max(0, self._connections - 1))]),
            c.FEED_UNDECODABLE.metric(((*labels, reason), number) for reason, number in self._unreadable.items()),
            c.FEED_FORGOTTEN.metric([(labels, self._forgotten)]),
            c.FEED_LAST_EVENT.metric(last),
        ]


class Follower:
    """Follows one feed: again and again, as a connection is lost sooner or later."""

    def __init__(self, feed: Feed, state: FeedState, broker: str) -> None:
        self.state = state
        self._feed = feed
        self._log = log.bind(feed=feed.name, broker=broker)
        self._last_problem: str | None = None
        self._refused: str | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def refusal(self) -> str | None:
        """What the server refuses, while that keeps the feed from being connected: then coming back does not help, as
        it does with a broker that is away."""
        if self.state.mode is not None or self._refused is None:
            return None
        return f"feed {self._feed.name} refused: {self._refused}"

    def start(self) -> None:
        """Begins to follow."""
        self._task = asyncio.create_task(self._follow_for_ever())

    async def close(self) -> None:
        """Follows no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.state.disconnected()

    async def _follow_for_ever(self) -> None:
        delay = FIRST_DELAY
        while True:
            problem, since = await self._follow()
            if self.state.stable:  # what there was before is over
                delay, self._last_problem = FIRST_DELAY, None
            self.state.disconnected(since)
            self._note(problem)
            await sleep(delay * random.uniform(0.5, 1))  # noqa: S311  no secret
            delay = min(2 * delay, LONGEST_DELAY)

    async def _follow(self) -> tuple[str, float | None]:
        """Follows until that fails; why, and since when nothing had been heard by then, if that is known."""
        refused = None
        try:
            await self._feed.follow(self.state)
        except ConnectionLost as error:
            return str(error), error.heard_at
        except BrokerError as error:
            refused = str(error) if isinstance(error, Refused) else None
            return str(error), None
        except Exception as error:  # a fault of a feed must not end it for ever
            self._log.debug("feed raised", exc_info=error)
            return one_line(f"{type(error).__name__}: {error}"), None
        finally:
            self._refused = refused
        return "ended by itself", None

    def _note(self, problem: str) -> None:
        """Logs a problem when it comes: not at every attempt of one row."""
        if problem != self._last_problem:
            self._last_problem = problem
            self._log.warning("feed not connected", problem=problem)


class Followed:
    """One queue system in one broker as its feeds see it: what they count, and what they tell about themselves."""

    def __init__(self, system: str, broker: str, ledger: Ledger, feeds: Collection[Feed]) -> None:
        self.system = system
        self.broker = broker
        self.ledger = ledger
        self._followers = [Follower(feed, FeedState((system, broker, feed.name), ledger), broker) for feed in feeds]

    def start(self) -> None:
        """Begins to follow."""
        for follower in self._followers:
            follower.start()

    async def close(self) -> None:
        """Follows no more."""
        for follower in self._followers:
            await follower.close()

    def astray(self, since: float | None) -> None:
        """See `FeedState.astray`."""
        for follower in self._followers:
            follower.state.astray(since)

    def problems(self) -> list[str]:
        """Why a feed cannot be connected though the broker answers, one line each."""
        return [follower.refusal for follower in self._followers if follower.refusal]

    def families(self) -> list[Metric]:
        """The counters of the jobs, and the feeds' own."""
        about = [metric for follower in self._followers for metric in follower.state.families()]
        return [*self.ledger.families(), *about]
