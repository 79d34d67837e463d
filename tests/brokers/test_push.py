"""The pushed connection, on both event loops: against real servers, evil ones and a network that goes silent."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import quote

import pytest
import uvloop

from exporter.brokers import backlog as backlog_module
from exporter.brokers import push as module
from exporter.brokers.access import Access
from exporter.brokers.address import Address, parse_address
from exporter.brokers.errors import BrokerError
from exporter.brokers.push import ConnectionLost, Push, PushConnection
from exporter.brokers.turn import Turn
from tests.e2e import evil
from tests.e2e.evil import evil_server
from tests.namespaces import Namespace, needs_namespace
from tests.servers import LOOPBACK, RedisServer, StartRedis

DEADLINE = 5.0
"""Of waiting for what has to come."""
BEAT = 0.2
MEGABYTE = 1024 * 1024


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return cast(asyncio.AbstractEventLoopPolicy, request.param())


class Received:
    """What a connection pushed, and what it dropped."""

    def __init__(self, seconds_each: float = 0.0) -> None:
        self.pushed: list[bytes] = []
        self.dropped: list[bytes] = []
        self._seconds_each = seconds_each

    def push(self, push: Push) -> None:
        end = time.perf_counter() + self._seconds_each
        self.pushed.append(push[-1])
        while time.perf_counter() < end:
            pass

    def drop(self, push: Push) -> None:
        self.dropped.append(push[-1])

    def __len__(self) -> int:
        return len(self.pushed) + len(self.dropped)


@asynccontextmanager
async def connected(
    address: str | Address, received: Received | None = None, **settings: Any
) -> AsyncIterator[PushConnection]:
    """A connection that is closed, with nothing left of it behind."""
    before = asyncio.all_tasks()
    received = Received() if received is None else received
    where = parse_address(address) if isinstance(address, str) else address
    connection = await PushConnection.open(Access(where), Turn(), received.push, received.drop, **settings)
    try:
        yield connection
    finally:
        await connection.close()
        assert asyncio.all_tasks() <= before
        assert connection.backlog == 0


async def until(condition: Callable[[], object]) -> None:
    """Returns once `condition` is true; TimeoutError when it does not become so."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0.01)


async def loss(connection: PushConnection) -> ConnectionLost:
    """How the connection was lost."""
    with pytest.raises(ConnectionLost) as caught:
        await asyncio.wait_for(connection.lost(), DEADLINE)
    assert "\n" not in str(caught.value)
    return caught.value


async def refusal(address: str | Address) -> str:
    """Why no connection is opened."""
    where = parse_address(address) if isinstance(address, str) else address
    with pytest.raises(BrokerError) as caught:
        await PushConnection.open(Access(where), Turn())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- commands ---------------------------------------------------------------------------------------------------


async def test_replies_come_in_order_and_errors_in_their_place(redis_server: RedisServer) -> None:
    async with connected(redis_server.url()) as connection:
        replies = await connection.many([("ECHO", 1), ("NOSUCH",), ("ECHO", "two"), ("ECHO", b"\xff"), ("PING",)])
        assert replies[0] == b"1"
        assert isinstance(replies[1], Exception)
        assert replies[2:] == [b"two", b"\xff", b"PONG"]
        assert await connection.many([]) == []
        several = await asyncio.gather(*(connection.command("ECHO", number) for number in range(500)))
        assert several == [b"%d" % number for number in range(500)]
        with pytest.raises(BrokerError, match="unknown command"):
            await connection.command("NOSUCH")


