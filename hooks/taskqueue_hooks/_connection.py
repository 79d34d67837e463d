"""A connection of our own to the worker's Redis.

The worker's pool is left alone: where it is small, or blocks when it is empty, a write of ours would make a job wait.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Iterable

from ._records import Command
from ._waiting import background

TIMEOUT = 5.0
"""Of a write. It takes several turns of the worker's loop, and a job may hold up each of them."""
DISCONNECT_TIMEOUT = 0.2
NOT_OURS = frozenset({"connection_pool", "retry", "retry_on_timeout", "retry_on_error", "decode_responses"})
"""Arguments of the user's connections that ours do without. `connection_pool` is the pool of a Sentinel itself; a retry
within a write would only take its time: a failed write is repeated as a whole."""


class Connection:
    """One connection to the Redis that `redis` (the worker's client) talks to, made at its first use."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._pool: Any = None
        self._connection: Any = None

    async def execute(self, commands: Iterable[Command]) -> list[Any]:
        """Carry out all `commands`, in one MULTI; their replies, where Redis refused one an exception.

        Raises what redis-py raises, or asyncio.TimeoutError after 5 s. After that nobody knows which of the replies are
        still to come: call `drop()`. A connection that Redis has closed meanwhile is made anew: nothing that we write
        is harmed by being written twice.
        """
        from redis.exceptions import ConnectionError as HungUp

        given, used = list(commands), self._connection is not None
        try:
            return await self._transaction(given)
        except HungUp:
            if not used:
                raise
        await self.drop()
        return await self._transaction(given)

    async def _transaction(self, commands: list[Command]) -> list[Any]:
        if self._connection is None:
            self._pool = pool_like(self._redis.connection_pool)  # held: a Sentinel's connection asks it for the master
            self._connection = self._pool.make_connection()
        return await asyncio.wait_for(background(transaction(self._connection, commands)), TIMEOUT)

    async def drop(self) -> None:
        """Disconnect; the next `execute()` connects anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await asyncio.wait_for(connection.disconnect(), DISCONNECT_TIMEOUT)


async def transaction(connection: Any, commands: list[Command]) -> list[Any]:
    """Carry out `commands` in one MULTI.

    By hand: a pipeline of redis-py takes two turns of the loop more, and a job may hold up each of them.
    """
    await connection.connect()
    packed = connection.pack_commands([("MULTI",), *commands, ("EXEC",)])
    await connection.send_packed_command(packed, check_health=False)
    queued = [await refusal(connection) for _ in range(len(commands) + 1)]
    refused = next((error for error in queued if error is not None), None)
    if refused is not None:
        raise refused  # EXEC says no more than that there was one
    replies: list[Any] = await connection.read_response()
    return replies


async def refusal(connection: Any) -> Exception | None:
    """The next reply, if it is an error."""
    from redis.exceptions import ResponseError

    try:
        await connection.read_response()
    except ResponseError as error:
        return error
    return None


def pool_like(pool: Any) -> Any:
    """A pool of connections of the same kind: plain, TLS, a Unix socket, or whichever master a Sentinel names."""
    from redis.asyncio import ConnectionPool

    arguments = {name: value for name, value in pool.connection_kwargs.items() if name not in NOT_OURS}
    arguments.update(
        connection_class=pool.connection_class,
        socket_timeout=None,  # each would take turns of the loop, and the whole write has its own
        socket_connect_timeout=TIMEOUT,
    )
    if hasattr(pool, "sentinel_manager"):
        return sentinel_pool_like(pool, arguments)
    return ConnectionPool(**arguments)


def sentinel_pool_like(pool: Any, arguments: dict[str, Any]) -> Any:
    from redis.asyncio import sentinel

    asked = {"is_master": pool.is_master, "check_connection": pool.check_connection}
    pool_class: Any = sentinel.SentinelConnectionPool
    return pool_class(pool.service_name, pool.sentinel_manager, **asked, **arguments)
