"""The way into one broker, shared by all connections to it: where it is now, and whom we are there."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import structlog

from exporter.brokers.address import Address, Place, shown_place
from exporter.brokers.credentials import Ask, Credentials
from exporter.brokers.errors import CLOSED, BrokerError, Command, Refused, naming
from exporter.brokers.lookup import Lookup
from exporter.brokers.tls import Contexts, TlsError
from exporter.safe.text import one_line

if TYPE_CHECKING:
    from exporter.brokers.left import Astray
    from exporter.brokers.sentinel import Sentinels

GREETING_BYTES: Final = 1024
CLIENT_NAME: Final = "taskqueue-exporter"
"""What CLIENT LIST shows."""

_AGAIN_SECONDS: Final = 1.0
_ALERT_SECONDS: Final = 1.0
_ENDINGS: Final = (
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)
"""What a connection that the server ends at once may raise."""
log = structlog.get_logger("exporter.brokers")


class Line(Protocol):
    """One connection, of either kind."""

    @property
    def first(self) -> bytes:
        """The first bytes that came over it, GREETING_BYTES or so: they are known whatever ended it."""

    def end(self, problem: str) -> None:
        """Whoever waits for something on it gets a BrokerError that says `problem`."""


class Opened(NamedTuple):
    """A connection on which nothing was said yet."""

    transport: asyncio.Transport
    place: Place


class _Listening(asyncio.Protocol):
    """Waits for the end of a connection."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.problem: Exception | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.problem = exc
        self.lost.set()


