"""The server: uvicorn, with a deadline for request heads, our own signals, and a socket bound before anything runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from exporter.config import ConfigError

HEAD_DEADLINE: Final = 5.0
"""Seconds within which a request's head must have come: else half-open connections stay for ever."""
CONNECTIONS: Final = 256
GRACE: Final = 4
"""Seconds that requests under way have at the end."""
KEEP_ALIVE: Final = 120
"""Seconds an idle connection is kept: longer than most scrape intervals."""


def bind(address: str) -> socket.socket:
    """A listening socket for `host:port`, `[::1]:port`, or `:port` for every interface. Raises ConfigError."""
    host, port = _split(address)
    try:
        family, kind, proto, _, where = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
    except OSError as error:
        raise ConfigError(
            f"--web.listen-address: found {address!r} ({error.strerror}), wanted an address that is free"
        ) from None
    listener.listen(128)
    return listener


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"--web.listen-address: found {address!r}, wanted host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, which end the process by the signal instead of exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        yield
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Ends after the requests under way; at once when called again."""
        self.force_exit = self.should_exit
        self.should_exit = True


class _DeadlineProtocol(HttpToolsProtocol):
    """Closes connections whose request head does not come in time (uvicorn has no such deadline)."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_DEADLINE, transport.close)

    def on_message_begin(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(HEAD_DEADLINE, self.transport.close)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def create_server(app: Any) -> Server:
    """A server for `app`, to be run by `serve(sockets=[...])`."""
    return Server(
        uvicorn.Config(
            app,
            loop="none",
            http=_DeadlineProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
        )
    )
