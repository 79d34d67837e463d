"""The engine: runs everything of a scrape side by side, each for itself, within the scrape's deadline."""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeVar

import structlog
from prometheus_client import ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from exporter import __version__
from exporter import catalogue as c
from exporter.brokers.turn import Turn
from exporter.collectors import HOST_COLLECTORS, REDIS_COLLECTORS
from exporter.collectors.base import HostCollector
from exporter.collectors.container import container_sign
from exporter.config import Config
from exporter.sources import Gathered, Result, Source, checked
from exporter.systems import SYSTEMS
from exporter.threads import in_thread
from exporter.watched import Watched

log = structlog.get_logger("exporter.engine")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which collectors a request wants: all, only some, or all but some; and of which broker, if of one alone."""

    only: frozenset[str] = frozenset()
    but: frozenset[str] = frozenset()
    broker: str | None = None

    def __contains__(self, collector: str) -> bool:
        return collector not in self.but and (not self.only or collector in self.only)

    @property
    def filtered(self) -> bool:
        """Whether not all collectors are wanted."""
        return bool(self.only or self.but)


ALL = Selection()


def known_collectors() -> Collection[str]:
    """The names that a Selection and the `--collector.` flags may hold."""
    return (*SYSTEMS, *REDIS_COLLECTORS, *HOST_COLLECTORS)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a scrape gets. `sent()` is to be called once the families were rendered and handed on."""

    families: list[Metric]
    sent: Callable[[], None]


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
        """Puts a new configuration to work. A broker that it leaves as it was keeps all it knows.

        Raises what a broker or a collector raises that cannot be made; nothing has changed then.
        """
        await self._apply(config)
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
        await _close([*self.brokers.values(), *self._hosts.values()])

    async def scrape(self, deadline: float, selection: Selection = ALL) -> Answer:
        """The families of one answer: of every source that ended within `deadline` seconds, of the feeds, and of
        ourselves. Where one broker is selected, its own alone."""
        brokers = self._chosen(selection)
        sources, pings = self._wanted(brokers, selection)
        results = await _run_all([*sources, *pings.values()], deadline)
        # What a reload ended meanwhile has not failed: it is gone.
        sources = [source for source in sources if not source.closed]
        pinged = [watched for watched, ping in pings.items() if not ping.closed]
        for watched in pinged:
            result = results[watched.ping]
            watched.up = result is not None and result.problem is None
        # What the feeds counted is shown whether or not the broker can be reached now.
        followed = [one for watched in brokers for one in watched.followed if one.system in selection]
        twins = self._shown_elsewhere()
        parts = [result.families for source in sources if (result := results[source]) and source not in twins]
        parts += [one.families() for one in followed]
        ledgers = [(one.ledger, one.ledger.answers) for one in followed]
        families = [*_merge(parts), *self._about_the_scrape(sources, results, pinged)]
        if selection.broker is None:
            families += self._about_itself()
            families.append(c.SERIES.metric([((), sum(len(metric.samples) for metric in families))]))

        def sent() -> None:
            for ledger, answer in ledgers:
                ledger.stood(answer)

        return Answer(families, sent)

    def _wanted(self, brokers: Collection[Watched], selection: Selection) -> tuple[list[Source], dict[Watched, Source]]:
        """The sources of an answer about `brokers`, and the PINGs."""
        sources = [source for name, source in self._hosts.items() if name in selection and selection.broker is None]
        pings: dict[Watched, Source] = {}
        for watched in brokers:
            wanted = [source for source in watched.sources if source.collector in selection]
            sources += wanted
            if wanted or not selection.filtered:
                pings[watched] = watched.ping
        return sources, pings

    def _chosen(self, selection: Selection) -> list[Watched]:
        """The brokers that an answer is about: one, or those of `/metrics`."""
        if selection.broker is not None:
            one = self.brokers.get(selection.broker)  # none where a reload took it away meanwhile
            return [one] if one else []
        return [watched for watched in self.brokers.values() if not watched.broker.probe]

    def _shown_elsewhere(self) -> set[Source]:
        """Of the sources that read the same thing for several brokers, all but the first. What stands in `/metrics`
        goes before what stands in an answer of its own, so that `/metrics` lacks nothing where nobody probes."""
        seen: set[tuple[str, str]] = set()
        twins: set[Source] = set()
        for watched in sorted(self.brokers.values(), key=lambda watched: watched.broker.probe):
            for source in watched.sources:
                place = (source.collector, source.about)
                if source.about and place in seen:
                    twins.add(source)
                seen.add(place)
        return twins

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
        kept_brokers, kept_hosts = self._kept(config)
        # All that is new is made before anything ends: what fails while it is made leaves everything as it was.
        brokers = {
            broker.name: kept_brokers.get(broker.name) or Watched(broker, config, self._folded, self._turn)
            for broker in config.brokers
        }
        hosts = {
            name: kept_hosts.get(name) or _host_source(HOST_COLLECTORS[name](options))
            for name, options in config.host_collectors.items()
        }
        gone: list[Watched | Source] = [*_without(self.brokers, kept_brokers), *_without(self._hosts, kept_hosts)]
        self.config, self.brokers, self._hosts = config, kept_brokers, kept_hosts
        await _close(gone)
        self.brokers, self._hosts = brokers, hosts
        for watched in _without(brokers, kept_brokers):
            await self._begin(watched)
        if not hosts and (sign := container_sign()):  # else someone searches for metrics that are not there
            log.info("not watching the host from inside a container, unless asked to", sign=sign)

    def _kept(self, config: Config) -> tuple[dict[str, Watched], dict[str, Source]]:
        """The brokers and the host collectors that go on under `config` as they are."""
        wanted = {broker.name: broker for broker in config.brokers} if _counts_alike(config, self.config) else {}
        brokers = {name: watched for name, watched in self.brokers.items() if wanted.get(name) == watched.broker}
        before, after = self.config.host_collectors, config.host_collectors
        return brokers, {name: source for name, source in self._hosts.items() if after.get(name) == before[name]}

    async def _begin(self, watched: Watched) -> None:
        await watched.start()
        broker = watched.broker
        log.info(
            "watching broker", broker=broker.name, address=str(broker.address), systems=",".join(sorted(broker.systems))
        )


def _host_source(collector: HostCollector) -> Source:
    async def gather() -> Gathered:
        found = await in_thread(lambda: list(collector.collect()), f"collector-{collector.name}")
        families = checked(found, collector.families)
        return Gathered(families, collector.problems)

    return Source(collector.name, "", gather, limit=None)


def _without(some: Mapping[str, T], kept: Collection[str]) -> list[T]:
    return [one for name, one in some.items() if name not in kept]


async def _close(some: Iterable[Watched | Source]) -> None:
    """Side by side: one that takes its time holds up no other."""
    await asyncio.gather(*(one.close() for one in some))


# -- one scrape -------------------------------------------------------------------------------------------------


async def _run_all(sources: Collection[Source], deadline: float) -> dict[Source, Result | None]:
    """The result of each source, None for those that still run at the deadline."""
    tasks = {source: source.join() for source in sources}
    if tasks:
        await asyncio.wait(tasks.values(), timeout=deadline)
    return {source: source.result(task) for source, task in tasks.items()}


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
