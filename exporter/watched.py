"""One configured broker at work: its connections, its systems and their feeds, and what a scrape runs of it."""

from __future__ import annotations

from typing import Protocol

import structlog

from exporter import gauges
from exporter.brokers.access import Access
from exporter.brokers.pulls import Pulls
from exporter.brokers.turn import Turn
from exporter.collectors import REDIS_COLLECTORS
from exporter.collectors.base import RedisCollector
from exporter.config import Broker, Config
from exporter.feeds import Followed
from exporter.ledger import Ledger
from exporter.model import Observation
from exporter.safe.limits import Folded, Limits
from exporter.safe.text import one_line
from exporter.sources import Gathered, Source, checked
from exporter.systems import SYSTEMS
from exporter.systems.base import RedisSystem

log = structlog.get_logger("exporter.watched")


class _Part(Protocol):
    async def close(self) -> None: ...


class Watched:
    """Followed from `start()` to `close()`, whether or not anybody scrapes it."""

    def __init__(self, broker: Broker, config: Config, folded: Folded, turn: Turn) -> None:
        self.broker = broker
        self.up: bool | None = None
        """What the last PING said."""
        self._access = Access(broker.address)
        self._pulls = Pulls(self._access)
        self._systems = [SYSTEMS[name](self._pulls, options, turn=turn) for name, options in broker.systems.items()]
        self.followed = [
            Followed(system.name, broker.name, _ledger(system, broker.name, config, folded), system.feeds)
            for system in self._systems
        ]
        self._access.when_astray(self._astray)
        self.ping = Source("broker", broker.name, self._ping)
        self.sources = [
            *(
                _system_source(system, followed, config.limits, folded)
                for system, followed in zip(self._systems, self.followed, strict=True)
            ),
            *(
                _collector_source(REDIS_COLLECTORS[name](broker.name, self._pulls, options))
                for name, options in broker.collectors.items()
            ),
        ]

    def ready(self) -> bool:
        """Whether the first collection ended, well or badly."""
        return all(source.ended_once for source in (self.ping, *self.sources))

    async def start(self) -> None:
        """Begins to follow, and to collect once, so that `ready` comes true without a scrape."""
        await self._access.start()
        for followed in self.followed:
            followed.start()
        for source in (self.ping, *self.sources):
            source.join()

    async def close(self) -> None:
        """Ends everything of this broker. Nothing is raised: what cannot be closed keeps nothing else from it."""
        parts: list[_Part] = [*self.followed, self.ping, *self.sources, *self._systems, self._pulls, self._access]
        for part in parts:
            try:
                await part.close()
            except Exception as error:
                name, problem = type(part).__name__, one_line(repr(error))
                log.error("not closed", broker=self.broker.name, part=name, problem=problem)

    def _astray(self, since: float | None) -> None:
        for followed in self.followed:
            followed.astray(since)

    async def _ping(self) -> Gathered:
        await self._pulls.ping()
        return Gathered(())


def _ledger(system: RedisSystem, broker: str, config: Config, folded: Folded) -> Ledger:
    return Ledger(
        system.name,
        broker,
        system.outcomes,
        config.limits,
        folded,
        wait_buckets=config.histograms.wait_seconds,
        run_buckets=config.histograms.run_seconds,
        birth_hold=config.birth_hold,
    )


def _system_source(system: RedisSystem, followed: Followed, limits: Limits, folded: Folded) -> Source:
    table = gauges.Gauges(system.name, followed.broker, limits)

    async def gather() -> Gathered:
        seen = await system.observe()
        if not isinstance(seen, Observation):
            raise TypeError(f"found {type(seen).__name__}, wanted Observation")
        problems = (*map(str, seen.problems), *followed.problems())
        return Gathered(checked(table.families(seen, folded), gauges.FAMILIES), problems)

    return Source(system.name, followed.broker, gather)


def _collector_source(collector: RedisCollector) -> Source:
    async def gather() -> Gathered:
        families = checked(await collector.collect(), collector.families, (collector.broker,))
        return Gathered(families, collector.problems, collector.about)

    return Source(collector.name, collector.broker, gather)
