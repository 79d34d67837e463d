"""A relay before a server, that can be cut: connections through it end, and new ones are refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.servers import LOOPBACK, free_port

_CHUNK = 1 << 16


class Relay:
    """Forwards from a port of its own, in a thread of its own."""

    def __init__(self, port: int) -> None:
        """`port` is the server's."""
        self.port = free_port()
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def start(self) -> None:
        """Begins to forward."""
        self._thread.start()
        self.heal()

    def cut(self) -> None:
        """Ends all connections, and refuses new ones."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    def heal(self) -> None:
        """Lets connections through again."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def stop(self) -> None:
        """Ends it."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        while self._writers:  # noqa: ASYNC110  soon, and in a test
            await asyncio.sleep(0.001)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there, back = await asyncio.open_connection(LOOPBACK, self._target)
            self._writers |= {writer, back}
            try:
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
            finally:
                for one in (writer, back):
                    one.transport.abort()
                    self._writers.discard(one)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
    sink.transport.abort()


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    """A relay before the server at `port`."""
    one = Relay(port)
    one.start()
    try:
        yield one
    finally:
        one.stop()
