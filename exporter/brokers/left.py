"""What a server says that it is, asked over a connection of its own: of masters that were left, and of one in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from exporter.brokers.access import Access, is_masters
from exporter.brokers.address import Address, Place
from exporter.brokers.errors import BrokerError, Refused
from exporter.brokers.pulls import Pulls
from exporter.safe.text import one_line

AGAIN: Final = 1.0
"""Seconds between two questions."""
ANSWER: Final = 1.0
"""Seconds that a server has to answer in, where the URL says nothing else, and as many to connect."""
LONGEST: Final = 15.0
"""Seconds for which a master that was left is asked: Sentinel makes a replica of it within 6 to 10 s."""

Astray = Callable[[float | None], None]
"""Told when jobs may end at a master that was left: since when, of `time.monotonic`; None: no more."""

log = structlog.get_logger("exporter.brokers")


class Left:
    """Masters that were left, each until it is none, cannot be reached, or has been asked for LONGEST."""

    def __init__(self, address: Address) -> None:
        """`address` is that of whoever is the master."""
        self.tell: Astray | None = None
        self._address = address
        self._asking: dict[Place, asyncio.Task[None]] = {}

    def leave(self, before: Place, now: Place, since: float) -> None:
        """The master is at `now`, and was at `before` until `since`, or a little later."""
        if again := self._asking.pop(now, None):
            again.cancel()
        task = self._asking[before] = asyncio.create_task(self._until_none(before))
        task.add_done_callback(lambda _: self._ended(before, task))
        self._tell(since)

    async def close(self) -> None:
        """Asks no more."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _until_none(self, place: Place) -> None:
        asked = _Asked(self._address, place)
        try:
            async with asyncio.timeout(LONGEST), asked:
                while await asked.is_master() is not False:  # noqa: ASYNC110  nothing else tells
                    await asyncio.sleep(AGAIN)
        except TimeoutError:
            log.warning("left a server that may go on as a master", server=asked.server, seconds=LONGEST)
        except Exception as error:  # a fault of ours must not end in silence
            log.error("not known what became of a master", server=asked.server, problem=one_line(repr(error)))

    def _ended(self, place: Place, task: asyncio.Task[None]) -> None:
        if self._asking.get(place) is task:
            del self._asking[place]
        if not self._asking:
            self._tell(None)

    def _tell(self, since: float | None) -> None:
        if self.tell is not None:
            self.tell(since)


async def is_master(address: Address, place: Place) -> bool | None:
    """Whether the server at `place` says so; False also where it cannot be reached, None where it does not let us ask.

    `address` has the way in."""
    async with _Asked(address, place) as asked:
        return await asked.is_master()


class _Asked:
    """One server, at a place of its own."""

    def __init__(self, address: Address, place: Place) -> None:
        host, port = place
        options = {"socket_timeout": ANSWER, "socket_connect_timeout": ANSWER, **address.options}
        here = replace(address, host=host, port=port, db=0, sentinel=None, options=options)
        self.server = here.server
        self._pulls = Pulls(Access(here))

    async def __aenter__(self) -> _Asked:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pulls.close()

    async def is_master(self) -> bool | None:
        try:
            return is_masters(await self._pulls.one("ROLE"))
        except Refused:
            return None
        except BrokerError:
            return False
