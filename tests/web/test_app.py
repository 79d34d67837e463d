"""Pages beside `/metrics`: health, readiness, reload, landing page; and the headers of all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from exporter.brokers.address import parse_address
from exporter.config import Broker, ConfigError
from exporter.engine import Engine
from exporter.web.app import create_app
from tests.canary import QUOTED, holds_canary
from tests.toys import Gate, Register, Run, broker, config, until


async def no_reload() -> None: ...


@asynccontextmanager
async def client_of(
    engine: Engine, reload: Callable[[], Awaitable[None]] = no_reload, telemetry_path: str = "/metrics"
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(engine, reload, telemetry_path=telemetry_path, max_requests=4)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://exporter") as client:
        yield client


async def test_healthy_whatever_the_brokers_do(run: Run, register: Register) -> None:
    register(gate=Gate())
    async with client_of(await run(config(broker(collectors=["gate"])))) as client:
        answer = await client.get("/-/healthy")

    assert answer.status_code == 200


async def test_ready_once_everything_was_looked_at(run: Run, register: Register) -> None:
    gate = Gate()
    register(gate=gate)
    engine = await run(config(broker(collectors=["gate"])))
    async with client_of(engine) as client:
        before = await client.get("/-/ready")
        gate.open.set()
        await until(engine.ready)
        after = await client.get("/-/ready")

    assert (before.status_code, after.status_code) == (503, 200)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_reload_is_for_post_alone(method: str, run: Run) -> None:
    async def reload() -> None:
        raise AssertionError

    async with client_of(await run(config()), reload) as client:
        answer = await client.request(method, "/-/reload")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


async def test_reload_tells_what_came_of_it(run: Run) -> None:
    errors = [ConfigError("config.yml: brokers: found 7, wanted a list"), None]

    async def reload() -> None:
        if (error := errors.pop(0)) is not None:
            raise error

    async with client_of(await run(config()), reload) as client:
        bad, good = await client.post("/-/reload"), await client.post("/-/reload")

    assert (bad.status_code, good.status_code) == (500, 200)
    assert bad.text == "configuration refused, the one before stays: config.yml: brokers: found 7, wanted a list\n"


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready", "/"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_pages_are_for_get_and_head_alone(path: str, method: str, run: Run) -> None:
    async with client_of(await run(config())) as client:
        assert (await client.request(method, path)).status_code == 405
        head = await client.head(path)

    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/-/healthy", "/-/ready", "/-/reload", "/nowhere", "/metrics?collect[]=x"]
)
async def test_every_answer_carries_the_security_headers(path: str, run: Run) -> None:
    async with client_of(await run(config())) as client:
        headers = (await client.get(path)).headers

    assert headers["content-security-policy"].startswith("default-src 'none';")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/nowhere", "/metrics/x", "/-/", "/-/reload/x", "/%00", "/..%2f"])
async def test_anything_else_is_404(path: str, run: Run) -> None:
    async with client_of(await run(config())) as client:
        assert (await client.get(path)).status_code == 404


async def test_the_landing_page_names_brokers_and_their_state(run: Run) -> None:
    engine = await run(config(broker("main"), broker("new")))
    engine.brokers["main"].up = False
    async with client_of(engine, telemetry_path="/m") as client:
        answer = await client.get("/")

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<td>main</td><td>redis://127.0.0.1:1/0</td><td>down</td>" in answer.text
    assert "<td>new</td><td>redis://127.0.0.1:1/0</td><td>not asked yet</td>" in answer.text
    assert '<a href="/m">' in answer.text


async def test_the_landing_page_escapes_and_shows_no_secret(run: Run) -> None:
    address = parse_address(f"redis://user:{QUOTED}@%3Cscript%3E.example:1/0?socket_timeout=0.1")
    engine = await run(config(Broker("<script>alert(1)</script>&\"'", address, {}, {})))
    async with client_of(engine) as client:
        text = (await client.get("/")).text

    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#x27;" in text
    assert not holds_canary(text)
    assert "user" not in text


async def test_the_landing_page_makes_room_for_metrics(run: Run) -> None:
    async with client_of(await run(config()), telemetry_path="/") as client:
        assert (await client.get("/")).text.startswith("# HELP")


async def test_an_error_of_ours_shows_nothing_of_itself(run: Run) -> None:
    async def reload() -> None:
        raise RuntimeError("cAnary")

    app = create_app(await run(config()), reload, telemetry_path="/metrics", max_requests=4)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://exporter") as client:
        answer = await client.post("/-/reload")

    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
