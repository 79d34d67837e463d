"""The collector: one pipeline, and each reply read alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import chain
from typing import ClassVar, Final

from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.brokers.errors import BrokerError, Command, Refused, Reply
from exporter.brokers.pulls import Pulls
from exporter.catalogue import Family
from exporter.collectors.base import CollectorOptions, RedisCollector
from exporter.collectors.redis_info import server as sections
from exporter.collectors.redis_info.reading import Fields, Reader, Unreadable, fields, parts
from exporter.collectors.redis_info.tables import (
    COMMAND,
    KEYSPACE,
    LINK,
    MICROSECONDS,
    NUMBERS,
    QUEUE_COMMANDS,
    REPLICA,
    STATUSES,
)
from exporter.model import Permissions
from exporter.safe.limits import Names
from exporter.safe.text import one_line

_INFO: Final[Command] = (b"INFO",)  # as bytes: redis-py reads the answers only of commands that it knows by text
_CMDSTAT: Final = "cmdstat_"
_LATENCY: Final = "latency_percentiles_usec_"
_PERCENTILE: Final = re.compile(r"p([0-9]{1,3}(?:\.[0-9]{1,9})?)")


class RedisInfoOptions(CollectorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The section `redis`."""

    command_stats: bool = True
    """Calls, time and failures of the commands that queues use."""
    latency_percentiles: bool = False
    """How long calls of these take, by percentile: from Redis 7.0 on."""
    slowlog: bool = True
    """Length of the log of slow commands, and its last entry."""


class RedisInfo(RedisCollector):
    """INFO and the log of slow commands. What is denied costs what it gives, INFO itself all."""

    name = "redis_info"
    section = "redis"
    Options = RedisInfoOptions
    options: RedisInfoOptions
    families: ClassVar[tuple[Family, ...]] = (
        c.REDIS_INFO,
        c.REDIS_START,
        c.REDIS_SLAVE_INFO,
        c.REDIS_LINK_UP,
        c.REDIS_ERRORS,
        c.REDIS_LATENCY,
        c.REDIS_SLOWLOG_LENGTH,
        c.REDIS_SLOWLOG_ID,
        c.REDIS_SLOWLOG_SECONDS,
        *(family for _, family, _ in (*NUMBERS, *STATUSES, *LINK, *KEYSPACE, *REPLICA, *COMMAND)),
    )

    def __init__(self, broker: str, pulls: Pulls, options: CollectorOptions | None = None) -> None:
        super().__init__(broker, pulls, options)
        self._parts = [part for part in PARTS if getattr(self.options, part.option)]
        self._errors = Names(sections.ERRORS, 128)

    async def collect(self) -> Iterable[Metric]:
        access = self.pulls.access
        server = access.server
        replies = await self.pulls.many([_INFO, *(part.command for part in self._parts)])
        if access.server != server != access.address.server:  # what the old master counted is not the new one's
            raise BrokerError("the master moved meanwhile")
        info = self._info(replies[0])
        reader = Reader((self.broker, self.pulls.access.server))
        families = list(chain(self._server(reader, info), self._beside(reader, replies[1:])))
        self.about = _about(info, reader.base[1])
        self.problems = tuple(reader.problems)
        return families

    def permissions(self) -> Collection[Permissions]:
        slowlog = Permissions("slowlog", frozenset({"slowlog|len", "slowlog|get"}))
        return (Permissions("server", frozenset({"info"})), *([slowlog] if self.options.slowlog else ()))

    def _info(self, reply: Reply) -> Fields:
        """The fields of INFO. Raises BrokerError."""
        if isinstance(reply, Exception):
            raise Refused(self._told(reply))
        try:
            info = fields(reply)
        except Unreadable as error:
            raise BrokerError(f"INFO: {error}") from None
        if "redis_version" not in info:  # Valkey and the others have it too
            raise BrokerError("the answer to INFO names no version: no Redis?")
        return info

    def _server(self, reader: Reader, info: Fields) -> Iterator[Metric]:
        yield from sections.server(reader, info)
        yield from sections.link(reader, info)
        yield from sections.replicas(reader, info)
        yield from sections.databases(reader, info, self.pulls.access.db)
        yield from sections.errors(reader, info, self._errors)

    def _beside(self, reader: Reader, replies: Iterable[Reply]) -> Iterator[Metric]:
        for part, reply in zip(self._parts, replies, strict=True):
            if isinstance(reply, Exception):
                reader.problems.append(f"{part.words}: {self._told(reply)}")
                continue
            try:
                yield from part.read(reader, reply)
            except Unreadable as error:
                reader.problems.append(f"{part.words}: {error}")

    def _told(self, error: Exception) -> str:
        return one_line(self.pulls.access.credentials.without_secret(f"{type(error).__name__}: {error}"))


