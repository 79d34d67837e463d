"""Bounds on what a server may send: a hostile or broken one must not fill our memory. And redis-py's connections
under them."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from exporter.brokers.access import GREETING_BYTES, Access
from exporter.brokers.address import Place
from exporter.brokers.errors import CLOSED, BrokerError

REPLY_BYTES: Final = 8 * 1024 * 1024
"""The most that is read of the replies to one round trip. What is longer ends the connection."""

_TOO_LARGE: Final = f"reply larger than {REPLY_BYTES} bytes"
# hiredis makes room for as many elements as an array declares: 17 GB of it froze the garbage collector for 4 s.
_ARRAYS: Final = frozenset(b"*~>%|")
_ARRAY_DIGITS: Final = 5
_STRINGS: Final = frozenset(b"$=!")
_STRING_DIGITS: Final = len(str(REPLY_BYTES))
_LONGEST_LINE: Final = 64 * 1024
"""Of statuses, errors and sizes."""
_COMMON: Final = {b"*%d" % n: 2 for n in range(10)} | {b"$%d" % n: n + 4 for n in range(2048)}
"""Lines seen most, and how far behind them the next one begins: read in half the time of others."""


class Overrun(RedisConnectionError):
    """The bound was passed. Raised below redis-py, so of a kind that it lets through."""


class SizeGuard:
    """Looks at the sizes that a stream of replies declares, before hiredis makes room for them."""

    def __init__(self, array_digits: int = _ARRAY_DIGITS) -> None:
        self._array_digits = array_digits
        self._skip = 0  # bytes that are still to come of a string
        self._line = b""  # the part that has come of a line

    def check(self, chunk: bytes | bytearray) -> None:
        """Goes from line to line and over the strings. Raises Overrun."""
        data, place = self._line + chunk, self._skip
        while (end := data.find(b"\r\n", place)) >= 0:
            if ahead := _COMMON.get(data[place:end]):
                place = end + ahead
                continue
            kind, size = data[place], data[place + 1 : end]
            if kind in _ARRAYS and len(size) > self._array_digits:
                raise Overrun(_TOO_LARGE)
            place = end + 2
            if kind in _STRINGS and size.isdigit():
                if len(size) > _STRING_DIGITS or int(size) > REPLY_BYTES:
                    raise Overrun(_TOO_LARGE)
                place += int(size) + 2
        self._skip, self._line = max(0, place - len(data)), data[place:]
        if len(self._line) > _LONGEST_LINE:
            raise Overrun(_TOO_LARGE)


class BoundedParser(DefaultParser):  # type: ignore[misc, valid-type]
    """redis-py's parser, which stops reading beyond REPLY_BYTES instead of holding it all in memory."""

    _received = 0
    _guard = SizeGuard()

    def on_connect(self, connection: AbstractConnection) -> None:
        self._received, self._guard = 0, SizeGuard()
        super().on_connect(connection)

    def expect_replies(self) -> None:
        """Commands were sent: what comes in from now on are the replies to them."""
        self._received = 0

    async def read_from_socket(self) -> bool:
        chunk = await self._stream.read(self._read_size)
        if not chunk:
            raise RedisConnectionError("Connection closed by server.")
        self._received += len(chunk)
        if self._received > REPLY_BYTES:
            raise Overrun(_TOO_LARGE)
        self._guard.check(chunk)
        self._reader.feed(chunk)
        return True


class _Ended(BrokerError, RedisConnectionError):
    """Why we ended a connection. redis-py lets it through to whoever waits, and makes one anew that nobody used."""


class _Reader(asyncio.StreamReader):
    """Remembers what came first: once the connection is reset, what was not read of it yet is not given any more."""

    first = b""

    def feed_data(self, data: Any) -> None:
        if len(self.first) < GREETING_BYTES:
            self.first += bytes(data[:GREETING_BYTES])
        super().feed_data(data)


class BoundedConnection(AbstractConnection):
    """A connection of redis-py's pool made by an Access: the same way for TCP, TLS and unix sockets, and for the
    connections that are not redis-py's."""

    _parser: BoundedParser

    def __init__(self, *, access: Access, **kwargs: Any) -> None:
        self._access = access
        self._place: Place = ("", 0)
        self._heard: _Reader | None = None  # redis-py forgets its reader when the connection has ended
        super().__init__(**kwargs)

    @property
    def first(self) -> bytes:
        """For `access.Line`."""
        return self._heard.first if self._heard else b""

    def repr_pieces(self) -> list[tuple[str, Any]]:
        return [("server", self._access.server), ("db", self.db)]

    def end(self, problem: str) -> None:
        """For `access.Line`."""
        if self._reader is not None and self._writer is not None:
            self._reader.set_exception(_Ended(problem))
            self._writer.transport.abort()

    async def introduce(self) -> None:
        """To be redis-py's `redis_connect_func`: says what every connection says first."""
        try:
            self._parser.on_connect(self)
            await self._access.introduce(self, self._place, self._ask)
        except BaseException:  # redis-py would keep it, and use it, after what is no error of its own
            await self.disconnect(nowait=True)
            raise

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        """Tells the parser where a round trip begins."""
        if self._writer is not None and self._writer.transport.is_closing():
            await self.disconnect()
            raise RedisConnectionError(CLOSED)  # uvloop raises a RuntimeError here, and Python 3.13 an AttributeError
        self._parser.expect_replies()
        await super().send_packed_command(*args, **kwargs)

    async def disconnect(self, nowait: bool = True, **kwargs: Any) -> None:
        """Waits for no goodbye, as redis-py would: a server that hangs says none over TLS."""
        if self._writer is not None:
            self._writer.transport.abort()
        await super().disconnect(nowait=True, **kwargs)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        reader = _Reader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            async with asyncio.timeout(self.socket_connect_timeout):
                transport, self._place = await self._access.open(lambda: protocol)
        except TimeoutError:
            waited = f"not connected to {self._access.server} within {self.socket_connect_timeout:g} s"
            raise self._access.unanswered(waited) from None
        self._reader = self._heard = reader
        self._writer = asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _ask(self, *command: str | bytes | int) -> Any:
        """The reply, or the error reply: for redis-py that of AUTH is an end of the connection, which it is not."""
        reader = self._reader
        if reader is None:  # redis-py would connect anew, and wait behind itself to be let in
            raise _Ended(CLOSED)
        try:
            await self.send_command(*command, check_health=False)
            return await self.read_response(disconnect_on_error=False)
        except (ResponseError, AuthenticationError) as error:
            return error
        except (BrokerError, Overrun, BusyLoadingError):
            raise
        except (RedisConnectionError, OSError):
            known = reader.exception()
            raise known if isinstance(known, _Ended) else _Ended(CLOSED) from None

    def _host_error(self) -> str:
        return self._access.server


async def introduce(connection: BoundedConnection) -> None:
    """`BoundedConnection.introduce`, as redis-py wants it."""
    await connection.introduce()
