"""What attempts of ARQ jobs do, by plan, and record of it.

A job's plan is a list of acts, one for each attempt; the last one stands for all further attempts. For workers of every
version of arq: nothing else that is installed is imported, but for what the record needs.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from typing import Any

from arq import ArqRedis, Retry
from arq.constants import abort_jobs_ss
from arq.worker import Worker

from tests.e2e.truth_record import FAILURES, UNKNOWN, recorder

RUN = 0.2
"""How long an attempt runs on average. They differ, so that a worker does not start all its jobs in one turn of its
loop: what waits there for its turn runs by the worker's clock, but not by the job's own."""
SURELY_RAN = 1.0
"""Only after this time arq's result of an aborted job shows that it ran, and was not aborted before it could start."""
TIMEOUT = 2.5
"""Of a job, for its worker."""
LONG = "x" * 100_000
"""More than the exporter reads of a result."""

_record = recorder()


async def perform(ctx: dict[str, Any], plan: list[str], life: str | None = None) -> object:
    """One attempt: does what its plan says. It is recorded as that of `life`, where the job's id is used again."""
    life, act = life or ctx["job_id"], plan[min(ctx["job_try"], len(plan)) - 1]
    _record.started(life)
    try:
        await asyncio.sleep(RUN * (0.5 + zlib.crc32(life.encode()) / 2**32))
        result = await _act(act, ctx)
    except Retry:
        _record.ended(life, "retried")
        raise
    except asyncio.CancelledError:
        _record.ended(life, "aborted" if _aborted(ctx["job_id"]) else "failed/TimeoutError")
        raise
    except Exception as error:
        _record.ended(life, f"failed/{type(error).__name__}")
        raise
    # arq says of a result that cannot be pickled that the job failed, and not how.
    _record.ended(life, f"failed/{UNKNOWN}" if callable(result) else "succeeded")
    return result


async def _act(act: str, ctx: dict[str, Any]) -> object:
    name, _, detail = act.partition(" ")
    if name == "fail":
        raise ValueError(LONG) if detail == "long" else FAILURES[detail]()
    if name == "retry":
        raise Retry(defer=float(detail) if detail else None)
    if name == "abort":
        await asyncio.sleep(SURELY_RAN)
        await ask_for_abort(ctx["redis"], ctx["job_id"])
    if name in ("abort", "hang"):
        await asyncio.sleep(60)
    return {"long": LONG, "unpicklable": lambda: None}.get(name, f"done as planned: {act}")


def _aborted(job_id: str) -> bool:
    """Whether this job is cancelled because its worker was asked to, and not because its time is up: on a busy machine
    that may come first. Only the worker knows, and it gives itself to no job."""
    frames = [getattr(task.get_coro(), "cr_frame", None) for task in asyncio.all_tasks()]
    workers = [frame.f_locals.get("self") for frame in frames if frame is not None]
    return any(job_id in worker.aborting_tasks for worker in workers if isinstance(worker, Worker))


async def ask_for_abort(pool: ArqRedis, job_id: str) -> None:
    """Asks for an abort as `Job.abort` does, which would wait for it."""
    await pool.zadd(abort_jobs_ss, {job_id: int(time.time() * 1000)})
