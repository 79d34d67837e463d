"""The wrapper round the coroutine of a function or a cron job, and the attempts that it sees."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from numbers import Real
from typing import TYPE_CHECKING, Any, Awaitable, Callable

from ._guard import safely
from ._outcome import TIMED_OUT, TIMEOUT_IS_FINAL, is_kept, outcome_of
from ._records import MESSAGE_LENGTH, TASK_LENGTH, Progress, Running

if TYPE_CHECKING:
    from ._reporter import Reporter

KEY = "_taskqueue_hooks"
"""The attribute of a worker that is its reporter, and the entry of a job's context that is its attempt."""

MARK = "__taskqueue_hooks__"
"""The attribute that tells what is instrumented already: True of a hook, the worker of a job's coroutine."""


class Attempt:
    """One run of a job's coroutine. `start` is Unix time, `_begun` is by the clock that time-outs go by."""

    __slots__ = ("_alarm", "_begun", "_function", "_overran", "_reporter", "attempt", "due", "job", "progress", "start")

    def __init__(self, reporter: Reporter, function: Any, ctx: dict[Any, Any]) -> None:
        self._reporter = reporter
        self._function = function
        self.job: str = ctx["job_id"]
        self.attempt: int = ctx["job_try"]
        self.due: float = ctx["score"] / 1000
        self.progress: Progress | None = None
        self.start = time.time()
        self._begun = time.monotonic()
        self._alarm: asyncio.TimerHandle | None = None
        self._overran = False

    def begin(self) -> None:
        """It runs now."""
        self._reporter.running[self] = None
        timeout = self._timeout
        if TIMEOUT_IS_FINAL and timeout is not None:
            # Whether the loop saw the time-out come: a job that only holds up the loop past it may still succeed.
            self._alarm = asyncio.get_running_loop().call_later(timeout - self._elapsed(), self._overrun)

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    def _overrun(self) -> None:
        self._overran = True

    @property
    def _timeout(self) -> float | None:
        """In seconds: the function's, else the worker's."""
        own, workers = self._function.timeout_s, self._reporter.worker.job_timeout_s
        timeout: float | None = workers if own is None else own
        return timeout

    def end(self, error: BaseException | None) -> None:
        """It returned (`error` is None) or raised. What ends the whole process ends no job: arq counts none either."""
        elapsed = self._elapsed()
        self._reporter.running.pop(self, None)
        if self._alarm is not None:
            self._alarm.cancel()
        if error is None or isinstance(error, (Exception, asyncio.CancelledError)):
            worker = self._reporter.worker
            ended = TIMED_OUT if self._overran else outcome_of(error, worker, self.job, elapsed, self._timeout)
            self._reporter.ended(self, *ended, is_kept(ended[0], self._function, worker))

    @property
    def task(self) -> str:
        name: str = self._function.name[:TASK_LENGTH]  # which is plain text also of a name that is a member of an enum
        return name

    def running(self) -> Running:
        return Running(self.job, self.task, self.attempt, self.start, self.progress)


def instrumented_coroutine(function: Any, worker: Any) -> Callable[..., Awaitable[Any]]:
    """The coroutine function of an arq Function or CronJob, so that its attempts by this worker are seen.

    A plain function, not a coroutine function: arq calls it before it sets the time-out's timer, so an attempt that was
    cancelled has timed out exactly if it ran as long as its time-out.
    """
    coroutine = function.coroutine

    @functools.wraps(coroutine)
    def call(ctx: Any, /, *args: Any, **kwargs: Any) -> Any:  # a job may have an argument named `ctx` or `self`
        attempt = safely(attempt_of, function, worker, ctx)
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

    setattr(call, MARK, worker)
    return call


def is_instrumented(coroutine: object, worker: object) -> bool:
    return getattr(coroutine, MARK, None) is worker


def attempt_of(function: Any, worker: Any, ctx: Any) -> Attempt | None:
    """The attempt that starts now; None where the worker does not report, or a job calls another's coroutine."""
    reporter = getattr(worker, KEY, None)
    if reporter is None or KEY in ctx:
        return None
    attempt = ctx[KEY] = Attempt(reporter, function, ctx)
    return attempt


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
