"""What a collector is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from typing import ClassVar

from prometheus_client.core import Metric

from exporter.brokers.pulls import Pulls
from exporter.catalogue import Family
from exporter.model import Permissions


class RedisCollector(ABC):
    """Reads one broker, beside the queue systems in it. One instance per broker."""

    name: ClassVar[str]
    section: ClassVar[str]  # its key below a broker in the configuration file
    families: ClassVar[tuple[Family, ...]]
    """What it may give; anything else is refused. Every family has the label `broker` first, the broker's name."""

    about: str = ""
    """Set by `collect()` where several brokers may share what it reads: which one it was (a server's run id). Of those
    that read the same, only the first broker's families are shown, as sums over brokers would count it twice."""

    def __init__(self, broker: str, pulls: Pulls) -> None:
        self.broker = broker
        self.pulls = pulls

    @abstractmethod
    async def collect(self) -> Iterable[Metric]:
        """Fresh families, or an exception: then its success is 0, and nothing else suffers."""

    def permissions(self) -> Collection[Permissions]:
        """What each of its features needs of the broker: nothing, unless a collector says otherwise."""
        return ()


class HostCollector(ABC):
    """Looks at the machine. Its calls may block for ever (a hung mount), so it runs in a thread of its own."""

    name: ClassVar[str]  # also its key in the configuration file
    families: ClassVar[tuple[Family, ...]]

    @abstractmethod
    def collect(self) -> Iterable[Metric]:
        """Fresh families, or an exception: then its success is 0, and nothing else suffers."""
