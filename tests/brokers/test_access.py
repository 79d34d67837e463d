"""The one way into a broker, for both kinds of connections: servers that refuse, sockets, and masters that move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, cast
from urllib.parse import quote

import pytest

from exporter.brokers import access as module
from exporter.brokers.access import Access
from exporter.brokers.address import Address, Place, Sentinel, parse_address
from exporter.brokers.errors import BrokerError, Refused
from exporter.brokers.pulls import Pulls
from exporter.brokers.push import ConnectionLost, PushConnection
from exporter.brokers.turn import Turn
from exporter.safe.secrets import SecretFile
from tests.brokers.reaching import Reach, both_kinds, problem
from tests.canary import CANARY, QUOTED, holds_canary
from tests.sentinels import replicated
from tests.servers import LOOPBACK, RedisServer, StartRedis


def setuser(server: RedisServer, *rules: str) -> None:
    server.client().execute_command("ACL", "SETUSER", "anna", "on", "~*", "&*", "+@all", *rules)  # type: ignore[no-untyped-call]


def refusals(server: RedisServer) -> int:
    """AUTHs that failed since the server began to count."""
    log = cast(list[dict[str, Any]], server.client().acl_log())
    return sum(int(entry["count"]) for entry in log if entry["reason"] == "auth")


def connections(server: RedisServer) -> int:
    """That were ever made."""
    return int(cast(dict[str, Any], server.client().info("stats"))["total_connections_received"])


# -- passwords --------------------------------------------------------------------------------------------------


async def test_all_connections_of_a_broker_are_one_failure(redis_server: RedisServer) -> None:
    setuser(redis_server, f">{CANARY}")
    access = Access(parse_address(f"redis://anna:{QUOTED}x@{LOOPBACK}:{redis_server.port}"))
    pulls = Pulls(access)
    # when as many come as there are, of both kinds
    pulling = [pulls.ping() for _ in range(16)]
    pushing = [PushConnection.open(access, Turn()) for _ in range(4)]
    told = await asyncio.gather(*pulling, *pushing, return_exceptions=True)
    # then the password is offered once, and all say the same
    assert {type(error) for error in told} == {Refused}
    assert len({str(error) for error in told}) == 1
    assert str(told[0]).startswith("WRONGPASS: the server refuses the user or the password")
    assert not holds_canary(str(told[0]))
    assert refusals(redis_server) == 1
    # and nobody even connects for a while
    before = connections(redis_server)
    for _ in range(3):
        with pytest.raises(Refused):
            await pulls.ping()
        with pytest.raises(Refused):
            await PushConnection.open(access, Turn())
    assert connections(redis_server) == before + 1  # of the one that asks
    await pulls.close()


@both_kinds
async def test_a_password_rotated_at_the_server_first(reach: Reach, redis_server: RedisServer, tmp_path: Any) -> None:
    file = tmp_path / "password"
    file.write_text("old\n")
    setuser(redis_server, ">old")
    where = f"redis://anna@{LOOPBACK}:{redis_server.port}/3"
    access = Access(parse_address(where, SecretFile(str(file))))
    assert await reach(access) == b"x"
    # when the server takes another one
    setuser(redis_server, "resetpass", ">new")
    assert "WRONGPASS" in await problem(reach, access)
    # then what is in the file counts from the moment that it is replaced
    file.write_text("new\n")
    assert await reach(access) == b"x"
    assert refusals(redis_server) == 1


@both_kinds
async def test_a_password_that_is_replaced_while_it_is_refused(reach: Reach, redis_server: RedisServer) -> None:
    class Replaced(SecretFile):
        answers: ClassVar[list[str]] = ["new", "old"]  # from the end

        def reveal(self) -> str:
            return self.answers.pop() if len(self.answers) > 1 else self.answers[0]

    setuser(redis_server, ">new")
    before = connections(redis_server)
    where = parse_address(f"redis://anna@{LOOPBACK}:{redis_server.port}", Replaced("password"))
    assert await reach(Access(where)) == b"x"
    assert refusals(redis_server) == 1
    assert connections(redis_server) == before + 3  # that connection, and two that ask


@both_kinds
async def test_a_server_that_wants_a_password_and_one_that_wants_none(reach: Reach, start_redis: StartRedis) -> None:
    locked, free = start_redis(requirepass="pw"), start_redis()
    for database in (0, 1):
        told = await problem(reach, parse_address(f"redis://{LOOPBACK}:{locked.port}/{database}"))
        assert told.startswith("NOAUTH: the server wants a password, and none is configured")
    told = await problem(reach, parse_address(free.url().replace("redis://", "redis://:pw@")))
    assert told.startswith("ERR: a password is configured, and the server has none for it")


@both_kinds
async def test_a_unix_socket_with_a_user_a_password_and_a_database(
    reach: Reach, start_redis: StartRedis, tmp_path: Any
) -> None:
    (tmp_path / "password").write_text("right")
    server = start_redis(unixsocket=str(tmp_path / "redis.sock"))
    setuser(server, ">right")
    url = f"unix://anna@{tmp_path}/redis.sock?db=3"
    access = Access(parse_address(url, SecretFile(str(tmp_path / "password"))))
    assert await reach(access) == b"x"
    assert access.server == f"{tmp_path}/redis.sock"
    (tmp_path / "password").write_text("wrong")
    assert "WRONGPASS" in await problem(reach, access)
    assert await problem(reach, parse_address(f"unix://{tmp_path}/none.sock")) == (
        "FileNotFoundError: [Errno 2] No such file or directory"
    )


@both_kinds
async def test_a_database_that_is_denied_or_not_there(reach: Reach, redis_server: RedisServer) -> None:
    setuser(redis_server, ">pw", "-select")
    where = f"{LOOPBACK}:{redis_server.port}"
    assert "no permissions to run the 'select' command" in await problem(
        reach, parse_address(f"redis://anna:pw@{where}/1")
    )
    assert "DB index is out of range" in await problem(reach, parse_address(f"redis://{where}/99"))


@both_kinds
@pytest.mark.parametrize(
    ("url", "told"),
    [(f"redis://{LOOPBACK}:1/0", "ConnectionRefusedError: "), ("redis://a..b/0", "Unicode"), ("redis://h\0/", "")],
)
async def test_a_server_that_is_not_there_is_one_line(reach: Reach, url: str, told: str) -> None:
    assert told in await problem(reach, parse_address(url))


async def test_a_pulled_connection_that_was_cancelled_on_its_way_in_is_not_used(start_redis: StartRedis) -> None:
    server = start_redis(requirepass="pw")
    pulls = Pulls(Access(parse_address(server.url())))
    server.pause()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await pulls.ping()
    server.resume()
    await pulls.ping()
    await pulls.close()


# -- Sentinel ---------------------------------------------------------------------------------------------------


class Sentinels:
    """What is believed of a master, as the tests have it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.closed = False
        self._moved: Callable[[Place], None] | None = None
        self._faults = 1

    async def master(self) -> Place:
        await asyncio.sleep(0)
        return self.place

    async def watch(self, moved: Callable[[Place], None]) -> None:
        if self._faults:  # the access begins again
            self._faults = 0
            raise RuntimeError("a fault")
        self._moved = moved
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True

    async def move(self, place: Place) -> None:
        async with asyncio.timeout(5):
            while self._moved is None:  # noqa: ASYNC110  it has no event
                await asyncio.sleep(0.01)
        self.place = place
        self._moved(place)


