"""A Celery application in which tasks end in every way there is, for workers of every pool.

Runs under every version of Celery: it imports msgspec, and nothing else that is installed. A worker learns from the
environment which Redis is its broker and its result backend, and where it records what happens.

A task's plan is a list of acts, one for each of its runs, whatever brought them about (a retry, a message given back, a
redelivery); the last one stands for all further runs. What a function cannot tell, as nothing of it is left, it records
before it happens.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import celery
from celery.events.dispatcher import EventDispatcher
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from tests.e2e.truth_record import FAILURES, RECORD, recorder

URL = "E2E_ENDINGS_URL"
"""The environment variable that says in which Redis."""
ZONE = "E2E_ENDINGS_ZONE"
"""That of the time zone of an application that does not use UTC."""
SERIALIZER = "E2E_ENDINGS_SERIALIZER"
"""That of the format of a worker's events."""
DEFAULT, LETTERS = "default", "letters"
DOOMED, CLOSING, FREEZING, ABROAD = "doomed", "closing", "freezing", "abroad"
"""Queues whose workers are killed, shut down warm, shut down cold, and live in another time zone."""
VISIBILITY_TIMEOUT = 3
"""Seconds; nothing below is held longer without being acknowledged, but for what is to be redelivered."""
MAX_RETRIES = 2
RUN = 0.05
LINGER = 60.0
OPTIONS: dict[str, dict[str, Any]] = {
    "shop.deliver": {},
    "shop.forget": {"ignore_result": True},
    "shop.charge": {"acks_late": True},
    "shop.strict": {"acks_late": True, "acks_on_failure_or_timeout": False},
    "shop.sturdy": {"acks_late": True, "reject_on_worker_lost": True},
    "shop.synchronize": {
        "autoretry_for": (ConnectionError,),
        "retry_backoff": 1,
        "retry_backoff_max": 1,
        "retry_jitter": True,
    },
}
"""The tasks, by what is special about them."""
STRANGER = "shop.nobody_knows"
"""A task that no worker has."""
SINCE_55 = celery.VERSION >= (5, 5)
"""From then on a task that is acknowledged late runs again where its worker was shut down cold, and, if the task says
so, where it exceeded its time limit."""
UNTOLD = frozenset({"ignored", "replaced", "killed"})
"""Ends that Celery tells nobody: with what is in this record alone, a job has started and has not ended."""

_record = recorder()


def make_app(url: str, serializer: str) -> Any:
    """The application, as producers and workers have it."""
    app = celery.Celery("shop", broker=url, backend=url, set_as_current=False)
    app.conf.update(task_send_sent_event=True, worker_send_task_events=True, task_default_queue=DEFAULT)
    app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=4)
    app.conf.broker_transport_options = {"visibility_timeout": VISIBILITY_TIMEOUT}
    app.conf.event_serializer = serializer
    app.conf.accept_content = ["json", "msgpack"]
    if ZONE in os.environ:
        app.conf.update(timezone=os.environ[ZONE], enable_utc=False)
    for name, options in OPTIONS.items():
        app.task(perform, name=name, bind=True, max_retries=MAX_RETRIES, **options)
    return app


def mend_threads() -> None:
    """Let the threads of a worker older than 5.7 lose none of their own events: what one adds to the buffer while
    another's is written to the socket is thrown away with that. Of 300 tasks, 50 starts never reach Redis."""

    def flush(self: Any, errors: bool = True, groups: bool = True) -> None:
        with self.mutex:
            for group, events in self._group_buffer.items():
                batch = list(events)
                self._publish(batch, self.producer, f"{group}.multi")
                del events[: len(batch)]

    EventDispatcher.flush = flush


# -- acts -------------------------------------------------------------------------------------------------------


def perform(self: Any, life: str, plan: list[str]) -> str:
    """One run: does what its plan says. It is recorded as that of `life`: a replaced task's id is used again."""
    act, _, detail = plan[min(_runs(life), len(plan)) - 1].partition(" ")
    if act in ("linger", "vanish"):  # whoever sees that it started may end it at once
        _record.ended(life, detail)
    if act != "vanish":
        _record.started(life)
    time.sleep(RUN)
    how = ACTS[act](self, life, detail)
    _record.ended(life, how)
    return "done as planned"


