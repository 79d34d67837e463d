"""The server: connections that bring no request, addresses, the end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Literal

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from exporter.web import server
from exporter.web.server import bind, create_server
from tests.toys import until

DEADLINE = 0.3
PRODUCTION_DEADLINE = server.HEAD_DEADLINE
GET = b"GET / HTTP/1.1\r\nhost: x\r\n"


def nothing() -> None: ...


@asynccontextmanager
async def serving(
    wait: asyncio.Event | None = None, hurry: Callable[[], None] = nothing, address: str = "127.0.0.1:0"
) -> AsyncIterator[tuple[str, int]]:
    """A server whose only page answers when `wait` is set; where it listens."""

    async def page(_: Request) -> PlainTextResponse:
        if wait is not None:
            await wait.wait()
        return PlainTextResponse("here")

    listener = bind(address)
    running = create_server(Starlette(routes=[Route("/", page)]), hurry)
    task = asyncio.create_task(running.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(5):
            while not running.started:  # noqa: ASYNC110  it tells nobody
                await asyncio.sleep(0.005)
        yield listener.getsockname()[:2]
    finally:
        running.stop()
        async with asyncio.timeout(10):
            await task


@asynccontextmanager
async def connection(where: tuple[str, int]) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*where)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """One whole answer of the page."""
    async with asyncio.timeout(5):
        return await reader.readuntil(b"here")


@pytest.fixture(autouse=True)
def _short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_DEADLINE", DEADLINE)


SENT = {"nothing": b"", "an empty line": b"\r\n", "a letter": b"G", "half a head": GET}


@pytest.mark.parametrize(
    ("sent", "before"),
    [*((name, False) for name in SENT), *((name, True) for name in SENT if name != "nothing")],  # idle ones are kept
)
async def test_a_connection_without_a_whole_head_is_closed(sent: str, before: bool) -> None:
    async with serving() as where, connection(where) as (reader, writer):
        if before:
            writer.write(GET + b"\r\n")
            await answer(reader)
        writer.write(SENT[sent])
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(5):
            assert await reader.read() == b""

    assert asyncio.get_running_loop().time() - began >= DEADLINE * 0.9


async def test_a_head_that_comes_drop_by_drop_is_not_waited_for() -> None:
    async with serving() as where, connection(where) as (reader, writer):
        async with asyncio.timeout(5):
            while not reader.at_eof():
                with suppress(OSError):
                    writer.write(b"\r\n")
                    await writer.drain()
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.02)


async def test_a_slow_answer_and_an_idle_connection_outlive_the_deadline() -> None:
    wait = asyncio.Event()
    async with serving(wait) as where, connection(where) as (reader, writer):
        writer.write(GET + b"\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(reader.read(1)), DEADLINE * 2)
        wait.set()
    async with serving() as where, connection(where) as (reader, writer):
        for _ in range(2):
            writer.write(GET + b"\r\n")
            assert (await answer(reader)).startswith(b"HTTP/1.1 200")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), DEADLINE * 2)


async def test_half_open_connections_keep_nobody_waiting() -> None:
    async with serving() as where:
        idle = [await asyncio.open_connection(*where) for _ in range(100)]
        async with connection(where) as (reader, writer):
            writer.write(GET + b"\r\n")
            assert (await answer(reader)).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(5):
            assert {await reader.read() for reader, _ in idle} == {b""}
        for _, writer in idle:
            writer.close()


async def test_garbage_is_a_400() -> None:
    async with serving() as where, connection(where) as (reader, writer):
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 400")


# -- the end ----------------------------------------------------------------------------------------------------


async def test_the_end_waits_for_requests_and_hurries_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HURRY", 0.1)
    wait = asyncio.Event()
    async with serving(wait, hurry=wait.set) as where, connection(where) as (reader, writer):
        writer.write(GET + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGTERM)

        assert (await answer(reader)).startswith(b"HTTP/1.1 200")


# -- addresses --------------------------------------------------------------------------------------------------


def ipv6_works() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("address", "reached_by"),
    [
        ("127.0.0.1:0", ("127.0.0.1",)),
        ("localhost:0", ("localhost",)),
        (":0", ("127.0.0.1", "::1")),
        ("0.0.0.0:0", ("127.0.0.1",)),
        ("[::1]:0", ("::1",)),
        ("[::]:0", ("::1", "127.0.0.1")),
    ],
)
async def test_addresses(address: str, reached_by: tuple[str, ...]) -> None:
    hosts = [host for host in reached_by if "::" not in host or ipv6_works()]
    if "[" in address and not ipv6_works():
        hosts = []
    for host in hosts:
        async with serving(address=address) as (_, port), connection((host, port)) as (reader, writer):
            writer.write(GET + b"\r\n")
            assert (await answer(reader)).startswith(b"HTTP/1.1 200")


async def test_half_open_connections_do_not_keep_a_request_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_DEADLINE", 60.0)  # so that none of them goes by its deadline
    async with serving() as where, AsyncExitStack() as stack:
        for _ in range(2 * server.CONNECTIONS):
            await stack.enter_async_context(connection(where))

        reader, writer = await stack.enter_async_context(connection(where))
        writer.write(GET + b"\r\n")

        assert (await answer(reader)).startswith(b"HTTP/1.1 200")


async def test_idle_connections_do_not_keep_a_request_out() -> None:
    async with serving() as where, AsyncExitStack() as stack:
        for _ in range(2 * server.CONNECTIONS + 1):
            reader, writer = await stack.enter_async_context(connection(where))
            writer.write(GET + b"\r\n")

            assert (await answer(reader)).startswith(b"HTTP/1.1 200")


async def test_of_waiting_connections_the_one_that_has_waited_longest_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "WAITING", 2)
    async with serving() as where, AsyncExitStack() as stack:
        links = [await stack.enter_async_context(connection(where)) for _ in range(2)]
        for reader, writer in (links[1], links[0]):  # the one made first is answered last
            writer.write(GET + b"\r\n")
            await answer(reader)
        await stack.enter_async_context(connection(where))

        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                assert await links[1][0].read() == b""
        links[0][1].write(GET + b"\r\n")
        assert (await answer(links[0][0])).startswith(b"HTTP/1.1 200")


class Held(asyncio.Event):
    """An event that counts who came to wait for it."""

    came = 0

    async def wait(self) -> Literal[True]:
        self.came += 1
        return await super().wait()


async def test_a_connection_whose_request_is_under_way_is_not_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "WAITING", 1)
    held = Held()
    async with serving(held) as where, connection(where) as (reader, writer), AsyncExitStack() as stack:
        writer.write((GET + b"\r\n") * 2)  # the second is pipelined: after the first answer, it is under way
        answers: list[bytes] = []
        while len(answers) < 2:
            await until(lambda: held.came > len(answers))
            others = [await stack.enter_async_context(connection(where)) for _ in range(2)]
            async with asyncio.timeout(5):
                with suppress(ConnectionResetError):
                    assert await others[0][0].read() == b""
            held.set()
            held.clear()  # lets through only those that wait by now
            answers.append(await answer(reader))

    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


async def test_many_connections_at_once_do_not_keep_a_request_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_DEADLINE", 60.0)
    async with serving() as where, AsyncExitStack() as stack:
        made = await asyncio.gather(*(asyncio.open_connection(*where) for _ in range(2 * server.CONNECTIONS)))
        for _, writer in made:
            stack.callback(writer.close)

        reader, writer = await stack.enter_async_context(connection(where))
        writer.write(GET + b"\r\n")

        assert (await answer(reader)).startswith(b"HTTP/1.1 200")


def test_the_limits_in_production() -> None:
    assert PRODUCTION_DEADLINE <= 5
    assert server.CONNECTIONS == 256
    assert server.WAITING <= server.CONNECTIONS / 2
