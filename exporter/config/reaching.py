"""How a broker is reached: the keys below it that say where it is, who we are there, and by what way."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from exporter.brokers.address import Address, AddressError, Sentinel, Tls, parse_address
from exporter.brokers.tls import TlsError, check_files
from exporter.config import file
from exporter.config.model import ConfigError
from exporter.config.sections import SentinelOptions, TlsOptions, host_and_port
from exporter.safe.documents import shown
from exporter.safe.secrets import SecretFile, SecretUrlFile

_MASTER: Final = re.compile(r"[A-Za-z0-9._-]{1,256}")
"""What Sentinel takes for a name (sentinel.c, `sentinelMonitor`)."""


def address(entry: Any, where: str) -> Address:
    """The address that the keys of a broker name; `where` is its path in the file. Raises ConfigError."""
    given = [key for key in ("url", "url_file") if getattr(entry, key) is not None]
    if len(given) != 1:
        raise ConfigError(f"{where}: found {' and '.join(given) or 'neither url nor url_file'}, wanted one of the two")
    key = given[0]
    url = entry.url if key == "url" else file.secret_file(entry.url_file, f"{where}.url_file")
    password = _password(entry.password_file, f"{where}.password_file")
    tls = _tls(entry.tls, f"{where}.tls")
    try:
        found = parse_address(url, password, tls)
    except AddressError as error:
        raise ConfigError(f"{where}.{key}: {error}") from None
    if key == "url_file" and password is None and found.password is not None:
        found = replace(found, password=SecretUrlFile(entry.url_file, "url_file"))
    if entry.sentinel is not None:
        found = replace(found, sentinel=_sentinel(entry.sentinel, _master(url, f"{where}.{key}"), f"{where}.sentinel"))
    return found


def _password(path: str | None, where: str) -> SecretFile | None:
    """A file that is read again when the server refuses what stands there now."""
    if path is None:
        return None
    file.secret_file(path, where)
    return SecretFile(path)


def _tls(options: TlsOptions | None, where: str) -> Tls | None:
    if options is None:
        return None
    tls = Tls(**msgspec.structs.asdict(options))
    try:
        check_files(tls)
    except TlsError as error:
        raise ConfigError(f"{where}.{error}") from None
    return tls


def _sentinel(options: SentinelOptions, master: str, where: str) -> Sentinel:
    password = _password(options.password_file, f"{where}.password_file")
    tls = _tls(options.tls, f"{where}.tls")
    scheme = "redis" if tls is None else "rediss"
    places = [host_and_port(text) for text in options.addresses]
    return Sentinel(
        master, tuple(Address(scheme, host, port, 0, options.username, password, tls=tls) for host, port in places)
    )


def _master(url: str, where: str) -> str:
    """The name that stands for the host in a URL that was read before; as it is written, as Sentinel's names are."""
    parts = urlsplit(url)
    name = unquote(parts.netloc.rpartition("@")[2])
    if parts.scheme == "unix" or not name:
        found = "a unix socket" if parts.scheme == "unix" else "no host"
        raise ConfigError(f"{where}: found {found} beside sentinel, wanted the name of the master as the host")
    if ":" in name:
        raise ConfigError(f"{where}: found a port beside sentinel, wanted the name of the master alone as the host")
    if not _MASTER.fullmatch(name):
        raise ConfigError(f"{where}: found the host {shown(name)}, wanted the name of a master: letters, digits, .-_")
    return name
