"""The ASGI application: routes, and the headers that every answer carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.config import ConfigError
from exporter.engine import Engine
from exporter.web.discovery import PROBE_PATH, SD_PATH, BadHost, targets
from exporter.web.landing import landing_page
from exporter.web.metrics import MetricsEndpoint

Reload = Callable[[], Awaitable[None]]
"""Loads the configuration again. Raises ConfigError where it is bad, and leaves the one before."""

OTHER_PATHS: Final = (PROBE_PATH, SD_PATH)
"""What the telemetry path cannot be."""

_HEADERS: Final = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def create_app(engine: Engine, reload: Reload, *, telemetry_path: str, max_requests: int) -> Starlette:
    """The application that serves `engine`."""
    pages = _Pages(engine, reload, telemetry_path)
    scrapes = MetricsEndpoint(engine, max_requests)
    routes = [
        Route(telemetry_path, scrapes.metrics),
        Route(PROBE_PATH, scrapes.probe),
        Route(SD_PATH, pages.discovery),
        Route("/-/healthy", pages.healthy),
        Route("/-/ready", pages.ready),
        Route("/-/reload", pages.reload, methods=["POST"]),
        Route("/", pages.landing),  # last: the telemetry path may be `/`
    ]
    return Starlette(routes=routes, middleware=[Middleware(_SecurityHeaders)])


class _Pages:
    """All that is no scrape."""

    def __init__(self, engine: Engine, reload: Reload, telemetry_path: str) -> None:
        self._engine = engine
        self._reload = reload
        self._telemetry_path = telemetry_path

    async def healthy(self, _: Request) -> Response:
        return PlainTextResponse("taskqueue-exporter is healthy\n")

    async def ready(self, _: Request) -> Response:
        if self._engine.ready():
            return PlainTextResponse("taskqueue-exporter is ready\n")
        return PlainTextResponse("the first collection has not ended\n", 503)

    async def reload(self, _: Request) -> Response:
        try:
            await self._reload()
        except ConfigError as error:
            return PlainTextResponse(f"configuration refused, the one before stays: {error}\n", 500)
        return PlainTextResponse("configuration loaded\n")

    async def discovery(self, request: Request) -> Response:
        try:
            return JSONResponse(targets(self._engine.config.brokers, request.headers.get("host", "")))
        except BadHost as error:
            return PlainTextResponse(f"{error}\n", 400)

    async def landing(self, _: Request) -> Response:
        return HTMLResponse(landing_page(self._engine, self._telemetry_path))


class _SecurityHeaders:
    """Adds the headers that keep a browser from doing anything with what lies in a queue's name."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)
