"""Servers of the Prometheus family: each says at `/-/ready` whether it can answer."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from pathlib import Path

from tests.servers import LOOPBACK, Process

START_DEADLINE = 30.0


class ReadyServer:
    """A process that listens on a port of loopback, and is ready; whoever starts it stops it."""

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        self._port = port
        self._process = Process(
            [*command, f"--web.listen-address={self.address}", f"--web.external-url={self.url}"], log, cwd=log.parent
        )
        try:
            self._process.wait_until_ready(self._ready, START_DEADLINE)
        except BaseException:
            self._process.stop()
            raise

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._process.log

    def stop(self) -> None:
        self._process.stop()

    def request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        """Status and body of its answer."""
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=10.0)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _ready(self) -> bool:
        try:
            return self.request("GET", "/-/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False
