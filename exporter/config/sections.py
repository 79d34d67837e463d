"""The sections below a broker that say by what way it is reached."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from exporter.safe.documents import shown

SENTINEL_PORT: Final = 26379
"""Where Sentinel listens unless told otherwise."""
_PLACE: Final = re.compile(r"(?:(?P<host>[^\s:/@?#\[\]]+)|\[(?P<address>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?")


class TlsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The section `tls`, with the keys of Prometheus's `tls_config`; see `Tls`."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False


class SentinelOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The section `sentinel`: the servers to ask where the master is, and who we are to them."""

    addresses: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """`host:port`, or the host alone."""
    username: str | None = None
    password_file: str | None = None
    tls: TlsOptions | None = None
    """TLS to the sentinels, if it is there."""

    def __post_init__(self) -> None:
        for text in self.addresses:
            host_and_port(text)
        if len({host_and_port(text) for text in self.addresses}) < len(self.addresses):
            raise ValueError("addresses: found a sentinel a second time, wanted each once")


def host_and_port(text: str) -> tuple[str, int]:
    """`host:port`, `[address]:port` or one without the port. Raises ValueError in the terms of the schema."""
    if "@" in text:  # not shown: a password may stand before it
        raise ValueError("addresses: found an @, wanted host:port; username and password_file have keys of their own")
    match = _PLACE.fullmatch(text)
    port = int(match["port"] or SENTINEL_PORT) if match else 0
    if match is None or not 0 < port <= 65535:
        raise ValueError(f"addresses: found {shown(text)}, wanted host:port, an IPv6 address in brackets")
    return (match["host"] or match["address"]).lower(), port
