"""A third queue system and a new collector, each defined here and registered with one line, and nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter import collectors, feeds, gauges, ledger, systems
from exporter.catalogue import Family
from exporter.collectors.base import HostCollector, RedisCollector
from exporter.config import Config, ConfigError, load
from exporter.engine import Engine
from exporter.model import (
    Enqueued,
    Finished,
    JobState,
    Observation,
    Outcome,
    Permissions,
    QueueState,
    Retried,
    Sink,
    Started,
    WorkerState,
)
from exporter.systems.base import RedisSystem
from exporter.web.app import create_app
from tests.servers import ROOT, RedisServer

NOW = 1_700_000_000.0


class ToyFeed:
    """Tells one job's life from its enqueueing to its end, and stays connected."""

    name = "events"

    async def follow(self, sink: Sink) -> None:
        sink.connected("pubsub")
        sink.received("job", 4)
        sink.record(
            [
                Enqueued("bricks", "lay", "1", NOW),
                Started("bricks", "lay", "1", NOW + 1, wait=1.0),
                Retried("bricks", "lay", "1", NOW + 2, run=1.0),
                Finished("bricks", "lay", "1", NOW + 5, Outcome.FAILED, run=2.0, exception="ValueError"),
            ]
        )
        await asyncio.Event().wait()


class Toy(RedisSystem):
    """Fills every field of an Observation, and has a feed."""

    name = "toy"
    outcomes = (Outcome.SUCCEEDED, Outcome.FAILED)
    feeds = (ToyFeed(),)

    async def observe(self) -> Observation:
        queue = QueueState(
            queue="bricks",
            jobs=dict.fromkeys(JobState, 3),
            ready_by_priority={1: 2, 5: 1},
            kept_results={"completed": 7, "failed": 0},
            oldest_ready=NOW,
            oldest_running=NOW,
            last_progress=NOW,
            paused=False,
            workers=1,
            slots=4,
            busy_slots=0,
            progress_jobs=1,
            oldest_progress=NOW,
            expired_jobs=1,
            health_at=NOW,
            reported_jobs={"succeeded": 5, "failed": 1, "retried": 0},
            reported_running=0,
        )
        worker = WorkerState(
            worker="toy@box",
            up=True,
            queues=("bricks",),
            last_heartbeat=NOW,
            slots=4,
            busy_slots=0,
            reserved_jobs=2,
            registered_tasks=9,
            version="1.0",
        )
        return Observation(
            queues=[queue],
            workers=[worker],
            unacked_jobs=0,
            oldest_unacked=NOW,
            visibility_timeout=3600.0,
            abort_requests=0,
            running={"lay": 1},
        )

    def permissions(self) -> Collection[Permissions]:
        return ()


KEYS = Family("taskqueue_toy_keys", "gauge", "Keys of the database (DBSIZE).", ("broker",))
DICE = Family("taskqueue_toy_dice_total", "counter", "Dice thrown.", ("die",))


class ToyKeys(RedisCollector):
    name = "toy_keys"
    section = "toy_keys"
    families: ClassVar[tuple[Family, ...]] = (KEYS,)

    async def collect(self) -> Iterable[Metric]:
        metric = KEYS.metric()
        metric.samples.append(KEYS.sample((self.broker,), await self.pulls.one("DBSIZE")))
        return [metric]


class ToyDice(HostCollector):
    name = "toy_dice"
    families: ClassVar[tuple[Family, ...]] = (DICE,)

    def collect(self) -> Iterator[Metric]:
        metric = DICE.metric()
        metric.samples.append(DICE.sample(("d6",), 6))
        yield metric


def register_all() -> None:
    systems.register(Toy)
    collectors.register(ToyKeys)
    collectors.register(ToyDice)


