"""Collectors made for tests, and engines that run them without a server. A pytest plugin: see `conftest.py`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import ClassVar

import pytest
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from exporter.brokers.address import parse_address
from exporter.catalogue import Family
from exporter.collectors import HOST_COLLECTORS, REDIS_COLLECTORS
from exporter.collectors.base import CollectorOptions, HostCollector, RedisCollector
from exporter.config import Broker, Config
from exporter.engine import Engine
from exporter.model import Observation, QueueState
from exporter.safe.limits import Limits
from exporter.systems import SYSTEMS
from exporter.systems.base import RedisSystem, SystemOptions
from tests.servers import Series, series

NOWHERE = parse_address("redis://127.0.0.1:1/0")
"""A port that refuses connections."""
VALUE = Family("taskqueue_toy_value", "gauge", "A value.", ("broker", "name"))
HOST_VALUE = Family("taskqueue_toy_host_value", "gauge", "A value.", ("name",))


def value(broker: str = "main", name: str = "a", number: float = 1) -> Metric:
    """The family that toys declare, with one sample."""
    metric = VALUE.metric()
    metric.samples.append(VALUE.sample((broker, name), number))
    return metric


def host_value(number: float = 1) -> Metric:
    metric = HOST_VALUE.metric()
    metric.samples.append(HOST_VALUE.sample(("a",), number))
    return metric


def redis_toy(toy: str, function: Callable[[RedisCollector], Awaitable[object]]) -> type[RedisCollector]:
    """A collector that gives what `function` gives."""

    class Toy(RedisCollector):
        name = toy
        section = toy
        families: ClassVar[tuple[Family, ...]] = (VALUE,)

        async def collect(self) -> Iterable[Metric]:
            return await function(self)  # type: ignore[return-value]

    return Toy


def host_toy(toy: str, function: Callable[[], object]) -> type[HostCollector]:
    class Toy(HostCollector):
        name = toy
        families: ClassVar[tuple[Family, ...]] = (HOST_VALUE,)

        def collect(self) -> Iterable[Metric]:
            return function()  # type: ignore[return-value]

    return Toy


def system_toy(toy: str, function: Callable[[], Awaitable[object]]) -> type[RedisSystem]:
    class Toy(RedisSystem):
        name = toy

        async def observe(self) -> Observation:
            return await function()  # type: ignore[return-value]

        def permissions(self) -> tuple[()]:
            return ()

    return Toy


async def one_queue() -> Observation:
    return Observation(queues=[QueueState("q", paused=False)])


def broker(
    name: str = "main", *, systems: Iterable[str] = (), collectors: Iterable[str] = (), probe: bool = False
) -> Broker:
    of_systems, of_collectors = dict.fromkeys(systems, SystemOptions()), dict.fromkeys(collectors, CollectorOptions())
    return Broker(name, NOWHERE, of_systems, of_collectors, probe)


def config(*brokers: Broker, hosts: Iterable[str] = (), limits: Limits | None = None) -> Config:
    return Config(brokers, dict.fromkeys(hosts, CollectorOptions()), limits or Limits())


async def scraped(engine: Engine, deadline: float = 5.0) -> dict[Series, float]:
    """One scrape's series; AssertionError if one stands twice."""
    found: dict[Series, float] = {}
    for family in (await engine.scrape(deadline)).families:
        for sample in family.samples:
            key = series(sample.name, **sample.labels)
            assert key not in found, key
            found[key] = sample.value
    return found


def success(found: dict[Series, float], collector: str, broker: str = "main") -> float:
    return found[series("taskqueue_collector_success", collector=collector, broker=broker)]


async def until(condition: Callable[[], object], deadline: float = 5.0) -> None:
    """Returns once `condition` is true; TimeoutError after `deadline` seconds."""
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110  what is waited for knows nothing of it
            await asyncio.sleep(0.005)


class Hangs:
    """A blocking function that stands still until let go."""

    def __init__(self) -> None:
        self.runs = 0
        self.release = threading.Event()

    def __call__(self) -> list[Metric]:
        self.runs += 1
        number = self.runs
        self.release.wait(30)
        return [host_value(number)]


class Gate:
    """An asynchronous collector that waits until it is let through, and counts its runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.ended = 0
        self.open = asyncio.Event()

    async def __call__(self, collector: RedisCollector) -> list[Metric]:
        self.runs += 1
        number = self.runs
        await self.open.wait()
        self.ended += 1
        return [value(collector.broker, number=number)]


def odd_sample(**changes: object) -> Metric:
    """The declared family with one sample in which something is wrong."""
    metric = VALUE.metric()
    good: dict[str, object] = {"name": VALUE.name, "labels": {"broker": "main", "name": "a"}, "value": 1.0}
    metric.samples.append(Sample(**(good | changes)))  # type: ignore[arg-type]
    return metric


Run = Callable[[Config], Awaitable[Engine]]
Register = Callable[..., None]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Start engines; each is closed in the end, and nothing that it ran is left."""
    engines: list[Engine] = []

    async def start(config: Config) -> Engine:
        engine = Engine(config)
        engines.append(engine)
        await engine.start()
        return engine

    yield start
    for engine in engines:
        await engine.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Register toys by name for one test: a Hangs, a Gate, or the `observe()` of a system."""

    def register(**toys: object) -> None:
        for name, toy in toys.items():
            if isinstance(toy, Hangs):
                monkeypatch.setitem(HOST_COLLECTORS, name, host_toy(name, toy))
            elif isinstance(toy, Gate):
                monkeypatch.setitem(REDIS_COLLECTORS, name, redis_toy(name, toy))
            else:
                monkeypatch.setitem(SYSTEMS, name, system_toy(name, toy))  # type: ignore[arg-type]

    return register
