"""Loads written in advance and sent flat out: Celery's events and ARQ's results, as the real libraries write them.

A load is a file of Redis commands. Another process sends it in pipelines, as fast as the server takes them:
`python -m tests.e2e.flood PORT FILE PACE` ends when every command was answered, and prints how often by what.
"""

from __future__ import annotations

import base64
import json
import math
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from arq.jobs import serialize_result

from tests.e2e.truth import Job
from tests.e2e.truth_record import Ended, Enqueued
from tests.servers import LOOPBACK, ROOT, Process

QUEUES = ("celery", "letters", "payments", "reports")
TASKS = tuple(
    f"shop.tasks.{name}" for name in ("deliver", "charge", "render", "index", "notify", "fetch", "sync", "sum")
)
WORKERS = tuple(f"celery@worker-{number}" for number in range(4))
EVENTS_PER_TASK = 4  # sent, received, started, succeeded or failed
EVENTS_PER_FRAME = 24  # celery.events.dispatcher's `buffer_limit`
IN_FLIGHT = 10_000
"""Tasks sent and not ended at any moment of the load."""
PIPELINE = 100
"""Commands that the sender sends at once."""
KEEP_RESULT = b"3600000"
EXCEPTIONS: dict[str, type[Exception]] = {"ValueError": ValueError, "KeyError": KeyError}
PRODUCER = "gen4242@shop"
TRACEBACK = """Traceback (most recent call last):
  File "/usr/lib/python3/site-packages/celery/app/trace.py", line 585, in trace_task
    R = retval = fun(*args, **kwargs)
  File "/srv/shop/tasks.py", line 17, in deliver
    raise ValueError("no such address")
ValueError: no such address
"""


def lives(count: int, attempts_of: int = 0) -> list[Job]:
    """Jobs that all ended in the last minute; one in ten failed, and one in `attempts_of` was retried once before."""
    now = int(time.time()) - 60.0
    return [_life(number, now, attempts_of) for number in range(count)]


