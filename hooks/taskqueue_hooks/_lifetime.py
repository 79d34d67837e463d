"""From a worker's start to its end: who reports for it, kept in its context."""

from __future__ import annotations

from typing import Any, Mapping

from ._jobs import KEY
from ._options import Options
from ._reporter import Reporter
from ._worker import StandIn, find_worker


def start(ctx: dict[Any, Any], settings: Mapping[str, Any], options: Options) -> None:
    """Report for the worker that starts now, unless that is done already: a burst worker may run several times."""
    worker = find_worker(ctx) or StandIn(settings, ctx)
    others = [reporter for reporter in reporters_in(ctx) if not is_same(reporter.worker, worker)]
    same = [reporter for reporter in reporters_in(ctx) if is_same(reporter.worker, worker) and reporter.reports]
    if not same:
        same = [Reporter(worker, options)]
        same[0].start()
    # A list of several: workers of one process may share their context (arq copies no `ctx` that is not empty).
    ctx[KEY] = others + same


async def stop(ctx: dict[Any, Any]) -> None:
    """Say goodbye for the worker that ends now."""
    worker = find_worker(ctx)
    ending = [reporter for reporter in reporters_in(ctx) if worker is None or is_same(reporter.worker, worker)]
    ctx[KEY] = [reporter for reporter in reporters_in(ctx) if reporter not in ending]
    for reporter in ending:
        await reporter.stop()


def reporters_in(ctx: dict[Any, Any]) -> list[Reporter]:
    return list(ctx.get(KEY, ()))


def is_same(one: object, other: object) -> bool:
    """Whether both are one worker. Of workers that were not found there can be told no more than that."""
    return one is other or (isinstance(one, StandIn) and isinstance(other, StandIn))
