"""A real Prometheus that scrapes an exporter every second."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.servers import LOOPBACK, Process, free_port

START_DEADLINE = 30.0
_CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: taskqueue
    static_configs: [{{targets: ["{target}"]}}]
{more}
"""


class Prometheus:
    """`prometheus` with an empty database in `directory`; whoever starts it stops it."""

    def __init__(self, directory: Path, target_port: int, more: str = "") -> None:
        """`more` are further `scrape_configs`."""
        self._port = free_port()
        config = directory / "prometheus.yml"
        config.write_text(_CONFIG.format(target=f"{LOOPBACK}:{target_port}", more=more))
        command = [
            *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}"),
            f"--web.listen-address={LOOPBACK}:{self._port}",
        ]
        self._process = Process(command, directory / "prometheus.log", cwd=directory)
        try:
            self._process.wait_until_ready(self._ready, START_DEADLINE)
        except BaseException:
            self._process.stop()
            raise

    def stop(self) -> None:
        self._process.stop()

    def value(self, query: str, at: float | None = None) -> float | None:
        """What an instant query gives at a Unix time, or now; None where it gives nothing. AssertionError where it
        gives more than one series."""
        parameters = {"query": query} | ({} if at is None else {"time": repr(at)})
        status, body = self._get(f"/api/v1/query?{urlencode(parameters)}")
        answer: dict[str, Any] = json.loads(body)
        assert status == 200, answer
        found = answer["data"]["result"]
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def _ready(self) -> bool:
        try:
            return self._get("/-/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=10.0)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
