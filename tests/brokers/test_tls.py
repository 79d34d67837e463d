"""TLS, on both event loops and for both kinds of connections: what is trusted, what is not, and files that change."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import uvloop

from exporter.brokers.access import Access
from exporter.brokers.address import Tls, parse_address
from exporter.brokers.push import ConnectionLost, PushConnection
from exporter.brokers.tls import Contexts, TlsError, check_files
from exporter.brokers.turn import Turn
from tests.brokers.reaching import Reach, both_kinds, problem
from tests.certificates import Certificates
from tests.servers import LOOPBACK, StartRedis, free_port

pytestmark = pytest.mark.needs("openssl")
MEGABYTE = 1024 * 1024
StartTls = Callable[..., str]


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return cast(asyncio.AbstractEventLoopPolicy, request.param())


async def until(condition: Callable[[], object]) -> None:
    """Returns once `condition` is true; TimeoutError when it does not become so."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0.01)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Two authorities; of the first a server's and a client's certificate, and one of another server."""
    made = Certificates(tmp_path)
    made.authority("ca")
    made.authority("other")
    made.sign("server")
    made.sign("client", "DNS:client")
    made.sign("elsewhere", "DNS:elsewhere.example")
    return made


@pytest.fixture
def start_tls(start_redis: StartRedis, certificates: Certificates) -> StartTls:
    """Starts a Redis that speaks TLS too, with the certificate named; gives the head of its URL."""

    def start(certificate: str = "server", auth_clients: str = "no") -> str:
        port = free_port()
        start_redis(
            tls_port=str(port),
            tls_cert_file=certificates.file(f"{certificate}.crt"),
            tls_key_file=certificates.file(f"{certificate}.key"),
            tls_ca_cert_file=certificates.file("ca.crt"),
            tls_auth_clients=auth_clients,
        )
        return f"rediss://{LOOPBACK}:{port}/2?"

    return start


async def test_much_over_tls(start_tls: StartTls, certificates: Certificates) -> None:
    access = Access(parse_address(start_tls(), tls=Tls(certificates.file("ca.crt"))))
    pushes: list[bytes] = []
    connection = await PushConnection.open(access, Turn(), lambda push: pushes.append(push[-1]), beat=0.05)
    publishing = await PushConnection.open(access, Turn())
    await connection.command("SUBSCRIBE", "channel")
    text = b"x" * (3 * MEGABYTE)
    await publishing.many([("PUBLISH", "channel", text), *[("PUBLISH", "channel", number) for number in range(999)]])
    await until(lambda: len(pushes) == 1000)
    assert pushes == [text, *(b"%d" % number for number in range(999))]
    await publishing.command("CLIENT", "KILL", "TYPE", "pubsub")
    with pytest.raises(ConnectionLost, match="connection"):
        await asyncio.wait_for(connection.lost(), 5)
    await connection.close()
    await publishing.close()


@both_kinds
async def test_what_is_trusted(reach: Reach, start_tls: StartTls, certificates: Certificates) -> None:
    ca = certificates.file("ca.crt")
    good, elsewhere = start_tls(), start_tls("elsewhere")
    for url, tls in (
        (good, Tls(ca)),
        (good, Tls(insecure_skip_verify=True)),
        (elsewhere, Tls(ca, server_name="elsewhere.example")),
        (good + "ssl_cert_reqs=none", None),
        (good + f"ssl_ca_certs={ca}", None),
        (elsewhere + f"ssl_cert_reqs=optional&ssl_ca_certs={ca}", None),
        (elsewhere + f"ssl_check_hostname=false&ssl_ca_certs={ca}", None),
    ):
        assert await reach(Access(parse_address(url, tls=tls))) == b"x"


@both_kinds
async def test_what_is_not_trusted(reach: Reach, start_tls: StartTls, certificates: Certificates) -> None:
    ca = certificates.file("ca.crt")
    good, elsewhere = start_tls(), start_tls("elsewhere")
    for url, tls, told in (
        (good, Tls(), "certificate verify failed: "),
        (good, Tls(certificates.file("other.crt")), "certificate verify failed: "),
        (elsewhere, Tls(ca), "certificate verify failed: IP address mismatch"),
        (good, Tls(ca, server_name="redis.example"), "verify failed: Hostname mismatch, certificate is not valid for"),
        (elsewhere + f"ssl_ca_certs={ca}", None, "certificate verify failed: IP address mismatch"),
    ):
        assert told in await problem(reach, parse_address(url, tls=tls))
    before = descriptors()
    for _ in range(5):
        await problem(reach, parse_address(good, tls=Tls()))
    await until(lambda: descriptors() <= before)