async def test_a_command_that_nobody_waits_for_any_more_shifts_no_reply(redis_server: RedisServer) -> None:
    async with connected(redis_server.url()) as connection:
        redis_server.pause()
        waiting = [asyncio.ensure_future(connection.command("ECHO", number)) for number in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        redis_server.resume()
        replies = await asyncio.gather(*waiting, connection.command("ECHO", 3), return_exceptions=True)
        assert replies[::2] == [b"0", b"2"]
        assert isinstance(replies[1], asyncio.CancelledError)
        assert replies[3] == b"3"


async def test_a_command_that_cannot_be_sent_shifts_no_reply(redis_server: RedisServer) -> None:
    async with connected(redis_server.url()) as connection:
        with pytest.raises(UnicodeEncodeError):
            await connection.many([("ECHO", "fine"), ("ECHO", "\ud800")])
        assert await connection.command("ECHO", "next") == b"next"


async def test_replies_that_look_like_pushes_are_replies(redis_server: RedisServer) -> None:
    redis_server.client().rpush("list", "message", "channel", "text")
    redis_server.client().slowlog_reset()
    received = Received()
    async with connected(redis_server.url(), received) as connection:
        assert await connection.command("LRANGE", "list", 0, -1) == [b"message", b"channel", b"text"]
        await connection.command("CONFIG", "SET", "slowlog-log-slower-than", 0)
        await connection.command("ECHO", "x")
        assert isinstance(await connection.command("SLOWLOG", "GET"), list)  # a list of lists
    assert received.pushed == []


async def test_replies_to_one_batch_are_bounded(redis_server: RedisServer) -> None:
    redis_server.client().set("part", b"x" * MEGABYTE)
    parts = module.REPLIES_BYTES // MEGABYTE
    async with connected(redis_server.url()) as connection:
        for _ in range(2):
            assert len(await connection.many([("GET", "part")] * (parts - 2))) == parts - 2
        with pytest.raises(ConnectionLost, match="replies larger than"):
            await connection.many([("GET", "part")] * (parts + 2))


# -- pushes -----------------------------------------------------------------------------------------------------


async def test_messages_and_replies_share_a_connection(redis_server: RedisServer) -> None:
    client = redis_server.client(3)
    received = Received()
    async with connected(redis_server.url(3), received) as connection:
        assert await connection.command("SUBSCRIBE", "one") == [b"subscribe", b"one", 1]
        await connection.many([("PSUBSCRIBE", "t*"), ("SUBSCRIBE", "message")])
        for number in range(100):
            client.publish(("one", "two", "message")[number % 3], number)
            if number % 10 == 0:
                assert await connection.command("PING") == [b"pong", b""]
        await until(lambda: len(received) == 100)
        assert received.pushed == [b"%d" % number for number in range(100)]


async def test_keys_that_change_are_pushed_to_the_connection_they_are_redirected_to(redis_server: RedisServer) -> None:
    client = redis_server.client()
    received = Received()
    async with connected(redis_server.url(), received) as pushed, connected(redis_server.url()) as asking:
        to = await pushed.command("CLIENT", "ID")
        await pushed.command("SUBSCRIBE", "__redis__:invalidate")
        await asking.command("CLIENT", "TRACKING", "ON", "REDIRECT", to, "BCAST", "PREFIX", "arq:result:")
        client.set("arq:result:1", "x")
        client.set("other", "x")
        client.set("arq:result:2", "x")
        await until(lambda: len(received) == 2)
        assert received.pushed == [[b"arq:result:1"], [b"arq:result:2"]]  # type: ignore[comparison-overlap]
        client.flushall()
        await until(lambda: len(received) == 3)
        assert cast(Any, received.pushed[2]) is None


PUBLISHER = """
import socket, sys, threading
port, count, size = map(int, sys.argv[1:])
connection = socket.create_connection(("127.0.0.1", port))
def read():
    left = 4 * count  # ":1\\r\\n" each
    while left > 0:
        left -= len(connection.recv(1 << 20))
reader = threading.Thread(target=read)
reader.start()
for start in range(0, count, 500):
    payloads = [b"$%d\\r\\n%0*d\\r\\n" % (size, size, number) for number in range(start, start + 500)]
    connection.sendall(b"".join(b"*3\\r\\n$7\\r\\nPUBLISH\\r\\n$7\\r\\nchannel\\r\\n" + one for one in payloads))
reader.join()
"""


async def publish_flat_out(server: RedisServer, count: int, size: int) -> None:
    """Another process publishes `count` numbers of `size` digits, as fast as the server takes them."""
    arguments = [str(number) for number in (server.port, count, size)]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PUBLISHER, *arguments)
    assert await asyncio.wait_for(process.wait(), 6 * DEADLINE) == 0


@pytest.mark.slow
async def test_a_flood_arrives_whole_under_the_servers_default_limits(redis_server: RedisServer) -> None:
    count = 200_000
    received = Received(seconds_each=5e-6)
    async with connected(redis_server.url(), received) as connection:
        await connection.command("SUBSCRIBE", "channel")
        await publish_flat_out(redis_server, count, 400)
        await until(lambda: len(received) == count)
        assert [int(payload) for payload in received.pushed] == list(range(count))
        assert received.dropped == []
        assert await connection.command("PING") == [b"pong", b""]
        assert connection.backlog_peak > MEGABYTE