def of_sentinel(server: RedisServer, password: str = "") -> Address:
    user = f":{quote(password)}@" if password else ""
    return replace(
        parse_address(f"redis://{user}mymaster/0"), sentinel=Sentinel("mymaster", (parse_address("redis://s"),))
    )


def at(server: RedisServer) -> Place:
    return LOOPBACK, server.port


@pytest.fixture
def sentinels(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Sentinels:
    """They say that `redis_server` is the master."""
    made = Sentinels(at(redis_server))
    monkeypatch.setattr(module, "_sentinels", lambda address: made if address.sentinel else None)
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.01)
    return made


@both_kinds
async def test_connections_go_where_the_master_is(
    reach: Reach, redis_server: RedisServer, start_redis: StartRedis, sentinels: Sentinels
) -> None:
    access = Access(of_sentinel(redis_server))
    assert access.server == "mymaster"
    assert await reach(access) == b"x"
    assert access.server == f"{LOOPBACK}:{redis_server.port}"
    sentinels.place = at(start_redis())
    assert await reach(access) == b"x"
    assert access.server == f"{LOOPBACK}:{sentinels.place[1]}"


@both_kinds
async def test_a_replica_is_no_master_whatever_sentinel_says(
    reach: Reach, redis_server: RedisServer, start_redis: StartRedis, sentinels: Sentinels
) -> None:
    _, replica = replicated(start_redis)
    sentinels.place = at(replica)
    access = Access(of_sentinel(redis_server))
    assert await problem(reach, access) == f"{access.server} says that it is 'slave', wanted the master"
    replica.client().execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
    assert await reach(access) == b"x"


