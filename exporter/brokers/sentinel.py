"""Where a master is, by its Redis Sentinels: all are asked, and the one that knows of the newest failover is believed.

After a failover the old master says "master" and takes writes for 6 to 10 s more (measured: only then does Sentinel
make a replica of it), so that its ROLE proves nothing. A sentinel that was cut off meanwhile knows only the old one.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import structlog

from exporter.brokers.access import Access
from exporter.brokers.address import Address, Place, Sentinel, shown_place
from exporter.brokers.errors import BrokerError, Command, Reply
from exporter.brokers.left import Left, is_master
from exporter.brokers.pulls import Pulls
from exporter.safe.text import one_line

POLL: Final = 1.0
"""Seconds between two questions: a failover takes Sentinel longer, and each is two commands that look something up."""
ANSWER: Final = 1.0
"""Seconds that one sentinel has to answer in, the connecting included."""
GRACE: Final = 0.25
"""Seconds in which the others may answer after the first: one that hangs holds up no more than that."""
SETTLED: Final = 15.0
"""Seconds after which an older failover is believed again where most sentinels know of no newer one, as when they were
set up anew. Sentinels tell each other of a failover every 2 s (sentinel.c, SENTINEL_PUBLISH_PERIOD)."""
LONE: Final = 60.0
"""Seconds after which one is where fewer say so, the others being gone for good: if the master of the newer one is none
or cannot be reached. Else a sentinel that was cut off, and is the only one left, would send us away from it."""

Moved = Callable[[Place], None]

log = structlog.get_logger("exporter.brokers")


@dataclass(frozen=True, slots=True)
class Told:
    """What one sentinel says: where the master is, since which failover (its `config-epoch`)."""

    place: Place
    epoch: int


class Sentinels:
    """Those of one master. `master()` and `watch()` may run side by side."""

    def __init__(self, sentinel: Sentinel, master: Address, clock: Callable[[], float] = time.monotonic) -> None:
        """`master` says how to get in at the master, wherever it is."""
        self.left = Left(master)
        self._name = sentinel.master
        self._master = master
        self._clock = clock
        self._asked = [_Asked(sentinel.master, address) for address in sentinel.addresses]
        self._believed: Told | None = None
        self._confirmed = 0.0  # when it was told last
        self._doubted: Told | None = None
        self._moved: Moved | None = None

    async def master(self) -> Place:
        """Where the master is now; while no sentinel says, where it was, and where whoever is connected stays. Raises
        BrokerError where none has said yet."""
        running = {asyncio.create_task(asked.join()) for asked in self._asked}
        try:
            heard = await _first_and_those_close_behind(running)
        finally:
            for task in running:
                task.cancel()
        if not heard:
            if self._believed is not None:
                return self._believed.place
            problems = "; ".join(f"{asked.server}: {asked.problem}" for asked in self._asked)
            raise BrokerError(one_line(f"no sentinel tells where the master {self._name!r} is: {problems}", 1000))
        # With what those said before that are slower than GRACE.
        return await self._believe([asked.told for asked in self._asked if asked.told is not None])

    async def watch(self, moved: Moved) -> None:
        """For ever: asks again and again, and calls `moved` when the master is at another place than it was, whoever it
        was that asked. While no sentinel answers nothing has moved."""
        self._moved = moved
        while True:
            with suppress(BrokerError):
                await self.master()
            await asyncio.sleep(POLL)

    async def close(self) -> None:
        """Ends the connections."""
        for asked in self._asked:
            await asked.close()
        await self.left.close()

    async def _believe(self, answers: Sequence[Told]) -> Place:
        """The newest of `answers`, or what was believed before where that is newer still."""
        votes, before = Counter(answers), self._believed
        newest = max(votes, key=lambda told: (told.epoch, votes[told], told == before))
        if (
            before is not None
            and newest.epoch < before.epoch
            and not await self._gave_up(before, newest, votes[newest])
        ):
            return (self._believed or before).place
        since, self._believed, self._confirmed, self._doubted = self._confirmed, newest, self._clock(), None
        if before is not None and before.place != newest.place:
            self._tell_moved(before.place, newest.place, since)
        return newest.place

    async def _gave_up(self, before: Told, newest: Told, votes: int) -> bool:
        """Whether `before`, which no sentinel tells of any more, is not to be believed any longer."""
        if newest not in (self._doubted, replace(newest, place=before.place)):
            self._doubted = newest
            places = {"told": one_line(shown_place(newest.place)), "believed": one_line(shown_place(before.place))}
            log.warning("sentinels tell of an older failover", master=self._name, **places)
        untold = self._clock() - self._confirmed
        if 2 * votes > len(self._asked):
            return untold >= SETTLED
        if untold < LONE:
            return False
        if await is_master(self._master, before.place):
            self._confirmed = self._clock()
            return False
        return self._believed is before  # else somebody else has learned more meanwhile

    def _tell_moved(self, before: Place, now: Place, since: float) -> None:
        log.warning(
            "master moved", master=self._name, before=one_line(shown_place(before)), now=one_line(shown_place(now))
        )
        self.left.leave(before, now, since)
        if self._moved is not None:
            self._moved(now)


class _Asked:
    """One sentinel. A question that waits for its answer is joined, so that one that hangs is asked once at a time."""

    def __init__(self, master: str, address: Address) -> None:
        self.server = address.server
        self.told: Told | None = None
        """What it said last, if it did not fail since."""
        self.problem: str | None = None
        """Why it does not say where the master is, if it doesn't."""
        self._master = master
        limits = {"socket_timeout": ANSWER, "socket_connect_timeout": ANSWER}
        self._pulls = Pulls(Access(replace(address, options={**limits, **address.options})))
        self._task: asyncio.Task[None] | None = None

    async def join(self) -> bool:
        """Asks it. Whether its answer is of use: else see `problem`."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        await asyncio.shield(self._task)
        return self.told is not None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._pulls.close()

    async def _run(self) -> None:
        told, problem = None, None
        try:
            # The address comes second: should they fall into two moments, a new master is taken for an old one until
            # the next question, and never an old one for new.
            told = _told(self._master, await self._pulls.many(commands(self._master)))
        except BrokerError as error:
            problem = str(error)
        except Exception as error:  # whatever it said: the others may know
            problem = one_line(f"{type(error).__name__}: {error}")
        self.told = told
        self._note(problem)

    def _note(self, problem: str | None) -> None:
        """Logs a problem when it comes, and when it has gone."""
        if problem is not None and problem != self.problem:
            log.warning("sentinel of no use", master=self._master, sentinel=self.server, problem=problem)
        elif problem is None and self.problem is not None:
            log.info("sentinel answers", master=self._master, sentinel=self.server)
        self.problem = problem


def commands(master: str) -> tuple[Command, ...]:
    """What a sentinel is asked. Its address of the master is the new one as soon as that was promoted."""
    return ("SENTINEL", "MASTER", master), ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master)


def _told(master: str, replies: Sequence[Reply]) -> Told:
    """Raises BrokerError where they do not say."""
    state, place = replies
    if place is None or "No such master" in str(state):
        raise BrokerError(f"it knows no master named {master!r}")
    for reply in replies:
        if isinstance(reply, Exception):
            raise BrokerError(one_line(f"{type(reply).__name__}: {reply}"))
    fields = dict(zip(state[::2], state[1::2], strict=True))
    epoch = fields.get(b"config-epoch", b"")
    host, port = place
    if not epoch.isdigit() or not host or not 0 < int(port) <= 65535:
        raise BrokerError(one_line(f"found config-epoch {epoch!r} at {host!r}:{port!r}, wanted a master: no Sentinel?"))
    return Told((host.decode(), int(port)), int(epoch))


async def _first_and_those_close_behind(running: Collection[asyncio.Task[bool]]) -> bool:
    """Returns when one has answered and the others, too, or for GRACE did not. Whether one has."""
    waiting = set(running)
    while waiting and not _any(running):
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if waiting:
        await asyncio.wait(waiting, timeout=GRACE)
    return _any(running)


def _any(running: Collection[asyncio.Task[bool]]) -> bool:
    return any(task.done() and not task.cancelled() and task.result() for task in running)
