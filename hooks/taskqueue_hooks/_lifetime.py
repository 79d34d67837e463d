"""From a worker's start to its end: its functions are instrumented, and who reports for it is kept with it."""

from __future__ import annotations

import copy
from typing import Any

from ._guard import safely
from ._jobs import KEY, instrumented_coroutine, is_instrumented
from ._options import Options
from ._reporter import Reporter
from ._worker import find_worker


def start(ctx: dict[Any, Any], options: Options) -> None:
    """Report for the worker that starts now, unless that is done already: a burst worker may run several times.

    LookupError if the worker is not found: its jobs are as without us then.
    """
    worker = find_worker(ctx)
    reporter = reporter_of(worker)
    if reporter is not None and reporter.reports:
        reporter.follow()
        return
    reporter = Reporter(worker, options)
    # All that arq runs it looks up there (arq/worker.py, run_job): whatever the settings were, however it was made.
    worker.functions = {name: safely(instrumented, job, worker) or job for name, job in worker.functions.items()}
    setattr(worker, KEY, reporter)
    reporter.start()


async def stop(ctx: dict[Any, Any]) -> None:
    """Say goodbye for the worker that ends now."""
    worker = find_worker(ctx)
    reporter = reporter_of(worker)
    if reporter is not None:
        delattr(worker, KEY)
        await reporter.stop()


def reporter_of(worker: Any) -> Reporter | None:
    found: Reporter | None = getattr(worker, KEY, None)
    return found


def instrumented(job: Any, worker: Any) -> Any:
    """A copy of one of the worker's arq Functions and CronJobs, so that its attempts are seen."""
    if is_instrumented(job.coroutine, worker):
        return job
    copied = copy.copy(job)
    copied.coroutine = instrumented_coroutine(job, worker)
    return copied
