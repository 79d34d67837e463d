"""Where one broker is, and how to get in: parsed from a URL, never shown whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from redis.asyncio.connection import parse_url

from exporter.brokers.tls import TlsError, check_files
from exporter.safe.secrets import Secret, SecretFile

SCHEMES: Final = ("redis", "rediss", "unix")
_TIMEOUTS: Final = frozenset({"socket_timeout", "socket_connect_timeout"})
_TLS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"})
_LONGEST_TIMEOUT: Final = 60
_VERIFY_MODES: Final = ("none", "optional", "required")
_WANTED: Final = "redis://[user[:password]@]host[:port][/db], rediss://... or unix:///path?db=0"


class AddressError(ValueError):
    """A URL that does not name a Redis. The message never holds the URL itself, as a password may stand in it."""


Place = tuple[str, int]
"""Host, or path of a unix socket, and port."""


def shown_place(place: Place) -> str:
    """`host:port`, an IPv6 address in brackets."""
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """How TLS is spoken, by the names of Prometheus's `tls_config`."""

    ca_file: str | None = None
    """Whom to trust; the system's certificates where None."""
    cert_file: str | None = None
    """What we show the server, where it asks."""
    key_file: str | None = None
    """The key to `cert_file`; None where both are in that one file."""
    server_name: str | None = None
    """What the server is asked for (SNI) and its certificate must be for; the host of the URL where None."""
    insecure_skip_verify: bool = False
    """Take any certificate."""
    check_name: bool = True
    """Whether the certificate must be for that name. Only a URL can say no, by `ssl_check_hostname=false`."""


@dataclass(frozen=True, slots=True)
class Sentinel:
    """The servers to ask where a master is. Each has its own scheme, user, password and TLS."""

    master: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Address:
    """One server *and* database. `options` are the timeouts of the URL."""

    scheme: str
    host: str  # or the path of a unix socket
    port: int
    db: int
    username: str | None = None
    password: Secret | SecretFile | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    tls: Tls | None = None  # with `rediss` always, else never
    sentinel: Sentinel | None = None  # then it names the server, not `host` and `port`

    @property
    def server(self) -> str:
        """`host:port`, the socket's path, or the name that Sentinel knows the master by."""
        if self.sentinel:
            return self.sentinel.master
        if self.scheme == "unix":
            return self.host
        return shown_place((self.host, self.port))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.server}/{self.db}{' by Sentinel' if self.sentinel else ''}"


def parse_address(url: str, password: Secret | SecretFile | None = None, tls: Tls | None = None) -> Address:
    """The address in `url`; `password`, where given, stands for the one of the URL, and `tls` for its `ssl_` options.

    Raises AddressError, also where the files of TLS are not there yet: better now than in the log of a feed.
    """
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        found = f"a URL of scheme {scheme[:20]!r}" if "://" in url else "no URL"
        raise AddressError(f"found {found}, wanted {_WANTED}")
    _check_password(url)
    try:
        urlsplit(url).port  # noqa: B018  redis-py would leave out a port that it cannot read
        parts: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        raise AddressError(f"found a URL that cannot be read ({_without_value(error)}), wanted {_WANTED}") from None
    _check_options(url, scheme, parts)
    _check_database(url, parts)
    in_url = parts.pop("password", None)
    parts.pop("connection_class", None)
    spoken = _tls(scheme, parts, tls)
    return Address(
        scheme=scheme,
        host=parts.pop("path", "") if scheme == "unix" else parts.pop("host", "localhost"),
        port=parts.pop("port", 6379),
        db=int(parts.pop("db", 0)),
        username=parts.pop("username", None),
        password=password or (Secret(in_url) if in_url else None),
        options=parts,
        tls=spoken,
    )


def _tls(scheme: str, parts: dict[str, Any], given: Tls | None) -> Tls | None:
    """How TLS is spoken, with the options of it taken from `parts`."""
    options = {name: parts.pop(name) for name in sorted(_TLS & parts.keys())}
    if scheme != "rediss":
        if given is not None:
            raise AddressError(f"found {scheme}:// beside tls, wanted rediss://")
        return None
    if options and given is not None:
        raise AddressError(f"found {min(options)} in the URL beside tls, wanted one of the two")
    tls = _of_options(options) if given is None else given
    try:
        check_files(tls)
    except TlsError as error:
        raise AddressError(f"tls: {error}") from None
    return tls


def _of_options(options: Mapping[str, Any]) -> Tls:
    """redis-py's own, by which a client checks the certificate with `optional` too, though not the name."""
    verified = options.get("ssl_cert_reqs", "required")
    return Tls(
        ca_file=options.get("ssl_ca_certs"),
        cert_file=options.get("ssl_certfile"),
        key_file=options.get("ssl_keyfile"),
        insecure_skip_verify=verified == "none",
        check_name=verified == "required" and bool(options.get("ssl_check_hostname", True)),
    )


def _check_password(url: str) -> None:
    """A `/`, `?` or `#` in a password ends the part it belongs to: the rest of it would be a database, or be shown."""
    behind = url.partition("://")[2]
    end = min((place for mark in "/?#" if (place := behind.find(mark)) >= 0), default=len(behind))
    if "@" in behind[end:]:
        raise AddressError("found an @ behind the host, wanted every /, ?, # and @ of the password percent-encoded")


def _check_options(url: str, scheme: str, parts: dict[str, Any]) -> None:
    """redis-py takes anything behind the `?`, also what its connections choke on later."""
    known = _TIMEOUTS | _TLS if scheme == "rediss" else _TIMEOUTS
    if unknown := parse_qs(urlsplit(url).query).keys() - known - {"db", "username", "password"}:
        names = ", ".join(sorted(known))
        raise AddressError(f"found the option {min(unknown)[:40]!r} in the URL, wanted one of {names}")
    for name in _TIMEOUTS & parts.keys():
        if not 0 < parts[name] <= _LONGEST_TIMEOUT:
            raise AddressError(f"found {name}={parts[name]:g}, wanted seconds up to {_LONGEST_TIMEOUT}")
    if (required := parts.get("ssl_cert_reqs", "required")) not in _VERIFY_MODES:
        raise AddressError(f"found ssl_cert_reqs={required[:20]!r}, wanted one of {', '.join(_VERIFY_MODES)}")


def _check_database(url: str, parts: dict[str, Any]) -> None:
    """redis-py takes `/abc` for database 0: then a typing error would watch the wrong database."""
    path = urlsplit(url).path.strip("/")
    if not url.startswith("unix") and path and not path.isdecimal():
        raise AddressError(f"found the database {path[:20]!r}, wanted a number")
    if int(parts.get("db", 0)) < 0:
        raise AddressError("found a negative database, wanted 0 or more")


def _without_value(error: ValueError) -> str:
    return str(error).partition(":")[0].partition("'")[0].strip() or "malformed"
