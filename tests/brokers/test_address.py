"""URLs of brokers: what is read of them, what is refused, and that no password ever shows."""

from __future__ import annotations

import ssl
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.brokers.address import AddressError, parse_address
from exporter.safe.secrets import Secret

CANARY = "c4n@ry/?#%:s3cret"


def test_everything_a_url_may_say() -> None:
    address = parse_address("redis://anna:pass@redis.example:7000/5?socket_timeout=2.5")
    assert address.server == "redis.example:7000"
    assert (address.db, address.username) == (5, "anna")
    assert address.password is not None
    assert address.password.reveal() == "pass"
    assert address.connection_arguments() == {
        "host": "redis.example",
        "port": 7000,
        "db": 5,
        "username": "anna",
        "socket_timeout": 2.5,
    }


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://h", "redis://h:6379/0"),
        ("redis://h/", "redis://h:6379/0"),
        ("rediss://h:1/2", "rediss://h:1/2"),
        ("redis://[::1]:7/3", "redis://[::1]:7/3"),
        ("unix:///run/redis.sock?db=4", "unix:///run/redis.sock/4"),
        ("unix:///run/a%40b.sock", "unix:///run/a@b.sock/0"),
    ],
)
def test_how_an_address_shows(url: str, text: str) -> None:
    assert str(parse_address(url)) == text


def test_a_unix_socket_has_a_path_and_no_port() -> None:
    arguments = parse_address("unix://anna:pw@/run/redis.sock").connection_arguments()
    assert arguments == {"path": "/run/redis.sock", "db": 0, "username": "anna"}


@given(st.text(min_size=1))
def test_any_password_survives_and_does_not_show(password: str) -> None:
    try:
        quoted = quote(password, safe="")
    except UnicodeEncodeError:  # a lone surrogate
        return
    for url in (f"redis://:{quoted}@h/1", f"rediss://u:{quoted}@h/1", f"unix://:{quoted}@/p?db=1"):
        address = parse_address(url)
        assert address.password is not None
        assert address.password.reveal() == password
        assert str(address) == str(parse_address(url.replace(f":{quoted}@", "@")))
        assert repr(address.password) == "Secret('***')"
        assert "password" not in address.connection_arguments()


def test_a_password_does_not_show_in_any_form() -> None:
    address = parse_address(f"redis://:{quote(CANARY, safe='')}@h/1")
    for shown in (str(address), repr(address), f"{address}", str(address.connection_arguments())):
        assert CANARY not in shown
        assert quote(CANARY, safe="") not in shown


def test_a_password_of_its_own_goes_before_that_of_the_url() -> None:
    address = parse_address("redis://:other@h", Secret(CANARY))
    assert address.password == Secret(CANARY)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "found no URL"),
        ("localhost:6379", "found no URL"),
        ("amqp://h", "found a URL of scheme 'amqp'"),
        ("redis://h:seven", "cannot be read"),
        ("redis://h:70000", "cannot be read"),
        ("redis://[h", "cannot be read"),
        ("redis://h/one", "found the database 'one', wanted a number"),
        ("redis://h/1/2", "found the database '1/2', wanted a number"),
        ("redis://h/-1", "found the database '-1', wanted a number"),
        ("redis://h?db=-1", "found a negative database"),
        ("redis://h?db=1.5", "cannot be read"),
        ("redis://h?retries=3", "found the option 'retries' in the URL, wanted one of"),
        ("redis://h?port=1", "found the option 'port' in the URL, wanted one of"),
        ("redis://h?path=/x", "found the option 'path' in the URL, wanted one of"),
        ("redis://h?ssl_ca_certs=/x", "found the option 'ssl_ca_certs' in the URL, wanted one of"),
        ("rediss://h?ssl_cert_reqs=maybe", "found ssl_cert_reqs='maybe', wanted one of none, optional, required"),
        ("redis://h?socket_timeout=soon", "cannot be read"),
        ("redis://h?socket_timeout=0", "found socket_timeout=0, wanted seconds"),
        ("redis://h?socket_timeout=nan", "found socket_timeout=nan, wanted seconds"),
    ],
)
def test_what_is_refused(url: str, message: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(url)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# Each mark ends the part of the URL that holds the password; the digits before it could be a port.
@pytest.mark.parametrize("mark", ["/", "?", "#", "?x="])
@pytest.mark.parametrize("head", ["12", "x"])
@pytest.mark.parametrize("url", ["redis://:{}@h/0", "rediss://u:{}@h:1/0", "unix://:{}@/path"])
def test_a_password_that_is_not_escaped_is_refused_and_not_shown(url: str, head: str, mark: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(url.format(f"{head}{mark}s3cret"))
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("options", "mode", "checks_name"),
    [
        ("", ssl.CERT_REQUIRED, True),
        ("ssl_cert_reqs=required", ssl.CERT_REQUIRED, True),
        ("ssl_check_hostname=false", ssl.CERT_REQUIRED, False),
        ("ssl_cert_reqs=optional", ssl.CERT_OPTIONAL, False),
        ("ssl_cert_reqs=none", ssl.CERT_NONE, False),
        ("ssl_cert_reqs=none&ssl_check_hostname=true", ssl.CERT_NONE, False),
    ],
)
def test_tls_checks_certificates_and_names_alike_in_both_kinds_of_connections(
    options: str, mode: ssl.VerifyMode, checks_name: bool
) -> None:
    address = parse_address(f"rediss://h?{options}")
    context = address.ssl_context()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (mode, checks_name)
    assert address.connection_arguments()["ssl_check_hostname"] is checks_name


@pytest.mark.parametrize("url", ["redis://h", "unix:///path"])
def test_without_tls_there_is_no_context_and_no_argument_of_it(url: str) -> None:
    address = parse_address(url)
    assert address.ssl_context() is None
    assert not [name for name in address.connection_arguments() if "ssl" in name]


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_a_certificate_that_cannot_be_read_is_an_error_of_the_system(option: str) -> None:
    with pytest.raises(OSError, match="No such file"):
        parse_address(f"rediss://h?{option}=/none.pem").ssl_context()


@pytest.mark.parametrize(
    "told",
    [
        f"ERR unknown command 'AUTH', with args beginning with: 'anna' '{CANARY}'",
        f"ERR unknown command 'AUTH', with args beginning with: 'anna' '{CANARY[:-3]}",  # Redis cuts them
        f"ERR something about {CANARY}",
    ],
)
def test_an_error_is_shown_without_the_password(told: str) -> None:
    address = parse_address(f"redis://anna:{quote(CANARY, safe='')}@h")
    shown = address.without_secret(told)
    assert shown.startswith("ERR ")
    assert "c4n" not in shown


def test_an_error_without_a_password_is_shown_as_it_is() -> None:
    assert parse_address("redis://h").without_secret("ERR with args beginning with: x") == (
        "ERR with args beginning with: x"
    )
