"""Pushed reads from one Redis: a connection that drains its socket at once and decodes later, in the shared turn.

Not a StreamReader, which pauses the socket at 128 KiB: then the backlog grows in the server, which cuts the subscriber
(435,000 of 500,000 events lost that way, none this way). A BufferedProtocol: its buffer is used again and again.
"""

from __future__ import annotations

import asyncio
import mmap
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Final, NoReturn, Self, cast

import hiredis

from exporter.brokers.access import GREETING_BYTES, Access
from exporter.brokers.backlog import NOTHING, Backlog
from exporter.brokers.bounded import Overrun
from exporter.brokers.errors import CLOSED, BrokerError, Command, Refused, Reply, naming
from exporter.brokers.pulls import SOCKET_TIMEOUT
from exporter.brokers.turn import Turn
from exporter.safe.text import one_line
from exporter.threads import take_note

BEAT_SECONDS: Final = 5.0
"""Between two PINGs. A connection that is silent after one is lost: noticed within two beats."""
BACKLOG_BYTES: Final = 256 * 1024 * 1024
"""Held for decoding; beyond, the oldest messages are dropped."""
REPLIES_BYTES: Final = 64 * 1024 * 1024
"""The most that the replies to commands sent in one go may hold. What is longer ends the connection."""

Push = list[Any]
"""A message as the server sends it: its kind first, its payload last."""

_PUSHES: Final = (b"message", b"pmessage")
_SUBSCRIBING: Final = ("SUBSCRIBE", "PSUBSCRIBE")
_RECEIVE_BYTES: Final = 1024 * 1024  # asyncio reads once in a round: 256 KiB is too slow for a server flat out
_GRACE_SECONDS: Final = 0.01
_CLOSE_SECONDS: Final = 1.0


def _ignore(push: Push) -> None:
    """Whoever subscribes to nothing gets no messages."""


class ConnectionLost(BrokerError):
    """A connection ended, on which something was last heard at `heard_at` (of `time.monotonic`)."""

    def __init__(self, problem: str, heard_at: float) -> None:
        super().__init__(problem)
        self.heard_at = heard_at


class _Batch:
    """Commands sent in one go, and their replies so far."""

    __slots__ = ("bytes", "commands", "future", "replies")

    def __init__(self, commands: Collection[Command], future: asyncio.Future[list[Reply]]) -> None:
        self.commands = tuple(commands)
        self.future = future
        self.replies: list[Reply] = []
        self.bytes = 0