class Access:
    """Of one broker; all its connections, pulled and pushed, are made through the same one."""

    def __init__(self, address: Address) -> None:
        self.address = address
        """As configured."""
        self.credentials = Credentials(address.username, address.password)
        self._contexts = Contexts(address.tls) if address.tls else None
        self._lookup = Lookup()
        self._sentinels = _sentinels(address)
        self._place: Place | None = None if address.sentinel else (address.host, address.port)
        self._lines: WeakKeyDictionary[Line, Place] = WeakKeyDictionary()
        self._watching: asyncio.Task[None] | None = None

    @property
    def server(self) -> str:
        """`host:port`, or the socket's path, of the server that connections go to now: the label `server`. The name of
        the master before Sentinel said where it is."""
        if self._sentinels is None or self._place is None:
            return self.address.server
        return one_line(shown_place(self._place))

    @property
    def db(self) -> int:
        """The number of the database."""
        return self.address.db

    def when_astray(self, tell: Astray) -> None:
        """Calls `tell` when jobs may end where no connection leads, at a master that was left, and when no more."""
        if self._sentinels is not None:
            self._sentinels.left.tell = tell

    async def start(self) -> None:
        """Begins to watch where Sentinel says the master is, if it is to be asked."""
        if self._sentinels is not None:
            self._watching = asyncio.create_task(self._watch(self._sentinels))

    async def close(self) -> None:
        """Watches no more. Connections are closed by those who made them."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._sentinels is not None:
            await self._sentinels.close()

    async def open(self, factory: Callable[[], asyncio.BaseProtocol]) -> Opened:
        """A connection to where the server is now, with TLS where that is spoken. `introduce()` comes next.

        Raises BrokerError: at once, without connecting, while the server is known to refuse us.
        """
        self.credentials.check()
        try:
            return await self._open(factory)
        except _ENDINGS:
            raise BrokerError(CLOSED) from None
        except (OSError, ValueError) as error:  # ValueError: what is no path of a socket
            kind = "tls" if isinstance(error, TlsError) else type(error).__name__
            raise BrokerError(one_line(f"{kind}: {error}")) from None

    def unanswered(self, waited: str) -> BrokerError:
        """Of a connection, or an answer, that did not come in time; `waited` says for what, and how long."""
        return BrokerError(self._lookup.problem() or f"TimeoutError: {waited}")

    async def introduce(self, line: Line, place: Place, ask: Ask) -> None:
        """What a new connection says first: who we are, which database, its name. By Sentinel, that it is the master.

        Raises BrokerError, and Refused where the server does not let us in.
        """
        if place != self._place:  # while we connected
            raise BrokerError(self._moved_problem())
        self._lines[line] = place
        try:
            await self._introduce(place, ask)
        except Exception as error:
            if isinstance(error, Refused) or type(error) is BrokerError:
                raise
            self._look_at_greeting(line.first)
            if alert := await self._alert():  # else it is a loss, of the kind that `ask` is of
                raise BrokerError(alert) from None
            raise

    def _look_at_greeting(self, first: bytes) -> None:
        """A server that turns away all who come says why before it is asked, and is gone. Raises Refused."""
        if first.startswith(b"-"):
            self.credentials.look_at(Exception(first[1:].partition(b"\r\n")[0].decode(errors="replace")))

    async def _introduce(self, place: Place, ask: Ask) -> None:
        await self.credentials.let_in(ask)
        if self._sentinels is not None:
            await self._check_role(ask, place)
        if self.db:
            self._expect(await ask("SELECT", self.db), b"OK", ("SELECT",))
        self.credentials.look_at(await ask("CLIENT", "SETNAME", CLIENT_NAME))  # any other refusal of it does no harm

    async def _open(self, factory: Callable[[], asyncio.BaseProtocol]) -> Opened:
        loop = asyncio.get_running_loop()
        place = host, port = await self._find()
        if self.address.scheme == "unix":
            return Opened((await loop.create_unix_connection(factory, host))[0], place)
        problems: list[OSError] = []
        for ip in await self._lookup.addresses(host):
            try:
                return Opened((await loop.create_connection(factory, ip, port, **self._tls(host)))[0], place)
            except ssl.SSLError:  # of a server that was reached
                raise
            except OSError as error:
                problems.append(error)
        raise problems[0]  # of the best

    def _tls(self, host: str) -> dict[str, Any]:
        """What connecting has to know of it. Raises TlsError."""
        tls = self.address.tls
        if tls is None or self._contexts is None:
            return {}
        return {"ssl": self._contexts.current(), "server_hostname": tls.server_name or host}

    async def _find(self) -> Place:
        if self._sentinels is None:
            return self.address.host, self.address.port
        place = await self._sentinels.master()
        self._move(place)
        return place

    async def _check_role(self, ask: Ask, place: Place) -> None:
        """Sentinel may not have noticed yet that this one is a replica again."""
        role = self._expect(await ask("ROLE"), None, ("ROLE",))
        if not is_masters(role):
            found = role[0] if isinstance(role, list) and role else role
            told = found.decode(errors="replace") if isinstance(found, bytes) else str(found)
            raise BrokerError(one_line(f"{shown_place(place)} says that it is {told[:20]!r}, wanted the master"))

    def _expect(self, reply: object, wanted: bytes | None, command: Command) -> object:
        """The reply, if it is what is `wanted` (None: anything but an error)."""
        self.credentials.look_at(reply)
        if isinstance(reply, Exception):
            raise Refused(one_line(self.credentials.without_secret(naming(str(reply), command))))
        if wanted is not None and reply != wanted:
            raise Refused(one_line(f"found {str(reply)[:60]} as the answer to {command[0]!s}, wanted {wanted!r}"))
        return reply

    async def _alert(self) -> str | None:
        """What the server has against our certificate.

        By TLS 1.3 it says so only when the handshake is over for us, and then we have written. What is written to a
        socket that was closed throws away what came over it before. So once more, and not a word.
        """
        if self._contexts is None:
            return None
        listening = _Listening()
        with suppress(BrokerError, TlsError, OSError, ValueError):
            async with asyncio.timeout(_ALERT_SECONDS):
                opened = await self._open(lambda: listening)
                try:
                    await listening.lost.wait()
                finally:
                    opened.transport.abort()
        told = listening.problem
        if not isinstance(told, ssl.SSLError) or isinstance(told, _ENDINGS):  # ended without a reason
            return None
        return one_line(f"{type(told).__name__}: {told}")

    # -- Sentinel -----------------------------------------------------------------------------------------------

    async def _watch(self, sentinels: Sentinels) -> None:
        while True:
            try:
                await sentinels.watch(self._move)
            except Exception as error:  # a fault of it must not leave us with an old master for ever
                log.error("no watch on sentinels", master=self.address.server, problem=one_line(repr(error)))
            await asyncio.sleep(_AGAIN_SECONDS)

    def _move(self, place: Place) -> None:
        """From now on connections go to `place`, and those to elsewhere end."""
        if place == self._place:
            return
        self._place = place
        self.credentials.forget()
        for line, where in list(self._lines.items()):
            if where != place:
                line.end(self._moved_problem())

    def _moved_problem(self) -> str:
        return f"the master is now at {self.server}"


def is_masters(role: object) -> bool:
    """Whether an answer to ROLE is that of a master."""
    return isinstance(role, list) and role[:1] == [b"master"]


def _sentinels(address: Address) -> Sentinels | None:
    if address.sentinel is None:
        return None
    from exporter.brokers.sentinel import Sentinels  # it reaches each of them by an Access, too

    return Sentinels(address.sentinel, address)
