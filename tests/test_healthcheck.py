"""The image's HEALTHCHECK: yes to an exporter that answers, no and one line to everything else."""

from __future__ import annotations

import ast
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from exporter import cli, healthcheck
from exporter.config import ConfigError
from exporter.web import server
from tests.servers import LOOPBACK, ROOT, StartExporter, exporter_environment, free_port

HEALTHY = b"HTTP/1.1 200 OK\r\n\r\n"


def command(address: str | None, **env: str) -> subprocess.CompletedProcess[str]:
    """The command as the image runs it. `address` is that of the environment, if there is one."""
    given = {} if address is None else {healthcheck.VARIABLE: address}
    return subprocess.run(
        [sys.executable, "-I", "-m", "exporter.healthcheck"],
        env=exporter_environment({**given, **env}),
        capture_output=True,
        text=True,
        timeout=30,
    )


def check(address: str, seconds: float = 5.0) -> None:
    healthcheck.check(address, time.monotonic() + seconds)


@contextmanager
def answering(*parts: bytes, listener: socket.socket | None = None) -> Iterator[int]:
    """A server that sends these parts to whoever comes and then says no more; its port."""
    listener = listener or socket.create_server((LOOPBACK, 0))
    over = threading.Event()

    def serve() -> None:
        listener.settimeout(10)
        connection, _ = listener.accept()
        with connection:
            connection.recv(1024)
            for part in parts:
                connection.sendall(part)
            over.wait(10)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        over.set()
        listener.close()
        thread.join(10)


def test_it_says_yes_to_an_exporter_and_no_once_that_has_ended(start_exporter: StartExporter) -> None:
    exporter = start_exporter(redis_url="redis://127.0.0.1:1/0")
    address = f"{LOOPBACK}:{exporter.port}"

    alive = command(address, http_proxy="http://127.0.0.1:1", HTTP_PROXY="http://127.0.0.1:1")
    exporter.stop()
    ended = command(address)

    assert (alive.returncode, alive.stdout, alive.stderr) == (0, "", "")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(
        rf"taskqueue-exporter: unhealthy: {healthcheck.VARIABLE}='{address}': .*refused\n", ended.stderr
    )


def test_it_asks_whether_the_process_is_alive_and_not_whether_it_is_ready() -> None:
    asked: list[str] = []

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path == "/-/healthy" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    with HTTPServer((LOOPBACK, 0), Healthy) as answers:
        thread = threading.Thread(target=answers.handle_request, daemon=True)
        thread.start()
        check(f"{LOOPBACK}:{answers.server_port}")
        thread.join(10)

    assert asked == ["/-/healthy"]


@pytest.mark.parametrize("host", ["", "0.0.0.0", "[::]", "0", "127.0.0.1", "[::1]", "localhost"])
def test_it_finds_what_listens_where_the_exporter_would(host: str) -> None:
    listener = server.bind(f"{host}:0")
    port = listener.getsockname()[1]

    with answering(HEALTHY, listener=listener):
        check(f"{host}:{port}")


@pytest.mark.parametrize(
    "address", ["", "10177", "host:", "host:x", "::1:10177", "[::1]", "host:99999", ":-1", "a:1:2", "[]:1"]
)
def test_what_is_no_address_to_the_exporter_is_none_here(address: str) -> None:
    with pytest.raises(ConfigError):
        server.bind(address)
    with pytest.raises(ValueError, match="wanted host:port"):
        check(address)


@pytest.mark.parametrize("address", ["nonsense", ":0", "no-such-host.invalid:1", "\n:1"])
def test_a_bad_address_is_unhealthy_in_one_line(address: str) -> None:
    ended = command(address)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"taskqueue-exporter: unhealthy: [^\n]+\n", ended.stderr)


@pytest.mark.parametrize("address", [None, ""])
def test_without_an_address_it_looks_at_the_default_one(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(healthcheck, "check", lambda address, _: asked.append(address))
    monkeypatch.delenv(healthcheck.VARIABLE, raising=False)
    if address is not None:
        monkeypatch.setenv(healthcheck.VARIABLE, address)

    healthcheck.main()

    (option,) = (option for option in cli.serve.params if option.opts == ["--web.listen-address"])
    assert asked == [option.default]
    assert getattr(option, "envvar", None) == healthcheck.VARIABLE


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 no\r\n\r\n", b"HTTP/1.1 2000 no\r\n", b"SSH-2.0\r\n", b"x" * 4096])
def test_any_other_answer_is_unhealthy(answer: bytes) -> None:
    with answering(answer) as port, pytest.raises(ValueError, match="wanted 200"):
        check(f"{LOOPBACK}:{port}")


def test_an_answer_may_come_in_parts() -> None:
    with answering(HEALTHY[:7], HEALTHY[7:]) as port:
        check(f"{LOOPBACK}:{port}")


@pytest.mark.parametrize("parts", [(), (b"HTTP/1.1 2",)])
def test_who_does_not_answer_in_time_is_unhealthy(parts: tuple[bytes, ...]) -> None:
    start = time.monotonic()

    with answering(*parts) as port, pytest.raises(TimeoutError):
        check(f"{LOOPBACK}:{port}", seconds=0.2)

    assert time.monotonic() - start < 2


def test_it_waits_for_less_than_the_container_engine_does() -> None:
    (timeout,) = re.findall(r"^HEALTHCHECK .*--timeout=(\d+)s", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert float(timeout) - 1 > healthcheck.DEADLINE


def test_nothing_that_is_slow_to_load_is_loaded() -> None:
    code = "import sys, exporter.healthcheck; print([*sys.modules])"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout

    names = set(ast.literal_eval(loaded))
    assert "exporter.healthcheck" in names
    assert not names & {
        "exporter.engine",
        "exporter.config",
        "asyncio",
        "http.client",
        "urllib.request",
        "ssl",
        "click",
    }


def test_a_port_where_nobody_listens_is_refused() -> None:
    with pytest.raises(ConnectionRefusedError):
        check(f":{free_port()}")