class PushConnection(asyncio.BufferedProtocol):
    """One connection, in RESP2. Made by `open()`; every method raises BrokerError once it is lost."""

    def __init__(
        self, access: Access, turn: Turn, on_push: Callable[[Push], None], on_drop: Callable[[Push], None], limit: int
    ) -> None:
        self._access = access
        self._turn = turn
        self._on_push = on_push
        self._on_drop = on_drop
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[NoReturn] = self._loop.create_future()
        self._lost.add_done_callback(take_note)
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._buffer = memoryview(mmap.mmap(-1, _RECEIVE_BYTES))  # takes no memory where nothing much comes in
        self._backlog = Backlog()
        self._batches: deque[_Batch] = deque()
        self._subscribed = False
        self.first = b""
        """For `access.Line`."""
        self._heard = 0
        self._heard_at = time.monotonic()
        self._problem: str | None = None
        self._beating: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    @classmethod
    async def open(
        cls,
        access: Access,
        turn: Turn,
        on_push: Callable[[Push], None] = _ignore,
        on_drop: Callable[[Push], None] = _ignore,
        *,
        beat: float = BEAT_SECONDS,
        limit: int = BACKLOG_BYTES,
    ) -> Self:
        """A connection by way of `access`, let in, with its database selected and its name set.

        `on_push` gets what the server pushes, in the turn; `on_drop` what had to be dropped undecoded.
        """
        timeout = access.address.options.get("socket_connect_timeout", SOCKET_TIMEOUT)
        connection: Self | None = None
        try:
            async with asyncio.timeout(timeout):
                opening = cls(access, turn, on_push, on_drop, limit)
                place = (await access.open(lambda: opening)).place
                connection = opening
                await access.introduce(connection, place, connection._ask)
        except BaseException as error:
            if connection is not None:
                await connection.close()
            if isinstance(error, TimeoutError):
                raise access.unanswered(f"not connected to {access.server} within {timeout:g} s") from None
            raise
        connection._beating = asyncio.create_task(connection._beat(beat))
        return connection

    @property
    def backlog(self) -> int:
        """Bytes that wait to be decoded."""
        return self._backlog.size

    @property
    def backlog_peak(self) -> int:
        """The most that `backlog` has been."""
        return self._backlog.peak

    async def command(self, *command: str | bytes | int | float) -> Reply:
        """The reply to one command. An error reply raises Refused."""
        (reply,) = await self.many([command])
        if isinstance(reply, Exception):
            raise self._refusal(naming(str(reply), command))
        return reply

    async def expect(self, wanted: bytes, *command: str | bytes | int) -> None:
        """One command whose reply is, or begins with, what is `wanted`. Any other raises Refused."""
        reply = await self.command(*command)
        if reply != wanted and (not isinstance(reply, list) or reply[:1] != [wanted]):
            found = str(reply[:60] if isinstance(reply, bytes) else reply)[:60]  # a long one is not copied whole
            raise self._refusal(f"found {found} as the answer to {command[0]!s}, wanted {wanted.decode()}")

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
        self._fail("closed")
        self._turn.leave(self)
        self._backlog.clear()
        self._end()
        ending: list[asyncio.Future[None]] = [self._gone]
        if self._beating is not None:
            self._beating.cancel()
            ending.append(self._beating)
        await asyncio.wait(ending, timeout=_CLOSE_SECONDS)

    # -- asyncio.BufferedProtocol -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._heard += 1
        self._heard_at = time.monotonic()
        if len(self.first) < GREETING_BYTES:
            self.first += bytes(self._buffer[: min(nbytes, GREETING_BYTES)])
        if self._problem is not None:
            return
        self._backlog.put(self._buffer[:nbytes])
        while self._backlog.size > self._limit and self._drop_one():
            pass
        self._turn.wake(self, flooded=nbytes == _RECEIVE_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"connection lost: {exc}" if exc and self._beating else CLOSED)
        if not self._gone.done():
            self._gone.set_result(None)

    # -- decoding -----------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Decodes one message and hands it on."""
        message = self._next()
        if message is not NOTHING:
            self._deliver(message, self._on_push)
            return True
        if self._problem is not None:
            self._end()
        return False

    def _next(self) -> object:
        try:
            return self._backlog.take()
        except Exception as error:  # whatever the server sent: nothing behind it can be read
            self._backlog.clear()
            self._fail(str(error) if isinstance(error, Overrun) else f"not Redis's protocol: {error}")
            return NOTHING

    def _deliver(self, message: Any, on_push: Callable[[Push], None]) -> None:
        try:
            if self._subscribed and isinstance(message, list) and message and message[0] in _PUSHES:
                on_push(message)
            else:
                self._take_reply(message)
        except Exception as error:  # of a feed: it ends this connection, and no other's turn
            self._fail(f"{type(error).__name__} while decoding: {error}")

    def _drop_one(self) -> bool:
        message = self._next()
        if message is not NOTHING:
            self._deliver(message, self._on_drop)
        return message is not NOTHING

    def _take_reply(self, reply: Reply) -> None:
        if not self._batches:
            self._fail("a reply that nobody asked for")
            return
        batch = self._batches[0]
        # Not before: without a subscription a list that begins with "message" is a reply, say of job ids.
        if batch.commands[len(batch.replies)][0] in _SUBSCRIBING and not isinstance(reply, Exception):
            self._subscribed = True
        batch.replies.append(reply)
        batch.bytes += self._backlog.taken
        if len(batch.replies) == len(batch.commands):
            self._batches.popleft()
            if not batch.future.done():  # whoever waited may have been cancelled
                batch.future.set_result(batch.replies)
        elif batch.bytes > REPLIES_BYTES:
            self._backlog.clear()
            self._fail(f"replies larger than {REPLIES_BYTES} bytes")

    # -- the connection -----------------------------------------------------------------------------------------

    def end(self, problem: str) -> None:
        """For `access.Line`: it is lost."""
        self._fail(problem)

    async def _ask(self, *command: str | bytes | int) -> Reply:
        (reply,) = await self.many([command])
        return reply

    def _refusal(self, text: str) -> Refused:
        return Refused(one_line(self._access.credentials.without_secret(text)))

    async def _beat(self, interval: float) -> None:
        ping: asyncio.Future[list[Reply]] | None = None
        while self._problem is None:
            heard = self._heard
            if ping is None or ping.done():  # else its answer stands behind what waits to be decoded
                ping = self._send([("PING",)])
            await asyncio.sleep(interval)
            await asyncio.sleep(_GRACE_SECONDS)  # what came in while the whole process stood still is read now
            if self._heard == heard:
                self._fail(f"no answer to PING within {interval:g} s")

    def _send(self, commands: Collection[Command]) -> asyncio.Future[list[Reply]]:
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        future.add_done_callback(take_note)
        if self._problem is not None:
            future.set_exception(self._loss())
            return future
        packed = b"".join([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]  # their stub knows one-tuples only
        self._batches.append(_Batch(commands, future))
        self._transport.write(packed)
        return future

    def _fail(self, problem: str) -> None:
        """The connection is lost; what it had received is decoded still."""
        if self._problem is None:
            self._problem = one_line(self._access.credentials.without_secret(problem))
            self._transport.abort()
            self._turn.wake(self)

    def _loss(self) -> ConnectionLost:
        return ConnectionLost(self._problem or "closed", self._heard_at)

    def _end(self) -> None:
        """Nothing more will come: tells all who wait."""
        waiting: list[asyncio.Future[Any]] = [*(batch.future for batch in self._batches), self._lost]
        self._batches.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(self._loss())
