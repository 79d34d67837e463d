"""Pushed reads from one Redis: a connection that drains its socket at once and decodes later, in the shared turn.

Not a StreamReader, which pauses the socket at 128 KiB: then the backlog grows in the server, which cuts the subscriber
(435,000 of 500,000 events lost that way, none this way).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Final, NoReturn, Self, TypeVar, cast

import hiredis

from exporter.brokers.address import Address
from exporter.brokers.bounded import Overrun, SizeGuard
from exporter.brokers.pulls import CLIENT_NAME, SOCKET_TIMEOUT, BrokerError, Command, Reply
from exporter.brokers.turn import Turn
from exporter.safe.text import one_line

BEAT_SECONDS: Final = 5.0
"""Between two PINGs. A connection that is silent after one is lost: noticed within two beats."""
BACKLOG_BYTES: Final = 256 * 1024 * 1024
"""Held for decoding; beyond, the oldest messages are dropped."""

P = TypeVar("P", bound=asyncio.Protocol)
Push = list[Any]
"""A message as the server sends it: its kind first, its payload last."""

_PUSHES: Final = frozenset({b"message", b"pmessage"})
_ARRAY_DIGITS: Final = 6  # keys that expire together are named in one message
_NOTHING: Final = object()


def _ignore(push: Push) -> None:
    """Whoever subscribes to nothing gets no messages."""


def _see(future: asyncio.Future[Any]) -> None:
    """Takes note of an exception that nobody may be waiting for: else the loop would log it."""
    if not future.cancelled():
        future.exception()


class _Batch:
    """Commands sent in one go, and their replies so far."""

    __slots__ = ("future", "replies", "size")

    def __init__(self, size: int, future: asyncio.Future[list[Reply]]) -> None:
        self.size = size
        self.future = future
        self.replies: list[Reply] = []


class PushConnection(asyncio.Protocol):
    """One connection, in RESP2. Made by `open()`; every method raises BrokerError once it is lost."""

    def __init__(
        self, address: Address, turn: Turn, on_push: Callable[[Push], None], on_drop: Callable[[Push], None], limit: int
    ) -> None:
        self._address = address
        self._turn = turn
        self._on_push = on_push
        self._on_drop = on_drop
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[NoReturn] = self._loop.create_future()
        self._lost.add_done_callback(_see)
        self._reader = hiredis.Reader()
        self._guard = SizeGuard(_ARRAY_DIGITS)
        self._chunks: deque[bytes] = deque()
        self._batches: deque[_Batch] = deque()
        self._heard = 0
        self._error: BrokerError | None = None
        self._beating: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport
        self.backlog = 0
        """Bytes that wait to be decoded."""
        self.backlog_peak = 0

    @classmethod
    async def open(
        cls,
        address: Address,
        turn: Turn,
        on_push: Callable[[Push], None] = _ignore,
        on_drop: Callable[[Push], None] = _ignore,
        *,
        beat: float = BEAT_SECONDS,
        limit: int = BACKLOG_BYTES,
    ) -> Self:
        """A connection to `address`, let in, with its database selected and its name set.

        `on_push` gets what the server pushes, in the turn; `on_drop` what had to be dropped undecoded.
        """
        timeout = address.options.get("socket_connect_timeout", SOCKET_TIMEOUT)
        connection: Self | None = None
        try:
            async with asyncio.timeout(timeout):
                connection = await cls._connect(address, lambda: cls(address, turn, on_push, on_drop, limit))
                await connection._introduce()
        except BaseException as error:
            if connection is not None:
                await connection.close()
            if isinstance(error, TimeoutError):
                raise BrokerError(f"TimeoutError: not connected to {address.server} within {timeout:g} s") from None
            if isinstance(error, OSError):
                raise BrokerError(one_line(f"{type(error).__name__}: {error}")) from None
            raise
        connection._beating = asyncio.create_task(connection._beat(beat))
        return connection

    async def command(self, *command: str | bytes | int | float) -> Reply:
        """The reply to one command. An error reply raises BrokerError."""
        (reply,) = await self.many([command])
        if isinstance(reply, Exception):
            raise BrokerError(one_line(self._address.without_secret(str(reply))))
        return reply

    async def many(self, commands: Collection[Command]) -> list[Reply]:
        """The replies to commands sent in one go, in order; error replies stand in their places as exceptions.

        After SUBSCRIBE only what that mode allows; a command must be one that gets exactly one reply.
        """
        if not commands:
            return []
        return await self._send(commands)

    async def lost(self) -> NoReturn:
        """Waits until the connection is lost and what it had received is decoded. Raises BrokerError that says why."""
        await asyncio.shield(self._lost)
        raise AssertionError("the future of a loss has no result")

    async def close(self) -> None:
        """Ends the connection. What waits to be decoded is forgotten."""
        self._turn.leave(self)
        self._chunks.clear()
        self._fail("closed")
        self._end()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard += 1
        if self._error is not None:
            return
        try:
            self._guard.check(data)
        except Overrun as error:
            self._fail(str(error))
            return
        self._chunks.append(data)
        self.backlog += len(data)
        self.backlog_peak = max(self.backlog_peak, self.backlog)
        while self.backlog > self._limit and self._drop_one():
            pass
        self._turn.wake(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"connection lost: {exc}" if exc else "connection closed by the server")

    # -- decoding -----------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Decodes one message and hands it on."""
        message = self._next()
        if message is not _NOTHING:
            self._deliver(message, self._on_push)
            return True
        if self._error is not None:
            self._end()
        return False

    def _next(self) -> object:
        """The next whole message. One chunk at a time is fed: all of them at once would take quadratic time."""
        try:
            while (message := self._reader.gets()) is False:
                if not self._chunks:
                    return _NOTHING
                chunk = self._chunks.popleft()
                self.backlog -= len(chunk)
                self._reader.feed(chunk)
        except hiredis.HiredisError as error:
            self._chunks.clear()
            self._fail(f"not Redis's protocol: {error}")
            return _NOTHING
        return message

    def _deliver(self, message: Any, on_push: Callable[[Push], None]) -> None:
        try:
            if isinstance(message, list) and message and message[0] in _PUSHES:
                on_push(message)
            else:
                self._take_reply(message)
        except Exception as error:  # of a feed: it ends this connection, and no other's turn
            self._fail(f"{type(error).__name__} while decoding: {error}")

    def _drop_one(self) -> bool:
        message = self._next()
        if message is not _NOTHING:
            self._deliver(message, self._on_drop)
        return message is not _NOTHING

    def _take_reply(self, reply: Reply) -> None:
        if not self._batches:
            self._fail("a reply that nobody asked for")
            return
        batch = self._batches[0]
        batch.replies.append(reply)
        if len(batch.replies) == batch.size:
            self._batches.popleft()
            if not batch.future.done():  # whoever waited may have been cancelled
                batch.future.set_result(batch.replies)

    # -- the connection -----------------------------------------------------------------------------------------

    @staticmethod
    async def _connect(address: Address, factory: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        if address.scheme == "unix":
            return (await loop.create_unix_connection(factory, address.host))[1]
        context = address.ssl_context()
        return (await loop.create_connection(factory, address.host, address.port, ssl=context))[1]

    async def _introduce(self) -> None:
        if self._address.password is not None:
            user = [self._address.username] if self._address.username else []
            await self.command("AUTH", *user, self._address.password.reveal())
        if self._address.db:
            await self.command("SELECT", self._address.db)
        await self.many([("CLIENT", "SETNAME", CLIENT_NAME)])  # some servers refuse it: no harm

    async def _beat(self, interval: float) -> None:
        while self._error is None:
            heard = self._heard
            self._send([("PING",)])
            await asyncio.sleep(interval)
            await asyncio.sleep(0.01)  # what came in while the whole process stood still is read now
            if self._heard == heard:
                self._fail(f"no answer to PING within {interval:g} s")

    def _send(self, commands: Collection[Command]) -> asyncio.Future[list[Reply]]:
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        future.add_done_callback(_see)
        if self._error is not None:
            future.set_exception(self._error)
            return future
        self._batches.append(_Batch(len(commands), future))
        self._transport.write(b"".join([hiredis.pack_command(command) for command in commands]))  # type: ignore[arg-type]  # their stub knows one-tuples only
        return future

    def _fail(self, problem: str) -> None:
        """The connection is lost; what it had received is decoded still."""
        if self._error is None:
            self._error = BrokerError(one_line(self._address.without_secret(problem)))
            self._transport.abort()
            self._turn.wake(self)

    def _end(self) -> None:
        """Nothing more will come: tells all who wait."""
        error = self._error or BrokerError("closed")
        waiting: list[asyncio.Future[Any]] = [*(batch.future for batch in self._batches), self._lost]
        self._batches.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(error)
