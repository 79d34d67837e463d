"""`/probe` and `/sd`: brokers that are scraped each for itself."""

from __future__ import annotations

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from exporter.collectors import HOST_COLLECTORS, REDIS_COLLECTORS
from exporter.collectors.base import RedisCollector
from exporter.engine import Engine, Selection
from tests.servers import Series, series
from tests.toys import Register, Run, broker, config, host_toy, host_value, one_queue, redis_toy, scraped, value
from tests.web.test_metrics import client_of

PAUSED = "taskqueue_queue_paused"


async def probed(engine: Engine, query: str) -> dict[Series, float]:
    async with client_of(engine) as client:
        answer = await client.get(f"/probe?{query}")
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {series(s.name, **s.labels): s.value for family in families for s in family.samples}


def brokers_in(found: dict[Series, float]) -> set[str]:
    return {dict(labels).get("broker", "") for _, labels in found}


async def two(run: Run, register: Register, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine with a broker on /metrics, one that is probed, and a host collector."""
    register(toy=one_queue)
    monkeypatch.setitem(HOST_COLLECTORS, "toy_host", host_toy("toy_host", lambda: [host_value()]))
    return await run(
        config(broker("main", systems=["toy"]), broker("far", systems=["toy"], probe=True), hosts=["toy_host"])
    )


# -- /probe -----------------------------------------------------------------------------------------------------


async def test_a_broker_that_is_probed_is_not_on_metrics(
    run: Run, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await two(run, register, monkeypatch)

    metrics, probe = await scraped(engine), await probed(engine, "broker=far")

    assert brokers_in(metrics) == {"main", ""}
    assert brokers_in(probe) == {"far"}
    assert probe[series(PAUSED, system="toy", broker="far", queue="q")] == 0
    assert probe[series("taskqueue_broker_up", broker="far")] == 0
    assert probe[series("taskqueue_collector_success", collector="toy", broker="far")] == 1


async def test_a_broker_of_metrics_can_be_probed_too(
    run: Run, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await two(run, register, monkeypatch)

    probe = await probed(engine, "broker=main")

    assert brokers_in(probe) == {"main"}
    assert not {name for name, _ in probe if "host" in name or "exporter" in name or name.startswith("process_")}


async def test_a_probe_has_the_filters_of_metrics(
    run: Run, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await two(run, register, monkeypatch)

    assert (PAUSED in {name for name, _ in await probed(engine, "broker=far&collect[]=toy")}) is True
    assert await probed(engine, "broker=far&exclude[]=toy") == {}


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, "found no broker, wanted ?broker=NAME"),
        ("?target=redis://127.0.0.1:1/0", 400, "found no broker, wanted ?broker=NAME"),
        ("?broker=far&broker=main", 400, "found 2 broker"),
        ("?broker=", 404, "not configured"),
        ("?broker=FAR", 404, "not configured"),
        ("?broker=redis://127.0.0.1:1/0", 404, "not configured"),
        ("?broker=far&collect[]=nothing", 400, "found the collector 'nothing'"),
    ],
)
async def test_nothing_but_a_configured_name_is_probed(
    query: str, status: int, text: str, run: Run, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await two(run, register, monkeypatch)

    async with client_of(engine) as client:
        answer = await client.get(f"/probe{query}")

    assert answer.status_code == status
    assert text in answer.text
    assert "redis://" not in answer.text


async def test_a_broker_that_a_reload_took_away_gives_nothing(run: Run) -> None:
    answer = await (await run(config())).scrape(1, Selection(broker="gone"))

    assert [metric.name for metric in answer.families if metric.samples] == []


# -- once per server, wherever it shows ---------------------------------------------------------------------------


def of_one_server(monkeypatch: pytest.MonkeyPatch, silent: set[str]) -> None:
    """A collector for which all brokers are one server; those that are `silent` cannot be read."""

    async def collect(collector: RedisCollector) -> list[Metric]:
        if collector.broker in silent:
            raise RuntimeError("not to be read")
        collector.about = "the server"
        return [value(collector.broker)]

    monkeypatch.setitem(REDIS_COLLECTORS, "toy", redis_toy("toy", collect))


def shown(found: dict[Series, float]) -> set[str]:
    return {dict(labels)["broker"] for name, labels in found if name == "taskqueue_toy_value"}


async def test_a_server_shows_once_and_first_on_metrics(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    silent: set[str] = set()
    of_one_server(monkeypatch, silent)
    names = (("far", True), ("a", False), ("b", False))
    engine = await run(config(*(broker(name, collectors=["toy"], probe=probe) for name, probe in names)))

    assert shown(await scraped(engine)) == {"a"}
    assert shown(await probed(engine, "broker=far")) == set()
    assert shown(await probed(engine, "broker=b")) == set()
    assert shown(await probed(engine, "broker=a")) == {"a"}
    silent.add("a")
    assert shown(await scraped(engine)) == {"b"}
    silent.add("b")
    assert shown(await scraped(engine)) == set()
    assert shown(await probed(engine, "broker=far")) == {"far"}


# -- /sd --------------------------------------------------------------------------------------------------------


async def test_targets_are_the_brokers_that_are_probed(run: Run) -> None:
    engine = await run(config(broker("main"), broker("a.b-c", probe=True), broker("d", probe=True)))

    async with client_of(engine) as client:
        answer = await client.get("/sd", headers={"host": "[::1]:10177"})

    assert answer.headers["content-type"] == "application/json"
    assert [group["targets"] for group in answer.json()] == [["[::1]:10177"]] * 2
    assert answer.json()[0]["labels"] == {
        "__metrics_path__": "/probe",
        "__param_broker": "a.b-c",
        "__meta_taskqueue_broker": "a.b-c",
        "instance": "[::1]:10177/a.b-c",
    }


async def test_no_broker_is_probed(run: Run) -> None:
    async with client_of(await run(config(broker("main")))) as client:
        assert (await client.get("/sd")).json() == []


@pytest.mark.parametrize(
    "host", ["", "a/b", "a b", "user@a", "a:b", "a:123456", "a:65536", "a\x00", '"', "[a", "[::::]:1", "-", ".."]
)
async def test_a_host_that_is_none_becomes_no_target(host: str, run: Run) -> None:
    async with client_of(await run(config(broker("far", probe=True)))) as client:
        answer = await client.get("/sd", headers={"host": host})

    assert answer.status_code == 400
    assert answer.text == "found a Host header that names no host, wanted host:port\n"


async def test_the_landing_page_leads_to_what_is_probed(run: Run) -> None:
    async with client_of(await run(config(broker("main"), broker("far", probe=True)))) as client:
        text = (await client.get("/")).text

    assert '<td><a href="/probe?broker=far">far</a></td>' in text
    assert "<td>main</td>" in text
    assert '<a href="/sd">' in text
