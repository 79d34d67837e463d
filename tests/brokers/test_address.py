"""URLs of brokers: what is read of them, what is refused, and that no password ever shows."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.brokers.address import AddressError, Sentinel, Tls, parse_address
from exporter.safe.secrets import Secret

CANARY = "c4n@ry/?#%:s3cret"


def test_everything_a_url_may_say() -> None:
    address = parse_address("redis://anna:pass@redis.example:7000/5?socket_timeout=2.5")
    assert address.server == "redis.example:7000"
    assert (address.db, address.username) == (5, "anna")
    assert address.password is not None
    assert address.password.reveal() == "pass"
    assert (address.host, address.port, address.options) == ("redis.example", 7000, {"socket_timeout": 2.5})


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
    address = parse_address("unix://anna:pw@/run/redis.sock")
    assert (address.server, address.host, address.db, address.username) == (
        "/run/redis.sock",
        "/run/redis.sock",
        0,
        "anna",
    )


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


def test_a_password_does_not_show_in_any_form() -> None:
    address = parse_address(f"redis://:{quote(CANARY, safe='')}@h/1")
    for shown in (str(address), repr(address), f"{address}", str(address.options)):
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
    ("options", "tls"),
    [
        ("", Tls()),
        ("ssl_cert_reqs=required", Tls()),
        ("ssl_check_hostname=false", Tls(check_name=False)),
        ("ssl_cert_reqs=optional", Tls(check_name=False)),
        ("ssl_cert_reqs=none", Tls(insecure_skip_verify=True, check_name=False)),
        ("ssl_cert_reqs=none&ssl_check_hostname=true", Tls(insecure_skip_verify=True, check_name=False)),
    ],
)
def test_tls_as_the_url_says(options: str, tls: Tls) -> None:
    address = parse_address(f"rediss://h?socket_timeout=2&{options}")
    assert address.tls == tls
    assert address.options == {"socket_timeout": 2}


def test_tls_beside_the_url() -> None:
    tls = Tls(server_name="redis.example")
    assert parse_address("rediss://h", tls=tls).tls == tls
    assert [parse_address(url).tls for url in ("redis://h", "unix:///path")] == [None, None]


@pytest.mark.parametrize(
    ("url", "tls", "message"),
    [
        ("redis://h", Tls(), "found redis:// beside tls, wanted rediss://"),
        ("unix:///path", Tls(), "found unix:// beside tls, wanted rediss://"),
        ("rediss://h?ssl_cert_reqs=none", Tls(), "found ssl_cert_reqs in the URL beside tls, wanted one of the two"),
        ("rediss://h?ssl_ca_certs=/none.pem", None, "tls: ca_file: found no file that can be read (No such file"),
        ("rediss://h?ssl_certfile=/none.pem", None, "tls: cert_file: found no file that can be read (No such file"),
        ("rediss://h", Tls(cert_file="/dev/null", key_file="/none"), "tls: key_file: found no file that can be read"),
        ("rediss://h", Tls(key_file="/dev/null"), "tls: cert_file: found none beside a key_file, wanted both"),
        ("rediss://h", Tls(ca_file="/dev/null"), "tls: ca_file: found no certificate"),
    ],
)
def test_tls_that_is_refused(url: str, tls: Tls | None, message: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(url, tls=tls)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_master_that_sentinel_knows_shows_by_its_name() -> None:
    address = replace(parse_address("redis://mymaster/2"), sentinel=Sentinel("mymaster", (parse_address("redis://s"),)))
    assert (address.server, str(address)) == ("mymaster", "redis://mymaster/2 by Sentinel")
