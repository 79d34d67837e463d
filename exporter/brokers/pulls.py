"""Pulled reads from one Redis: a small redis-py pool whose replies are bounded in bytes and in time."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable
from typing import Any, Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from exporter.brokers.access import Access
from exporter.brokers.bounded import BoundedConnection, BoundedParser, Overrun, introduce
from exporter.brokers.errors import BrokerError, Command, Refused, Reply, ReplyTooLarge, naming
from exporter.model import Permissions
from exporter.safe.text import one_line

PIPELINE_COMMANDS: Final = 500
"""Commands sent in one go: more would keep other clients of the server waiting."""
SCAN_COUNT: Final = 1000
"""Keys per SCAN: 10 takes 13 times as long, 10,000 makes other clients wait (p99 19 ms)."""

SOCKET_TIMEOUT: Final = 5
"""Seconds, where the URL says nothing else."""
_CONNECTIONS: Final = 16
T = TypeVar("T")


class Pulls:
    """Commands to one broker. Every method raises BrokerError when the broker cannot be read."""

    def __init__(self, access: Access) -> None:
        self.access = access
        address = access.address
        self._timeout = float(address.options.get("socket_timeout", SOCKET_TIMEOUT))
        arguments: dict[str, Any] = {
            "socket_connect_timeout": SOCKET_TIMEOUT,
            **address.options,  # the URL may give other timeouts
            "access": access,
            "db": address.db,
            # It would send under asyncio.wait_for, which on Python 3.11 can swallow the cancellation of its caller.
            "socket_timeout": None,
            "protocol": 2,  # redis-py 8 would speak RESP3
            "parser_class": BoundedParser,
            "redis_connect_func": introduce,
            "retry": Retry(NoBackoff(), 0),  # the next scrape is the retry; redis-py 6 and later would wait
            **_no_setinfo(),
        }
        # Not ConnectionPool: that of redis-py 5 connects one at a time, so that a hanging server takes 5 s for each.
        self._pool = BlockingConnectionPool(
            connection_class=BoundedConnection,
            max_connections=_CONNECTIONS,
            timeout=SOCKET_TIMEOUT,
            **arguments,
        )
        self._redis: Redis = Redis(connection_pool=self._pool)

    def permissions(self) -> Collection[Permissions]:
        """What every connection to the broker needs, feeds included. (AUTH needs no right.)"""
        database = [Permissions(f"database {self.access.db}", frozenset({"select"}))] if self.access.db else []
        master = [Permissions("that it is the master", frozenset({"role"}))] if self.access.address.sentinel else []
        return (
            Permissions("whether it is up", frozenset({"ping"})),
            *database,
            *master,
            Permissions("name in CLIENT LIST", frozenset({"client|setname"})),
        )

    async def ping(self) -> None:
        """Returns when the broker answered PING with PONG."""
        if await self.one("PING") is not True:  # redis-py's reading of PONG
            raise BrokerError("the answer to PING is not PONG: no Redis?")

    async def one(self, *command: str | bytes | int | float) -> Reply:
        """The reply to one command. An error reply raises BrokerError."""
        return await self._guard(self._redis.execute_command(*command), command)  # type: ignore[no-untyped-call]

    async def many(self, commands: Iterable[Command]) -> list[Reply]:
        """The replies to many commands, in order, over as few round trips as PIPELINE_COMMANDS allows.

        An error reply to one command stands in its place as an exception: the others are still of use.
        """
        todo = list(commands)
        replies: list[Reply] = []
        for start in range(0, len(todo), PIPELINE_COMMANDS):
            replies += await self._pipeline(todo[start : start + PIPELINE_COMMANDS])
        return replies

    async def scan(self, *arguments: str) -> AsyncIterator[list[bytes]]:
        """Pages of the keys that SCAN yields with `arguments` (MATCH, TYPE). A key may come more than once."""
        async for page in self._cursor(("SCAN",), arguments):
            yield page

    async def members(self, key: bytes, *arguments: str) -> AsyncIterator[list[bytes]]:
        """Pages of the members that SSCAN yields with `arguments` (MATCH): SMEMBERS of a large set would hold up the
        server."""
        async for page in self._cursor(("SSCAN", key), arguments):
            yield page

    async def _cursor(self, command: Command, arguments: tuple[str, ...]) -> AsyncIterator[list[bytes]]:
        cursor = b"0"
        while True:
            reply = await self.one(*command, cursor, "COUNT", SCAN_COUNT, *arguments)
            cursor, page = str(int(reply[0])).encode(), list(reply[1])
            if page:
                yield page
            if cursor == b"0":
                return

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()
        await self._pool.disconnect()

    async def _guard(self, reply: Awaitable[T], command: Command = ()) -> T:
        try:
            async with asyncio.timeout(self._timeout) as limit:
                return await reply
        except Overrun as error:
            raise ReplyTooLarge(str(error)) from None
        except (RedisError, OSError, TimeoutError) as error:
            ours = error if isinstance(error, BrokerError) else error.__cause__  # it wraps what connecting raised
            if isinstance(ours, BrokerError):
                raise ours from None
            if limit.expired():
                waited = f"no answer from {self.access.server} within {self._timeout:g} s"
                raise self.access.unanswered(waited) from None
            kind = Refused if isinstance(error, ResponseError) else BrokerError
            text = naming(f"{type(error).__name__}: {error}", command)
            raise kind(one_line(self.access.credentials.without_secret(text))) from None

    async def _pipeline(self, commands: list[Command]) -> list[Reply]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies = await self._guard(pipeline.execute(raise_on_error=False))
        return [
            NoPermissionError(naming(str(reply), command)) if isinstance(reply, NoPermissionError) else reply
            for reply, command in zip(replies, commands, strict=True)
        ]


def _no_setinfo() -> dict[str, None]:
    """CLIENT SETINFO tells nothing that CLIENT SETNAME does not, and Redis 7.2 and later log it where it is denied."""
    if importlib.util.find_spec("redis.driver_info"):  # redis-py 7 and later
        return {"driver_info": None}
    return {"lib_name": None, "lib_version": None}