def _runs(life: str) -> int:
    """Which run of its life this is: 1, 2, ..."""
    number = 1
    while True:
        try:
            os.close(os.open(f"{os.environ[RECORD]}.{life}.{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            number += 1
        else:
            return number


def _raising(life: str, how: str, error: BaseException) -> BaseException:
    _record.ended(life, how)
    return error


def _fail(self: Any, life: str, detail: str) -> str:
    raise _raising(life, f"failed/{detail}", FAILURES[detail]())


def _retry(self: Any, life: str, detail: str) -> str:
    raise self.retry(countdown=float(detail), exc=_raising(life, "retried", ValueError("once more")))


def _exhaust(self: Any, life: str, detail: str) -> str:
    """Once the retries are used up Celery raises what it is given, or an exception of its own."""
    error = FAILURES[detail]() if detail else None
    last = f"failed/{detail or 'MaxRetriesExceededError'}"
    _record.ended(life, "retried" if self.request.retries < MAX_RETRIES else last)
    raise self.retry(countdown=0, exc=error)


def _disconnect(self: Any, life: str, detail: str) -> str:
    """Retried by Celery itself, as the task's options say."""
    how = "retried" if self.request.retries < MAX_RETRIES else "failed/ConnectionError"
    raise _raising(life, how, ConnectionError("not reachable"))


def _ignore(self: Any, life: str, detail: str) -> str:
    raise _raising(life, "ignored", Ignore())


def _reject(self: Any, life: str, detail: str) -> str:
    """Of a message that was acknowledged early, only Celery 5.7 says so: it tells of a failure, too."""
    told = self.acks_late or celery.VERSION >= (5, 7)
    raise _raising(life, "rejected" if told else "ignored", Reject("no use", requeue=False))


def _requeue(self: Any, life: str, detail: str) -> str:
    """Which gives nothing back where the message was acknowledged early: that task is gone, and nobody is told."""
    raise _raising(life, "requeued" if self.acks_late else "ignored", Reject("not now", requeue=True))


def _replace(self: Any, life: str, detail: str) -> str:
    """By another task under the same id; `detail` is its name and life."""
    name, _, other = detail.partition(" ")
    _record.ended(life, "replaced")
    _record.enqueued(other, name, DEFAULT)
    raise self.replace(self.app.signature(name, (other, ["succeed"]), queue=DEFAULT, immutable=True))


def _linger(self: Any, life: str, detail: str) -> str:
    """Runs until something ends it: as `detail`, which is recorded by now."""
    time.sleep(LINGER)
    raise AssertionError("nothing ended it")


def _die(self: Any, life: str, detail: str) -> str:
    """Its process does, as the kernel kills when memory is short."""
    _record.ended(life, detail)
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def _work(self: Any, life: str, detail: str) -> str:
    time.sleep(float(detail))
    return "succeeded"


def _give_up(self: Any, life: str, detail: str) -> str:
    """At the soft time limit: `failed`, unless it makes the best of it."""
    try:
        time.sleep(LINGER)
    except SoftTimeLimitExceeded as error:
        if not detail:
            raise _raising(life, "failed/SoftTimeLimitExceeded", error) from None
    return detail


def _vanish(self: Any, life: str, detail: str) -> str:
    """Lingers in a worker that tells of a start only when the run is over, and does not live to see it: one with the
    pool `solo`, which runs tasks in the loop that sends its events. Nobody hears of that run."""
    return _linger(self, life, detail)


ACTS: dict[str, Callable[[Any, str, str], str]] = {
    "succeed": lambda *_: "succeeded",
    "fail": _fail,
    "retry": _retry,
    "exhaust": _exhaust,
    "disconnect": _disconnect,
    "ignore": _ignore,
    "reject": _reject,
    "requeue": _requeue,
    "replace": _replace,
    "linger": _linger,
    "vanish": _vanish,
    "die": _die,
    "work": _work,
    "give_up": _give_up,
}

if celery.VERSION < (5, 7):
    mend_threads()
worker_app = make_app(os.environ.get(URL, "redis://"), os.environ.get(SERIALIZER, "json"))
