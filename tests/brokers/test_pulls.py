"""Pulled reads from a real Redis: pipelines in pieces, errors in their place, replies within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest
import redis

from exporter.brokers import bounded as module
from exporter.brokers.access import CLIENT_NAME, Access
from exporter.brokers.address import parse_address
from exporter.brokers.errors import BrokerError, Refused, ReplyTooLarge
from exporter.brokers.pulls import PIPELINE_COMMANDS, SCAN_COUNT, Pulls
from tests.servers import RedisServer

MEGABYTE = 1024 * 1024


@pytest.fixture
async def pulls(redis_server: RedisServer) -> AsyncIterator[Pulls]:
    pulls = Pulls(Access(parse_address(redis_server.url())))
    yield pulls
    await pulls.close()


@pytest.fixture
def client(redis_server: RedisServer) -> redis.Redis:
    return redis_server.client()


async def test_commands_beyond_a_pipeline_come_back_in_order(pulls: Pulls, client: redis.Redis) -> None:
    count = 2 * PIPELINE_COMMANDS + 7
    assert await pulls.many(("ECHO", number) for number in range(count)) == [b"%d" % number for number in range(count)]
    assert await pulls.many([]) == []


async def test_an_error_stands_in_its_place(pulls: Pulls, client: redis.Redis) -> None:
    client.set("text", "x")
    replies = await pulls.many([("STRLEN", "text"), ("LLEN", "text"), ("NOSUCH",), ("STRLEN", "text")])
    assert replies[0] == replies[3] == 1
    assert "WRONGTYPE" in str(replies[1])
    assert isinstance(replies[2], Exception)


async def test_an_error_reply_to_one_command_raises(pulls: Pulls, client: redis.Redis) -> None:
    client.set("text", "x")
    with pytest.raises(BrokerError, match="WRONGTYPE"):
        await pulls.one("LLEN", "text")


def denied(server: RedisServer, *rules: str) -> Pulls:
    """Reads as a user who may do everything but what `rules` take away."""
    rights = ("ACL", "SETUSER", "reader", "on", "nopass", "~ours:*", "&*", "+@all", *rules)
    server.client().execute_command(*rights)  # type: ignore[no-untyped-call]
    return Pulls(Access(parse_address(server.url().replace("redis://", "redis://reader:x@"))))


def names(client: redis.Redis) -> set[str]:
    """The names of all connections to the server."""
    clients = cast(list[dict[str, str]], client.client_list())
    return {one["name"] for one in clients}


async def test_a_name_that_is_refused_does_no_harm(redis_server: RedisServer) -> None:
    pulls = denied(redis_server, "-client|setname")
    assert await pulls.one("GET", "ours:a") is None
    assert CLIENT_NAME not in names(redis_server.client())
    await pulls.close()


async def test_a_connection_has_a_name(pulls: Pulls, client: redis.Redis) -> None:
    await pulls.ping()
    assert CLIENT_NAME in names(client)


async def test_a_denial_names_the_command(redis_server: RedisServer) -> None:
    pulls = denied(redis_server, "-llen")
    with pytest.raises(Refused, match=r"no permissions to run the 'llen' command$"):
        await pulls.one("LLEN", "ours:a")
    with pytest.raises(Refused, match=r"no permissions .* key.* \(GET\)$"):
        await pulls.one("GET", "theirs")
    command, key = await pulls.many([("LLEN", "ours:a"), ("ZCARD", "theirs")])
    assert "'llen' command" in str(command)
    assert str(key).endswith("(ZCARD)")
    await pulls.close()


async def test_scan_finds_every_key_of_a_type_once_asked_for_in_pages(pulls: Pulls, client: redis.Redis) -> None:
    names = {b"key%d" % number for number in range(3 * SCAN_COUNT)}
    client.mset(dict.fromkeys(names, 1))
    client.sadd("set", "member")
    pages = [page async for page in pulls.scan("TYPE", "string")]
    assert len(pages) >= 3
    assert set().union(*pages) == names
    assert [page async for page in pulls.scan("MATCH", "nothing*")] == []


async def test_members_of_a_large_set(pulls: Pulls, client: redis.Redis) -> None:
    client.sadd("set", *range(2 * SCAN_COUNT))
    pages = [page async for page in pulls.members(b"set")]
    assert {int(member) for page in pages for member in page} == set(range(2 * SCAN_COUNT))


async def test_a_reply_beyond_the_bound_is_refused_and_the_next_command_works(
    pulls: Pulls, client: redis.Redis
) -> None:
    client.set("large", b"x" * (module.REPLY_BYTES + 1))
    client.set("huge", b"x" * (2 * module.REPLY_BYTES))
    for key in ("large", "huge"):
        with pytest.raises(ReplyTooLarge, match="reply larger than"):
            await pulls.one("GET", key)
        assert await pulls.one("STRLEN", key) > module.REPLY_BYTES
    client.set("fits", b"x" * (module.REPLY_BYTES - MEGABYTE))
    assert len(await pulls.one("GET", "fits")) == module.REPLY_BYTES - MEGABYTE


async def test_the_bound_is_for_all_replies_of_a_round_trip(pulls: Pulls, client: redis.Redis) -> None:
    client.set("part", b"x" * MEGABYTE)
    parts = module.REPLY_BYTES // MEGABYTE
    with pytest.raises(ReplyTooLarge):
        await pulls.many([("GET", "part")] * (parts + 1))
    # and not for those of several
    for _ in range(2 * parts):
        assert len(await pulls.one("GET", "part")) == MEGABYTE


@pytest.mark.parametrize("size", [0, 1, 65_000, 200_000])
async def test_text_that_looks_like_the_head_of_a_huge_reply_passes(
    pulls: Pulls, client: redis.Redis, size: int
) -> None:
    text = b"*1000000\r\n$100000000\r\n" + b"x" * size + b"\r\n*1000000\r\n$"
    client.rpush("list", *[text] * 7)
    assert await pulls.one("LRANGE", "list", 0, -1) == [text] * 7
    assert await pulls.many([("LINDEX", "list", 0), ("STRLEN", "none"), ("GET", "none"), ("LINDEX", "list", 1)]) == [
        text,
        0,
        None,
        text,
    ]


async def test_a_server_that_is_gone_is_one_line(redis_server: RedisServer, pulls: Pulls) -> None:
    await pulls.ping()
    redis_server.stop()
    for _ in range(2):
        with pytest.raises(BrokerError) as caught:
            await pulls.ping()
        assert "\n" not in str(caught.value)
    with pytest.raises(BrokerError):
        await pulls.many([("PING",)])
    with pytest.raises(BrokerError):
        await pulls.one("INFO")


async def test_a_connection_that_the_server_closed_is_made_anew(
    redis_server: RedisServer, pulls: Pulls, client: redis.Redis
) -> None:
    await pulls.ping()
    await asyncio.to_thread(redis_server.restart)
    await pulls.ping()


async def test_it_names_itself_and_speaks_resp2(pulls: Pulls, client: redis.Redis) -> None:
    await pulls.ping()
    clients = cast(list[dict[str, str]], client.client_list())
    (own,) = [entry for entry in clients if entry["name"] == "taskqueue-exporter"]
    assert own["resp"] == "2"


async def test_it_reaches_the_database_of_its_url_over_a_unix_socket(
    start_redis: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert callable(start_redis)
    path = tmp_path_factory.mktemp("socket") / "redis.sock"
    server: RedisServer = start_redis(unixsocket=str(path))
    server.client(3).set("key", "value")
    pulls = Pulls(Access(parse_address(f"unix://{path}?db=3")))
    try:
        assert await pulls.one("GET", "key") == b"value"
    finally:
        await pulls.close()


def test_the_bounds_that_protect_other_clients_of_the_server() -> None:
    assert PIPELINE_COMMANDS <= 500
    assert SCAN_COUNT <= 1000
