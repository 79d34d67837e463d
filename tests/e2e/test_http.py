"""The exporter as a process: what goes over the wire, reload, limits, the end."""

from __future__ import annotations

import gzip
import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import cast

import pytest

from tests.canary import CANARY, holds_canary
from tests.servers import (
    LOOPBACK,
    Exporter,
    RedisServer,
    Response,
    StartExporter,
    StartRedis,
    parse_metrics,
    series,
    wait_until,
)

TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"
RELOADED = series("taskqueue_exporter_config_last_reload_successful")
UP = "taskqueue_broker_up"


@pytest.fixture
def silent_broker() -> Iterator[str]:
    """The URL of a server that takes connections and never answers."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield f"redis://{LOOPBACK}:{listener.getsockname()[1]}/0"


class UnderWay:
    """A scrape that has been sent, and whose answer is read later."""

    def __init__(self, exporter: Exporter, timeout: str) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, exporter.port, timeout=20)
        self._connection.request("GET", "/metrics", headers={TIMEOUT: timeout})
        assert exporter.get("/-/healthy").status == 200  # it came later, so the scrape has arrived

    def answer(self) -> Response:
        try:
            answer = self._connection.getresponse()
            return Response(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            self._connection.close()


def file_of(**urls: str) -> str:
    return json.dumps({"brokers": [{"name": name, "url": url} for name, url in urls.items()]})


def rewrite(exporter: Exporter, text: str) -> None:
    exporter.config_file.write_text(text)


# -- over the wire ----------------------------------------------------------------------------------------------


def test_formats_and_compression(start_exporter: StartExporter) -> None:
    exporter = start_exporter(config="brokers: []")

    plain = exporter.get("/metrics")
    packed = exporter.get("/metrics", {"Accept": "application/openmetrics-text", "Accept-Encoding": "gzip"})

    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "content-encoding" not in plain.headers
    assert parse_metrics(plain.text)
    assert packed.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "accept, accept-encoding"
    assert gzip.decompress(packed.body).endswith(b"# EOF\n")
    assert "server" not in packed.headers


def test_head_has_the_headers_of_get_and_no_body(start_exporter: StartExporter) -> None:
    exporter = start_exporter(config="brokers: []")

    for path in ("/metrics", "/", "/-/healthy"):
        head = exporter.request("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert int(head.headers["content-length"]) > 0


def test_one_connection_serves_many_scrapes(start_exporter: StartExporter) -> None:
    exporter = start_exporter(config="brokers: []")
    connection = http.client.HTTPConnection(LOOPBACK, exporter.port, timeout=10)
    sockets = set()
    for _ in range(3):
        connection.request("GET", "/metrics")
        assert connection.getresponse().read()
        sockets.add(connection.sock)
    connection.close()

    assert len(sockets) == 1


def test_telemetry_path_and_filters(start_exporter: StartExporter) -> None:
    flags = ("--web.telemetry-path", "/deep/m", "--collector.host", "--no-collector.filesystem")
    exporter = start_exporter(*flags, config="brokers: []")

    found = exporter.metrics(("collect[]", "host"), path="/deep/m")

    assert series("taskqueue_host_load1") in found
    assert not [name for name, _ in found if "filesystem" in name]
    assert series("taskqueue_host_load1") not in exporter.metrics(("exclude[]", "host"), path="/deep/m")
    assert exporter.get("/deep/m?collect[]=bogus").status == 400
    assert exporter.get("/metrics").status == 404
    assert 'href="/deep/m"' in exporter.get("/").text


# -- secrets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_a_password_shows_nowhere(form: str, start_exporter: StartExporter, start_redis: StartRedis) -> None:
    server = start_redis(requirepass=CANARY)
    wrong = server.url(1).replace("cAnary", "cAnary2")
    exporter = start_exporter(
        "--log.level", "debug", "--log.format", form, config=file_of(good=server.url(), bad=wrong)
    )

    found = exporter.metrics()
    pages = [exporter.get(path) for path in ("/metrics", "/", "/-/ready", "/-/healthy")]
    pages.append(exporter.post("/-/reload"))
    rewrite(exporter, file_of(good=server.url().replace("/0", "/x"), bad=wrong))
    pages.append(exporter.post("/-/reload"))

    assert (found[series(UP, broker="good")], found[series(UP, broker="bad")]) == (1, 0)
    assert pages[-1].status == 500
    shown = exporter.log + "".join(page.text + str(page.headers) for page in pages)
    assert "collector failed" in shown
    assert not holds_canary(shown)


# -- reload -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["POST", "SIGHUP"])
def test_reload_with_good_and_bad_files(by: str, start_exporter: StartExporter, redis_server: RedisServer) -> None:
    exporter = start_exporter(config=file_of(one=redis_server.url(0), gone=redis_server.url(1)))

    def reload() -> None:
        if by == "POST":
            exporter.post("/-/reload")
        else:
            exporter.signal(signal.SIGHUP)

    assert exporter.metrics()[RELOADED] == 1

    rewrite(exporter, "brokers: 7")
    reload()
    wait_until(lambda: exporter.metrics()[RELOADED] == 0)
    assert exporter.metrics()[series(UP, broker="gone")] == 1, "the configuration before stays"
    assert "brokers: found 7 (an integer), wanted a list" in exporter.log

    rewrite(exporter, file_of(one=redis_server.url(0), new=redis_server.url(2)))
    reload()
    wait_until(lambda: exporter.metrics()[RELOADED] == 1)
    found = exporter.metrics()
    assert found[series(UP, broker="one")] == found[series(UP, broker="new")] == 1
    assert not [labels for _, labels in found if ("broker", "gone") in labels]


def test_an_unchanged_broker_keeps_its_connections(start_exporter: StartExporter, redis_server: RedisServer) -> None:
    def ours() -> set[str]:
        clients = cast(list[dict[str, str]], redis_server.client().client_list())
        return {client["id"] for client in clients if client["name"] == "taskqueue-exporter"}

    exporter = start_exporter(config=file_of(one=redis_server.url()))
    exporter.metrics()
    before = ours()

    rewrite(exporter, file_of(one=redis_server.url(), two=redis_server.url(1)))
    assert exporter.post("/-/reload").status == 200
    exporter.metrics()

    assert before
    assert before <= ours()


# -- many, slow and silent --------------------------------------------------------------------------------------


def test_beyond_max_requests_is_503(start_exporter: StartExporter, silent_broker: str) -> None:
    exporter = start_exporter("--web.max-requests", "2", redis_url=silent_broker)
    slow = [UnderWay(exporter, "4") for _ in range(2)]

    refused = exporter.get("/metrics")
    healthy = exporter.get("/-/healthy")

    assert (refused.status, refused.text) == (503, "limit of 2 concurrent requests reached\n")
    assert healthy.status == 200
    assert [scrape.answer().status for scrape in slow] == [200, 200]
    assert exporter.get("/metrics", {TIMEOUT: "0.1"}).status == 200


def test_a_silent_broker_costs_no_more_than_the_deadline(start_exporter: StartExporter, silent_broker: str) -> None:
    exporter = start_exporter("--collector.host", redis_url=silent_broker)

    began = time.monotonic()
    found = exporter.metrics(headers={TIMEOUT: "1"})

    assert time.monotonic() - began < 1
    assert found[series(UP, broker="default")] == 0
    assert found[series("taskqueue_collector_success", collector="host", broker="")] == 1
    assert exporter.get("/-/ready").status == 503


def test_one_who_hangs_up_does_not_spoil_the_answer_of_others(
    start_exporter: StartExporter, silent_broker: str
) -> None:
    exporter = start_exporter("--web.max-requests", "3", redis_url=silent_broker)
    for _ in range(2):
        with socket.create_connection((LOOPBACK, exporter.port)) as leaves:
            leaves.sendall(f"GET /metrics HTTP/1.1\r\nHost: x\r\n{TIMEOUT}: 2\r\n\r\n".encode())

    assert UnderWay(exporter, "2").answer().status == 200
    # Those who left give their places back.
    wait_until(lambda: exporter.get("/metrics", {TIMEOUT: "0.1"}).status == 200)
    assert "Traceback" not in exporter.log


def test_the_log_is_one_line_an_event_whatever_the_broker_says(start_exporter: StartExporter) -> None:
    listener = socket.create_server((LOOPBACK, 0))

    def insult() -> None:
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            with client:
                client.recv(1000)
                client.sendall(b'-ERR \x1b[31m\x00 level=error event="fake" \xff\xfe {} %s %d\r\n' * 20)

    thread = threading.Thread(target=insult, daemon=True)
    thread.start()
    url = f"redis://{LOOPBACK}:{listener.getsockname()[1]}/0"
    exporter = start_exporter("--log.format", "json", redis_url=url)
    for _ in range(3):
        exporter.metrics()
    listener.close()
    thread.join(0.1)

    lines = exporter.log.splitlines()
    assert all(json.loads(line)["event"] for line in lines)
    assert "\x1b" not in exporter.log
    assert sum("collector failed" in line for line in lines) <= 8, "problems are told once, not per scrape"


# -- the end ----------------------------------------------------------------------------------------------------


def test_sigterm_lets_a_scrape_finish(start_exporter: StartExporter, redis_server: RedisServer) -> None:
    exporter = start_exporter(redis_url=redis_server.url())
    redis_server.pause()
    scrape = UnderWay(exporter, "30")

    exporter.signal(signal.SIGTERM)
    redis_server.resume()
    answer = scrape.answer()

    assert answer.status == 200
    assert parse_metrics(answer.text)[series(UP, broker="default")] == 1
    assert exporter.wait(5) == 0


def test_sigterm_during_a_scrape_of_a_silent_broker(start_exporter: StartExporter, silent_broker: str) -> None:
    exporter = start_exporter(redis_url=silent_broker)
    scrape = UnderWay(exporter, "30")

    exporter.signal(signal.SIGTERM)
    began = time.monotonic()
    answer = scrape.answer()
    code = exporter.wait(10)

    assert answer.status == 200
    assert parse_metrics(answer.text)[series(UP, broker="default")] == 0
    assert (code, time.monotonic() - began < 5) == (0, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_exporter_ends_at_once(number: signal.Signals, start_exporter: StartExporter) -> None:
    exporter = start_exporter(config="brokers: []")
    with socket.create_connection((LOOPBACK, exporter.port)):  # a half-open connection does not keep it
        exporter.signal(number)

        assert exporter.wait(3) == 0
    assert "event=stopped" in exporter.log
