"""The wrapper round the coroutine of a function or a cron job, and the attempts that it sees."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from numbers import Real
from typing import TYPE_CHECKING, Any, Awaitable, Callable

from ._guard import safely
from ._outcome import is_kept, outcome_of
from ._records import JOB_LENGTH, MESSAGE_LENGTH, TASK_LENGTH, Progress, Running

if TYPE_CHECKING:
    from ._reporter import Reporter

KEY = "_taskqueue_hooks"
"""In the context of a worker the list of its reporters, in that of a job its attempt."""

MARK = "__taskqueue_hooks__"
"""The attribute that tells what is instrumented already."""


class Attempt:
    """One run of a job's coroutine. `start` is Unix time, `_begun` is by the clock that time-outs go by."""

    __slots__ = ("_begun", "_function", "_reporter", "attempt", "due", "job", "progress", "start")

    def __init__(self, reporter: Reporter, function: Any, ctx: dict[Any, Any]) -> None:
        self._reporter = reporter
        self._function = function
        self.job: str = ctx["job_id"][:JOB_LENGTH]
        self.attempt: int = ctx["job_try"]
        self.due: float = ctx["score"] / 1000
        self.progress: Progress | None = None
        self.start = time.time()
        self._begun = time.monotonic()

    def begin(self) -> None:
        """It runs now."""
        self._reporter.running[self] = None

    def end(self, error: BaseException | None) -> None:
        """It returned (`error` is None) or raised. What ends the whole process ends no job: arq counts none either."""
        elapsed = time.monotonic() - self._begun
        self._reporter.running.pop(self, None)
        if error is None or isinstance(error, (Exception, asyncio.CancelledError)):
            worker, function = self._reporter.worker, self._function
            timeout = worker.job_timeout_s if function.timeout_s is None else function.timeout_s
            outcome, exception = outcome_of(error, worker, self.job, elapsed, timeout)
            self._reporter.ended(self, outcome, exception, is_kept(outcome, function, worker))

    @property
    def task(self) -> str:
        name: str = self._function.name[:TASK_LENGTH]  # which is plain text also of a name that is a member of an enum
        return name

    def running(self) -> Running:
        return Running(self.job, self.task, self.attempt, self.start, self.progress)


def instrumented_coroutine(function: Any) -> Callable[..., Awaitable[Any]]:
    """The coroutine function of an arq Function or CronJob, so that its attempts are seen.

    A plain function, not a coroutine function: arq calls it before it sets the time-out's timer, so an attempt that was
    cancelled has timed out exactly if it ran as long as its time-out.
    """
    coroutine = function.coroutine

    @functools.wraps(coroutine)
    def call(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        attempt = safely(attempt_of, function, ctx)
        return coroutine(ctx, *args, **kwargs) if attempt is None else run(attempt, ctx, args, kwargs)

    async def run(attempt: Attempt, ctx: Any, args: Any, kwargs: Any) -> Any:
        safely(attempt.begin)
        try:
            result = await coroutine(ctx, *args, **kwargs)
        except BaseException as error:
            safely(attempt.end, error)
            raise
        safely(attempt.end, None)
        return result

    setattr(call, MARK, True)
    return call


def attempt_of(function: Any, ctx: Any) -> Attempt | None:
    """The attempt that starts now; None where no instrumented worker calls, or a job calls another's coroutine."""
    reporters = ctx.get(KEY) if isinstance(ctx, dict) else None
    if type(reporters) is not list:
        return None
    reporter = reporters[0] if len(reporters) == 1 else caller(reporters, ctx["job_id"])
    if reporter is None:
        return None
    attempt = ctx[KEY] = Attempt(reporter, function, ctx)
    return attempt


def caller(reporters: list[Reporter], job: str) -> Reporter | None:
    """That of several workers, which share one context, whose `run_job` calls."""
    task = asyncio.current_task()
    return next((reporter for reporter in reporters if reporter.worker.tasks.get(job) is task), None)


def report(ctx: Any, done: Any, total: Any, message: Any) -> None:
    """Note how far a job is; without an instrumented worker, or with numbers that are none, do nothing."""
    attempt = ctx.get(KEY) if isinstance(ctx, dict) else None
    if isinstance(attempt, Attempt) and is_finite(done) and (total is None or is_finite(total)):
        total = None if total is None else float(total)
        attempt.progress = Progress(float(done), total, str(message)[:MESSAGE_LENGTH], time.time())


def is_finite(number: Any) -> bool:
    """A real number that a float can hold, and not `True` or `False`."""
    if isinstance(number, bool) or not isinstance(number, Real):
        return False
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
