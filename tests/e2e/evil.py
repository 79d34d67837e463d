"""Servers that a Redis client may meet and that are no good Redis: each answers every connection in its own bad way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from tests.servers import LOOPBACK

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

MEGABYTE = 1024 * 1024


async def _pour(writer: asyncio.StreamWriter, piece: bytes, times: int) -> None:
    for _ in range(times):
        writer.write(piece)
        await writer.drain()


async def _hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The answer to CLIENT SETNAME, as it should be: so that commands follow."""
    await reader.read(MEGABYTE)
    writer.write(b"+OK\r\n")


async def huge_string(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """100 MB in one bulk string, to each command."""
    await _hello(reader, writer)
    while await reader.read(MEGABYTE):
        writer.write(b"$%d\r\n" % (100 * MEGABYTE))
        await _pour(writer, b"x" * MEGABYTE, 100)
        writer.write(b"\r\n")


async def endless_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A status reply that has no end."""
    while await reader.read(MEGABYTE):
        writer.write(b"+")
        await _pour(writer, b"x" * MEGABYTE, 100)


async def many_strings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """1 MB to each command, a pipeline's many included."""
    await _hello(reader, writer)
    while data := await reader.read(MEGABYTE):
        await _pour(writer, b"$%d\r\n%s\r\n" % (MEGABYTE, b"x" * MEGABYTE), data.count(b"*"))


async def long_string(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A string that stays below what is refused by its declared length."""
    await _hello(reader, writer)
    while await reader.read(MEGABYTE):
        writer.write(b"$8000000\r\n")
        await _pour(writer, b"x" * MEGABYTE, 8)


async def huge_array(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The head of an array of two thousand million elements."""
    await _hello(reader, writer)
    while await reader.read(MEGABYTE):
        writer.write(b"*2147483647\r\n:1\r\n")


async def nested_array(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Arrays in arrays."""
    await _hello(reader, writer)
    while await reader.read(MEGABYTE):
        writer.write(b"*1\r\n" * 100_000)


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What a web server would answer, and bytes of any kind."""
    while await reader.read(MEGABYTE):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(range(256)) * 100)


async def wrong_types(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An array of arrays to everything."""
    await _hello(reader, writer)
    while data := await reader.read(MEGABYTE):
        writer.write(b"*2\r\n*1\r\n$-1\r\n*0\r\n" * data.count(b"*"))


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads, and says nothing."""
    await _hello(reader, writer)
    while await reader.read(MEGABYTE):
        pass


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A digit of a length now and then: there is always something, and never an answer."""
    writer.write(b"$")
    while True:
        await _pour(writer, b"0", 1)
        await asyncio.sleep(0.1)


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes the connection after the first command."""
    await _hello(reader, writer)
    await reader.read(MEGABYTE)


async def parrot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Knows no command, and repeats its arguments, as a Redis does where AUTH was renamed."""
    while data := await reader.read(MEGABYTE):
        words = [line for line in data.split(b"\r\n") if line[:1] not in b"*$"]
        arguments = b" ".join(b"'%s'" % word for word in words[1:])
        writer.write(b"-ERR unknown command '%s', with args beginning with: %s\r\n" % (words[0], arguments))


@contextmanager
def evil_server(behave: Behaviour) -> Iterator[str]:
    """Runs such a server in a thread of its own; gives its URL without password."""
    loop = asyncio.new_event_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.CancelledError):
            await behave(reader, writer)
        tasks.discard(task)
        writer.close()

    thread = threading.Thread(target=loop.run_forever, name="evil-server")
    thread.start()
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve, LOOPBACK, 0), loop).result(10)
    try:
        yield f"redis://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/0"
    finally:
        asyncio.run_coroutine_threadsafe(_end(server, tasks), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server, tasks: set[asyncio.Task[None]]) -> None:
    server.close()
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
