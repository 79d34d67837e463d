"""TLS to one broker, by files that are replaced while we run: what is on the disk when a connection is made counts."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from exporter.brokers.address import Tls

_NO_PASSPHRASE: Final = ""
"""Else OpenSSL would ask the terminal for that of a key, and everything would wait."""

Stamp = tuple[tuple[int, int, int] | None, ...]


class TlsError(ValueError):
    """A file is not what TLS needs. One line that names its key."""


class Contexts:
    """The context of one broker's connections."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._made: tuple[Stamp, ssl.SSLContext] | None = None

    def current(self) -> ssl.SSLContext:
        """Of the files as they are now. Raises TlsError.

        Kept until one of them was replaced, as reading the system's 144 certificates takes 17 to 27 ms of the event
        loop (own files: 1 ms, to look whether they were replaced: 0.02 ms), and a broker that comes back is connected
        to 20 times at once.
        """
        stamp = _stamp(self._tls)
        if self._made is None or self._made[0] != stamp:
            self._made = stamp, _context(self._tls)
        return self._made[1]


def check_files(tls: Tls) -> None:
    """Returns where the files can be used now. Raises TlsError."""
    if tls.key_file and not tls.cert_file:
        raise TlsError("cert_file: found none beside a key_file, wanted both")
    if tls.ca_file or tls.cert_file:
        _context(tls)


def _context(tls: Tls) -> ssl.SSLContext:
    context = _trusting(tls)
    if tls.cert_file:
        _check_readable("cert_file", tls.cert_file)
        _check_readable("key_file", tls.key_file or tls.cert_file)
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file, _NO_PASSPHRASE)
        except (ssl.SSLError, ValueError) as error:
            found = f"no certificate with its key ({_reason(error)})"
            raise TlsError(f"cert_file, key_file: found {found}, wanted a pair in PEM, without a passphrase") from None
    return context


def _trusting(tls: Tls) -> ssl.SSLContext:
    if tls.insecure_skip_verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if tls.ca_file:
        _check_readable("ca_file", tls.ca_file)
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"ca_file: found no certificate ({_reason(error)}), wanted some in PEM") from None
    context.check_hostname = tls.check_name
    return context


def _check_readable(key: str, path: str) -> None:
    """OpenSSL's own error does not say which of two files it is."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise TlsError(f"{key}: found no file that can be read ({reason}), wanted PEM") from None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else type(error).__name__


def _stamp(tls: Tls) -> Stamp:
    """What changes when a file is written anew, or another is put in its place. None for one that is not there."""
    default = None if tls.insecure_skip_verify else ssl.get_default_verify_paths().cafile
    return tuple(_stamp_of(path) for path in (tls.ca_file or default, tls.cert_file, tls.key_file))


def _stamp_of(path: str | None) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path) if path else None
    except (OSError, ValueError):
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None
