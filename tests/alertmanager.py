"""A real Alertmanager, and a web server that keeps what it is told."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.ready_servers import ReadyServer
from tests.servers import LOOPBACK, free_port, wait_until

EXECUTABLE = shutil.which("prometheus-alertmanager") or "alertmanager"
"""Debian's name, else that of everybody else."""

Notification = dict[str, Any]
"""What a webhook gets: `receiver`, `status`, `groupLabels`, `commonLabels`, `alerts` with labels and annotations."""


def with_examples(config: str) -> str:
    """The project's configuration with the examples in its comments, which begin with a name and a colon or a dash, in
    force."""
    return re.sub(r"^( {2,})# ((?:  )*(?:- )?[a-z_]+:(?: |$))", r"\1\2", config, flags=re.MULTILINE)


class Webhook:
    """A web server on the loopback that answers 200 to every POST and keeps its body; whoever starts it stops it."""

    def __init__(self) -> None:
        self.received: list[Notification] = []
        """Every body so far, oldest first; with each `path`, where it was sent."""
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                received.append(body | {"path": self.path})
                answer = b"ok"  # which Slack's clients ask for
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        """Without a slash at its end; any path below it will do."""
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for(self, found: Callable[[], Any], deadline: float = 30.0) -> Any:
        """The first true value of `found`; AssertionError, which lists what came instead, after `deadline` seconds."""
        try:
            return wait_until(found, deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}; received: {json.dumps(self.received, indent=1)}") from None


class Alertmanager(ReadyServer):
    """`alertmanager` alone, with an empty storage in `directory`; whoever starts it stops it.

    `config` is the text of a configuration, or the path of one, beside which its templates are looked for.
    """

    def __init__(self, directory: Path, config: str | Path, port: int | None = None) -> None:
        self.config_file = config if isinstance(config, Path) else directory / "alertmanager.yml"
        if isinstance(config, str):
            self.config_file.write_text(config)
        command = [
            *(EXECUTABLE, f"--config.file={self.config_file}", f"--storage.path={directory / 'alertmanager'}"),
            "--cluster.listen-address=",  # else it looks for a private address, and ends where there is none
        ]
        super().__init__(command, port or free_port(), directory / "alertmanager.log")

    def post(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Tells it of alerts as Prometheus does: each with `labels`, and `annotations`, `startsAt`, `endsAt` and
        `generatorURL` if wanted. Without `endsAt` one fires until `resolve_timeout` has passed."""
        self._request("POST", "/api/v2/alerts", json.dumps(list(alerts)))

    def alerts(self, *matchers: str) -> list[dict[str, Any]]:
        """Those that fire, inhibited ones as well: `labels`, `receivers`, and `status` with `state`, `inhibitedBy`
        (fingerprints) and `silencedBy`. `matchers` are like `alertname="BrokerDown"`."""
        query = urlencode([("filter", matcher) for matcher in matchers])
        found: list[dict[str, Any]] = json.loads(self._request("GET", f"/api/v2/alerts?{query}"))
        return found

    def _request(self, method: str, path: str, body: str | None = None) -> bytes:
        status, content = self.request(method, path, body)
        assert status == 200, f"{method} {path}: {status} {content.decode()}"
        return content
