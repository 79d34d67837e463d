"""Where one broker is, and how to get in: parsed from a URL, never shown whole."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from redis.asyncio.connection import parse_url

from exporter.safe.secrets import Secret

SCHEMES: Final = ("redis", "rediss", "unix")
_TIMEOUTS: Final = frozenset({"socket_timeout", "socket_connect_timeout"})
_TLS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"})
_LONGEST_TIMEOUT: Final = 60
_REPEATED: Final = re.compile(r",? with args beginning with:.*", re.DOTALL)
_VERIFY_MODES: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_WANTED: Final = "redis://[user[:password]@]host[:port][/db], rediss://... or unix:///path?db=0"


class AddressError(ValueError):
    """A URL that does not name a Redis. The message never holds the URL itself, as a password may stand in it."""


@dataclass(frozen=True, slots=True)
class Address:
    """One server *and* database. `options` are the other arguments of the URL, for redis-py."""

    scheme: str
    host: str  # or the path of a unix socket
    port: int
    db: int
    username: str | None = None
    password: Secret | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def server(self) -> str:
        """`host:port`, or the socket's path: what the label `server` shows."""
        if self.scheme == "unix":
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.server}/{self.db}"

    def connection_arguments(self) -> dict[str, Any]:
        """The keyword arguments of the redis-py connection, but for the password."""
        where = {"path": self.host} if self.scheme == "unix" else {"host": self.host, "port": self.port}
        # Said, as redis-py 5 checks no names unless told to, and later ones do.
        tls = {"ssl_check_hostname": self._checks_hostname} if self.scheme == "rediss" else {}
        return {**where, "db": self.db, "username": self.username, **self.options, **tls}

    @property
    def _certificate_required(self) -> str:
        return str(self.options.get("ssl_cert_reqs", "required"))

    @property
    def _checks_hostname(self) -> bool:
        return self._certificate_required == "required" and bool(self.options.get("ssl_check_hostname", True))

    def ssl_context(self) -> ssl.SSLContext | None:
        """What TLS is spoken with, for connections that are not redis-py's; None where none is.

        Raises OSError (ssl.SSLError among them) where a file of certificates or keys cannot be read.
        """
        if self.scheme != "rediss":
            return None
        context = ssl.create_default_context(cafile=self.options.get("ssl_ca_certs"))
        context.check_hostname = self._checks_hostname
        context.verify_mode = _VERIFY_MODES[self._certificate_required]
        if certificate := self.options.get("ssl_certfile"):
            context.load_cert_chain(certificate, self.options.get("ssl_keyfile"))
        return context

    def without_secret(self, text: str) -> str:
        """`text` without the password: a server without AUTH repeats the arguments of it in its error."""
        if not self.password:
            return text
        told = _REPEATED.sub("", text)  # it may repeat a part, or other characters in place of some
        return told.replace(self.password.reveal(), "***")


def parse_address(url: str, password: Secret | None = None) -> Address:
    """The address in `url`; `password`, where given, stands for the one of the URL. Raises AddressError."""
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
    return Address(
        scheme=scheme,
        host=parts.pop("path", "") if scheme == "unix" else parts.pop("host", "localhost"),
        port=parts.pop("port", 6379),
        db=int(parts.pop("db", 0)),
        username=parts.pop("username", None),
        password=password or (Secret(in_url) if in_url else None),
        options=parts,
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
