"""What is sent to the workers of `celery_endings`, to each pool what it can do.

    python -m tests.e2e.celery_producer before POOL ...   before the workers come
    python -m tests.e2e.celery_producer during POOL ...   when they are there
    python -m tests.e2e.celery_producer abroad POOL       from another time zone

Each pool has a database, and with it a broker, and a record of its own: see `place`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from celery import chain, chord, group

from tests.e2e.celery_endings import (
    ABROAD,
    CLOSING,
    DEFAULT,
    DOOMED,
    FREEZING,
    LETTERS,
    SINCE_55,
    STRANGER,
    URL,
    make_app,
)
from tests.e2e.truth_record import RECORD, Line, Recorder, Started

POOLS = ("prefork", "threads", "solo")
SERIALIZERS = {"threads": "msgpack"}
"""Of the events of a pool's workers and of those who send to them."""
QUEUES = (DEFAULT, LETTERS)
PRIORITIES = (0, 3, 6, 9)
SOON = 1.0
"""The delay of tasks that are due later."""
DEADLINE = 20.0
AGAIN = "succeeded"
"""The fate of what is redelivered."""


def place(url: str, record: str, pool: str) -> tuple[str, str]:
    """The broker and the record of a pool; `url` is the server's, without a database."""
    return f"{url}/{POOLS.index(pool)}", f"{record}.{pool}"


class Producer:
    """Sends tasks to one pool's workers, and records that."""

    def __init__(self, pool: str) -> None:
        url, record = place(os.environ[URL], os.environ[RECORD], pool)
        self.pool = pool
        self.app = make_app(url, SERIALIZERS.get(pool, "json"))
        self._path = Path(record)
        self.record = Recorder(record)
        self._priorities = count()

    def send(
        self,
        queue: str,
        task: str,
        *plan: str,
        life: str | None = None,
        fate: str | None = None,
        delay: float = 0.0,
        eta: datetime | None = None,
        **options: Any,
    ) -> str:
        """One task, which meets its fate where its plan cannot tell. It is due after `delay`, or at `eta`."""
        life = life or uuid4().hex
        options.setdefault("priority", PRIORITIES[next(self._priorities) % len(PRIORITIES)])
        due = eta.timestamp() - time.time() if eta is not None else delay
        self.record.enqueued(life, task, queue, delay=due, fate=fate)
        self.app.send_task(task, (life, plan), task_id=life, queue=queue, countdown=delay or None, eta=eta, **options)
        return life

    def part(self, queue: str, *plan: str, task: str = "shop.deliver") -> Any:
        """A task of a canvas, recorded as enqueued: at some time it will be."""
        life = uuid4().hex
        self.record.enqueued(life, task, queue)
        return self.app.signature(task, (life, plan), queue=queue, immutable=True)

    def wait_for_start(self, life: str) -> None:
        """Of a task's first run."""
        end = time.monotonic() + DEADLINE
        while not any(isinstance(line, Started) and line.job == life for line in self._lines()):
            if time.monotonic() > end:
                raise SystemExit(f"{life} did not start")
            time.sleep(0.02)

    def _lines(self) -> Iterator[Line]:
        whole, _, _ = self._path.read_bytes().rpartition(b"\n")  # a line may be on its way
        return (msgspec.json.decode(line, type=Line) for line in whole.splitlines())


Send = Callable[[Producer, str], object]


def task(name: str, *plan: str, **options: Any) -> Send:
    """A task into a queue."""
    return lambda producer, queue: producer.send(queue, name, *plan, **options)


# -- ways to end ------------------------------------------------------------------------------------------------


def _eta(producer: Producer, queue: str) -> None:
    """Given as a time, of another zone than this one's."""
    at = datetime.now(timezone(timedelta(hours=-7))) + timedelta(seconds=SOON)
    producer.send(queue, "shop.deliver", "succeed", eta=at)


def _replaced(producer: Producer, queue: str) -> None:
    """By another. By its like it may be taken for a redelivery, as a `task-received` may overtake its `task-sent`: its
    start then counts in the queue of the first, and its wait is missing."""
    producer.send(queue, "shop.deliver", f"replace shop.charge {uuid4().hex}")


def _revoked(producer: Producer, queue: str) -> None:
    """Before it is sent."""
    life = uuid4().hex
    producer.app.control.revoke(life, reply=True, timeout=DEADLINE, limit=1, destination=[f"main@{producer.pool}"])
    producer.send(queue, "shop.deliver", "never runs", life=life, fate="aborted")


def _revoked_while_waiting(producer: Producer, queue: str) -> None:
    """In a worker's hands, as it is due only later."""
    life = producer.send(queue, "shop.deliver", "never runs", fate="aborted", delay=SOON)
    producer.app.control.revoke(life)


def _chained(producer: Producer, queue: str) -> None:
    chain(*(producer.part(queue, "succeed") for _ in range(3))).apply_async()


def _broken_chain(producer: Producer, queue: str) -> None:
    """Its second part never comes into being."""
    never = producer.app.signature("shop.deliver", ("never", []), queue=queue, immutable=True)
    chain(producer.part(queue, "fail KeyError"), never).apply_async()


def _grouped(producer: Producer, queue: str) -> None:
    group(producer.part(queue, plan) for plan in ("succeed", "fail ValueError", "succeed")).apply_async()


def _chorded(producer: Producer, queue: str) -> None:
    parts = [producer.part(queue, "succeed"), producer.part(queue, "retry 0", "succeed")]
    chord(parts)(producer.part(queue, "succeed", task="shop.charge"))


