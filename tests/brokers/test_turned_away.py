"""Servers that turn away whoever connects, on both event loops: one reason in one text, whatever the timing."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from exporter.brokers import access as module
from exporter.brokers.access import Access
from exporter.brokers.address import Tls, parse_address
from exporter.brokers.bounded import BoundedConnection
from exporter.brokers.errors import CLOSED
from exporter.brokers.pulls import Pulls
from tests.brokers.reaching import Reach, both_kinds, problem
from tests.certificates import Certificates
from tests.servers import LOOPBACK, RedisServer, StartRedis, free_port

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PROTECTED = (
    b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the "
    b"default user. In this mode connections are only accepted from the loopback interface. If you want to connect "
    b"from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode "
    b"sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the "
    b"same host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. "
    b"Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by "
    b"editing the Redis configuration file, and setting the protected mode option to 'no', and then restarting the "
    b"server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' "
    b"option. 4) Set up an authentication password for the default user. NOTE: You only need to do one of the above "
    b"things in order for the server to start accepting connections from the outside.\r\n"
)
DENIED = (
    "DENIED: the server is in protected mode (Redis is running in protected mode because protected mode is enabled and "
    "no password is set for the default user); tried again every 10 s"
)
FULL = "ERR max number of clients reached"
TIMES = 12


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return cast(asyncio.AbstractEventLoopPolicy, request.param())


@asynccontextmanager
async def serving(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that treats each connection so; its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await serve(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(handle, LOOPBACK, 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


def saying(greeting: bytes, *, reads: int = 0, reset: bool = False) -> Serve:
    """Says `greeting` after so many requests and ends the connection, by a reset or not."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(reads):
            await reader.read(4096)
        if greeting:
            writer.write(greeting)
            await writer.drain()
        if not reads:
            await asyncio.sleep(random.choice([0, 0, 0.001, 0.002]))  # it falls now here, now there
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return serve


async def told(reach: Reach, port: int, user: str = "") -> set[str]:
    """Every text that many attempts get."""
    return {await problem(reach, parse_address(f"redis://{user}{LOOPBACK}:{port}/1")) for _ in range(TIMES)}


@both_kinds
@pytest.mark.parametrize("user", ["", ":pw@"])
@pytest.mark.parametrize("reads", [0, 1])
@pytest.mark.parametrize("reset", [False, True])
async def test_why_nobody_is_let_in(reach: Reach, user: str, reads: int, reset: bool) -> None:
    for greeting, reason in ((PROTECTED, DENIED), (f"-{FULL}\r\n".encode(), FULL), (b"", CLOSED)):
        async with serving(saying(greeting, reads=reads, reset=reset)) as port:
            assert await told(reach, port, user) == {reason}


@both_kinds
async def test_a_server_that_is_full(reach: Reach, start_redis: StartRedis) -> None:
    server = start_redis(maxclients="1")
    server.client().ping()
    assert await told(reach, server.port) == {FULL}


async def test_a_command_over_a_connection_that_has_ended(redis_server: RedisServer) -> None:
    pulls = Pulls(Access(parse_address(redis_server.url())))
    connection: BoundedConnection = await pulls._pool.get_connection()
    assert connection._writer is not None
    connection._writer.transport.abort()
    for _ in range(3):
        await asyncio.sleep(0)

    async def ask() -> None:
        await connection.send_command("PING")
        await connection.read_response()

    # then it is no RuntimeError, as uvloop has it
    with pytest.raises(RedisConnectionError, match=f"^{CLOSED}$"):
        await ask()
    await pulls._pool.release(connection)
    await pulls.close()


# -- TLS --------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    made = Certificates(tmp_path)
    made.authority("ca")
    made.sign("server")
    return made


def server_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.file("server.crt"), certificates.file("server.key"))
    return context


@both_kinds
@pytest.mark.needs("openssl")
async def test_a_server_that_ends_a_connection_and_is_silent_on_the_next(
    reach: Reach, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ALERT_SECONDS", 0.1)
    held = asyncio.Event()
    came = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        if came > 1:
            await held.wait()

    async with serving(serve, server_context(certificates)) as port:
        address = parse_address(f"rediss://{LOOPBACK}:{port}", tls=Tls(certificates.file("ca.crt")))
        # when what it has against us is listened for, and nothing comes
        assert await problem(reach, address) == CLOSED
        assert came == 2
        held.set()


@both_kinds
@pytest.mark.needs("openssl")
@pytest.mark.parametrize("handshake", [True, False])
async def test_a_server_behind_tls_that_ends_every_connection(
    reach: Reach, handshake: bool, certificates: Certificates
) -> None:
    context = server_context(certificates) if handshake else None
    for reset in (False, True):
        async with serving(saying(b"", reset=reset), context) as port:
            address = parse_address(f"rediss://{LOOPBACK}:{port}", tls=Tls(certificates.file("ca.crt")))
            assert {await problem(reach, address) for _ in range(TIMES)} == {CLOSED}


@pytest.mark.needs("openssl")
async def test_a_connection_to_a_server_that_hangs_is_closed_at_once(
    start_redis: StartRedis, certificates: Certificates
) -> None:
    port = free_port()
    server = start_redis(
        tls_port=str(port),
        tls_cert_file=certificates.file("server.crt"),
        tls_key_file=certificates.file("server.key"),
        tls_ca_cert_file=certificates.file("ca.crt"),
        tls_auth_clients="no",
    )
    pulls = Pulls(Access(parse_address(f"rediss://{LOOPBACK}:{port}", tls=Tls(certificates.file("ca.crt")))))
    await asyncio.gather(*(pulls.ping() for _ in range(3)))
    server.pause()
    async with asyncio.timeout(1):  # redis-py would wait 5 s for its goodbye
        await pulls.close()
    server.resume()