async def test_beyond_its_limit_the_oldest_are_dropped_and_counted_and_replies_still_come(
    redis_server: RedisServer,
) -> None:
    count = 20_000
    received = Received(seconds_each=50e-6)
    pongs = 0
    async with connected(redis_server.url(), received, limit=20_000) as connection:
        await connection.command("SUBSCRIBE", "channel")
        publishing = asyncio.ensure_future(publish_flat_out(redis_server, count, 100))
        while not publishing.done():
            assert await connection.command("PING") == [b"pong", b""]
            pongs += 1
        await publishing
        await until(lambda: len(received) == count)
        assert connection.backlog_peak <= 20_000 + module._RECEIVE_BYTES
    assert pongs > 0
    assert received.dropped
    assert received.pushed
    assert sorted(map(int, received.pushed + received.dropped)) == list(range(count))
    assert list(map(int, received.pushed)) == sorted(map(int, received.pushed))


async def test_a_long_message_arrives_whole(redis_server: RedisServer) -> None:
    text = b"x" * (8 * MEGABYTE)
    received = Received()
    async with connected(redis_server.url(), received) as connection:
        await connection.command("SUBSCRIBE", "channel")
        await asyncio.to_thread(redis_server.client().publish, "channel", text)
        await until(lambda: len(received) == 1)
    assert received.pushed == [text]


# -- losses -----------------------------------------------------------------------------------------------------


