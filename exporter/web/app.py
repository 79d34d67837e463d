"""The ASGI application: routes, and the headers that every answer carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.config import ConfigError
from exporter.engine import Engine
from exporter.web.landing import landing_page
from exporter.web.metrics import MetricsEndpoint

Reload = Callable[[], Awaitable[None]]
"""Loads the configuration again. Raises ConfigError where it is bad, and leaves the one before."""

_HEADERS: Final = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def create_app(engine: Engine, reload: Reload, *, telemetry_path: str, max_requests: int) -> Starlette:
    """The application that serves `engine`."""

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("taskqueue-exporter is healthy\n")

    async def ready(_: Request) -> Response:
        if engine.ready():
            return PlainTextResponse("taskqueue-exporter is ready\n")
        return PlainTextResponse("the first collection has not ended\n", 503)

    async def reload_now(_: Request) -> Response:
        try:
            await reload()
        except ConfigError as error:
            return PlainTextResponse(f"configuration refused, the one before stays: {error}\n", 500)
        return PlainTextResponse("configuration loaded\n")

    async def landing(_: Request) -> Response:
        return HTMLResponse(landing_page(engine, telemetry_path))

    routes = [
        Route(telemetry_path, MetricsEndpoint(engine, max_requests).__call__),
        Route("/-/healthy", healthy),
        Route("/-/ready", ready),
        Route("/-/reload", reload_now, methods=["POST"]),
        Route("/", landing),  # last: the telemetry path may be `/`
    ]
    return Starlette(routes=routes, middleware=[Middleware(_SecurityHeaders)])


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