@both_kinds
async def test_a_role_that_is_denied_is_told(reach: Reach, redis_server: RedisServer, sentinels: Sentinels) -> None:
    setuser(redis_server, ">pw", "-role")
    denied = replace(parse_address("redis://anna:pw@mymaster/0"), sentinel=of_sentinel(redis_server).sentinel)
    assert "no permissions to run the 'role' command" in await problem(reach, denied)
    (needed,) = [one for one in Pulls(Access(denied)).permissions() if "role" in one.commands]
    assert needed.feature == "that it is the master"


async def test_when_the_master_moves_all_connections_to_elsewhere_end(
    redis_server: RedisServer, start_redis: StartRedis, sentinels: Sentinels
) -> None:
    # given connections at work and at rest, and one that waits for an answer
    other = start_redis()
    access = Access(of_sentinel(redis_server))
    await access.start()
    pulls = Pulls(access)
    await asyncio.gather(*(pulls.ping() for _ in range(3)))
    feed = await PushConnection.open(access, Turn())
    waiting = asyncio.create_task(pulls.one("BLPOP", "nothing", 0))
    await pulls.ping()
    # when the master moves, and the old one still answers
    await sentinels.move(at(other))
    # then who waited learns of it
    told = f"the master is now at {LOOPBACK}:{other.port}"
    with pytest.raises(BrokerError) as caught:
        await asyncio.wait_for(waiting, 5)
    assert str(caught.value) == told
    with pytest.raises(ConnectionLost) as lost:
        await asyncio.wait_for(feed.lost(), 5)
    assert str(lost.value) == told
    await feed.close()
    # and everything that follows goes to the new one
    assert access.server == f"{LOOPBACK}:{other.port}"
    other.client().set("here", "new")
    assert await asyncio.gather(*(pulls.one("GET", "here") for _ in range(8))) == [b"new"] * 8
    # and what is connected there already is left alone
    await sentinels.move(at(other))
    assert await pulls.one("GET", "here") == b"new"
    await pulls.close()
    await access.close()
    assert sentinels.closed


async def test_a_master_that_moves_while_others_wait_to_be_let_in(
    start_redis: StartRedis, redis_server: RedisServer, sentinels: Sentinels
) -> None:
    # given a server that does not answer the first, for which all others wait
    server = start_redis(requirepass="pw")
    sentinels.place = at(server)
    access = Access(of_sentinel(server, "pw"))
    await access.start()
    pulls = Pulls(access)
    await pulls.ping()
    server.pause()
    waiting = [asyncio.create_task(pulls.one("BLPOP", "nothing", 0)) for _ in range(4)]
    async with asyncio.timeout(5):
        while len(access._lines) < 4:  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0.01)
    # when the master moves, then all are told so, those too that have said nothing yet
    await sentinels.move(at(redis_server))
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert {str(error) for error in told} == {f"the master is now at {LOOPBACK}:{redis_server.port}"}
    server.resume()
    await pulls.close()
    await access.close()


async def test_a_master_that_moves_while_we_connect(
    redis_server: RedisServer, start_redis: StartRedis, sentinels: Sentinels
) -> None:
    access = Access(of_sentinel(redis_server))
    await access.start()
    opened = await access.open(asyncio.Protocol)
    await sentinels.move(at(start_redis()))
    with pytest.raises(BrokerError, match="the master is now at"):
        await access.introduce(cast(Any, object()), opened.place, cast(Any, None))
    opened.transport.abort()
    await access.close()


@both_kinds
async def test_what_the_old_master_refused_the_new_one_may_take(
    reach: Reach, redis_server: RedisServer, start_redis: StartRedis, sentinels: Sentinels
) -> None:
    access = Access(of_sentinel(redis_server, "pw"))
    await access.start()
    assert "ERR: a password is configured" in await problem(reach, access)
    await sentinels.move(at(start_redis(requirepass="pw")))
    assert await reach(access) == b"x"
    await access.close()
