"""The server: uvicorn, with a deadline for request heads, our own signals, and a socket bound before anything runs."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from exporter.config import ConfigError
from exporter.safe.text import one_line

HEAD_DEADLINE: Final = 5.0
"""Seconds within which a request's head must have come: else half-open connections stay for ever."""
CONNECTIONS: Final = 256
"""Beyond, uvicorn answers 503."""
WAITING: Final = 128
"""Of these, connections that wait for a request: half-open ones, and idle ones after an answer."""
BACKLOG: Final = 128
GRACE: Final = 4
"""Seconds that requests under way have at the end."""
HURRY: Final = 2.5
"""Seconds of these after which a scrape no longer waits for a broker that does not answer."""
KEEP_ALIVE: Final = 120
"""Seconds an idle connection is kept: longer than most scrape intervals."""


def bind(address: str) -> socket.socket:
    """A listening socket for `host:port`, `[::1]:port`, or `:port` for every interface. Raises ConfigError."""
    host, port = _split(address)
    both = socket.has_dualstack_ipv6()
    try:
        family, *_, where = socket.getaddrinfo(
            host or ("::" if both else None), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        both = both and family == socket.AF_INET6
        return socket.create_server(where, family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that IDNA refuses
        reason = (error.strerror or "").partition(" (")[0] if isinstance(error, OSError) else "no host name"
        raise ConfigError(
            f"--web.listen-address: found {one_line(address)!r} ({reason}), wanted an address that is free"
        ) from None


def _split(address: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?P<host>|[^:\[\]]+|\[(?P<ipv6>[^\[\]]+)\]):(?P<port>\d{1,5})", address)
    if match is None or int(match["port"]) > 65535:
        raise ConfigError(f"--web.listen-address: found {one_line(address)!r}, wanted host:port")
    return match["ipv6"] or match["host"], int(match["port"])


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, which end the process by the signal instead of exit code 0."""

    def __init__(self, config: uvicorn.Config, hurry: Callable[[], None]) -> None:
        super().__init__(config)
        self._hurry = hurry

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
        if not self.should_exit:
            asyncio.get_running_loop().call_later(HURRY, self._hurry)
        self.force_exit = self.should_exit
        self.should_exit = True


class _DeadlineProtocol(HttpToolsProtocol):
    """Closes connections whose request head does not come in time, or that are too many (uvicorn does neither)."""

    _timer: asyncio.TimerHandle | None = None
    _waiting_since: float | None = None
    """When it was made, or its last answer was complete; None while a request is under way."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_timer()
        self._start_waiting()

    def data_received(self, data: bytes) -> None:
        # Not at on_message_begin: empty lines before a head begin none, and yet end uvicorn's wait for the next one.
        if self.cycle is None or self.cycle.response_complete:
            self._start_timer()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._waiting_since = None
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # A pipelined request is answered next, unless the connection closes: it then only waits to be read empty.
        if self.cycle.response_complete or self.transport.is_closing():
            self._start_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _start_waiting(self) -> None:
        self._waiting_since = self.loop.time()
        self._make_room()

    def _make_room(self) -> None:
        """Waiting connections must not keep scrapes out: beyond WAITING the one that has waited longest is closed."""
        waiting = {
            other: other._waiting_since
            for other in self.connections
            if isinstance(other, _DeadlineProtocol) and other._waiting_since is not None
        }
        if len(waiting) > WAITING:
            longest = min(waiting, key=waiting.__getitem__)
            # Counted no more from now on: abort() takes effect later, and many connections may come before.
            self.connections.discard(longest)
            longest.transport.abort()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_DEADLINE, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def create_server(app: Any, hurry: Callable[[], None]) -> Server:
    """A server for `app`, to be run by `serve(sockets=[...])`. When it is to stop, it calls `hurry` after a while."""
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
        ),
        hurry,
    )
