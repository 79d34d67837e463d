"""What is written to Redis: keys, fields and bounds, as README.md documents them. Nothing here does I/O."""

from __future__ import annotations

import json
import platform
from typing import Any, Iterable, Iterator, NamedTuple, Tuple, Union

from ._version import __version__

Command = Tuple[Union[str, bytes, int], ...]

VERSION = 1
PREFIX = "taskqueue:arq:"
QUEUES = PREFIX + "queues"
WORKERS = PREFIX + "workers"
DAY = 24 * 60 * 60
BEATS_TO_LIVE = 3

NAME_LENGTH = 256
JOB_LENGTH = 512
TASK_LENGTH = 256
EXCEPTION_LENGTH = 128
MESSAGE_LENGTH = 200
RUNNING_LISTED = 1000


class Progress(NamedTuple):
    """How far a running job says it is."""

    done: float
    total: float | None
    message: str
    reported: float


class End(NamedTuple):
    """One attempt that ended. Times in Unix seconds."""

    n: int
    job: str
    task: str
    outcome: str
    exception: str
    attempt: int
    due: float
    start: float
    end: float
    kept: bool


class Running(NamedTuple):
    """One attempt that runs."""

    job: str
    task: str
    attempt: int
    start: float
    progress: Progress | None


class Worker(NamedTuple):
    """One worker at the moment of a write."""

    id: str
    name: str
    queue: str
    started: float
    at: float
    beat: float
    slots: int
    busy: int
    functions: int
    records: int
    dropped: int


def worker_key(worker: str) -> bytes:
    return text(f"{PREFIX}worker:{worker}")


def events_key(queue: str) -> bytes:
    return text(f"{PREFIX}events:{queue}")


def text(value: object, length: int | None = None) -> bytes:
    """At most `length` characters of a text; lone surrogates, which UTF-8 cannot hold, become `?`."""
    return str(value)[:length].encode("utf-8", "replace")


def seconds(value: float) -> str:
    """A time as decimal text, to the microsecond."""
    return f"{value:.6f}"


def end_commands(worker: str, queue: str, ends: Iterable[End], written: float, stream_length: int) -> Iterator[Command]:
    """Add each end to the queue's stream, first of all; `written` is the time of that."""
    key = events_key(queue)
    writer = text(worker)
    for end in ends:
        yield ("XADD", key, "MAXLEN", "~", stream_length, "*", *end_fields(writer, end, written))
    yield ("EXPIRE", key, DAY)


def end_fields(writer: bytes, end: End, written: float) -> Command:
    """The fields of one entry, names and values by turns."""
    return (
        *("v", VERSION, "worker", writer, "n", end.n),
        *("job", text(end.job, JOB_LENGTH), "task", text(end.task, TASK_LENGTH)),
        *("outcome", end.outcome, "exception", text(end.exception, EXCEPTION_LENGTH), "try", end.attempt),
        *("due", seconds(end.due), "start", seconds(end.start), "end", seconds(end.end)),
        *("written", seconds(written), "kept", int(end.kept)),
    )


def worker_commands(worker: Worker, running: Iterable[Running]) -> Iterator[Command]:
    """Write what the worker is and does, and that it and its queue are there."""
    key = worker_key(worker.id)
    yield ("HSET", key, *worker_fields(worker), "running", running_text(running))
    yield ("PEXPIRE", key, max(1, int(worker.beat * 1000 * BEATS_TO_LIVE)))
    for index, member in ((QUEUES, worker.queue), (WORKERS, worker.id)):
        yield ("ZADD", index, seconds(worker.at), text(member))
        yield ("EXPIRE", index, DAY)


def worker_fields(worker: Worker) -> Command:
    """The fields of the worker's hash but for `running`, names and values by turns."""
    from arq.version import VERSION as ARQ

    return (
        *("v", VERSION, "name", text(worker.name), "queue", text(worker.queue)),
        *("started", seconds(worker.started), "at", seconds(worker.at), "beat", repr(float(worker.beat))),
        *("slots", worker.slots, "busy", worker.busy, "functions", worker.functions),
        *("arq", text(ARQ), "python", platform.python_version(), "hooks", __version__),
        *("records", worker.records, "dropped", worker.dropped),
    )


def running_text(running: Iterable[Running]) -> str:
    """The running attempts as JSON, in ASCII."""
    return json.dumps([running_object(one) for one in running], separators=(",", ":"))


def running_object(running: Running) -> dict[str, Any]:
    told = {
        "id": text(running.job, JOB_LENGTH).decode(),
        "f": text(running.task, TASK_LENGTH).decode(),
        "try": running.attempt,
        "at": round(running.start, 6),
    }
    if running.progress is not None:
        told.update(progress_fields(running.progress))
    return told


def progress_fields(progress: Progress) -> dict[str, Any]:
    return {
        "done": progress.done,
        "total": progress.total,
        "message": text(progress.message, MESSAGE_LENGTH).decode(),
        "reported": round(progress.reported, 6),
    }


def cleaning_commands(now: float) -> Iterator[Command]:
    """Forget queues and workers of which nothing was written for a day."""
    for index in (QUEUES, WORKERS):
        yield ("ZREMRANGEBYSCORE", index, "-inf", "(" + seconds(now - DAY))


def goodbye_commands(worker: str) -> Iterator[Command]:
    """Take a worker back that ends in order."""
    yield ("DEL", worker_key(worker))
    yield ("ZREM", WORKERS, text(worker))
