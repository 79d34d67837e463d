"""Where Sentinel says that a master is: real sentinels through a failover, and fake ones that say what real ones would
say only for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import hiredis
import pytest
import structlog

from exporter.brokers import sentinel as module
from exporter.brokers.address import Address, Place, Sentinel
from exporter.brokers.errors import BrokerError
from exporter.brokers.sentinel import ANSWER, GRACE, LONE, SETTLED, Sentinels
from exporter.safe.secrets import Secret
from tests.sentinels import SentinelServer, StartSentinel, replicated, role
from tests.servers import LOOPBACK, RedisServer, StartRedis, free_port
from tests.toys import until

OLD, NEW = (LOOPBACK, 1), (LOOPBACK, 2)
"""Places where nobody is."""


def address(port: int, password: str | None = None) -> Address:
    return Address("redis", LOOPBACK, port, 0, password=Secret(password) if password else None)


Ask = Callable[..., Sentinels]


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    """Makes a Sentinels of the ports of servers; nothing that it ran is left in the end."""
    async with AsyncExitStack() as stack:

        def make(
            *ports: int, master: str = "m", password: str | None = None, clock: Callable[[], float] = time.monotonic
        ) -> Sentinels:
            sentinel = Sentinel(master, tuple(address(port, password) for port in ports))
            sentinels = Sentinels(sentinel, Address("redis", "", 0, 0, sentinel=sentinel), clock)
            stack.push_async_callback(sentinels.close)
            return sentinels

        yield make


# -- real ones --------------------------------------------------------------------------------------------------


def blind(sentinel: SentinelServer, *servers: RedisServer) -> None:
    """Lets a sentinel not hear what others say, as if it were cut off from them."""
    for server in servers:
        server.client().acl_setuser("deaf", enabled=True, passwords=["+x"], categories=["+@all"], keys=["*"])
    sentinel.command("SENTINEL", "SET", "m", "auth-user", "deaf", "auth-pass", "x")


async def test_a_failover_is_noticed_and_a_sentinel_that_missed_it_is_not_believed(
    start_redis: StartRedis, start_sentinel: StartSentinel, ask: Ask
) -> None:
    # given a master, its replica, and two sentinels of which one hears nothing of the other
    first, second = replicated(start_redis)
    leader, cut_off = start_sentinel(), start_sentinel()
    for sentinel in (leader, cut_off):
        sentinel.monitor("m", first, replicas=1)
    blind(cut_off, first, second)
    sentinels = ask(cut_off.port, leader.port)
    assert await sentinels.master() == (LOOPBACK, first.port)
    moved: list[Place] = []
    watching = asyncio.create_task(sentinels.watch(moved.append))
    # when the other makes the replica the master
    await asyncio.to_thread(leader.failover, "m")
    await until(lambda: moved, 10)
    watching.cancel()
    # then that is told, by those who asked before and by those who ask for the first time
    assert moved == [(LOOPBACK, second.port)]
    assert (role(first), cut_off.master("m")) == ("master", first.port)
    assert await sentinels.master() == (LOOPBACK, second.port)
    assert await ask(cut_off.port, leader.port).master() == (LOOPBACK, second.port)
    # and where only the one that missed it answers, what is known stands
    leader.pause()
    assert await sentinels.master() == (LOOPBACK, second.port)


async def test_one_that_hangs_holds_up_nobody(
    redis_server: RedisServer, start_sentinel: StartSentinel, ask: Ask
) -> None:
    good, hanging = start_sentinel(), start_sentinel()
    for sentinel in (good, hanging):
        sentinel.monitor("m", redis_server)
    hanging.pause()
    sentinels = ask(hanging.port, good.port)
    for _ in range(2):
        began = time.monotonic()
        assert await sentinels.master() == (LOOPBACK, redis_server.port)
        assert time.monotonic() - began < ANSWER  # GRACE, and what a slow machine adds
    # and when all hang, that is said in time
    good.pause()
    new = ask(hanging.port, good.port)
    began = time.monotonic()
    with pytest.raises(BrokerError, match=r"no sentinel tells where the master 'm' is: .*no answer.*; .*no answer"):
        await new.master()
    assert time.monotonic() - began < 3 * ANSWER
    # and when they go on, they are asked again
    good.resume()
    assert await new.master() == (LOOPBACK, redis_server.port)


async def test_while_none_answers_the_master_is_where_it_was(fakes: Fakes, ask: Ask) -> None:
    (fake,) = await fakes(1)
    sentinels = ask(fake.port)
    assert await sentinels.master() == OLD
    fake.answers.clear()
    assert await sentinels.master() == OLD
    fake.place, fake.epoch = NEW, 1
    fake.answers.set()
    async with asyncio.timeout(5):
        while await sentinels.master() != NEW:
            pass


async def test_a_master_that_no_sentinel_knows_is_named(
    redis_server: RedisServer, start_sentinel: StartSentinel, ask: Ask
) -> None:
    sentinel = start_sentinel()
    sentinel.monitor("m", redis_server)
    with pytest.raises(BrokerError) as caught:
        await ask(sentinel.port, master="other").master()
    told = f"no sentinel tells where the master 'other' is: {sentinel.address}: it knows no master named 'other'"
    assert str(caught.value) == told


async def test_no_sentinel_at_all_is_one_line(ask: Ask) -> None:
    ports = free_port(), free_port()
    with pytest.raises(BrokerError) as caught:
        await ask(*ports).master()
    assert all(f"{LOOPBACK}:{port}: Connection" in str(caught.value) for port in ports)
    assert "\n" not in str(caught.value)


async def test_a_sentinel_with_a_password(redis_server: RedisServer, start_sentinel: StartSentinel, ask: Ask) -> None:
    sentinel = start_sentinel(requirepass="s3cret")
    sentinel.monitor("m", redis_server)
    assert await ask(sentinel.port, password="s3cret").master() == (LOOPBACK, redis_server.port)
    with pytest.raises(BrokerError) as caught:
        await ask(sentinel.port, password="wr0ng").master()
    assert "wr0ng" not in str(caught.value)


async def test_the_rights_that_are_documented_do(
    redis_server: RedisServer, start_sentinel: StartSentinel, ask: Ask
) -> None:
    sentinel = start_sentinel()
    sentinel.monitor("m", redis_server)
    rights = ("+client|setname", "+sentinel|master", "+sentinel|get-master-addr-by-name")
    sentinel.command("ACL", "SETUSER", "default", "on", "nopass", "-@all", "+acl", *rights)
    assert await ask(sentinel.port).master() == (LOOPBACK, redis_server.port)
    # and without one of them, it is named
    sentinel.command("ACL", "SETUSER", "default", "-sentinel|master")
    with pytest.raises(BrokerError, match=r"no permissions to run the 'sentinel\|master' command"):
        await ask(sentinel.port).master()


async def test_a_redis_is_no_sentinel(redis_server: RedisServer, ask: Ask) -> None:
    with pytest.raises(BrokerError, match="unknown command"):
        await ask(redis_server.port).master()


# -- fake ones --------------------------------------------------------------------------------------------------


class Fake:
    """A sentinel that says what it is told to."""

    def __init__(self) -> None:
        self.place: Place | None = OLD
        self.epoch: object = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.delay = 0.0
        self.asked = 0
        self.port = 0

    async def __aenter__(self) -> Fake:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        while data := await reader.read(4096):
            commands.feed(data)
            while (command := commands.gets()) is not False:
                await self.answers.wait()
                await asyncio.sleep(self.delay)
                writer.write(self._answer(command))
        writer.close()

    def _answer(self, command: list[bytes]) -> bytes:
        if command[:2] == [b"SENTINEL", b"MASTER"]:
            self.asked += 1
            return packed("name", "m", "config-epoch", self.epoch) if self.place else b"-ERR No such master\r\n"
        if command[0] == b"SENTINEL":
            return packed(*self.place) if self.place else b"*-1\r\n"
        return b"+OK\r\n"


def packed(*words: object) -> bytes:
    texts = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%s\r\n" % (len(text), text) for text in texts)


Fakes = Callable[[int], Awaitable[list[Fake]]]


@pytest.fixture
async def fakes() -> AsyncIterator[Fakes]:
    """Starts that many fake sentinels, which tell of OLD."""
    async with AsyncExitStack() as stack:

        async def start(count: int) -> list[Fake]:
            return [await stack.enter_async_context(Fake()) for _ in range(count)]

        yield start


async def test_one_that_knows_of_a_newer_failover_goes_before_many_that_do_not(fakes: Fakes, ask: Ask) -> None:
    first, second, third = await fakes(3)
    third.place, third.epoch = NEW, 1
    assert await ask(first.port, second.port, third.port).master() == NEW


async def test_it_may_be_the_slower_one(fakes: Fakes, ask: Ask) -> None:
    first, second = await fakes(2)
    second.place, second.epoch, second.delay = NEW, 1, GRACE / 10
    assert await ask(first.port, second.port).master() == NEW


async def test_one_that_is_always_slow_is_heard_the_next_time(fakes: Fakes, ask: Ask) -> None:
    first, second = await fakes(2)
    second.place, second.epoch, second.delay = NEW, 1, GRACE
    sentinels = ask(first.port, second.port)
    assert await sentinels.master() == OLD
    async with asyncio.timeout(5):
        while await sentinels.master() != NEW:
            pass


async def test_of_one_failover_the_place_that_most_tell(fakes: Fakes, ask: Ask) -> None:
    first, second, third = await fakes(3)
    second.place = third.place = NEW
    assert await ask(first.port, second.port, third.port).master() == NEW


async def test_what_a_newer_failover_made_known_stands_while_only_others_answer(fakes: Fakes, ask: Ask) -> None:
    first, second = await fakes(2)
    second.place, second.epoch = NEW, 10  # as a number: "9" comes after "10"
    first.epoch = 9
    sentinels = ask(first.port, second.port)
    assert await sentinels.master() == NEW
    second.answers.clear()
    assert await sentinels.master() == NEW


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def test_sentinels_that_were_set_up_anew_are_believed_after_a_while(fakes: Fakes, ask: Ask) -> None:
    # given a failover, after which all that is known to the sentinels is lost
    several = await fakes(3)
    for one in several:
        one.place, one.epoch = NEW, 7
    clock = Clock()
    sentinels = ask(*(one.port for one in several), clock=clock)
    assert await sentinels.master() == NEW
    for one in several:
        one.place, one.epoch = OLD, 0
    # when that is new, then it may be that they only missed something; later, they are right
    clock.now += SETTLED - 1
    assert await sentinels.master() == NEW
    clock.now += 1
    several[0].place = several[1].place = None  # but not a single one of them
    assert await sentinels.master() == NEW
    several[0].place = OLD
    assert await sentinels.master() == OLD


async def test_half_of_them_are_believed_later_and_only_where_the_known_master_is_none(
    fakes: Fakes, ask: Ask, redis_server: RedisServer, start_redis: StartRedis
) -> None:
    # given two sentinels of which one is gone for good, and the other, set up anew, tells of another master
    (one,) = await fakes(1)
    known, other = (LOOPBACK, redis_server.port), (LOOPBACK, start_redis().port)
    one.place, one.epoch = known, 5
    clock = Clock()
    sentinels = ask(one.port, free_port(), clock=clock)
    assert await sentinels.master() == known
    one.place, one.epoch = other, 0
    with structlog.testing.capture_logs() as logged:
        # when that is new, or the known one is a master, then it is not believed, and that is said once
        clock.now += LONE - 1
        assert await sentinels.master() == known
        clock.now += 1
        assert await sentinels.master() == known
        # and when the known one has gone, then later it is
        redis_server.stop()
        clock.now += LONE - 1
        assert await sentinels.master() == known
        clock.now += 1
        assert await sentinels.master() == other
    (said,) = [entry for entry in logged if entry["event"] == "sentinels tell of an older failover"]
    assert said["told"] == f"{LOOPBACK}:{other[1]}"
    assert said["believed"] == f"{LOOPBACK}:{known[1]}"


async def test_a_master_that_has_become_a_replica_is_none(
    fakes: Fakes, ask: Ask, redis_server: RedisServer, start_redis: StartRedis
) -> None:
    one, hanging = await fakes(2)
    hanging.answers.clear()
    one.place, one.epoch = (LOOPBACK, redis_server.port), 5
    clock = Clock()
    sentinels = ask(one.port, hanging.port, clock=clock)
    assert await sentinels.master() == one.place
    one.place, one.epoch = NEW, 0
    redis_server.client().execute_command("REPLICAOF", LOOPBACK, free_port())  # type: ignore[no-untyped-call]
    clock.now += LONE
    assert await sentinels.master() == NEW


async def test_what_is_learned_while_the_known_one_is_asked_stands(
    fakes: Fakes, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, another = await fakes(2)
    one.place, one.epoch = NEW, 5
    another.answers.clear()
    clock = Clock()
    sentinels = ask(one.port, another.port, clock=clock)
    assert await sentinels.master() == NEW
    newest = (LOOPBACK, 3)

    async def meanwhile(*_: object) -> bool:
        one.place, one.epoch = newest, 6
        assert await sentinels.master() == newest
        return False

    monkeypatch.setattr(module, "is_master", meanwhile)
    one.place, one.epoch = OLD, 0
    clock.now += LONE
    assert await sentinels.master() == newest
    assert await sentinels.master() == newest


async def test_jobs_may_end_elsewhere_since_the_old_place_was_told_for_the_last_time(fakes: Fakes, ask: Ask) -> None:
    (one,) = await fakes(1)
    clock = Clock()
    sentinels = ask(one.port, clock=clock)
    told: list[float | None] = []
    sentinels.left.tell = told.append
    assert await sentinels.master() == OLD
    clock.now += 5
    one.place, one.epoch = NEW, 1
    assert await sentinels.master() == NEW
    await until(lambda: len(told) > 1)  # nobody is there
    assert told == [clock.now - 5, None]


async def test_every_move_is_told_once_whoever_asked(fakes: Fakes, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL", 0.01)
    (one,) = await fakes(1)
    sentinels = ask(one.port)
    moved: list[Place] = []
    watching = asyncio.create_task(sentinels.watch(moved.append))
    await until(lambda: one.asked > 2)
    assert moved == []  # the first place is no move
    one.place, one.epoch = NEW, 1
    await sentinels.master()  # may join one who asked before the move
    assert await sentinels.master() == NEW
    await until(lambda: moved)
    # and while none answers, nothing has moved; then it is told where it moved to meanwhile
    one.answers.clear()
    monkeypatch.setattr(module, "ANSWER", 0.01)
    one.place, one.epoch = OLD, 2
    one.answers.set()
    await until(lambda: len(moved) > 1)
    watching.cancel()
    assert moved == [NEW, OLD]


async def test_those_who_ask_at_the_same_time_share_the_answer(fakes: Fakes, ask: Ask) -> None:
    several = await fakes(2)
    sentinels = ask(*(one.port for one in several))
    several[0].answers.clear()
    several[1].answers.clear()
    many = [asyncio.create_task(sentinels.master()) for _ in range(20)]
    await until(lambda: sum(not task.done() for task in many) == 20)
    # when one of them gives up, the others wait on
    await asyncio.sleep(0)
    many[0].cancel()
    for one in several:
        one.answers.set()
    assert set(await asyncio.gather(*many[1:])) == {OLD}
    assert [one.asked for one in several] == [1, 1]


@pytest.mark.parametrize("host", ["redis-0.redis.internal", "::1", "10.0.0.7"])
async def test_a_master_goes_by_name_or_by_number(host: str, fakes: Fakes, ask: Ask) -> None:
    (one,) = await fakes(1)
    one.place = (host, 6379)
    assert await ask(one.port).master() == (host, 6379)


@pytest.mark.parametrize(
    ("place", "epoch"), [(("h", 0), 1), (("h", "x"), 1), (("", 1), 1), (("h", 1), "new"), (("h", 70_000), 1)]
)
async def test_what_is_no_answer_is_one_line_and_others_are_asked(
    place: Place, epoch: object, fakes: Fakes, ask: Ask
) -> None:
    bad, good = await fakes(2)
    bad.place, bad.epoch = place, epoch
    assert await ask(bad.port, good.port).master() == OLD
    with pytest.raises(BrokerError) as caught:
        await ask(bad.port).master()
    assert "\n" not in str(caught.value)


def test_the_times() -> None:
    assert GRACE < ANSWER <= 1
    assert module.POLL <= 1
    assert 10 <= SETTLED < LONE