@both_kinds
async def test_a_certificate_that_has_expired(reach: Reach, start_tls: StartTls, certificates: Certificates) -> None:
    certificates.sign("server", days=-1)
    address = parse_address(start_tls(), tls=Tls(certificates.file("ca.crt")))
    assert "certificate has expired" in await problem(reach, address)


@both_kinds
async def test_a_certificate_of_our_own(reach: Reach, start_tls: StartTls, certificates: Certificates) -> None:
    url, ca = start_tls(auth_clients="yes"), certificates.file("ca.crt")
    own = Tls(ca, certificates.file("client.crt"), certificates.file("client.key"))
    assert "certificate required" in await problem(reach, parse_address(url, tls=Tls(ca)))
    assert await reach(Access(parse_address(url, tls=own))) == b"x"
    # when it is of an authority that the server does not know
    certificates.sign("client", "DNS:client", by="other")
    assert "tlsv1 alert unknown ca" in await problem(reach, parse_address(url, tls=own))


@both_kinds
async def test_files_that_are_replaced_count_for_the_next_connection(
    reach: Reach, start_tls: StartTls, certificates: Certificates
) -> None:
    # given an authority that has not signed the server's certificate, and a client's that has ended
    certificates.copy("other.crt", "mounted.crt")
    certificates.sign("client", "DNS:client", days=-1)
    own = Tls(certificates.file("mounted.crt"), certificates.file("client.crt"), certificates.file("client.key"))
    access = Access(parse_address(start_tls(auth_clients="yes"), tls=own))
    assert "certificate verify failed" in await problem(reach, access)
    # when the one is put right, and then the other
    certificates.copy("ca.crt", "mounted.crt")
    assert "alert certificate expired" in await problem(reach, access)
    certificates.sign("client", "DNS:client")
    # then they are used, without a word to the access
    assert await reach(access) == b"x"
    # when a file goes away
    os.unlink(certificates.file("client.key"))
    assert await problem(reach, access) == (
        "tls: key_file: found no file that can be read (No such file or directory), wanted PEM"
    )


# -- contexts ---------------------------------------------------------------------------------------------------


def test_a_context_is_kept_until_a_file_is_replaced(certificates: Certificates) -> None:
    contexts = Contexts(
        Tls(certificates.file("ca.crt"), certificates.file("client.crt"), certificates.file("client.key"))
    )
    first = contexts.current()
    assert contexts.current() is first
    for replaced in ("ca.crt", "client.key"):
        before = contexts.current()
        certificates.copy(replaced, replaced)
        assert contexts.current() is not before


def test_the_systems_authorities_are_read_once() -> None:
    contexts = Contexts(Tls())
    assert contexts.current() is contexts.current()
    assert contexts.current().verify_mode == ssl.CERT_REQUIRED
    assert contexts.current().check_hostname


def test_files_that_do_not_fit(certificates: Certificates, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no certificate")
    text, crt, key = str(tmp_path / "text"), certificates.file("client.crt"), certificates.file("client.key")
    for tls, told in (
        (Tls(ca_file=text), "ca_file: found no certificate"),
        (Tls(ca_file=str(tmp_path)), r"ca_file: found no file that can be read \(Is a directory\)"),
        (Tls(ca_file="a\0b"), "ca_file: found no file that can be read"),
        (Tls(cert_file=crt), r"cert_file, key_file: found no certificate with its key"),
        (Tls(cert_file=crt, key_file=certificates.file("server.key")), r"key \(key values mismatch\), wanted a pair"),
        (Tls(cert_file=text, key_file=key), "cert_file, key_file: found no certificate"),
        (Tls(key_file=key), "cert_file: found none beside a key_file, wanted both"),
    ):
        with pytest.raises(TlsError, match=told):
            check_files(tls)
    # and a certificate with its key in one file does
    both = tmp_path / "both.pem"
    both.write_bytes(Path(crt).read_bytes() + Path(key).read_bytes())
    check_files(Tls(cert_file=str(both)))


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(certificates: Certificates) -> None:
    certificates.encrypt_key("client")
    with pytest.raises(TlsError, match="wanted a pair in PEM, without a passphrase"):
        check_files(Tls(cert_file=certificates.file("client.crt"), key_file=certificates.file("client.key")))
