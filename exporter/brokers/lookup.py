"""The addresses behind a server's name, looked up where a name server that is silent holds up nobody else.

Not by the event loop's own `create_connection(host)`: uvloop has 4 threads for the look-ups of the whole process, and
one that was given up keeps its thread until it ends. One name that does not resolve took all brokers down that way.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Final

from exporter.brokers.errors import BrokerError
from exporter.safe.text import one_line
from exporter.threads import in_thread

_SILENT: Final = "Temporary failure in name resolution"
"""How the C library tells of name servers that gave no answer of use, after 10 s or so. Said before it does, too: the
same text, which is logged once."""


class Lookup:
    """For all connections of one broker: one thread at most, which all that want to know wait for.

    Nothing is kept of an answer, as names move: the one who asks next looks again.
    """

    def __init__(self) -> None:
        self._host = ""
        self._flight: asyncio.Future[list[str]] | None = None

    async def addresses(self, host: str) -> list[str]:
        """The IP addresses of `host`, the best first. Raises BrokerError."""
        if _is_address(host):
            return [host]
        while self._under_way and self._host != host:  # the master moved meanwhile
            await asyncio.wait({self._under_way})
        try:
            flight = self._under_way or self._begin(host)
            return await asyncio.shield(flight)
        except socket.gaierror as error:
            raise _unknown(host, _SILENT if error.errno == socket.EAI_AGAIN else str(error.strerror)) from None
        except (OSError, ValueError, RuntimeError) as error:  # a name that no name server could know; no thread
            raise _unknown(host, f"{type(error).__name__}: {error}") from None

    def problem(self) -> str | None:
        """Why nobody is connected yet, while a name server keeps us waiting."""
        return str(_unknown(self._host, _SILENT)) if self._under_way else None

    @property
    def _under_way(self) -> asyncio.Future[list[str]] | None:
        return self._flight if self._flight is not None and not self._flight.done() else None

    def _begin(self, host: str) -> asyncio.Future[list[str]]:
        self._host, self._flight = host, in_thread(lambda: _look_up(host), "lookup")
        return self._flight


def _look_up(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _unknown(host: str, reason: str) -> BrokerError:
    return BrokerError(one_line(f"cannot find the address of {host}: {reason}"))
