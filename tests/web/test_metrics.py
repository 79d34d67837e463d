"""`/metrics`: format, filters, deadline, the limit, and answers that are shared."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric
from starlette.datastructures import Headers, QueryParams

from exporter.engine import ALL, Engine, Selection, known_collectors
from exporter.exposition import OPENMETRICS, TEXT, Format, Renderer, expose
from exporter.web.app import create_app
from exporter.web.metrics import DEFAULT_TIMEOUT, BadQuery, deadline, selection
from tests.toys import Gate, Register, Run, broker, config, one_queue, until

TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"


async def no_reload() -> None: ...


@asynccontextmanager
async def client_of(engine: Engine, max_requests: int = 40) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(engine, no_reload, telemetry_path="/metrics", max_requests=max_requests)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://exporter") as client:
        yield client


# -- deadline ---------------------------------------------------------------------------------------------------


def of_header(value: str) -> float:
    return deadline(Headers({TIMEOUT: value}))


@given(timeout=st.floats(1e-3, 3600))
def test_the_deadline_is_always_before_prometheus_gives_up(timeout: float) -> None:
    assert 0 < of_header(str(timeout)) < timeout


@given(timeout=st.floats(1, 3600))
def test_half_a_second_is_kept_back(timeout: float) -> None:
    assert of_header(str(timeout)) == pytest.approx(timeout - 0.5)


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf", "-inf", "-1", "0", "1e9", "10 s", "1,5", "0x10"])
def test_nonsense_is_the_default(value: str) -> None:
    assert of_header(value) == deadline(Headers()) == DEFAULT_TIMEOUT - 0.5


@given(value=st.text(st.characters(codec="latin-1")))
def test_any_header_gives_a_deadline(value: str) -> None:
    assert 0 <= of_header(value) < 3600


async def test_the_header_bounds_a_scrape(run: Run, register: Register) -> None:
    register(gate=Gate())
    async with client_of(await run(config(broker(collectors=["gate"])))) as client:
        async with asyncio.timeout(5):
            answer = await client.get("/metrics", headers={TIMEOUT: "0.2"})

    assert answer.status_code == 200
    assert 'taskqueue_collector_success{broker="main",collector="gate"} 0.0' in answer.text


# -- filters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ("", ALL),
        ("name[]=host", ALL),
        ("collect[]=host", Selection(only=frozenset({"host"}))),
        ("collect[]=host&collect[]=arq&collect[]=host", Selection(only=frozenset({"host", "arq"}))),
        ("exclude[]=host", Selection(but=frozenset({"host"}))),
        ("collect%5B%5D=redis_info", Selection(only=frozenset({"redis_info"}))),
    ],
)
def test_selection(query: str, chosen: Selection) -> None:
    assert selection(QueryParams(query)) == chosen


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("collect[]=cpu", "found the collector 'cpu', wanted one of arq, celery, cgroup, filesystem"),
        ("exclude[]=cpu", "found the collector 'cpu', wanted one of"),
        ("collect[]=", "found the collector '', wanted one of"),
        ("collect[]=host&exclude[]=arq", "found collect[] and exclude[] together, wanted one of the two"),
        ("collect[]=%0a%1b[31m<script>", r"found the collector '\\n\\x1b[31m<script>', wanted one of"),
        ("collect[]=" + "x" * 10_000, "found the collector 'xxxx"),
    ],
)
async def test_a_bad_filter_is_a_400_of_one_line(query: str, error: str, run: Run) -> None:
    with pytest.raises(BadQuery):
        selection(QueryParams(query))
    async with client_of(await run(config())) as client:
        answer = await client.get(f"/metrics?{query}")

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.startswith(error)
    assert answer.text.endswith("\n")
    assert answer.text[:-1].isprintable()
    assert len(answer.text) < 300


@given(only=st.sets(st.sampled_from(sorted(known_collectors()))), but=st.booleans())
def test_collect_and_exclude_are_each_others_complement(only: set[str], but: bool) -> None:
    key = "exclude[]" if but else "collect[]"
    chosen = selection(QueryParams([(key, name) for name in only]))

    assert {name for name in known_collectors() if name in chosen} == (
        set(known_collectors()) - only if but or not only else only
    )


# -- format -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "content_type"), [("application/openmetrics-text", OPENMETRICS.content_type), ("*/*", TEXT.content_type)]
)
async def test_the_format_is_negotiated(accept: str, content_type: str, run: Run) -> None:
    async with client_of(await run(config())) as client:
        answer = await client.get("/metrics", headers={"accept": accept, "accept-encoding": "identity"})

    assert answer.headers["content-type"] == content_type
    assert answer.headers["vary"] == "accept, accept-encoding"
    assert "content-encoding" not in answer.headers
    assert answer.text.endswith("# EOF\n") is (content_type == OPENMETRICS.content_type)


async def test_gzip_is_negotiated(run: Run) -> None:
    async with (
        client_of(await run(config())) as client,
        client.stream("GET", "/metrics", headers={"accept-encoding": "gzip"}) as answer,
    ):
        packed = b"".join([part async for part in answer.aiter_raw()])

    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) == len(packed)
    assert gzip.decompress(packed).startswith(b"# HELP ")


# -- many at a time ---------------------------------------------------------------------------------------------


@pytest.fixture
def renderings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was rendered, one entry for each rendering."""
    done: list[object] = []

    async def counted(families: list[Metric], renderer: Renderer, form: Format, *, gzip: bool) -> bytes:
        done.append(form)
        return await expose(families, renderer, form, gzip=gzip)

    monkeypatch.setattr("exporter.web.metrics.expose", counted)
    return done


