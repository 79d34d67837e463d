"""Reload: what stays, what comes, what goes."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import redis
import structlog

from exporter import engine as engine_module
from exporter.brokers.access import Access
from exporter.brokers.pulls import Pulls
from exporter.collectors import HOST_COLLECTORS
from exporter.config import Config
from exporter.model import Observation
from exporter.safe.limits import Limits
from exporter.service import Reloader
from exporter.systems import SYSTEMS
from exporter.systems.base import RedisSystem
from exporter.web.app import create_app
from tests.servers import series
from tests.toys import (
    Gate,
    Hangs,
    Register,
    Run,
    broker,
    config,
    host_toy,
    host_value,
    one_queue,
    scraped,
    success,
    until,
)


async def test_reload_keeps_what_did_not_change(run: Run, register: Register) -> None:
    register(toy=one_queue)
    same, gone, changed = broker("same", systems=["toy"]), broker("gone", systems=["toy"]), broker("changed")
    engine = await run(config(same, gone, changed))
    kept = engine.brokers["same"]
    replaced = engine.brokers["changed"]

    await engine.reload(
        config(broker("new", systems=["toy"]), broker("changed", systems=["toy"]), broker("same", systems=["toy"]))
    )
    found = await scraped(engine)

    assert engine.brokers["same"] is kept
    assert engine.brokers["changed"] is not replaced
    assert {dict(labels)["broker"] for name, labels in found if name == "taskqueue_broker_up"} == {
        "same",
        "changed",
        "new",
    }
    assert not [key for key in found if ("broker", "gone") in key[1]]
    assert list(engine.brokers) == ["new", "changed", "same"]


async def test_changed_limits_start_brokers_anew(run: Run) -> None:
    engine = await run(config(broker()))
    before = engine.brokers["main"]

    await engine.reload(config(broker(), limits=Limits(queues=1)))

    assert engine.brokers["main"] is not before


async def test_host_collectors_come_and_go(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HOST_COLLECTORS, "toy", host_toy("toy", lambda: [host_value()]))
    engine = await run(config())
    assert ("taskqueue_collector_success", frozenset({("collector", "toy"), ("broker", "")})) not in await scraped(
        engine
    )

    await engine.reload(config(hosts=["toy"]))
    assert success(await scraped(engine), "toy", "") == 1

    await engine.reload(config())
    assert not [key for key in await scraped(engine) if ("collector", "toy") in key[1]]


@pytest.mark.parametrize(
    ("sign", "hosts", "told"), [("/.dockerenv", [], 1), ("/.dockerenv", ["toy"], 0), (None, [], 0)]
)
async def test_who_misses_host_metrics_finds_in_the_log_why(
    sign: str | None, hosts: list[str], told: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HOST_COLLECTORS, "toy", host_toy("toy", lambda: [host_value()]))
    monkeypatch.setattr(engine_module, "container_sign", lambda: sign)

    with structlog.testing.capture_logs() as logged:
        await run(config(hosts=hosts))

    assert [entry["sign"] for entry in logged if "not watching the host" in entry["event"]] == ["/.dockerenv"] * told


async def test_a_broker_that_a_reload_ends_during_a_scrape_has_not_failed(run: Run, register: Register) -> None:
    gate = Gate()
    register(gate=gate)
    engine = await run(config(broker("gone", collectors=["gate"]), broker("kept")))
    scrape = asyncio.create_task(scraped(engine))
    await until(lambda: gate.runs)

    await engine.reload(config(broker("kept")))
    found = await scrape

    assert not [key for key in found if ("broker", "gone") in key[1]]
    assert series("taskqueue_broker_up", broker="kept") in found


async def test_a_refused_configuration_shows_until_a_good_one_comes(run: Run) -> None:
    engine = await run(config())
    successful = series("taskqueue_exporter_config_last_reload_successful")
    loaded = series("taskqueue_exporter_config_last_reload_success_timestamp_seconds")
    first = await scraped(engine)

    engine.refused()
    refused = await scraped(engine)
    await engine.reload(config())
    again = await scraped(engine)

    assert [found[successful] for found in (first, refused, again)] == [1, 0, 1]
    assert first[loaded] == refused[loaded] < again[loaded]


async def test_hurry_ends_what_scrapes_wait_for(run: Run, register: Register) -> None:
    gate, hangs = Gate(), Hangs()
    register(gate=gate, hangs=hangs, other=one_queue)
    engine = await run(config(broker(collectors=["gate"], systems=["other"]), hosts=["hangs"]))
    scrape = asyncio.create_task(scraped(engine, 60))
    await until(lambda: gate.runs and hangs.runs and all(s.ended_once for s in engine.brokers["main"].sources[:1]))

    engine.hurry()
    async with asyncio.timeout(5):
        found = await scrape
    hangs.release.set()

    assert (success(found, "gate"), success(found, "hangs", ""), success(found, "other")) == (0, 0, 1)


# -- what goes wrong --------------------------------------------------------------------------------------------


class Stubborn(RedisSystem):
    """One that cannot be closed."""

    name = "stubborn"

    async def observe(self) -> Observation:
        return Observation()

    def permissions(self) -> tuple[()]:
        return ()

    async def close(self) -> None:
        raise redis.TimeoutError("Timed out closing connection after 5")


class Impossible(Stubborn):
    """One that cannot be made."""

    name = "impossible"

    def __init__(self, *_: object, **__: object) -> None:
        raise RuntimeError("no redis://user:secret@host\nsecond line")


async def test_what_cannot_be_closed_keeps_nothing_else_from_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SYSTEMS, "stubborn", Stubborn)
    closed: list[str] = []
    monkeypatch.setattr(Pulls, "close", lambda self: _note(closed, "pulls"))
    monkeypatch.setattr(Access, "close", lambda self: _note(closed, "access"))
    engine = await run(config(broker("gone", systems=["stubborn"]), broker("kept")))

    with structlog.testing.capture_logs() as logged:
        await engine.reload(config(broker("kept"), broker("new")))

    (line,) = [entry for entry in logged if entry["log_level"] == "error"]
    assert (line["event"], line["broker"], line["part"]) == ("not closed", "gone", "Stubborn")
    assert closed == ["pulls", "access"]
    assert list(engine.brokers) == ["kept", "new"]
    assert (await scraped(engine))[series("taskqueue_exporter_config_last_reload_successful")] == 1


async def _note(closed: list[str], name: str) -> None:
    closed.append(name)


@pytest.mark.parametrize("when", ["loaded", "made"])
async def test_whatever_a_reload_fails_by_it_is_refused(
    when: str, run: Run, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(toy=one_queue)
    monkeypatch.setitem(SYSTEMS, "impossible", Impossible)
    monkeypatch.setitem(HOST_COLLECTORS, "toy", host_toy("toy", lambda: [host_value()]))
    engine = await run(config(broker("old", systems=["toy"]), hosts=["toy"]))
    before = await scraped(engine)
    successful = series("taskqueue_exporter_config_last_reload_successful")

    def load() -> Config:
        if when == "loaded":
            Impossible()
        return config(broker("first"), broker("second", systems=["impossible"]))

    with structlog.testing.capture_logs() as logged:
        app = create_app(engine, Reloader(engine, load).reload, telemetry_path="/metrics", max_requests=4)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
            answer = await client.post("/-/reload")

    # then the answer is one line, and so is the log
    assert answer.status_code == 500
    assert answer.text.startswith("configuration refused, the one before stays: RuntimeError('no redis://***")
    assert answer.text.count("\n") == 1
    assert [entry["event"] for entry in logged if entry["log_level"] in ("warning", "error")] == [
        "configuration refused, the one before stays"
    ]
    # and all is as before
    after = await scraped(engine)
    assert before.pop(successful) == 1
    assert after.pop(successful) == 0
    assert after.keys() == before.keys()
    assert success(after, "toy", "old") == success(after, "toy", "") == 1
