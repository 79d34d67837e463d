"""Real servers for tests: a Redis and the exporter itself, each a process of its own on a free loopback port.

Whoever starts one stops it; the fixtures in `conftest.py` do so whatever becomes of the test.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import quote, urlencode

import redis
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parent.parent
LOOPBACK = "127.0.0.1"
STOP_DEADLINE = 10.0
EXPORTER_PYTHON = os.environ.get("TEST_EXPORTER_PYTHON", sys.executable)
"""The interpreter, and with it the stack of libraries, that exporters run in. Tests and workers may be in another."""

T = TypeVar("T")
Series = tuple[str, frozenset[tuple[str, str]]]
"""One series: the sample's name and its labels."""


def series(name: str, /, **labels: str) -> Series:
    """The key of a series in what `Exporter.metrics()` returns."""
    return name, frozenset(labels.items())


def wait_until(condition: Callable[[], T], deadline: float = 10.0, interval: float = 0.05) -> T:
    """The first true value of `condition`, asked every `interval` seconds; AssertionError after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        if time.monotonic() >= end:
            raise AssertionError(f"not so within {deadline} s: {condition!r}, last {value!r}")
        time.sleep(interval)
    return value


def free_port() -> int:
    """A TCP port of the loopback that nothing listens on (another process may still be faster to take it)."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


class ServerFailed(AssertionError):
    """A server ended or kept silent when it should have answered; the message holds what it logged."""


