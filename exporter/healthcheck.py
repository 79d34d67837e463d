"""Whether the exporter of this container is alive: `python -m exporter.healthcheck`, for the image's HEALTHCHECK.

Exit code 0 if the exporter that listens where TASKQUEUE_EXPORTER_WEB_LISTEN_ADDRESS says answers `/-/healthy` with 200;
else 1 (2 is reserved by container engines) and one line on standard error.

It runs every few seconds, so it imports little, and nothing of the exporter's; no proxy of the environment is asked.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

VARIABLE: Final = "TASKQUEUE_EXPORTER_WEB_LISTEN_ADDRESS"
DEFAULT: Final = "127.0.0.1:10177"
"""What `--web.listen-address` is by default."""
DEADLINE: Final = 3.0
"""Seconds for all of it: less than the engine waits for the command."""
EVERYWHERE: Final = {"0.0.0.0", "::"}  # noqa: S104 - where it may listen, not where we do
LOOPBACKS: Final = ("127.0.0.1", "::1")
REQUEST: Final = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
STATUS_LINE_BYTES: Final = 128


def main() -> None:
    """Exits with 0 or 1."""
    address = os.environ.get(VARIABLE) or DEFAULT
    try:
        check(address, time.monotonic() + DEADLINE)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        print(f"taskqueue-exporter: unhealthy: {VARIABLE}={address!r}: {reason}", file=sys.stderr)
        sys.exit(1)


def check(address: str, deadline: float) -> None:
    """Returns if the exporter that listens on `address` is healthy.

    Raises OSError where it cannot be reached before `deadline` (of `time.monotonic`), ValueError where the address is
    none or something else than 200 is answered.
    """
    refused: OSError | None = None
    for family, where in targets(address):
        try:
            line = status_line(family, where, deadline)
        except OSError as error:
            refused = refused or error
            continue
        if not re.match(rb"HTTP/1\.[01] 200 ", line):
            raise ValueError(f"answered {line[:STATUS_LINE_BYTES]!r}, wanted 200")
        return
    raise refused or ValueError("no address")


def targets(address: str) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Where to connect to reach what listens on `host:port`, `[::1]:port` or `:port`: first what is likeliest."""
    match = re.fullmatch(r"([^:\[\]]*|\[([^\[\]]+)\]):(\d{1,5})", address)
    if match is None or not 0 < int(match[3]) < 65536:
        raise ValueError("wanted host:port")
    host, port = match[2] or match[1], int(match[3])
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM) if host else []
    if not found or found[0][4][0] in EVERYWHERE:
        for loopback in LOOPBACKS:  # `::` takes connections to both
            yield socket.AF_INET6 if ":" in loopback else socket.AF_INET, (loopback, port)
    else:
        yield found[0][0], found[0][4]  # the one that the exporter took


def status_line(family: int, where: tuple[Any, ...], deadline: float) -> bytes:
    """The first line of the answer, which may be cut. Raises OSError; TimeoutError after the deadline."""
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(left(deadline))
        connection.connect(where)
        connection.sendall(REQUEST)
        answer = b""
        while b"\r\n" not in answer and len(answer) < STATUS_LINE_BYTES:
            connection.settimeout(left(deadline))
            if not (part := connection.recv(STATUS_LINE_BYTES)):
                break
            answer += part
    return answer.partition(b"\r\n")[0]


def left(deadline: float) -> float:
    """Seconds until the deadline. Raises TimeoutError after it."""
    if (seconds := deadline - time.monotonic()) <= 0:
        raise TimeoutError("timed out")
    return seconds


if __name__ == "__main__":
    main()