def telling(count: int) -> evil.Behaviour:
    """A server that sends `count` messages upon SUBSCRIBE, in one go with the end of the connection."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await evil._hello(reader, writer)
        while b"SUBSCRIBE" not in await reader.read(MEGABYTE):
            writer.write(b"+PONG\r\n")
        writer.write(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
        writer.write(b"".join(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$6\r\n%06d\r\n" % number for number in range(count)))
        writer.write_eof()
        while await reader.read(MEGABYTE):  # to close with a PING unread would reset the connection
            pass

    return behave


async def test_what_came_before_a_loss_is_decoded_before_it_is_told() -> None:
    received = Received(seconds_each=20e-6)
    with evil_server(telling(5_000)) as url:
        async with connected(url, received) as connection:
            await connection.command("SUBSCRIBE", "c")
            assert "closed by the server" in str(await loss(connection))
            assert [int(payload) for payload in received.pushed] == list(range(5_000))
            with pytest.raises(ConnectionLost, match="closed by the server"):
                await connection.command("PING")
            assert "closed by the server" in str(await loss(connection))  # again


async def test_after_close_nothing_is_pushed() -> None:
    received = Received(seconds_each=1e-3)
    with evil_server(telling(5_000)) as url:
        async with connected(url, received) as connection:
            await connection.command("SUBSCRIBE", "c")
            await until(lambda: received.pushed)
            waiting = asyncio.ensure_future(connection.lost())
            await connection.close()
            pushed = len(received)
            assert pushed < 5_000
            with pytest.raises(ConnectionLost, match="closed"):
                await waiting
            with pytest.raises(ConnectionLost, match="closed"):
                await connection.command("PING")
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(received) == pushed


async def test_a_killed_connection_is_told_and_a_new_one_works(redis_server: RedisServer) -> None:
    client = redis_server.client()
    async with connected(redis_server.url()) as connection:
        asking = connection.command("SUBSCRIBE", "channel")
        assert await asking == [b"subscribe", b"channel", 1]
        client.client_kill_filter(_type="pubsub")
        assert str(await loss(connection)).startswith("connection")
    async with connected(redis_server.url()) as connection:
        assert await connection.command("PING") == b"PONG"


async def test_a_command_that_waits_learns_of_the_loss(redis_server: RedisServer) -> None:
    async with connected(redis_server.url(), beat=BEAT) as connection:
        redis_server.pause()
        with pytest.raises(ConnectionLost, match="no answer to PING"):
            await asyncio.wait_for(connection.command("ECHO", "x"), DEADLINE)
        redis_server.resume()
    async with connected(redis_server.url()) as connection:
        assert await connection.command("PING") == b"PONG"


async def test_a_feed_that_raises_ends_its_own_connection_only(redis_server: RedisServer) -> None:
    def fail(push: Push) -> None:
        raise ValueError("cannot\nread this")

    turn, received = Turn(), Received()
    address = parse_address(redis_server.url())
    bad = await PushConnection.open(Access(address), turn, fail)
    good = await PushConnection.open(Access(address), turn, received.push)
    try:
        for connection in (bad, good):
            await connection.command("SUBSCRIBE", "channel")
        for number in range(10):
            redis_server.client().publish("channel", number)
        assert "ValueError while decoding: cannot" in str(await loss(bad))
        await until(lambda: len(received) == 10)
    finally:
        await bad.close()
        await good.close()


async def test_beats_keep_an_idle_connection_alive(redis_server: RedisServer) -> None:
    async with connected(redis_server.url(), beat=0.02) as connection:
        before = connection._heard
        await until(lambda: connection._heard > before + 10)
        assert await connection.command("PING") == b"PONG"


async def test_a_process_that_stood_still_does_not_take_a_healthy_connection_for_lost(
    redis_server: RedisServer,
) -> None:
    async with connected(redis_server.url(), beat=0.1) as connection:
        for part in range(8):
            await asyncio.sleep(0.1 * part / 8)  # at different moments of a beat
            time.sleep(0.35)  # noqa: ASYNC251  as SIGSTOP would, to all that the loop can see
            assert await connection.command("PING") == b"PONG"


async def test_a_peer_that_says_nothing_is_lost() -> None:
    with evil_server(evil.silence) as url:
        async with connected(url, beat=BEAT) as connection:
            lost = await loss(connection)
            assert "no answer to PING within 0.2 s" in str(lost)
            assert time.monotonic() - lost.heard_at >= BEAT


@needs_namespace
def test_a_silent_cut_is_noticed_within_two_beats(
    namespace: Namespace, start_redis: StartRedis, event_loop_policy: asyncio.AbstractEventLoopPolicy
) -> None:
    server = namespace.inside(start_redis)
    beat = 1.0

    async def scenario() -> None:
        received = Received()
        async with connected(server.url(), received, beat=beat) as connection:
            await connection.command("SUBSCRIBE", "channel")
            client = server.client()
            client.publish("channel", "seen")
            await until(lambda: len(received) == 1)
            await asyncio.to_thread(namespace.black_hole, server.port)
            lost = await loss(connection)
            assert "no answer to PING" in str(lost)
            assert time.monotonic() - lost.heard_at < 2 * beat + 0.5  # some slack for a busy machine
        await asyncio.to_thread(namespace.heal)
        async with connected(server.url(), received, beat=beat) as connection:
            await connection.command("SUBSCRIBE", "channel")
            server.client().publish("channel", "seen again")
            await until(lambda: len(received) == 2)

    def run() -> None:
        with asyncio.Runner(loop_factory=event_loop_policy.new_event_loop) as runner:
            runner.run(scenario())

    namespace.inside(run)


# -- getting in -------------------------------------------------------------------------------------------------


async def test_it_names_itself_and_speaks_resp2(redis_server: RedisServer) -> None:
    async with connected(redis_server.url()):
        clients = cast(list[dict[str, str]], redis_server.client().client_list())
        (own,) = [entry for entry in clients if entry["name"] == "taskqueue-exporter"]
        assert own["resp"] == "2"


async def test_a_password(start_redis: StartRedis) -> None:
    password = "s3cret /?#%:@"
    server = start_redis(requirepass=password)
    async with connected(server.url()) as connection:
        assert await connection.command("PING") == b"PONG"
    wrong = await refusal(server.url().replace("s3cret", "guessed"))
    assert "WRONGPASS" in wrong
    assert "guessed" not in wrong
    assert "NOAUTH" in await refusal(f"redis://{LOOPBACK}:{server.port}/0")
    assert "NOAUTH" in await refusal(f"redis://{LOOPBACK}:{server.port}/1")


async def test_a_user_of_the_acl_with_and_without_a_password(redis_server: RedisServer) -> None:
    client = redis_server.client()
    client.execute_command("ACL", "SETUSER", "anna", "on", ">pass", "+ping", "+acl|whoami", "+select")  # type: ignore[no-untyped-call]
    client.execute_command("ACL", "SETUSER", "otto", "on", "nopass", "+acl|whoami", "+client")  # type: ignore[no-untyped-call]
    where = f"@{LOOPBACK}:{redis_server.port}"
    async with connected(f"redis://anna:pass{where}/1") as connection:  # may not name itself: no harm
        assert await connection.command("ACL", "WHOAMI") == b"anna"
    async with connected(f"redis://otto{where}/0", beat=0.02) as connection:  # may not PING: a refusal is an answer
        assert await connection.command("ACL", "WHOAMI") == b"otto"
        before = connection._heard
        await until(lambda: connection._heard > before + 3)
    assert "WRONGPASS" in await refusal(f"redis://anna:guessed{where}/0")
    assert "NOPERM" in await refusal(f"redis://otto{where}/1")


async def test_a_database(redis_server: RedisServer) -> None:
    redis_server.client(5).set("key", "five")
    async with connected(redis_server.url(5)) as connection:
        assert await connection.command("GET", "key") == b"five"
    assert "DB index is out of range" in await refusal(redis_server.url(99))


async def test_a_password_that_the_server_repeats_does_not_show() -> None:
    password = "c4nary " * 40
    with evil_server(evil.parrot) as url:
        shown = await refusal(url.replace("redis://", f"redis://anna:{quote(password, safe='')}@"))
    assert "unknown command" in shown
    assert "c4nary" not in shown


async def test_a_unix_socket(start_redis: StartRedis, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("socket") / "redis.sock"
    start_redis(unixsocket=str(path))
    async with connected(f"unix://{path}?db=3") as connection:
        assert await connection.command("PING") == b"PONG"
    assert "FileNotFoundError" in await refusal(f"unix://{path}.none")


@pytest.mark.parametrize(
    ("url", "problem"),
    [("redis://127.0.0.1:1/0", "ConnectionRefusedError"), ("redis://a..b/0", "Unicode"), ("redis://h\0/", "")],
)
async def test_a_server_that_is_not_there_is_one_line(url: str, problem: str) -> None:
    assert problem in await refusal(url)
    before = descriptors()
    for _ in range(5):
        await refusal(url)
    assert descriptors() == before


# -- evil servers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_a_server_that_never_answers_is_given_up(scheme: str) -> None:
    with evil_server(evil.trickle if scheme == "redis" else evil.silence) as url:
        before = descriptors()
        timed = url.replace("redis://", f"{scheme}://") + "?socket_connect_timeout=0.3"
        problem = await refusal(timed)
        await until(lambda: descriptors() <= before + 1)  # the server's own end may stay a while
    assert problem.startswith(("TimeoutError: not connected to 127.0.0.1:", "SSLError", "ConnectionResetError"))


async def endless_array(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An array whose elements go on and on."""
    await evil._hello(reader, writer)
    await reader.read(MEGABYTE)
    writer.write(b"*900000\r\n")
    await evil._pour(writer, b"$%d\r\n%s\r\n" % (MEGABYTE, b"x" * MEGABYTE), 200)


