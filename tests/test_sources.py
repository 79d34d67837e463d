"""A collector that does wrong in any way fails alone: everything else in the answer is fresh."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from prometheus_client.core import Metric
from prometheus_client.samples import Exemplar

from exporter.collectors import HOST_COLLECTORS, REDIS_COLLECTORS
from exporter.collectors.base import RedisCollector
from exporter.exposition import OPENMETRICS, TEXT, Renderer
from exporter.model import Observation, QueueState, WorkerState
from exporter.systems import SYSTEMS
from tests.servers import parse_metrics, series
from tests.toys import (
    VALUE,
    Run,
    broker,
    config,
    host_toy,
    host_value,
    odd_sample,
    one_queue,
    redis_toy,
    scraped,
    success,
    system_toy,
    value,
)


class NoText(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def raising(error: BaseException) -> Callable[[], object]:
    def function() -> object:
        raise error

    return function


def half_way() -> Iterator[Metric]:
    yield value()
    raise ValueError("half way")


def with_text(text: object) -> Metric:
    metric = odd_sample()
    metric.documentation = text  # type: ignore[assignment]
    metric.unit = text  # type: ignore[assignment]
    return metric


def named(name: object, kind: str = "gauge") -> Metric:
    metric = odd_sample()
    metric.name, metric.type = name, kind  # type: ignore[assignment]
    return metric


RUBBISH: dict[str, Callable[[], object]] = {
    "raises": raising(ValueError("no luck")),
    "raises without a text": raising(NoText()),
    "raises SystemExit": raising(SystemExit(3)),
    "raises CancelledError": raising(asyncio.CancelledError()),
    "raises TimeoutError": raising(TimeoutError()),
    "raises half way": half_way,
    "nothing": lambda: None,
    "a number": lambda: 3,
    "text": lambda: "taskqueue_toy_value 1",
    "a family alone": value,
    "no families": lambda: [object()],
    "an undeclared family": lambda: [Metric("taskqueue_queue_jobs", "Jobs.", "gauge")],
    "a family without a name": lambda: [named(None)],
    "a family of unhashable name": lambda: [named([])],
    "another type": lambda: [named("taskqueue_toy_value", "counter")],
    "another sample name": lambda: [odd_sample(name="up")],
    "no labels": lambda: [odd_sample(labels={})],
    "labels of None": lambda: [odd_sample(labels=None)],
    "another label": lambda: [odd_sample(labels={"broker": "main", "other": "a"})],
    "a label too many": lambda: [odd_sample(labels={"broker": "main", "name": "a", "b": "c"})],
    "labels in another order": lambda: [odd_sample(labels={"name": "a", "broker": "main"})],
    "a label that is no text": lambda: [odd_sample(labels={"broker": "main", "name": 7})],
    "a label of bytes": lambda: [odd_sample(labels={"broker": "main", "name": b"a"})],
    "a lone surrogate": lambda: [odd_sample(labels={"broker": "main", "name": "\udc80"})],
    "another broker": lambda: [value("other")],
    "a value that is no number": lambda: [odd_sample(value="1")],
    "no value": lambda: [odd_sample(value=None)],
    "a value beyond floats": lambda: [odd_sample(value=10**400)],
    "a complex value": lambda: [odd_sample(value=1j)],
    "a timestamp": lambda: [odd_sample(timestamp="yesterday")],
    "an exemplar": lambda: [odd_sample(exemplar=Exemplar({"a": "\udc80"}, 1))],
    "a series twice": lambda: [value(), value()],
    "samples that are none": lambda: [with_samples([1])],
    "samples of None": lambda: [with_samples(None)],
}


def with_samples(samples: object) -> Metric:
    metric = odd_sample()
    metric.samples = samples  # type: ignore[assignment]
    return metric


async def good(collector: RedisCollector) -> object:
    return [value(collector.broker, "good")]


async def rendered_with(run: Run, monkeypatch: pytest.MonkeyPatch, **settings: tuple[str, ...]) -> dict[str, float]:
    """The success of each collector in an answer where `bad` runs beside good ones; all else must be there."""
    monkeypatch.setitem(SYSTEMS, "good_system", system_toy("good_system", one_queue))
    monkeypatch.setitem(REDIS_COLLECTORS, "good", redis_toy("good", good))
    monkeypatch.setitem(HOST_COLLECTORS, "good_host", host_toy("good_host", lambda: [host_value(7)]))
    main = broker(
        systems=["good_system", *settings.get("systems", ())], collectors=["good", *settings.get("collectors", ())]
    )
    engine = await run(config(main, hosts=["good_host", *settings.get("hosts", ())]))
    families = (await engine.scrape(5.0)).families
    for form in (OPENMETRICS, TEXT):
        text = b"".join(Renderer().render(families, form)).decode()
    found = parse_metrics(text)
    assert found[series("taskqueue_toy_value", broker="main", name="good")] == 1
    assert found[series("taskqueue_toy_host_value", name="a")] == 7
    assert found[series("taskqueue_queue_paused", system="good_system", broker="main", queue="q")] == 0
    return {dict(labels)["collector"]: number for (name, labels), number in found.items() if name.endswith("_success")}


ONLY_BAD_FAILED = {"good": 1, "good_host": 1, "good_system": 1, "bad": 0}


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH)
async def test_a_redis_collector_fails_alone(
    rubbish: Callable[[], object], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def collect(_: RedisCollector) -> object:
        return rubbish()

    monkeypatch.setitem(REDIS_COLLECTORS, "bad", redis_toy("bad", collect))

    assert await rendered_with(run, monkeypatch, collectors=("bad",)) == ONLY_BAD_FAILED


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH)
async def test_a_host_collector_fails_alone(
    rubbish: Callable[[], object], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HOST_COLLECTORS, "bad", host_toy("bad", rubbish))

    assert await rendered_with(run, monkeypatch, hosts=("bad",)) == ONLY_BAD_FAILED


async def boom() -> object:
    raise SystemExit


async def observes_nothing() -> object:
    return None


def observes(**fields: object) -> Callable[[], Awaitable[object]]:
    async def observe() -> object:
        return Observation(**fields)  # type: ignore[arg-type]

    return observe


def observes_queue(**fields: object) -> Callable[[], Awaitable[object]]:
    return observes(queues=[QueueState(**({"queue": "q"} | fields))])  # type: ignore[arg-type]


BAD_OBSERVATIONS: dict[str, Callable[[], Awaitable[object]]] = {
    "raises": boom,
    "nothing": observes_nothing,
    "queues of None": observes(queues=None),
    "a queue that is none": observes(queues=[None]),
    "a queue without a name": observes_queue(queue=None),
    "a number of text": observes_queue(slots="many"),
    "a number beyond floats": observes_queue(slots=10**400),
    "jobs of None": observes_queue(jobs=None),
    "two priorities of one text": observes_queue(ready_by_priority={1: 1, "1": 2}),
    "a worker without a name": observes(workers=[WorkerState(None, True)]),  # type: ignore[arg-type]
    "a problem": observes(problems=["no \x1b[31mluck"]),
    "problems of None": observes(problems=None),
}


@pytest.mark.parametrize("observe", BAD_OBSERVATIONS.values(), ids=BAD_OBSERVATIONS)
async def test_a_system_fails_alone(
    observe: Callable[[], Awaitable[object]], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SYSTEMS, "bad", system_toy("bad", observe))

    assert await rendered_with(run, monkeypatch, systems=("bad",)) == ONLY_BAD_FAILED


async def test_problems_leave_the_rest_standing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    observe = observes(queues=[QueueState("q", paused=True)], problems=["one queue could not be read"])
    monkeypatch.setitem(SYSTEMS, "partly", system_toy("partly", observe))

    found = await scraped(await run(config(broker(systems=["partly"]))))

    assert success(found, "partly") == 0
    assert found[series("taskqueue_queue_paused", system="partly", broker="main", queue="q")] == 1


@pytest.mark.parametrize("text", [None, "\udc80", 7])
async def test_help_is_the_declared_one_whatever_a_collector_makes_of_it(
    text: object, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def collect(_: RedisCollector) -> object:
        return [with_text(text)]

    monkeypatch.setitem(REDIS_COLLECTORS, "odd", redis_toy("odd", collect))
    engine = await run(config(broker(collectors=["odd"])))

    (family,) = [family for family in (await engine.scrape(5.0)).families if family.name == VALUE.name]

    assert (family.documentation, family.unit) == (VALUE.help, "")


async def test_a_collector_may_give_a_family_in_parts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def collect(_: RedisCollector) -> object:
        return [value(name="a"), value(name="b")]

    monkeypatch.setitem(REDIS_COLLECTORS, "parts", redis_toy("parts", collect))
    found = await scraped(await run(config(broker(collectors=["parts"]))))

    assert success(found, "parts") == 1
    assert {("broker", "main"), ("name", "b")} in [set(labels) for name, labels in found if name == VALUE.name]
