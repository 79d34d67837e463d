"""`/sd`: the brokers that are probed, for Prometheus's `http_sd_configs`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import Final

from exporter.config import Broker

PROBE_PATH: Final = "/probe"
SD_PATH: Final = "/sd"
# RFC 3986, `authority`, as clients send it in Host: nothing else may become part of a target.
_HOST: Final = re.compile(
    r"([A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(:(?P<port>\d{1,5}))?"
)


class BadHost(ValueError):
    """A Host header that names no host; the message is the answer."""


def targets(brokers: Iterable[Broker], host: str) -> list[dict[str, object]]:
    """A target group for each broker that `/metrics` leaves out, at the address that the client itself came by.

    Each has an `instance` of its own, as Prometheus drops targets whose labels are the same. Raises BadHost.
    """
    if not _is_host(host):
        raise BadHost("found a Host header that names no host, wanted host:port")
    return [_group(broker.name, host) for broker in brokers if broker.probe]


def _is_host(host: str) -> bool:
    found = _HOST.fullmatch(host)
    if found is None or int(found["port"] or 0) > 65535:
        return False
    return found["ipv6"] is None or _is_ipv6(found["ipv6"])


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _group(name: str, host: str) -> dict[str, object]:
    labels = {
        "__metrics_path__": PROBE_PATH,
        "__param_broker": name,
        "__meta_taskqueue_broker": name,
        "instance": f"{host}/{name}",
    }
    return {"targets": [host], "labels": labels}