async def unasked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Replies to what nobody asked."""
    await evil._hello(reader, writer)
    await evil._pour(writer, b"+OK\r\n" * 1000, 10)
    await reader.read(MEGABYTE)


@pytest.mark.parametrize(
    ("behave", "problem"),
    [
        (evil.huge_string, "reply larger than"),
        (evil.huge_array, "reply larger than"),
        (evil.endless_line, "reply larger than"),
        (evil.garbage, "not Redis's protocol"),
        (evil.hang_up, "connection"),
        (endless_array, "message larger than"),
        (unasked, "a reply that nobody asked for"),
    ],
)
async def test_a_server_that_is_no_good_ends_the_connection_in_one_line(behave: evil.Behaviour, problem: str) -> None:
    with evil_server(behave) as url:
        try:
            limit = backlog_module.MESSAGE_BYTES + 8 * MEGABYTE
            connection = await PushConnection.open(Access(parse_address(url)), Turn(), limit=limit)
        except BrokerError as error:
            told: Exception = error
        else:
            told = await loss(connection)
            assert connection.backlog_peak <= limit + 2 * module._RECEIVE_BYTES
            await connection.close()
    assert problem in str(told)
    assert "\n" not in str(told)


async def test_wrong_types_and_nested_replies_are_given_to_whoever_asked() -> None:
    with evil_server(evil.wrong_types) as url:
        async with connected(url) as connection:
            assert await connection.command("SUBSCRIBE", "c") == [[None], []]
    with evil_server(evil.nested_array) as url:
        async with connected(url, beat=BEAT) as connection:
            await loss(connection)


async def test_an_open_that_is_cancelled_leaves_nothing() -> None:
    with evil_server(evil.trickle) as url:
        opening = asyncio.ensure_future(PushConnection.open(Access(parse_address(url)), Turn()))
        await asyncio.sleep(0.05)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    assert asyncio.all_tasks() == {asyncio.current_task()}