# -- what is asked for beside INFO ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """One command, what becomes of its reply, and the option that asks for it. `read` raises Unreadable."""

    option: str
    command: Command
    read: Callable[[Reader, Reply], Iterable[Metric]]

    @property
    def words(self) -> str:
        """The command as it is written."""
        return " ".join(word.decode() if isinstance(word, bytes) else str(word) for word in self.command)


def command_stats(reader: Reader, reply: Reply) -> Iterator[Metric]:
    """`cmdstat_llen:calls=1,usec=2,...`"""
    lines = {f"{_CMDSTAT}{name}": ((name,), text) for name, text in _by_command(fields(reply), _CMDSTAT).items()}
    yield from reader.lines(lines, COMMAND)


def latency_percentiles(reader: Reader, reply: Reply) -> Iterator[Metric]:
    """`latency_percentiles_usec_llen:p50=1.003,p99=2.007`; a server before 7.0 has no such section."""
    found = fields(reply)
    if not any(field.startswith(_LATENCY) for field in found):
        raise Unreadable("found none, wanted Redis 7.0 or later with latency-tracking yes")
    values = []
    for name, text in _by_command(found, _LATENCY).items():
        percentiles = parts(text)
        for percentile in percentiles:
            row = (percentile, c.REDIS_LATENCY, MICROSECONDS)
            value = reader.value(percentiles, row, f"INFO {_LATENCY}{name},")
            if value is not None and (quantile := _quantile(percentile)):
                values.append(((*reader.base, name, quantile), value))
    yield c.REDIS_LATENCY.metric(values)


def slowlog_length(reader: Reader, reply: Reply) -> Iterator[Metric]:
    yield reader.one(c.REDIS_SLOWLOG_LENGTH, _whole(reply))


def slowlog_last(reader: Reader, reply: Reply) -> Iterator[Metric]:
    """Number and microseconds of the last entry: the rest of it, which may hold secrets, is not looked at."""
    match reply:
        case []:
            return
        case [[number, _, microseconds, *_]]:
            yield reader.one(c.REDIS_SLOWLOG_ID, _whole(number))
            yield reader.one(c.REDIS_SLOWLOG_SECONDS, _whole(microseconds) / MICROSECONDS)
        case _:
            raise Unreadable(f"found {type(reply).__name__}, wanted a list of one entry")


PARTS: Final = (
    Part("command_stats", (b"INFO", "commandstats"), command_stats),
    Part("latency_percentiles", (b"INFO", "latencystats"), latency_percentiles),
    Part("slowlog", ("SLOWLOG", "LEN"), slowlog_length),
    Part("slowlog", ("SLOWLOG", "GET", 1), slowlog_last),
)
"""One INFO for each section: Redis 6.2 takes one argument."""


def _about(info: Fields, server: str) -> str:
    """The run of the server; where it tells none (Dragonfly), its address. The space is in no run's id."""
    return info.get("run_id") or f"server {server}"


def _by_command(found: Fields, prefix: str) -> Fields:
    """The lines of the commands that queues use, by command."""
    lines = ((field.removeprefix(prefix), text) for field, text in found.items() if field.startswith(prefix))
    return {name: text for name, text in lines if name in QUEUE_COMMANDS}


@lru_cache(maxsize=64)
def _quantile(percentile: str) -> str | None:
    """`p99.9` as `0.999`: in OpenMetrics a quantile is a number from 0 to 1."""
    match = _PERCENTILE.fullmatch(percentile)
    quantile = float(Decimal(match[1]) / 100) if match else 2.0
    return repr(quantile) if quantile <= 1 else None


def _whole(value: Reply) -> int:
    if not isinstance(value, int):
        raise Unreadable(f"found {type(value).__name__}, wanted an integer")
    return value