TOYS = {"toy", "toy_keys", "toy_dice"}


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three lines, taken back after the test."""
    for registry in (systems.SYSTEMS, collectors.REDIS_COLLECTORS, collectors.HOST_COLLECTORS):
        for name in TOYS:
            monkeypatch.setitem(registry, name, None)
            del registry[name]
    register_all()


FILLED = (*gauges.FAMILIES, *ledger.FAMILIES, *feeds.FAMILIES)


def sample_names(family: Family) -> list[str]:
    """The names of a family's samples."""
    return [family.name + end for end in (("_bucket", "_count", "_sum") if family.kind == "histogram" else ("",))]


def config_of(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "config.yml"
    file.write_text(text)
    return load(file, birth_hold=0)


async def scrape(config: Config, accept: str) -> str:
    """One `/metrics` of the real application."""
    engine = Engine(config)

    async def no_reload() -> None: ...

    app = create_app(engine, no_reload, telemetry_path="/metrics", max_requests=4)
    await engine.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://exporter") as client:
            answer = await client.get("/metrics", headers={"accept": accept})
    finally:
        await engine.close()
    assert answer.status_code == 200
    return answer.text


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("accept", "parse"), [("text/plain", parse_text), ("application/openmetrics-text", parse_openmetrics)]
)
async def test_every_family_that_it_fills_is_on_metrics(
    accept: str, parse: object, tmp_path: Path, redis_server: RedisServer
) -> None:
    redis_server.client().set("key", "value")
    config = config_of(tmp_path, f"brokers: [{{name: main, url: '{redis_server.url()}'}}]")

    text = await scrape(config, accept)

    assert callable(parse)
    samples = [sample for family in parse(text) for sample in family.samples]
    toys = {sample.name for sample in samples if sample.labels.get("system") == "toy"}
    assert toys == {name for family in FILLED for name in sample_names(family)}
    values = {sample.name: sample.value for sample in samples}
    assert values["taskqueue_jobs_enqueued_total"] == values["taskqueue_job_run_seconds_count"] == 1
    assert values[KEYS.name] == 1
    assert values[DICE.name] == 6
    succeeded = {s.labels["collector"]: s.value for s in samples if s.name == "taskqueue_collector_success"}
    assert {name: succeeded[name] for name in TOYS} == dict.fromkeys(TOYS, 1)


@pytest.mark.usefixtures("registered")
def test_the_file_has_sections_for_them(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        "brokers:\n- {name: main, url: redis://h, toy: {enabled: false}, toy_keys: {enabled: false}}\n"
        "- {name: other, url: redis://h/1, toy: {queues: [bricks]}}\n"
        "toy_dice: {enabled: false}",
    )

    off, on = config.brokers
    assert "toy" not in off.systems
    assert "toy_keys" not in off.collectors
    assert on.systems["toy"].queues == ("bricks",)
    assert "toy_keys" in on.collectors
    assert "toy_dice" not in config.host_collectors


@pytest.mark.usefixtures("registered")
def test_their_sections_are_checked_as_the_others(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"brokers\[0\]\.toy: found the unknown key 'speed', wanted one of enabled"):
        config_of(tmp_path, "brokers: [{name: main, url: redis://h, toy: {speed: 3}}]")


def test_they_have_flags() -> None:
    code = f"from {__name__} import register_all; register_all(); from exporter.cli import main; main()"
    shown = subprocess.run([sys.executable, "-c", code, "serve", "--help"], capture_output=True, text=True, cwd=ROOT)

    assert shown.returncode == 0, shown.stderr
    for name in TOYS:
        assert f"--collector.{name} / --no-collector.{name}" in " ".join(shown.stdout.split())
        assert f"TASKQUEUE_EXPORTER_COLLECTOR_{name.upper()}" in shown.stdout


def test_without_registration_nothing_of_them_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'toy_dice'"):
        config_of(tmp_path, "toy_dice: {enabled: false}")


def test_a_name_cannot_be_taken_twice() -> None:
    with pytest.raises(ValueError, match="'arq' is registered already"):
        systems.register(systems.SYSTEMS["arq"])
    with pytest.raises(ValueError, match="'host' is registered already"):
        collectors.register(collectors.HOST_COLLECTORS["host"])
