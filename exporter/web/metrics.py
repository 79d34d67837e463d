"""`/metrics` and `/probe`: deadline, filters, format; identical requests at the same time share one answer."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

from starlette.background import BackgroundTask
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from exporter.engine import ALL, Engine, Selection, known_collectors
from exporter.exposition import Format, Renderer, accepts_gzip, choose_format, expose
from exporter.safe.text import one_line

DEFAULT_TIMEOUT: Final = 10.0
"""Seconds, for who sends no X-Prometheus-Scrape-Timeout-Seconds: Prometheus's own default."""
MARGIN: Final = 0.5
"""Seconds kept back for rendering and the way to Prometheus."""
SHARE_WINDOW: Final = 0.1
"""Seconds after its begin in which an answer is shared: one who comes later would get older values than asked for."""

_Wanted = tuple[Format, bool, Selection, float]


@dataclass(frozen=True, slots=True)
class _Rendered:
    """The bytes of an answer. `sent()` is to be called when somebody got them."""

    body: bytes
    sent: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Shared:
    """An answer in the making."""

    began: float
    task: asyncio.Task[_Rendered]


class BadQuery(ValueError):
    """A query that names something unknown; the message is the answer, `status` its HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class MetricsEndpoint:
    """Answers scrapes. At most `max_requests` at a time; beyond, 503. Probes count by themselves: some dozen brokers
    that hang must not keep `/metrics` from answering."""

    def __init__(self, engine: Engine, max_requests: int) -> None:
        self._engine = engine
        self._renderer = Renderer()
        self._max_requests = max_requests
        self._requests = Counter[str]()
        self._shared: dict[_Wanted, _Shared] = {}

    async def metrics(self, request: Request) -> Response:
        """All brokers but those that are probed, the host, and ourselves."""
        return await self._limited(request, selection)

    async def probe(self, request: Request) -> Response:
        """One configured broker alone."""
        return await self._limited(request, self._selection_of_one)

    def _selection_of_one(self, query: QueryParams) -> Selection:
        return replace(selection(query), broker=broker_name(query, self._engine.brokers))

    async def _limited(self, request: Request, select: Callable[[QueryParams], Selection]) -> Response:
        if self._requests[request.url.path] >= self._max_requests:
            return PlainTextResponse(f"limit of {self._max_requests} concurrent requests reached\n", 503)
        self._requests[request.url.path] += 1
        try:
            return await self._respond(request, select(request.query_params))
        except BadQuery as error:
            return PlainTextResponse(f"{error}\n", error.status)
        finally:
            self._requests[request.url.path] -= 1

    async def _respond(self, request: Request, chosen: Selection) -> Response:
        form = choose_format(request.headers.get("accept", ""))
        gzip = accepts_gzip(request.headers.get("accept-encoding", ""))
        wanted = (form, gzip, chosen, deadline(request.headers))
        headers = {"content-type": form.content_type, "vary": "accept, accept-encoding"}
        if gzip:
            headers["content-encoding"] = "gzip"
        rendered = await self._share(wanted)

        async def sent() -> None:  # a plain function would be given a thread
            rendered.sent()

        somebody_gets_it = request.method == "GET" and not await request.is_disconnected()
        return Response(rendered.body, headers=headers, background=BackgroundTask(sent) if somebody_gets_it else None)

    async def _share(self, wanted: _Wanted) -> _Rendered:
        now = asyncio.get_running_loop().time()
        shared = self._shared.get(wanted)
        if shared is None or now - shared.began > SHARE_WINDOW:
            shared = self._begin(wanted, now)
        return await asyncio.shield(shared.task)  # one who goes away must not take the others' answer along

    def _begin(self, wanted: _Wanted, now: float) -> _Shared:
        shared = self._shared[wanted] = _Shared(now, asyncio.create_task(self._answer(*wanted)))
        shared.task.add_done_callback(lambda _: self._forget(wanted, shared))
        return shared

    def _forget(self, wanted: _Wanted, shared: _Shared) -> None:
        if self._shared.get(wanted) is shared:  # else a later answer has taken its place
            del self._shared[wanted]

    async def _answer(self, form: Format, gzip: bool, wanted: Selection, seconds: float) -> _Rendered:
        answer = await self._engine.scrape(seconds, wanted)
        return _Rendered(await expose(answer.families, self._renderer, form, gzip=gzip), answer.sent)


def deadline(headers: Headers) -> float:
    """Seconds that a scrape may take: Prometheus's timeout less a margin (half of it, where it is very short)."""
    try:
        timeout = float(headers.get("x-prometheus-scrape-timeout-seconds", ""))
    except ValueError:
        timeout = DEFAULT_TIMEOUT
    if not (math.isfinite(timeout) and 0 < timeout <= 3600):
        timeout = DEFAULT_TIMEOUT
    return max(timeout - MARGIN, timeout / 2)


def selection(query: QueryParams) -> Selection:
    """What `collect[]` and `exclude[]` choose, by node_exporter's rules: names must be known, and not both be given."""
    only, but = frozenset(query.getlist("collect[]")), frozenset(query.getlist("exclude[]"))
    if only and but:
        raise BadQuery("found collect[] and exclude[] together, wanted one of the two")
    if unknown := (only | but).difference(known_collectors()):
        names = ", ".join(sorted(known_collectors()))
        raise BadQuery(f"found the collector {one_line(min(unknown), 60)!r}, wanted one of {names}")
    return Selection(only, but) if only or but else ALL


def broker_name(query: QueryParams, known: Collection[str]) -> str:
    """The configured broker that `broker` names. Never a URL: nothing is connected to that is not in the configuration.

    Raises BadQuery: 400 unless exactly one is named, 404 if it is not configured.
    """
    names = query.getlist("broker")
    if len(names) != 1:
        raise BadQuery(f"found {len(names) or 'no'} broker, wanted ?broker=NAME of a configured one")
    if names[0] not in known:
        raise BadQuery("found a broker that is not configured, wanted the name of one that is", 404)
    return names[0]
