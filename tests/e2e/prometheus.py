"""A real Prometheus that scrapes an exporter every second, or does what its configuration says."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.ready_servers import ReadyServer
from tests.servers import LOOPBACK, free_port

_CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: taskqueue
    static_configs: [{{targets: ["{target}"]}}]
{more}
"""


class PrometheusServer(ReadyServer):
    """`prometheus` with an empty database in `directory`; whoever starts it stops it."""

    def __init__(self, directory: Path, config: str, *flags: str) -> None:
        """`config` is the text of its configuration, `flags` are further ones of its command."""
        file = directory / "prometheus.yml"
        file.write_text(config)
        command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={directory / 'data'}", *flags]
        super().__init__(command, free_port(), directory / "prometheus.log")

    def value(self, query: str, at: float | None = None) -> float | None:
        """What an instant query gives at a Unix time, or now; None where it gives nothing. AssertionError where it
        gives more than one series."""
        found = self.vector(query, at)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def vector(self, query: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """All series that an instant query gives: labels and value."""
        return [(found["metric"], float(found["value"][1])) for found in self._query(query, at)]

    def samples(self, series: str, since: float) -> list[tuple[float, float]]:
        """The samples of one series from a Unix time on: their own times, and values."""
        now = time.time()
        (found,) = self._query(f"{series}[{round((now - since) * 1000)}ms]", now)
        return [(at, float(value)) for at, value in found["values"]]

    def broken_rules(self) -> list[tuple[str, str]]:
        """The rules whose last evaluation failed: name and error."""
        groups: dict[str, Any] = json.loads(self.request("GET", "/api/v1/rules")[1])
        rules = [rule for group in groups["data"]["groups"] for rule in group["rules"]]
        return [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] == "err"]

    def _query(self, query: str, at: float | None) -> list[dict[str, Any]]:
        parameters = {"query": query} | ({} if at is None else {"time": repr(at)})
        status, body = self.request("GET", f"/api/v1/query?{urlencode(parameters)}")
        answer: dict[str, Any] = json.loads(body)
        assert status == 200, answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found


class Prometheus(PrometheusServer):
    """One that scrapes the exporter of a port, as the job `taskqueue`."""

    def __init__(self, directory: Path, target_port: int, more: str = "") -> None:
        """`more` are further `scrape_configs`."""
        super().__init__(directory, _CONFIG.format(target=f"{LOOPBACK}:{target_port}", more=more))
