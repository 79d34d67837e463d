"""Bounds on what a server may send: a hostile or broken one must not fill our memory. And redis-py's connections
under them."""

from __future__ import annotations

from typing import Any, Final

from redis.asyncio import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, Connection, DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError

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


class _Bounded(AbstractConnection):
    """Tells its parser where a round trip begins."""

    _parser: BoundedParser

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        self._parser.expect_replies()
        await super().send_packed_command(*args, **kwargs)


class _BoundedConnection(_Bounded, Connection):
    pass


class _BoundedSSLConnection(_Bounded, SSLConnection):
    pass


class _BoundedUnixConnection(_Bounded, UnixDomainSocketConnection):
    pass


CONNECTION_CLASSES: Final = {
    "redis": _BoundedConnection,
    "rediss": _BoundedSSLConnection,
    "unix": _BoundedUnixConnection,
}
"""By the scheme of the URL."""
