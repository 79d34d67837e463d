"""Names of servers, on both event loops: looked up where one that hangs holds up nobody else."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from exporter.brokers.access import Access
from exporter.brokers.address import Tls, parse_address
from exporter.brokers.errors import BrokerError
from exporter.brokers.lookup import Lookup
from exporter.brokers.pulls import Pulls
from exporter.brokers.push import PushConnection
from exporter.brokers.turn import Turn
from tests.brokers.reaching import Reach, both_kinds, problem
from tests.certificates import Certificates
from tests.servers import LOOPBACK, RedisServer, StartRedis, free_port

ELSEWHERE = "127.0.0.2"
"""Where no test's server listens."""
SILENT = "cannot find the address of bad.test: Temporary failure in name resolution"


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return cast(asyncio.AbstractEventLoopPolicy, request.param())


class Names:
    """What the name servers say: addresses, an error, or nothing until `speak` is set."""

    def __init__(self) -> None:
        self.known: dict[str, list[str] | BaseException] = {"good.test": [LOOPBACK]}
        self.asked: list[str] = []
        self.speak = threading.Event()
        self._real = socket.getaddrinfo

    def __call__(self, host: str, port: Any, *rest: Any, **others: Any) -> list[Any]:
        if not str(host).endswith(".test"):  # of a test's own client
            return self._real(host, port, *rest, **others)
        self.asked.append(host)
        if host not in self.known:
            self.speak.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        found = self.known[host]
        if isinstance(found, BaseException):
            raise found
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port or 0)) for ip in found]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    made = Names()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.speak.set()


def at(host: str, port: int = 6379, timeout: float = 0.2) -> Access:
    return Access(parse_address(f"redis://{host}:{port}/0?socket_timeout={timeout}&socket_connect_timeout={timeout}"))


async def test_a_name_that_hangs_holds_up_no_other(names: Names, redis_server: RedisServer) -> None:
    # given more brokers with such names than uvloop has threads for all look-ups
    sick = [at("bad.test") for _ in range(6)]
    pulls = [Pulls(access) for access in sick]
    # when each has many connections to make, of both kinds, again and again
    told = []
    for _ in range(2):
        pulling = [one.ping() for one in pulls for _ in range(8)]
        pushing = [PushConnection.open(access, Turn()) for access in sick for _ in range(2)]
        told += await asyncio.gather(*pulling, *pushing, return_exceptions=True)
        # then one with another name is reached at once
        good = Pulls(at("good.test", redis_server.port, timeout=5))
        async with asyncio.timeout(2):
            await good.ping()
        await good.close()
    # and all say the same, and one look-up waits for each
    assert {type(error) for error in told} == {BrokerError}
    assert {str(error) for error in told} == {SILENT}
    assert names.asked.count("bad.test") == len(sick)
    assert threading.active_count() < 2 * len(sick)
    for one in pulls:
        await one.close()


async def test_who_has_given_up_leaves_nothing_for_the_log(names: Names) -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    lookup = Lookup()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await lookup.addresses("bad.test")
    names.speak.set()
    async with asyncio.timeout(5):
        while lookup.problem():  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0.005)
    del lookup
    gc.collect()
    await asyncio.sleep(0)
    assert said == []


@both_kinds
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (socket.gaierror(socket.EAI_AGAIN, "Try again"), "Temporary failure in name resolution"),
        (OSError(24, "Too many open files"), "OSError: [Errno 24] Too many open files"),
        (SystemExit(1), "RuntimeError: SystemExit(1)"),
    ],
)
async def test_a_name_that_cannot_be_found(reach: Reach, error: BaseException, told: str, names: Names) -> None:
    names.known["bad.test"] = error
    assert await problem(reach, at("bad.test", timeout=5)) == f"cannot find the address of bad.test: {told}"


@both_kinds
async def test_the_addresses_are_tried_in_their_order(reach: Reach, names: Names, redis_server: RedisServer) -> None:
    names.known["good.test"] = [ELSEWHERE, LOOPBACK]
    assert await reach(at("good.test", redis_server.port, timeout=5)) == b"x"
    # when none of them can be reached, what the best says is told
    names.known["good.test"] = [ELSEWHERE, "255.255.255.255"]
    assert (await problem(reach, at("good.test", timeout=5))).startswith("ConnectionRefusedError: ")


@both_kinds
async def test_each_connection_looks_again_and_an_address_is_not_looked_up(
    reach: Reach, names: Names, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = at("good.test", redis_server.port, timeout=5)
    names.known["good.test"] = [ELSEWHERE]
    await problem(reach, access)
    names.known["good.test"] = [LOOPBACK]
    assert await reach(access) == b"x"
    assert names.asked == ["good.test"] * 2
    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert await reach(at(LOOPBACK, redis_server.port, timeout=5)) == b"x"


async def test_another_name_waits_until_the_look_up_before_it_has_ended(names: Names) -> None:
    lookup = Lookup()
    first = asyncio.create_task(lookup.addresses("bad.test"))
    await asyncio.sleep(0)
    # when the master moves to a server with another name
    second = asyncio.create_task(lookup.addresses("good.test"))
    await asyncio.sleep(0.02)
    assert names.asked == ["bad.test"]
    names.speak.set()
    with pytest.raises(BrokerError, match=SILENT):
        await first
    assert await second == [LOOPBACK]
    assert await lookup.addresses("::1") == ["::1"]
    assert lookup.problem() is None


@both_kinds
@pytest.mark.needs("openssl")
async def test_the_certificate_must_be_for_the_name(
    reach: Reach, names: Names, start_redis: StartRedis, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    certificates.authority("ca")
    certificates.sign("server", "DNS:good.test")
    names.known["other.test"] = [LOOPBACK]
    port = free_port()
    start_redis(
        tls_port=str(port),
        tls_cert_file=certificates.file("server.crt"),
        tls_key_file=certificates.file("server.key"),
        tls_ca_cert_file=certificates.file("ca.crt"),
        tls_auth_clients="no",
    )
    tls = Tls(certificates.file("ca.crt"))
    assert await reach(Access(parse_address(f"rediss://good.test:{port}", tls=tls))) == b"x"
    told = await problem(reach, parse_address(f"rediss://other.test:{port}", tls=tls))
    assert "Hostname mismatch" in told
