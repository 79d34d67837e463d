"""What happens to a Redis whose INFO is compared: a past, and clients of every kind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

import pytest
import redis
from redis.connection import Connection

from tests.collectors.test_redis_info import written
from tests.servers import RedisServer, wait_until

MEGABYTE: Final = 1 << 20


def history(server: RedisServer) -> None:
    """What leaves a number other than 0 behind: evictions, refusals, a slow command, dumps."""
    client = server.client()
    client.config_set("maxmemory", "3mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    for number in range(100):
        client.set(f"evicted:{number}", "x" * 50_000)
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")
    with pytest.raises(redis.ResponseError):
        client.set("refused", "x")
    client.config_set("maxmemory", "1gb")
    client.flushall()
    client.mset({f"standing:{number}": "x" * 100 for number in range(1000)})
    client.execute_command("DEBUG", "SLEEP", "0.1")  # type: ignore[no-untyped-call]
    written(server)


@contextmanager
def load(server: RedisServer) -> Iterator[None]:
    """Clients that write and read in pipelines, one that waits, one that listens, some that track, and one that has
    begun a long command. Numbers that are neighbours in INFO differ, so that none can stand for the other."""
    done = threading.Event()

    def work() -> None:
        client = server.client()
        while not done.wait(0.005):
            with client.pipeline(transaction=True) as pipe:
                for number in range(20):
                    pipe.psetex(f"expiring:{number}", 3, "x")
                    pipe.lpush("list", number)
                    pipe.zadd("zset", {str(number): number})
                    pipe.get("standing:1")
                    pipe.get("missing")
                    pipe.hget("list", "of a wrong type")
                pipe.ltrim("list", 0, 10)
                pipe.execute(raise_on_error=False)

    waiting = threading.Thread(target=server.client().brpop, args=("never", 20))
    threads = [*(threading.Thread(target=work) for _ in range(2)), waiting]
    own, listening = server.client(), server.client().pubsub()  # type: ignore[no-untyped-call]
    still = _still(server, str(own.client_id()))
    listening.subscribe("channel", "another")
    listening.psubscribe("pattern*")
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: _under_way(cast(dict[str, int], own.info())))
        yield
    finally:
        done.set()
        own.lpush("never", "x")
        for thread in threads:
            thread.join()
        for connection in still:
            connection.disconnect()  # type: ignore[no-untyped-call]


def _still(server: RedisServer, told: str) -> list[Connection]:
    """Clients that track, `told` being the client that hears of it, and one that has begun a long command."""
    track = ("CLIENT", "TRACKING", "on", "REDIRECT", told)
    long = _connection(server)
    long.send_packed_command([b"*3\r\n$3\r\nSET\r\n$4\r\nlong\r\n$%d\r\nx" % (4 * MEGABYTE)])  # type: ignore[no-untyped-call]
    return [
        long,
        _connection(server, track, *(("GET", f"standing:{number}") for number in range(10))),
        _connection(server, track, ("GET", "standing:0"), ("GET", "standing:1")),
        _connection(server, (*track, "BCAST", "PREFIX", "a", "PREFIX", "b")),
    ]


def _connection(server: RedisServer, *commands: tuple[str, ...]) -> Connection:
    """A connection that has done these."""
    connection: Connection = server.client().connection_pool.get_connection()
    for words in commands:
        connection.send_command(*words)  # type: ignore[no-untyped-call]
        connection.read_response()  # type: ignore[no-untyped-call]
    return connection


def _under_way(info: dict[str, int]) -> bool:
    """Whether all of the load has left its mark; the server looks at the size of buffers now and then."""
    buffers = info["client_recent_max_input_buffer"], info["mem_clients_normal"], info["used_memory_overhead"]
    tracked = [info[f"tracking_{what}"] for what in ("total_prefixes", "clients", "total_keys", "total_items")]
    differ = len({*tracked}) == len(tracked) and info["pubsub_patterns"] < info["pubsub_channels"]
    return bool(differ and info["expired_keys"] and info["blocked_clients"] and min(buffers) > 4 * MEGABYTE)
