"""New counters stand at 0 until an answer was really sent to somebody who may have stored it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import Message, Scope

from exporter.config import Config, Histograms
from exporter.engine import Engine
from exporter.model import Finished, Outcome, Sink
from exporter.systems import SYSTEMS
from exporter.web.app import create_app
from tests.servers import Series, parse_metrics, series
from tests.toys import broker, config, one_queue, system_toy, until

HOLD = 0.05
FINISHED = series(
    "taskqueue_jobs_finished_total", system="toy", broker="main", queue="q", task="t", outcome="succeeded"
)


class OneJob:
    """A feed that tells of one job."""

    name = "events"

    async def follow(self, sink: Sink) -> None:
        sink.connected("pubsub")
        sink.record([Finished("q", "t", "1", 1_700_000_000.0, Outcome.SUCCEEDED, wait=1.5, run=1.5)])
        await asyncio.Event().wait()


@pytest.fixture(params=["/metrics", "/probe?broker=main"])
def path(request: pytest.FixtureRequest) -> str:
    """Where the broker is scraped."""
    return str(request.param)


@pytest.fixture
async def engine(path: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    toy = system_toy("toy", one_queue)
    toy.feeds = (OneJob(),)  # type: ignore[assignment, method-assign]
    monkeypatch.setitem(SYSTEMS, "toy", toy)
    plain = config(broker(systems=["toy"], probe=path != "/metrics"))
    buckets = Histograms(wait_seconds=(1.0,), run_seconds=(2.0,))
    engine = Engine(Config(plain.brokers, plain.host_collectors, plain.limits, buckets, HOLD))
    await engine.start()
    await until(engine.ready)
    yield engine
    await engine.close()


async def request(engine: Engine, path: str, method: str = "GET", *, gone: bool = False) -> dict[Series, float]:
    """One request to the real application, as a server hands it over; `gone`: by a client that did not wait."""
    app = create_app(engine, no_reload, telemetry_path="/metrics", max_requests=4)
    where, _, query = path.partition("?")
    if gone:
        scope: Scope = {"type": "http", "method": method, "path": where, "query_string": query.encode(), "headers": []}
        await app(scope, disconnected, ignored)
        return {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://exporter") as client:
        answer = await client.request(method, path)
    return parse_metrics(answer.text)


async def no_reload() -> None: ...


async def disconnected() -> Message:
    return {"type": "http.disconnect"}


async def ignored(message: Message) -> None: ...


async def the_hold_passes() -> None:
    await asyncio.sleep(2 * HOLD)


async def test_a_job_shows_once_its_zero_was_sent_and_the_hold_has_passed(engine: Engine, path: str) -> None:
    await the_hold_passes()  # since its birth, which is not what counts

    assert (await request(engine, path))[FINISHED] == 0
    await the_hold_passes()
    assert (await request(engine, path))[FINISHED] == 1


async def test_a_head_request_carries_no_zero(engine: Engine, path: str) -> None:
    await request(engine, path, "HEAD")
    await the_hold_passes()

    assert (await request(engine, path))[FINISHED] == 0


async def test_one_who_went_away_got_no_zero(engine: Engine, path: str) -> None:
    await request(engine, path, gone=True)
    await the_hold_passes()

    assert (await request(engine, path))[FINISHED] == 0


async def test_a_scrape_that_nobody_gets_carries_no_zero(engine: Engine, path: str) -> None:
    await engine.scrape(5.0)
    await the_hold_passes()

    assert (await request(engine, path))[FINISHED] == 0


async def test_the_configured_buckets_are_used(engine: Engine, path: str) -> None:
    found = await request(engine, path)

    bounds = {(name, dict(labels)["le"]) for name, labels in found if name.endswith("_bucket")}
    assert bounds == {
        ("taskqueue_job_wait_seconds_bucket", "1.0"),
        ("taskqueue_job_wait_seconds_bucket", "+Inf"),
        ("taskqueue_job_run_seconds_bucket", "2.0"),
        ("taskqueue_job_run_seconds_bucket", "+Inf"),
    }