async def test_identical_requests_share_one_rendering(run: Run, register: Register, renderings: list[object]) -> None:
    gate = Gate()
    register(gate=gate)
    async with client_of(await run(config(broker(collectors=["gate"])))) as client:
        same = [asyncio.create_task(client.get("/metrics")) for _ in range(10)]
        other = asyncio.create_task(client.get("/metrics", headers={"accept": "application/openmetrics-text"}))
        await until(lambda: gate.runs)
        gate.open.set()
        bodies = [answer.content for answer in await asyncio.gather(*same)]
        different = await other

    assert len(set(bodies)) == 1
    assert different.content not in bodies
    assert len(renderings) == 2
    assert gate.runs == 1


async def test_a_later_request_gets_newer_values_and_its_own_deadline(
    run: Run, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.web.metrics.SHARE_WINDOW", 0.0)
    hangs, quick = Gate(), Gate()
    quick.open.set()
    register(hangs=hangs, quick=quick)
    brokers = broker("down", collectors=["hangs"]), broker("up", collectors=["quick"])
    async with client_of(await run(config(*brokers))) as client:
        await until(lambda: quick.ended == 1)  # the run at the start
        await asyncio.sleep(0.05)
        first = asyncio.create_task(client.get("/metrics", headers={TIMEOUT: "1"}))
        await until(lambda: quick.ended == 2)
        await asyncio.sleep(0.3)
        second = asyncio.create_task(client.get("/metrics", headers={TIMEOUT: "1"}))
        earlier = await first
        hangs.open.set()  # after the first one's deadline, before the second one's
        later = await second

    assert 'taskqueue_toy_value{broker="up",name="a"} 2.0' in earlier.text
    assert 'taskqueue_toy_value{broker="up",name="a"} 3.0' in later.text
    assert 'taskqueue_collector_success{broker="down",collector="hangs"} 0.0' in earlier.text
    assert 'taskqueue_collector_success{broker="down",collector="hangs"} 1.0' in later.text
    assert hangs.runs == 1


async def test_an_answer_that_ends_leaves_a_later_one_to_be_shared(
    run: Run, register: Register, monkeypatch: pytest.MonkeyPatch, renderings: list[object]
) -> None:
    gate = Gate()
    register(gate=gate)
    headers = {TIMEOUT: "1"}
    async with client_of(await run(config(broker(collectors=["gate"])))) as client:
        monkeypatch.setattr("exporter.web.metrics.SHARE_WINDOW", 0.0)
        first = asyncio.create_task(client.get("/metrics", headers=headers))
        await asyncio.sleep(0.3)
        second = asyncio.create_task(client.get("/metrics", headers=headers))
        await asyncio.sleep(0.05)
        monkeypatch.setattr("exporter.web.metrics.SHARE_WINDOW", 60.0)
        await first
        third = asyncio.create_task(client.get("/metrics", headers=headers))
        bodies = [answer.content for answer in await asyncio.gather(second, third)]

    assert len(set(bodies)) == 1
    assert len(renderings) == 2


async def test_one_who_goes_away_does_not_take_the_answer_along(
    run: Run, register: Register, renderings: list[object]
) -> None:
    gate = Gate()
    register(gate=gate)
    async with client_of(await run(config(broker(collectors=["gate"])))) as client:
        leaves, stays = (asyncio.create_task(client.get("/metrics")) for _ in range(2))
        await until(lambda: gate.runs)
        leaves.cancel()
        await asyncio.wait([leaves])
        gate.open.set()
        answer = await stays

    assert leaves.cancelled()
    assert 'taskqueue_collector_success{broker="main",collector="gate"} 1.0' in answer.text
    assert len(renderings) == 1


async def test_probes_that_hang_do_not_keep_metrics_from_answering(run: Run, register: Register) -> None:
    gate = Gate()
    register(gate=gate)
    engine = await run(config(broker("far", collectors=["gate"], probe=True), broker("main")))
    async with client_of(engine, max_requests=2) as client:
        waiting = [asyncio.create_task(client.get("/probe?broker=far")) for _ in range(2)]
        await until(lambda: gate.runs)
        refused = await client.get("/probe?broker=far")
        metrics = await client.get("/metrics")
        gate.open.set()
        answers = await asyncio.gather(*waiting)

    assert (refused.status_code, metrics.status_code) == (503, 200)
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_beyond_the_limit_is_503_and_only_then(run: Run, register: Register) -> None:
    gate = Gate()
    register(gate=gate)
    async with client_of(await run(config(broker(collectors=["gate"]))), max_requests=2) as client:
        waiting = [asyncio.create_task(client.get("/metrics")) for _ in range(2)]
        await until(lambda: gate.runs)
        refused = await client.get("/metrics")
        healthy = await client.get("/-/healthy")
        gate.open.set()
        answers = await asyncio.gather(*waiting)
        after = await client.get("/metrics")

    assert (refused.status_code, refused.text) == (503, "limit of 2 concurrent requests reached\n")
    assert [answer.status_code for answer in (healthy, *answers, after)] == [200] * 4


async def test_requests_that_end_badly_give_their_place_back(run: Run, register: Register) -> None:
    register(toy=one_queue)
    async with client_of(await run(config(broker(systems=["toy"]))), max_requests=1) as client:
        for _ in range(3):
            assert (await client.get("/metrics?collect[]=bogus")).status_code == 400
        assert (await client.get("/metrics")).status_code == 200
