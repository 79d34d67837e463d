"""The engine: runs everything of a scrape side by side, each for itself, within the scrape's deadline."""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

import structlog
from prometheus_client import ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from exporter import __version__, gauges
from exporter import catalogue as c
from exporter.brokers.access import Access
from exporter.brokers.pulls import Pulls
from exporter.brokers.turn import Turn
from exporter.collectors import HOST_COLLECTORS, REDIS_COLLECTORS
from exporter.collectors.base import CollectorOptions, HostCollector, RedisCollector
from exporter.config import Broker, Config
from exporter.feeds import Followed
from exporter.ledger import Ledger
from exporter.model import Observation
from exporter.safe.limits import Folded, Limits
from exporter.sources import Gathered, Result, Source, checked, in_thread
from exporter.systems import SYSTEMS
from exporter.systems.base import RedisSystem

log = structlog.get_logger("exporter.engine")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which collectors a request wants: all, only some, or all but some."""

    only: frozenset[str] = frozenset()
    but: frozenset[str] = frozenset()

    def __contains__(self, collector: str) -> bool:
        return collector not in self.but and (not self.only or collector in self.only)


ALL = Selection()


def known_collectors() -> Collection[str]:
    """The names that a Selection and the `--collector.` flags may hold."""
    return (*SYSTEMS, *REDIS_COLLECTORS, *HOST_COLLECTORS)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a scrape gets. `sent()` is to be called once the families were rendered and handed on."""

    families: list[Metric]
    sent: Callable[[], None]


class Watched:
    """One configured broker at work: its connections, its systems, its sources."""

    def __init__(self, broker: Broker, config: Config, folded: Folded, turn: Turn) -> None:
        self.broker = broker
        self.up: bool | None = None
        """What the last PING said."""
        self._pulls = Pulls(Access(broker.address))
        self._systems = [SYSTEMS[name](self._pulls, options, turn=turn) for name, options in broker.systems.items()]
        self.followed = [
            Followed(system.name, broker.name, _ledger(system, broker.name, config, folded), system.feeds)
            for system in self._systems
        ]
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

    def start(self) -> None:
        """Begins to follow, and to collect once, so that `ready` comes true without a scrape."""
        for followed in self.followed:
            followed.start()
        for source in (self.ping, *self.sources):
            source.join()

    async def close(self) -> None:
        """Ends everything of this broker."""
        for followed in self.followed:
            await followed.close()
        for source in (self.ping, *self.sources):
            await source.close()
        for system in self._systems:
            await system.close()
        await self._pulls.close()

    async def _ping(self) -> Gathered:
        await self._pulls.ping()
        return Gathered(())


