"""A connection of our own to the worker's Redis.

The worker's pool is left alone: where it is small, or blocks when it is empty, a write of ours would make a job wait.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Iterable

from ._records import Command
from ._waiting import background

TIMEOUT = 2.0
DISCONNECT_TIMEOUT = 0.2
NOT_OURS = frozenset({"connection_pool", "retry", "retry_on_timeout", "retry_on_error", "decode_responses"})
"""Arguments of the user's connections that ours do without. `connection_pool` is the pool of a Sentinel itself; a retry
within a write would only take its time: a failed write is repeated as a whole."""


class Connection:
    """One connection to the Redis that `redis` (the worker's client) talks to, made at its first use."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._client: Any = None

    async def execute(self, commands: Iterable[Command]) -> None:
        """Carry out all `commands`, in one MULTI; raises what redis-py raises, or asyncio.TimeoutError after 2 s.

        After a failure nobody knows which of its replies are still to come: call `drop()`.
        """
        if self._client is None:
            self._client = client_like(self._redis)
        pipeline = self._client.pipeline(transaction=True)
        for command in commands:
            pipeline.execute_command(*command)
        await asyncio.wait_for(background(pipeline.execute()), TIMEOUT)

    async def drop(self) -> None:
        """Disconnect; the next `execute()` connects anew."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                await asyncio.wait_for(client.connection_pool.disconnect(), DISCONNECT_TIMEOUT)


def client_like(redis: Any) -> Any:
    """A client with a pool of one connection, made as those of `redis` are."""
    from redis.asyncio import Redis

    return Redis(connection_pool=pool_like(redis.connection_pool))


def pool_like(pool: Any) -> Any:
    """A pool of one connection of the same kind: plain, TLS, a Unix socket, or whichever master a Sentinel names."""
    from redis.asyncio import ConnectionPool

    arguments = {name: value for name, value in pool.connection_kwargs.items() if name not in NOT_OURS}
    arguments.update(
        connection_class=pool.connection_class,
        max_connections=1,
        socket_timeout=TIMEOUT,
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
