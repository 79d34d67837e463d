"""The hook's own connection, made as those of the worker's pool are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError, ResponseError

from taskqueue_hooks import _connection
from taskqueue_hooks._connection import Connection, pool_like
from tests.servers import RedisServer, StartRedis, wait_until

SET = ("SET", "taskqueue:arq:x", b"1")


def clients(server: RedisServer, socket: str) -> dict[str, Redis]:
    """Clients of every kind of pool that a worker may have been given."""
    address: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "password": "secret", "db": 3}
    return {
        "plain": Redis(**address),
        "blocking": Redis(connection_pool=BlockingConnectionPool(**address, max_connections=1, timeout=None)),
        "decoding": Redis(**address, decode_responses=True, encoding="latin-1"),
        "retrying": Redis(**address, retry=Retry(ConstantBackoff(60), 9), retry_on_timeout=True),
        "unix socket": Redis(unix_socket_path=socket, password="secret", db=3),
        "RESP3": Redis(**address, protocol=3),
    }


async def test_every_kind_of_pool(start_redis: StartRedis, tmp_path: Path) -> None:
    socket = str(tmp_path / "redis.sock")
    server = start_redis(requirepass="secret", unixsocket=socket)
    for kind, client in clients(server, socket).items():
        connection = Connection(client)
        assert (await connection.execute([SET, ("GET", "taskqueue:arq:x")]))[1] == b"1", kind
        assert server.client(db=3).getdel("taskqueue:arq:x") == b"1", kind
        assert client.connection_pool is not connection._pool
        await connection.drop()
        await client.aclose()


async def test_a_master_that_a_sentinel_names(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool asks anew for each connection, as the worker's own does."""
    asked = []

    async def discover_master(self: Sentinel, service_name: str) -> tuple[str, int]:
        asked.append(service_name)
        return "127.0.0.1", redis_server.port

    monkeypatch.setattr(Sentinel, "discover_master", discover_master)
    sentinel: Any = Sentinel
    client = sentinel([("127.0.0.1", 1)], db=3).master_for("mymaster")
    connection = Connection(client)
    for _ in range(2):
        await connection.execute([SET])
        await connection.drop()
    assert redis_server.client(db=3).get("taskqueue:arq:x") == b"1"
    assert asked == ["mymaster"] * 2


def test_what_is_taken_over() -> None:
    given: dict[str, Any] = {"host": "h", "username": "u", "password": "p", "socket_keepalive": True}
    pool = ConnectionPool(**given, socket_timeout=99, max_connections=9)
    made = pool_like(pool)
    assert made.connection_kwargs.items() >= {**given, "socket_timeout": None, "socket_connect_timeout": 5}.items()
    assert pool.connection_kwargs["socket_timeout"] == 99


async def test_all_or_nothing(redis_server: RedisServer) -> None:
    client: Any = redis_server.client()
    client.execute_command("ACL", "SETUSER", "default", "-xadd")
    connection = Connection(Redis(port=redis_server.port))
    with pytest.raises(RedisError, match="no permissions"):
        await connection.execute([SET, ("XADD", "taskqueue:arq:s", "*", "a", "b")])
    assert not client.exists("taskqueue:arq:x")
    await connection.drop()


async def test_what_redis_refuses_within_a_transaction_is_told_by_its_reply(redis_server: RedisServer) -> None:
    connection = Connection(Redis(port=redis_server.port))
    done, refused = await connection.execute([SET, ("XADD", "taskqueue:arq:x", "*", "a", "b")])
    assert done == b"OK"
    assert isinstance(refused, ResponseError)
    await connection.drop()


async def test_a_connection_that_redis_closed_is_made_anew(redis_server: RedisServer) -> None:
    client: Any = redis_server.client()
    connection = Connection(Redis(port=redis_server.port))
    await connection.execute([SET])
    client.client_kill_filter(_type="normal", skipme=True)
    await connection.execute([("SET", "taskqueue:arq:x", b"2")])
    assert client.get("taskqueue:arq:x") == b"2"
    await connection.drop()


async def test_a_reply_that_comes_late_is_nobodys(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection(Redis(port=redis_server.port))
    await connection.execute([SET])
    late = connection._connection  # held, or the garbage collector would close it
    monkeypatch.setattr(_connection, "TIMEOUT", 0.05)
    redis_server.pause()
    write = asyncio.create_task(connection.execute([SET]))
    await asyncio.wait({write}, timeout=30)
    assert isinstance(write.exception(), asyncio.TimeoutError)
    await connection.drop()
    redis_server.resume()
    monkeypatch.setattr(_connection, "TIMEOUT", 10)
    await connection.execute([SET])
    client: Any = redis_server.client()
    wait_until(lambda: len(client.client_list()) == 2)  # it and ours: the one that waited in vain is closed
    assert connection._connection is not late
    held = connection._connection
    await connection.drop()
    wait_until(lambda: len(client.client_list()) == 1)
    assert held is not connection._connection