class Engine:
    """All brokers and host collectors of one configuration, and what the exporter tells about itself."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.reload_ok = True
        self.loaded_at = time.time()
        self.brokers: dict[str, Watched] = {}
        self._hosts: dict[str, Source] = {}
        self._folded: Counter[str] = Counter(dict.fromkeys(("queue", "task", "exception", "worker"), 0))
        self._turn = Turn()
        self._process = ProcessCollector(registry=None)

    async def start(self) -> None:
        """Begins to watch."""
        await self._apply(self.config)

    async def reload(self, config: Config) -> None:
        """Puts a new configuration to work. A broker that it leaves as it was keeps all it knows."""
        await self._apply(config)
        self.config = config
        self.reload_ok = True
        self.loaded_at = time.time()

    def refused(self) -> None:
        """A new configuration was bad: the one before stays."""
        self.reload_ok = False

    def ready(self) -> bool:
        """Whether the first collection of each broker ended, well or badly."""
        return all(watched.ready() for watched in self.brokers.values())

    def hurry(self) -> None:
        """Ends every run under way, so that the scrapes that wait for one answer with what they have."""
        for watched in self.brokers.values():
            for source in (watched.ping, *watched.sources):
                source.cancel()
        for source in self._hosts.values():
            source.cancel()

    async def close(self) -> None:
        """Ends everything."""
        for watched in self.brokers.values():
            await watched.close()
        for source in self._hosts.values():
            await source.close()

    async def scrape(self, deadline: float, selection: Selection = ALL) -> Answer:
        """The families of one answer: of every source that ended within `deadline` seconds, of the feeds, and of
        ourselves."""
        pings: dict[Watched, Source] = {}
        sources = [source for name, source in self._hosts.items() if name in selection]
        for watched in self.brokers.values():
            wanted = [source for source in watched.sources if source.collector in selection]
            sources += wanted
            if wanted or selection == ALL:
                pings[watched] = watched.ping
        results = await _run_all([*sources, *pings.values()], deadline)
        # What a reload ended meanwhile has not failed: it is gone.
        sources = [source for source in sources if not source.closed]
        pinged = [watched for watched, ping in pings.items() if not ping.closed]
        for watched in pinged:
            result = results[watched.ping]
            watched.up = result is not None and result.problem is None
        # What the feeds counted is shown whether or not the broker can be reached now.
        followed = [one for watched in self.brokers.values() for one in watched.followed if one.system in selection]
        parts = [result.families for result in _once(sources, results)]
        parts += [one.families() for one in followed]
        ledgers = [(one.ledger, one.ledger.answers) for one in followed]
        families = [*_merge(parts), *self._about_the_scrape(sources, results, pinged), *self._about_itself()]
        families.append(c.SERIES.metric([((), sum(len(metric.samples) for metric in families))]))

        def sent() -> None:
            for ledger, answer in ledgers:
                ledger.stood(answer)

        return Answer(families, sent)

    def _about_the_scrape(
        self, sources: list[Source], results: dict[Source, Result | None], pinged: list[Watched]
    ) -> Iterator[Metric]:
        yield c.BROKER_UP.metric(((watched.broker.name,), float(watched.up or False)) for watched in pinged)
        labels = [(source.collector, source.broker) for source in sources]
        ended = [results[source] for source in sources]
        succeeded = [float(result is not None and result.problem is None) for result in ended]
        took = [
            source.running_for() if result is None else result.duration
            for source, result in zip(sources, ended, strict=True)
        ]
        yield c.COLLECTOR_SUCCESS.metric(zip(labels, succeeded, strict=True))
        yield c.COLLECTOR_DURATION.metric(zip(labels, took, strict=True))

    def _about_itself(self) -> Iterator[Metric]:
        yield c.BUILD_INFO.metric([((__version__, platform.python_version()), 1)])
        yield c.SERIES_FOLDED.metric(((label,), count) for label, count in self._folded.items())
        yield c.RELOAD_SUCCESSFUL.metric([((), float(self.reload_ok))])
        yield c.RELOAD_TIMESTAMP.metric([((), self.loaded_at)])
        yield from self._process.collect()

    async def _apply(self, config: Config) -> None:
        kept = {broker.name: broker for broker in config.brokers} if _counts_alike(config, self.config) else {}
        for name, watched in list(self.brokers.items()):
            if kept.get(name) != watched.broker:
                await self.brokers.pop(name).close()
        order = {}
        for broker in config.brokers:
            running = self.brokers.get(broker.name)
            order[broker.name] = running or self._watch(broker, config)
        self.brokers = order
        await self._apply_hosts(config.host_collectors)

    def _watch(self, broker: Broker, config: Config) -> Watched:
        watched = Watched(broker, config, self._folded, self._turn)
        watched.start()
        log.info(
            "watching broker", broker=broker.name, address=str(broker.address), systems=",".join(sorted(broker.systems))
        )
        return watched

    async def _apply_hosts(self, wanted: Mapping[str, CollectorOptions]) -> None:
        before = self.config.host_collectors
        for name in [name for name in self._hosts if wanted.get(name) != before[name]]:
            await self._hosts.pop(name).close()
        for name, options in wanted.items():
            if name not in self._hosts:
                self._hosts[name] = _host_source(HOST_COLLECTORS[name](options))


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


# -- sources of each kind ---------------------------------------------------------------------------------------


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


def _host_source(collector: HostCollector) -> Source:
    async def gather() -> Gathered:
        families = checked(await in_thread(collector.collect, collector.name), collector.families)
        return Gathered(families, collector.problems)

    return Source(collector.name, "", gather, limit=None)


# -- one scrape -------------------------------------------------------------------------------------------------


async def _run_all(sources: Collection[Source], deadline: float) -> dict[Source, Result | None]:
    """The result of each source, None for those that still run at the deadline."""
    tasks = {source: source.join() for source in sources}
    if tasks:
        await asyncio.wait(tasks.values(), timeout=deadline)
    return {source: source.result(task) for source, task in tasks.items()}


def _once(sources: Iterable[Source], results: Mapping[Source, Result | None]) -> Iterator[Result]:
    """The results of `sources`, but of those that read the same thing for several brokers only the first."""
    seen: set[tuple[str, str]] = set()
    for source in sources:
        result = results[source]
        if result is None or (source.collector, result.about) in seen:
            continue
        if result.about:
            seen.add((source.collector, result.about))
        yield result


_PLACES: Final = {family.metric_name: place for place, family in enumerate(c.FAMILIES.values())}


def _merge(parts: Iterable[Iterable[Metric]]) -> list[Metric]:
    """One metric per family, though several systems and brokers fill it, in the order of the catalogue."""
    merged: dict[str, Metric] = {}
    samples: dict[str, list[Collection[Sample]]] = {}
    for metric in chain.from_iterable(parts):
        merged.setdefault(metric.name, metric)
        samples.setdefault(metric.name, []).append(metric.samples)
    for name, several in samples.items():
        if len(several) > 1:
            merged[name] = c.joined(merged[name], several)
    return sorted(merged.values(), key=lambda metric: _PLACES.get(metric.name, len(_PLACES)))


def _counts_alike(one: Config, other: Config) -> bool:
    """Whether counters and histograms that were begun under one configuration can go on under the other."""
    return one.limits == other.limits and one.histograms == other.histograms