def _nested(producer: Producer, queue: str) -> None:
    one = producer.part
    inner = group(one(queue, "succeed"), chain(one(queue, "succeed"), one(queue, "succeed")))
    chain(one(queue, "succeed"), inner, one(queue, "succeed", task="shop.charge")).apply_async()


def _linked(producer: Producer, queue: str) -> None:
    producer.send(queue, "shop.deliver", "succeed", link=producer.part(queue, "succeed"))


def _shadowed(producer: Producer, queue: str) -> None:
    """By another name in the worker's events: it goes by the one under which it was sent."""
    producer.send(queue, "shop.deliver", "retry 0", "succeed", shadow="shop.deliver-by-night")


def _terminated(name: str, **options: Any) -> Send:
    def send(producer: Producer, queue: str) -> None:
        life = producer.send(queue, name, "linger aborted")
        producer.wait_for_start(life)
        producer.app.control.revoke(life, terminate=True, **options)

    return send


ANYWHERE: tuple[Send, ...] = (
    *[task(name, "succeed") for name in ("shop.deliver", "shop.forget", "shop.charge", "shop.strict", "shop.sturdy")],
    task("shop.deliver", "fail ValueError"),
    task("shop.forget", "fail Refused"),
    task("shop.charge", "fail KeyError"),
    task("shop.strict", "fail KeyError"),  # told as a rejection first
    task("shop.deliver", "retry 0.2", "succeed"),
    task("shop.charge", "retry 0", "retry 0", "fail Refused"),
    task("shop.deliver", "exhaust ValueError"),
    task("shop.deliver", "exhaust"),
    task("shop.synchronize", "disconnect", "succeed"),
    task("shop.synchronize", "disconnect"),
    task("shop.deliver", "succeed", delay=SOON),
    task("shop.charge", "fail KeyError", delay=SOON),
    _eta,
    task("shop.deliver", "never runs", delay=SOON, expires=SOON / 2, fate="expired"),
    task("shop.deliver", "ignore"),
    task("shop.charge", "ignore"),
    task("shop.charge", "reject"),
    task("shop.deliver", "reject"),
    task("shop.charge", "requeue", "succeed"),
    task("shop.charge", "requeue", "retry 0", "requeue", "fail ValueError"),
    task("shop.deliver", "requeue"),
    *[_replaced, _revoked, _revoked_while_waiting, _chained, _broken_chain, _grouped],
    *[_chorded, _nested, _linked, _shadowed],
    task(STRANGER, fate="not_found"),
)
"""What every pool can do."""
LIMIT = {"time_limit": 1.0}
IN_PROCESSES: tuple[Send, ...] = (
    # No thread can be ended from without, and a worker with the pool `solo` hears of nothing while a task runs.
    *[_terminated("shop.deliver"), _terminated("shop.charge"), _terminated("shop.deliver", signal="SIGKILL")],
    # Neither can be interrupted: both ignore time limits.
    task("shop.deliver", "give_up", soft_time_limit=0.5),
    task("shop.deliver", "give_up succeeded", soft_time_limit=0.5),
    task("shop.deliver", "linger failed/TimeLimitExceeded", **LIMIT),
    task("shop.charge", "linger failed/TimeLimitExceeded", **LIMIT),
    task(
        "shop.strict", *(["linger requeued", "succeed"] if SINCE_55 else ["linger failed/TimeLimitExceeded"]), **LIMIT
    ),
    # There the process that dies is the worker.
    task("shop.deliver", "die failed/WorkerLostError"),
    task("shop.charge", "die failed/WorkerLostError"),
    task("shop.sturdy", "die requeued", "succeed"),
)
KINDS = {"prefork": (*ANYWHERE, *IN_PROCESSES), "threads": ANYWHERE, "solo": ANYWHERE}


# -- roles ------------------------------------------------------------------------------------------------------


def before(producer: Producer) -> None:
    """What waits for the workers, and what does not live to see them."""
    for queue in QUEUES:
        producer.send(queue, "shop.deliver", "never runs", expires=0.1, fate="expired")
        for _ in PRIORITIES:
            producer.send(queue, "shop.deliver", "succeed")
    # Acknowledged late, and run by a worker that is killed.
    struck = "vanish killed" if producer.pool == "solo" else "linger killed"
    producer.send(DOOMED, "shop.charge", struck, "succeed", fate=AGAIN)
    for _ in range(4):  # the worker is told to stop while it runs the first
        producer.send(CLOSING, "shop.deliver", "work 1.0")
    if producer.pool == "prefork":  # the others do not stop before their tasks ended
        if SINCE_55:
            producer.send(FREEZING, "shop.charge", "linger killed", "succeed", fate=AGAIN)
            producer.send(FREEZING, "shop.deliver", "linger killed")
        else:
            producer.send(FREEZING, "shop.charge", "linger failed/WorkerLostError")
            producer.send(FREEZING, "shop.deliver", "linger failed/WorkerLostError")


def during(producer: Producer) -> None:
    for queue in QUEUES:
        for send in KINDS[producer.pool]:
            send(producer, queue)


def abroad(producer: Producer) -> None:
    """Times mean the same everywhere."""
    producer.send(ABROAD, "shop.deliver", "succeed")
    producer.send(ABROAD, "shop.deliver", "retry 0.2", "succeed", delay=SOON)
    producer.send(ABROAD, "shop.deliver", "never runs", delay=SOON, expires=SOON / 2, fate="expired")
    _eta(producer, ABROAD)


ROLES = {role.__name__: role for role in (before, during, abroad)}

if __name__ == "__main__":
    for name in sys.argv[2:]:
        producer = Producer(name)
        ROLES[sys.argv[1]](producer)
        producer.app.close()
    os._exit(0)  # results that nobody asks for complain when they are thrown away
