"""Who we are to one server, and how it is told: one password at a time, and no second time where it was refused."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from exporter.brokers.errors import BrokerError, Refused, Reply
from exporter.safe.secrets import Secret, SecretError, SecretFile
from exporter.safe.text import one_line

HOLD: Final = 10.0
"""Seconds for which a password that was refused is not offered again. Six failures a minute lock nobody out (of each
broker: those of one server that are several databases would have to wait for each other to be fewer), and with
a scrape every 15 s a password that was put right at the server works at the second one at the latest."""

Ask = Callable[..., Awaitable[Reply]]
"""Sends one command over a new connection; an error reply is returned, not raised."""

_REPEATED: Final = re.compile(r",? with args beginning with:.*", re.DOTALL)
_REFUSALS: Final = (
    ("DENIED", r"^DENIED ", "the server is in protected mode"),
    ("NOAUTH", r"NOAUTH|Authentication required", "the server wants a password, and none is configured"),
    ("WRONGPASS", r"WRONGPASS|invalid (username-)?password|is disabled", "the server refuses the user or the password"),
    ("ERR", r"without any password|no password is set", "a password is configured, and the server has none for it"),
)
"""How servers say it: redis-py takes the code away, and Redis before 6 gave none."""
_UNASKED: Final = re.compile(r"^DENIED |NOAUTH|Authentication required|max number of clients")
"""Refusals of the connection, whatever it was that was asked."""
_SENTENCE: Final = re.compile(r"\.\s.*", re.DOTALL)
_PASSING: Final = re.compile(r"max number of clients|LOADING|BUSY|MASTERDOWN|TRYAGAIN|CLUSTERDOWN")
"""Answers to AUTH that say nothing about the password: some proxies give them."""


@dataclass(frozen=True, slots=True)
class _Hold:
    problem: str
    until: float
    password: str = field(repr=False)  # what was refused: another may be offered at once


class Credentials:
    """Of one broker, shared by all connections to it."""

    def __init__(
        self,
        username: str | None,
        password: Secret | SecretFile | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._username = username
        self._password = password
        self._clock = clock
        self._trial = asyncio.Lock()
        self._hold: _Hold | None = None
        self._offered = ""

    def check(self) -> None:
        """Returns where it makes sense to connect. Raises Refused while the server is known to refuse us."""
        if self._hold and self._clock() < self._hold.until and self._reveal() == self._hold.password:
            raise Refused(self._hold.problem)

    async def let_in(self, ask: Ask) -> None:
        """AUTH, where there is a user or a password. Raises Refused, BrokerError where a file holds no password.

        One connection at a time: when many come at once and the password is wrong, it is refused once.
        """
        if not self._username and self._password is None:
            return
        async with self._trial:
            self.check()
            offered = self._reveal()
            refusal = await self._offer(ask, offered)
            if refusal is not None and (anew := self._reveal()) != offered:  # replaced since it was read
                offered, refusal = anew, await self._offer(ask, anew)
            if refusal is not None:
                raise self._refused(refusal, offered)
            self._hold = None

    def look_at(self, reply: Reply) -> None:
        """Raises Refused where a reply says that the server wants a password, or no clients at all."""
        if isinstance(reply, Exception) and _UNASKED.search(str(reply)):
            raise self._refused(str(reply), self._reveal())

    def forget(self) -> None:
        """What was refused may be right at another server."""
        self._hold = None

    def without_secret(self, text: str) -> str:
        """`text` without the password: a server without AUTH repeats the arguments of it in its error."""
        if not self._offered:
            return text
        told = _REPEATED.sub("", text)  # it may repeat a part, or other characters in place of some
        return told.replace(self._offered, "***")

    async def _offer(self, ask: Ask, password: str) -> str | None:
        """What the server says against it."""
        self._offered = password
        reply = await ask("AUTH", *([self._username] if self._username else []), password)
        if reply == b"OK":
            return None
        return str(reply) if isinstance(reply, Exception) else f"found {str(reply)[:60]}, wanted OK"

    def _refused(self, refusal: str, password: str) -> Refused:
        told = one_line(self.without_secret(refusal))
        if _PASSING.search(told):
            return Refused(told)
        code, meaning = next(
            ((code, meaning) for code, pattern, meaning in _REFUSALS if re.search(pattern, told)),
            ("ERR", "the server refuses AUTH"),
        )
        # The same text until it is over, so that it is logged once. With how often, as a time would not be the same.
        sooner = f", or when {self._password.key} changes" if isinstance(self._password, SecretFile) else ""
        reason = _SENTENCE.sub("", told).removeprefix(code).strip()
        problem = f"{code}: {meaning} ({reason}); tried again every {HOLD:g} s{sooner}"
        self._hold = _Hold(problem, self._clock() + HOLD, password)
        return Refused(problem)

    def _reveal(self) -> str:
        try:
            return self._password.reveal() if self._password else ""
        except SecretError as error:
            raise BrokerError(str(error)) from None
