"""How an attempt ended, as `Worker.run_job` (arq/worker.py) decides it."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

SUCCEEDED, FAILED, ABORTED, RETRIED = "succeeded", "failed", "aborted", "retried"

TIMED_OUT = (FAILED, "TimeoutError")

CLOCK_SLACK = 0.01
"""By how much a timer may be early: uvloop counts in whole milliseconds, Windows in ticks of 16."""

STOP_IS_FINAL = sys.version_info < (3, 12)
"""Whether asyncio.wait_for, when it is cancelled, drops what the job still returned or raised."""

TIMEOUT_IS_FINAL = sys.version_info < (3, 9)
"""Whether it does so as well when its time-out comes while the job awaits something."""

TIMEOUT_COUNTS = sys.version_info >= (3, 12)
"""Whether the time-out of asyncio.wait_for cancels the task that awaits it, as a stop does."""


def outcome_of(
    error: BaseException | None, worker: Any, job: str, elapsed: float, timeout: float | None
) -> tuple[str, str]:
    """The outcome of an attempt that returned (`error` is None) or raised, and the class of the failure, if it is one.

    `timeout` is that of the attempt in seconds, None if it has none.
    """
    late = timeout is not None and elapsed >= timeout - CLOCK_SLACK
    stop = stopped(worker, job, late)
    if stop and STOP_IS_FINAL:
        error = asyncio.CancelledError()
    if error is None:
        return SUCCEEDED, ""
    if isinstance(error, asyncio.CancelledError):
        return cancelled(worker, job, late and not stop and not aborted_before(worker, job, elapsed, timeout))
    if worker.retry_jobs and isinstance(error, retries()):
        return RETRIED, ""
    return FAILED, type(error).__name__


def cancelled(worker: Any, job: str, timed_out: bool) -> tuple[str, str]:
    """The outcome of an attempt that was cancelled, or that raised CancelledError of its own accord."""
    if timed_out:
        return TIMED_OUT
    if job in worker.aborting_tasks or not worker.retry_jobs:
        return ABORTED, ""
    return RETRIED, ""


def aborted_before(worker: Any, job: str, elapsed: float, timeout: float | None) -> bool:
    """Whether the job was aborted just before its time-out."""
    return timeout is not None and elapsed < timeout and job in worker.aborting_tasks


def stopped(worker: Any, job: str, late: bool) -> bool:
    """Whether the worker stopped: it cancelled `run_job`, which awaits the attempt, and by that the attempt.

    Called in the attempt's own task. Python 3.11 is the first that can tell.
    """
    return cancellations(asyncio.current_task()) > 0 and cancellations(worker.tasks.get(job)) > (
        late and TIMEOUT_COUNTS
    )


def cancellations(task: Any) -> int:
    """How often a task was asked to end and has not refused; 0 where that cannot be known."""
    return int(task.cancelling()) if hasattr(task, "cancelling") else 0


def retries() -> tuple[type[BaseException], ...]:
    """The exceptions by which a job asks to be run again."""
    from arq.worker import Retry, RetryJob

    return Retry, RetryJob


def is_kept(outcome: str, function: Any, worker: Any) -> bool:
    """Whether arq keeps a result of an attempt that ended so: by the function's settings, else by the worker's."""
    if outcome == RETRIED:
        return False
    forever = worker.keep_result_forever if function.keep_result_forever is None else function.keep_result_forever
    kept_s = worker.keep_result_s if function.keep_result_s is None else function.keep_result_s
    return bool(forever or (kept_s or 0) > 0)