class Process:
    """A process with its output in a file."""

    def __init__(self, command: Sequence[str], log_file: Path, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self._log_file = log_file
        with log_file.open("ab") as log:
            self._popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=cwd, env=env
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def log(self) -> str:
        """What it has written to stdout and stderr so far."""
        return self._log_file.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; a process that ended already is left alone."""
        self._popen.send_signal(number)

    def pause(self) -> None:
        """Stop it with SIGSTOP. Returns once it stands still."""
        self.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it go on after `pause()`."""
        self.signal(signal.SIGCONT)

    def wait(self, deadline: float = STOP_DEADLINE) -> int:
        """Its exit code, when it ends by itself within `deadline` seconds."""
        return self._popen.wait(deadline)

    def wait_until_ready(self, ready: Callable[[], bool], deadline: float) -> None:
        """Wait until it answers; ServerFailed as soon as it ended or when the deadline passed."""
        try:
            wait_until(lambda: not self.running or ready(), deadline, interval=0.005)
        except AssertionError:
            raise ServerFailed(f"no answer within {deadline} s; its log:\n{self.log}") from None
        if not self.running:
            raise ServerFailed(f"ended with {self._popen.returncode}; its log:\n{self.log}")

    def stop(self) -> int:
        """Ask it to end, make it end after a while; its exit code (negative: the signal that ended it)."""
        if self.running:
            self.signal(signal.SIGCONT)  # a stopped process would not see the next one
            self.signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self.wait()


START_ATTEMPTS = 5


def start_on_a_free_port(start: Callable[[int], None]) -> None:
    """Calls `start` with a port; with another as long as somebody is faster to take it."""
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            return start(free_port())
        except ServerFailed as failed:  # which holds the log
            if attempt == START_ATTEMPTS or "Address already in use" not in str(failed):
                raise
    return None


class RedisServer:
    """A `redis-server` without persistence.

    `options` are its configuration: `maxmemory="10mb"`, `slowlog_log_slower_than="5000"` (underscores for dashes);
    `executable` may be that of another version.
    """

    START_DEADLINE = 10.0

    def __init__(self, directory: Path, executable: str = "redis-server", **options: str) -> None:
        self._directory = directory
        self._executable = executable
        self._options = {"save": "", "appendonly": "no"}
        self._options |= {name.replace("_", "-"): value for name, value in options.items()}
        self._clients: list[redis.Redis] = []
        self._process: Process
        self.port = 0
        start_on_a_free_port(self._start)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._process.log

    def url(self, db: int = 0) -> str:
        """`redis://…` of one of its databases, with the password of `requirepass` if there is one."""
        password = self._options.get("requirepass")
        user = f":{quote(password, safe='')}@" if password else ""
        return f"redis://{user}{LOOPBACK}:{self.port}/{db}"

    def client(self, db: int = 0) -> redis.Redis:
        """A synchronous client; its connections are closed when the server is stopped."""
        client = redis.Redis.from_url(self.url(db), socket_timeout=30)
        self._clients.append(client)
        return client

    def pause(self) -> None:
        """Stop it with SIGSTOP: connections stay open and nothing answers. Returns once it stands still."""
        self._process.pause()

    def resume(self) -> None:
        """Let it go on after `pause()`."""
        self._process.resume()

    def stop(self) -> None:
        """End it and close the clients; its port refuses connections afterwards."""
        for client in self._clients:
            client.close()
        self._process.stop()

    def restart(self) -> None:
        """Start it again on the same port, empty; stops it first if it runs."""
        self.stop()
        self._start(self.port)

    def _start(self, port: int) -> None:
        self.port = port
        arguments = [part for name, value in self._options.items() for part in (f"--{name}", value)]
        command = [self._executable, "--port", str(self.port), "--bind", LOOPBACK, "--dir", str(self._directory)]
        self._process = Process([*command, *arguments], self._directory / "redis.log", cwd=self._directory)
        try:
            with redis.Redis.from_url(self.url()) as client:
                self._process.wait_until_ready(lambda: self._answers(client), self.START_DEADLINE)
        except BaseException:
            self._process.stop()
            raise

    def _answers(self, client: redis.Redis) -> bool:
        try:
            info = cast(dict[str, object], client.info("server"))
        except redis.ConnectionError:  # not listening yet
            return False
        return info["process_id"] == self.pid  # another's server if that one was faster to take the port


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        return self.body.decode()


class Exporter:
    """`taskqueue-exporter serve` on a free port.

    `config` is the text of a configuration file; `env` adds to this process's environment, from which every
    TASKQUEUE_EXPORTER_ variable is taken away. It returns once `/-/healthy` answers 200.
    """

    START_DEADLINE = 20.0

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        redis_url: str | None = None,
        config: str | None = None,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (EXPORTER_PYTHON, "-m", "exporter.cli"),
        cwd: Path = ROOT,
    ) -> None:
        self.port = free_port()
        self.config_file = directory / "config.yml"
        command = [*command, "serve", "--web.listen-address", f"{LOOPBACK}:{self.port}", *arguments]
        if config is not None:
            self.config_file.write_text(config)
            command += ["--config.file", str(self.config_file)]
        environment = exporter_environment(env, redis_url)
        self._process = Process(command, directory / "exporter.log", cwd=cwd, env=environment)
        try:
            self._process.wait_until_ready(self._healthy, self.START_DEADLINE)
        except BaseException:
            self._process.stop()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def log(self) -> str:
        """Everything it has logged so far."""
        return self._process.log

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, timeout: float = 30.0
    ) -> Response:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=timeout)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, names, answer.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None, timeout: float = 30.0) -> Response:
        return self.request("GET", path, headers, timeout)

    def post(self, path: str, headers: Mapping[str, str] | None = None, timeout: float = 30.0) -> Response:
        return self.request("POST", path, headers, timeout)

    def metrics(
        self, *filters: tuple[str, str], path: str = "/metrics", headers: Mapping[str, str] | None = None
    ) -> dict[Series, float]:
        """One scrape in the text format: every series with its value. `filters` are pairs like `("collect[]", "host")`.

        AssertionError unless it is answered with 200 and no series stands there twice.
        """
        response = self.get(f"{path}?{urlencode(filters)}" if filters else path, headers)
        assert response.status == 200, f"{path} answered {response.status}: {response.text[:500]}"
        return parse_metrics(response.text)

    def signal(self, number: signal.Signals) -> None:
        self._process.signal(number)

    def wait(self, deadline: float = STOP_DEADLINE) -> int:
        """Its exit code, when it ends by itself within `deadline` seconds."""
        return self._process.wait(deadline)

    def stop(self) -> int:
        """SIGTERM; its exit code. Killed (-9) if it does not end within 10 s. Harmless when it ended before."""
        return self._process.stop()

    def _healthy(self) -> bool:
        try:
            return self.get("/-/healthy", timeout=2.0).status == 200
        except (OSError, http.client.HTTPException):
            return False


StartRedis = Callable[..., RedisServer]
"""The fixture `start_redis`: options of the server as in `RedisServer`."""

StartExporter = Callable[..., Exporter]
"""The fixture `start_exporter`: arguments as in `Exporter`, without the directory."""


def exporter_environment(env: Mapping[str, str] | None = None, redis_url: str | None = None) -> dict[str, str]:
    """The environment for an exporter: this process's without what would configure one, and what is given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TASKQUEUE_EXPORTER_")}
    if redis_url is not None:
        clean["TASKQUEUE_EXPORTER_REDIS_URL"] = redis_url
    return clean | dict(env or {})


def parse_metrics(text: str) -> dict[Series, float]:
    """Every series of a text exposition, read by prometheus_client's parser; AssertionError if one stands twice."""
    found: dict[Series, float] = {}
    for key, value in _samples(text):
        assert key not in found, f"stands twice: {key}"
        found[key] = value
    return found


def _samples(text: str) -> Iterable[tuple[Series, float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield series(sample.name, **sample.labels), sample.value
