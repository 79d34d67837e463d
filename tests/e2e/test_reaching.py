"""Brokers behind TLS and passwords, as these are swapped, expire and rotate: down with a reason, up again unaided."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from exporter.brokers.credentials import HOLD
from tests.canary import CANARY, holds_canary
from tests.certificates import Certificates
from tests.e2e.pushing import FEEDS, feed
from tests.e2e.reading import Metrics, broker_up, feeds_connected
from tests.servers import LOOPBACK, Exporter, RedisServer, StartExporter, StartRedis, free_port, series, wait_until

DEADLINE = 15.0
"""Of a feed that comes back: 5 s between two attempts at most, and a busy machine."""


def cut(client: redis.Redis) -> None:
    """Ends all connections of the exporter, so that it makes new ones."""
    for row in cast(list[dict[str, str]], client.client_list()):
        if row["name"] == "taskqueue-exporter":
            client.client_kill_filter(_id=row["id"])


def problems(exporter: Exporter, text: str) -> list[str]:
    """The lines of the log that tell of a failure of the broker itself, with `text` in them."""
    lines = [line for line in exporter.log.splitlines() if "collector failed" in line and "collector=broker" in line]
    return [line for line in lines if text in line]


def until_up(exporter: Exporter) -> Metrics:
    """Up by the second scrape, and all feeds connected soon after."""
    assert 1 in [broker_up(exporter.metrics()), broker_up(exporter.metrics())]
    wait_until(lambda: set(feeds_connected(exporter.metrics()).values()) == {1}, DEADLINE)
    metrics = exporter.metrics()
    assert broker_up(metrics) == 1
    return metrics


def assert_down(exporter: Exporter, told: str) -> None:
    """Down, with a reason in the log that the person on call understands."""
    wait_until(lambda: broker_up(exporter.metrics()) == 0)
    wait_until(lambda: problems(exporter, told))


# -- TLS --------------------------------------------------------------------------------------------------------


class TlsServer:
    """A Redis that takes only clients with a certificate, and shows one that can be swapped while it runs."""

    def __init__(self, start_redis: StartRedis, certificates: Certificates) -> None:
        self.port = free_port()
        self._certificates = certificates
        self.server = start_redis(
            tls_port=str(self.port),
            tls_cert_file=certificates.file("server.crt"),
            tls_key_file=certificates.file("server.key"),
            tls_ca_cert_file=certificates.file("ca.crt"),
            tls_auth_clients="yes",
        )
        self._client = self.server.client()

    def show(self, name: str) -> None:
        """Another certificate from now on, to all connections that come back."""
        crt, key = self._certificates.file(f"{name}.crt"), self._certificates.file(f"{name}.key")
        self._client.execute_command("CONFIG", "SET", "tls-cert-file", crt, "tls-key-file", key)  # type: ignore[no-untyped-call]
        self.cut()

    def cut(self) -> None:
        cut(self._client)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """The server's name is no address; the exporter trusts `mounted.crt`."""
    made = Certificates(tmp_path)
    made.authority("ca")
    made.authority("other")
    made.sign("server", "DNS:redis.example")
    made.sign("moved", "DNS:redis.example", by="other")
    made.sign("client", "DNS:exporter")
    made.copy("ca.crt", "mounted.crt")
    return made


@pytest.mark.needs("openssl")
def test_certificates_that_are_swapped_and_expire(
    start_redis: StartRedis, start_exporter: StartExporter, certificates: Certificates
) -> None:
    server = TlsServer(start_redis, certificates)
    exporter = start_exporter(
        config=f"""
        brokers:
          - name: default
            url: rediss://{LOOPBACK}:{server.port}/0
            tls:
              ca_file: {certificates.file("mounted.crt")}
              cert_file: {certificates.file("client.crt")}
              key_file: {certificates.file("client.key")}
              server_name: redis.example
        """
    )
    until_up(exporter)
    # when the server's certificate comes to be of another authority
    server.show("moved")
    assert_down(exporter, "certificate verify failed: unable to get local issuer certificate")
    # then it is trusted as soon as the file says so
    certificates.copy("other.crt", "mounted.crt")
    until_up(exporter)
    # when it expires
    certificates.sign("expired", "DNS:redis.example", by="other", days=-1)
    server.show("expired")
    assert_down(exporter, "certificate verify failed: certificate has expired")
    certificates.sign("renewed", "DNS:redis.example", by="other")
    server.show("renewed")
    until_up(exporter)
    # when it is for another name
    certificates.sign("elsewhere", "DNS:elsewhere.example", by="other")
    server.show("elsewhere")
    assert_down(exporter, "Hostname mismatch, certificate is not valid for")
    server.show("renewed")
    until_up(exporter)
    # when our own one expires, and is renewed on the disk
    certificates.sign("client", "DNS:exporter", days=-1)
    server.cut()
    assert_down(exporter, "alert certificate expired")
    certificates.sign("client", "DNS:exporter")
    until_up(exporter)
    # when it goes away, as with a secret that is mounted anew
    Path(certificates.file("client.crt")).unlink()
    server.cut()
    assert_down(exporter, "cert_file: found no file that can be read (No such file or directory)")


