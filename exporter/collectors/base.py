"""What a collector is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from typing import ClassVar

import msgspec
from prometheus_client.core import Metric

from exporter.brokers.pulls import Pulls
from exporter.catalogue import Family
from exporter.model import Permissions


class CollectorOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A collector's section of the configuration file. Collectors may subclass it."""

    enabled: bool | None = None
    """On or off; None: as `enabled_by_default()` of the collector says."""


class Collector(ABC):
    """What gives families of its own for `/metrics`."""

    name: ClassVar[str]
    families: ClassVar[tuple[Family, ...]]
    """What it may give; anything else is refused."""
    Options: ClassVar[type[CollectorOptions]] = CollectorOptions

    problems: Collection[str] = ()
    """Set by `collect()`: what could not be got, one line each. The rest stands, and the collector's success is 0."""

    @classmethod
    def enabled_by_default(cls, options: CollectorOptions) -> bool:
        """Whether it runs where its section does not say so."""
        return True


class RedisCollector(Collector):
    """Reads one broker, beside the queue systems in it. One instance per broker. Its section stands below a broker;
    every family has the label `broker` first, the broker's name."""

    section: ClassVar[str]
    """Its key below a broker in the configuration file."""
    about: str = ""
    """Set by `collect()` where several brokers may share what it reads: which one it was (a server's run id). Of those
    that read the same, only the first broker's families are shown, as sums over brokers would count it twice."""

    def __init__(self, broker: str, pulls: Pulls, options: CollectorOptions | None = None) -> None:
        self.broker = broker
        self.pulls = pulls
        self.options = options or self.Options()

    @abstractmethod
    async def collect(self) -> Iterable[Metric]:
        """Fresh families, or an exception: then its success is 0, and nothing else suffers."""

    def permissions(self) -> Collection[Permissions]:
        """What each of its features needs of the broker: nothing, unless a collector says otherwise."""
        return ()


class HostCollector(Collector):
    """Looks at the machine. Its calls may block for ever (a hung mount), so it runs in a thread of its own. Its section
    stands at the top of the file, under its name."""

    def __init__(self, options: CollectorOptions | None = None) -> None:
        self.options = options or self.Options()

    @abstractmethod
    def collect(self) -> Iterable[Metric]:
        """Fresh families, or an exception: then its success is 0, and nothing else suffers."""