def _life(number: int, now: float, attempts_of: int) -> Job:
    job_id = f"{number:08x}-0000-4000-8000-{number * 2654435761 % 2**48:012x}"
    queue, task = QUEUES[number % len(QUEUES)], TASKS[number // len(QUEUES) % len(TASKS)]
    job = Job(Enqueued(job_id, task, queue, now, now))
    started = now + (50 + number % 40 * 100) / 1000
    if attempts_of and number % attempts_of == 0:
        job.starts.append(started)
        job.ends.append(Ended(job_id, started + 0.25, "retried"))
        started += 1.0
    job.starts.append(started)
    how = "failed/ValueError" if number % 10 == 3 else "succeeded"
    job.ends.append(Ended(job_id, started + (5 + number % 7 * 20) / 1000, how))
    return job


# -- Celery -----------------------------------------------------------------------------------------------------


def write_celery(path: Path, jobs: Sequence[Job]) -> None:
    """The events of these jobs, published as kombu's Redis transport does; each was attempted once."""
    _write(path, celery_frames(jobs))


def celery_frames(jobs: Sequence[Job]) -> Iterator[bytes]:
    """`task-sent` alone from the producer, as it is not buffered; all else in lists from the workers."""
    groups = [jobs[start : start + EVENTS_PER_FRAME] for start in range(0, len(jobs), EVENTS_PER_FRAME)]
    lag = IN_FLIGHT // EVENTS_PER_FRAME
    for place in range(len(groups) + lag):
        worker = WORKERS[place % len(WORKERS)]
        if place < len(groups):
            yield from (_frame("task.sent", PRODUCER, _sent(job)) for job in groups[place])
            yield _frame("task.multi", worker, [_received(job, worker) for job in groups[place]])
        if lag <= place:
            worker = WORKERS[(place - lag) % len(WORKERS)]
            yield _frame("task.multi", worker, [_started(job, worker) for job in groups[place - lag]])
            yield _frame("task.multi", worker, [_ended(job, worker) for job in groups[place - lag]])


def _event(kind: str, hostname: str, job: Job, at: float, **fields: object) -> dict[str, object]:
    common = {"hostname": hostname, "utcoffset": 0, "pid": 4242, "clock": 17, "uuid": job.enqueued.job}
    return common | fields | {"timestamp": at, "type": kind}


def _sent(job: Job) -> dict[str, object]:
    queue = job.enqueued.queue
    where = {"queue": queue, "exchange": "", "routing_key": queue}
    return _event("task-sent", PRODUCER, job, job.enqueued.at, **_definition(job), **where)


def _received(job: Job, worker: str) -> dict[str, object]:
    return _event("task-received", worker, job, job.enqueued.at + 0.01, **_definition(job))


def _definition(job: Job) -> dict[str, object]:
    names = {"root_id": job.enqueued.job, "parent_id": None, "name": job.enqueued.task}
    return names | {"args": "(4711, 'a customer')", "kwargs": "{}", "retries": 0, "eta": None, "expires": None}


def _started(job: Job, worker: str) -> dict[str, object]:
    return _event("task-started", worker, job, job.starts[-1])


def _ended(job: Job, worker: str) -> dict[str, object]:
    assert job.final is not None
    if job.final.how == "succeeded":
        return _event("task-succeeded", worker, job, job.final.at, result="'done'", runtime=job.run)
    raised = {"exception": "ValueError('no such address')", "traceback": TRACEBACK}
    return _event("task-failed", worker, job, job.final.at, **raised)


def _frame(routing_key: str, hostname: str, events: object) -> bytes:
    """`PUBLISH` of a message as in kombu's `transport/virtual/base.py`."""
    message = {
        "body": base64.b64encode(json.dumps(events).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"hostname": hostname},
        "properties": {
            "delivery_mode": 1,
            "delivery_info": {"exchange": "celeryev", "routing_key": routing_key},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "9ec02711-049e-4d75-b402-58569d48bed7",
        },
    }
    return _command(b"PUBLISH", f"/0.celeryev/{routing_key}".encode(), json.dumps(message).encode())


# -- ARQ --------------------------------------------------------------------------------------------------------


def write_arq(path: Path, jobs: Sequence[Job]) -> None:
    """The results of these jobs, kept for an hour."""
    _write(path, (_command(b"SET", *arq_result(job), b"PX", KEEP_RESULT) for job in jobs))


def arq_result(job: Job) -> tuple[bytes, bytes]:
    """The key and what arq's worker writes there."""
    assert job.final is not None
    outcome, _, exception = job.final.how.partition("/")
    success = outcome == "succeeded"
    data = serialize_result(
        job.enqueued.task,
        (4711, "a customer"),
        {},
        len(job.starts),
        _milliseconds(job.enqueued.at),
        success,
        "done" if success else EXCEPTIONS[exception]("no such address"),
        _milliseconds(job.starts[-1]),
        _milliseconds(job.final.at),
        f"{job.enqueued.job}:{job.enqueued.task}",
        job.enqueued.queue,
        job_id=job.enqueued.job,
    )
    assert data is not None
    return f"arq:result:{job.enqueued.job}".encode(), data


def _milliseconds(at: float) -> int:
    return round(at * 1000)


# -- sending ----------------------------------------------------------------------------------------------------


def _command(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _write(path: Path, commands: Iterator[bytes]) -> None:
    """A pipeline after the other, each behind a line with its number of commands and of bytes."""
    with path.open("wb") as file:
        while pipeline := list(islice(commands, PIPELINE)):
            file.write(b"%d %d\n" % (len(pipeline), sum(map(len, pipeline))))
            file.writelines(pipeline)


def _pipelines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        while head := file.readline():
            count, size = map(int, head.split())
            yield count, file.read(size)


def start(path: Path, port: int, pace: float = math.inf) -> Process:
    """The process that sends a file of commands to the server at `port`, at most `pace` bytes a second."""
    command = [sys.executable, "-m", "tests.e2e.flood", str(port), str(path), str(pace)]
    return Process(command, path.with_suffix(".log"), cwd=ROOT)


def send(port: int, path: Path, pace: float) -> None:
    """Send the commands of a file in pipelines, each when the one before it is answered, as clients do, and its time
    has come."""
    pipelines = list(_pipelines(path))
    answers: Counter[str] = Counter()
    with socket.create_connection((LOOPBACK, port)) as connection, connection.makefile("r", newline="\r\n") as lines:
        began = time.monotonic()
        sent = 0
        for count, commands in pipelines:
            time.sleep(max(0.0, began + sent / pace - time.monotonic()))
            connection.sendall(commands)
            sent += len(commands)
            answers.update(line.strip() for line in islice(lines, count))
    print(json.dumps({"answers": answers, "seconds": round(time.monotonic() - began, 3)}))


if __name__ == "__main__":
    os.nice(10)  # in the field it would run elsewhere: on few processors it shall not take the exporter's turn
    send(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