@pytest.mark.needs("openssl")
def test_a_server_behind_tls_that_hangs_holds_up_neither_a_reload_nor_the_end(
    start_redis: StartRedis, start_exporter: StartExporter, certificates: Certificates, redis_server: RedisServer
) -> None:
    hung = TlsServer(start_redis, certificates)
    tls = ", ".join(
        f"{key}: {certificates.file(name)}"
        for key, name in (("ca_file", "ca.crt"), ("cert_file", "client.crt"), ("key_file", "client.key"))
    )
    brokers = [
        f"- {{name: {name}, url: 'rediss://{LOOPBACK}:{hung.port}/{db}', tls: {{{tls}, server_name: redis.example}}}}"
        for db, name in enumerate(("default", "gone"))
    ]
    plain = f"- {{name: plain, url: '{redis_server.url()}'}}"
    exporter = start_exporter(config="\n".join(["brokers:", *brokers]))
    until_up(exporter)
    # when it hangs, and one of its brokers is to be watched no more
    hung.server.pause()
    exporter.config_file.write_text("\n".join(["brokers:", brokers[0], plain]))
    began = time.monotonic()
    answer = exporter.post("/-/reload")
    # then that is done at once, and whole
    assert (answer.status, answer.text) == (200, "configuration loaded\n")
    assert time.monotonic() < began + 3
    metrics = exporter.metrics(headers={"X-Prometheus-Scrape-Timeout-Seconds": "2"})
    assert metrics[series("taskqueue_exporter_config_last_reload_successful")] == 1
    assert metrics[series("taskqueue_broker_up", broker="plain")] == 1
    assert series("taskqueue_broker_up", broker="gone") not in metrics
    # and so is the end
    began = time.monotonic()
    exporter.signal(signal.SIGTERM)
    assert exporter.wait() == 0
    assert time.monotonic() < began + 4
    assert "Traceback" not in exporter.log
    assert "not closed" not in exporter.log
    hung.server.resume()


# -- passwords --------------------------------------------------------------------------------------------------


class Guarded:
    """A Redis with a user whose password is rotated, and the file that the exporter reads it from."""

    def __init__(self, server: RedisServer, file: Path) -> None:
        self._client = server.client()
        self.file = file
        self.url = f"redis://anna@{LOOPBACK}:{server.port}/0"

    def mount(self, password: str) -> None:
        """Puts it into the file."""
        self.file.write_text(f"{password}\n")

    def take(self, password: str) -> None:
        """The server takes this one alone, and all connections of the exporter end."""
        rules = ("on", "resetpass", f">{password}", "~*", "&*", "+@all")
        self._client.execute_command("ACL", "SETUSER", "anna", *rules)  # type: ignore[no-untyped-call]
        cut(self._client)

    def refusals(self) -> int:
        """AUTHs that failed."""
        log = cast(list[dict[str, Any]], self._client.acl_log())
        return sum(int(entry["count"]) for entry in log if entry["reason"] == "auth")


@pytest.fixture
def guarded(redis_server: RedisServer, tmp_path: Path) -> Guarded:
    made = Guarded(redis_server, tmp_path / "password")
    made.take(f"{CANARY}1")
    made.mount(f"{CANARY}1")
    return made


@pytest.fixture
def exporter(guarded: Guarded, start_exporter: StartExporter) -> Iterator[Exporter]:
    """Whatever happens, it shows no password."""
    config = f"brokers: [{{name: default, url: '{guarded.url}', password_file: {guarded.file}}}]"
    exporter = start_exporter(config=config)
    until_up(exporter)
    yield exporter
    shown = exporter.log + "".join(exporter.get(path).text for path in ("/", "/metrics", "/-/ready"))
    assert not holds_canary(shown)


def reconnects(metrics: Metrics) -> list[float]:
    return [feed(metrics, "reconnects_total", of) for of in FEEDS]


def reloaded_at(metrics: Metrics) -> float:
    return metrics[series("taskqueue_exporter_config_last_reload_success_timestamp_seconds")]


def test_a_password_rotated_in_the_file_first(guarded: Guarded, exporter: Exporter) -> None:
    # when the file is ahead of the server
    guarded.mount(f"{CANARY}2")
    assert broker_up(exporter.metrics()) == 1
    # and the server follows
    guarded.take(f"{CANARY}2")
    until_up(exporter)
    assert guarded.refusals() == 0


@pytest.mark.slow
def test_a_password_rotated_at_the_server_first(guarded: Guarded, exporter: Exporter) -> None:
    # when the server is ahead of the file, and scrapes and feeds go on
    began = time.monotonic()
    guarded.take(f"{CANARY}2")
    assert_down(exporter, "WRONGPASS: the server refuses the user or the password")
    while time.monotonic() < began + 3:
        assert broker_up(exporter.metrics()) == 0
        time.sleep(0.2)
    # then the password is offered once, and told once
    assert guarded.refusals() == 1
    assert len(problems(exporter, "WRONGPASS")) == 1
    # and after a while again, when the server may take it
    guarded.take(f"{CANARY}1")
    wait_until(lambda: broker_up(exporter.metrics()) == 1, HOLD + 5, 0.2)
    assert time.monotonic() > began + HOLD - 1
    assert guarded.refusals() == 1
    until_up(exporter)
    # when the file follows
    guarded.take(f"{CANARY}2")
    assert_down(exporter, "WRONGPASS")
    guarded.mount(f"{CANARY}2")
    # then all is well at once
    before = until_up(exporter)
    assert guarded.refusals() == 2
    # when the configuration is loaded again
    loaded = reloaded_at(before)
    exporter.signal(signal.SIGHUP)
    wait_until(lambda: reloaded_at(exporter.metrics()) > loaded)
    # then the broker is the same as before: its feeds were not begun again
    assert reconnects(exporter.metrics()) == reconnects(before) == [2, 2, 2]
    assert exporter.log.count("watching broker") == 1
