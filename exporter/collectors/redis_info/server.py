"""The default sections of INFO: the server as a whole, its master, its replicas, its databases, its errors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.collectors.redis_info.reading import Fields, Reader, number, parts
from exporter.collectors.redis_info.tables import KEYSPACE, LINK, MICROSECONDS, NUMBERS, REPLICA, STATUSES
from exporter.safe.limits import Names
from exporter.safe.text import OTHER, label_text

ERRORS: Final = 128
"""Kinds of errors that are told apart. A script can make up any: newer servers stop there, too."""
LINES: Final = 1000
"""Databases, and replicas, that are shown."""

_DATABASE: Final = "db"
_REPLICA: Final = "slave"
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_ERROR: Final = "errorstat_"
_IDENTITY: Final = c.REDIS_INFO.labels[2:]  # label names and INFO fields are the same, but for:
_OTHERWISE: Final = {"redis_mode": "server_mode"}
"""What Valkey calls a field, unless extended-redis-compat is on (its server.c, `genValkeyInfoString`)."""


def server(reader: Reader, info: Fields) -> Iterator[Metric]:
    """The server as a whole."""
    yield reader.one(c.REDIS_INFO, 1.0, *(label_text(_identity(info, field)) for field in _IDENTITY))
    yield from reader.table(info, NUMBERS)
    for field, family, good in STATUSES:
        if field in info:
            yield reader.one(family, float(info[field] == good))
    now, uptime = (number(info.get(field, "")) for field in ("server_time_usec", "uptime_in_seconds"))
    if now is not None and uptime is not None:  # both of the same moment: the difference never trembles
        yield reader.one(c.REDIS_START, now // MICROSECONDS - uptime)


def _identity(info: Fields, field: str) -> str:
    return info.get(field) or info.get(_OTHERWISE.get(field, ""), "")


def link(reader: Reader, info: Fields) -> Iterator[Metric]:
    """What a replica knows of its master; nothing where the server is none."""
    if "master_host" not in info:
        return
    master = label_text(info["master_host"]), label_text(info.get("master_port", ""))
    yield reader.one(c.REDIS_SLAVE_INFO, 1.0, *master, label_text(info.get("slave_read_only", "")))
    if "master_link_status" in info:
        yield reader.one(c.REDIS_LINK_UP, float(info["master_link_status"] == "up"), *master)
    yield from reader.table(info, LINK, master)


def replicas(reader: Reader, info: Fields) -> Iterator[Metric]:
    """What a master knows of its replicas."""
    found = {field: info[field] for field in _some(reader, info, _REPLICA, "replicas")}
    named = {field: _replica(text) for field, text in found.items()}
    times = Counter(named.values())
    if len(times) < len(named):  # behind one gateway, with the same port
        reader.problems.append("INFO slave*: several replicas at one address are left out")
    lines = {field: (labels, found[field]) for field, labels in named.items() if times[labels] == 1}
    # Before it is online its lag is 0, which says nothing (replication.c).
    online = {field: line for field, line in lines.items() if line[0][2] == "online"}
    lag, offset = REPLICA
    yield from reader.lines(online, [lag])
    yield from reader.lines(lines, [offset])


def databases(reader: Reader, info: Fields, own: int) -> Iterator[Metric]:
    """Keys by database. Redis names those that hold any: our own has none where it is not named."""
    lines = {name: ((name,), info[name]) for name in _some(reader, info, _DATABASE, "databases")}
    if "# Keyspace" in info:
        lines.setdefault(f"db{own}", ((f"db{own}",), "keys=0,expires=0"))
    yield from reader.lines(lines, KEYSPACE)


def errors(reader: Reader, info: Fields, names: Names) -> Iterator[Metric]:
    """Error replies by their first word. Those beyond the cap of `names` are one, so that the sum is that of all."""
    counts = {
        names.text(field.removeprefix(_ERROR)): reader.value(
            parts(text), ("count", c.REDIS_ERRORS, 1), f"INFO {field},"
        )
        for field, text in info.items()
        if field.startswith(_ERROR)
    }
    shown = names.admit(counts)
    totals: dict[str, float] = {}
    for name, count in counts.items():
        if count is not None:
            label = name if name in shown else OTHER
            totals[label] = totals.get(label, 0.0) + count
    yield c.REDIS_ERRORS.metric(((*reader.base, label), total) for label, total in totals.items())


def _some(reader: Reader, info: Fields, prefix: str, what: str) -> list[str]:
    found = [field for field in info if field.startswith(prefix) and _NUMBER.fullmatch(field, len(prefix))]
    if len(found) > LINES:
        reader.problems.append(f"INFO: {what} beyond {LINES} are left out")
    return found[:LINES]


def _replica(text: str) -> tuple[str, str, str]:
    """The labels of a replica."""
    found = parts(text)
    ip, port, state = (label_text(found.get(part, "")) for part in ("ip", "port", "state"))
    return ip, port, state
