"""Celery's queues as kombu leaves them in a Redis: messages, bindings, and what workers hold. For tests."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import redis

from exporter.systems.celery.layout import BINDINGS, SEPARATOR, list_key
from exporter.systems.celery.workers.running import Running

QUEUE = "celery"


def message(job: str, *, eta: float | None = None, exchange: str = "", key: str = QUEUE, **headers: Any) -> str:
    """A message as kombu's Redis transport writes it."""
    due = None if eta is None else datetime.fromtimestamp(eta, UTC).isoformat()
    delivery = {"exchange": exchange, "routing_key": key}
    return json.dumps(
        {
            "body": "W1tdLCB7fSwge31d",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": "hold", "id": job, "eta": due, "retries": 0, **headers},
            "properties": {"delivery_info": delivery, "priority": 0, "delivery_tag": f"tag of {job}"},
        }
    )


def put(client: redis.Redis, *messages: str | bytes, queue: str = QUEUE, priority: int = 0) -> None:
    """At the end of a list, as producers do."""
    client.lpush(list_key(queue, priority).decode(), *messages)


def restore(client: redis.Redis, *messages: str, queue: str = QUEUE) -> None:
    """At the head of a list, as kombu does with what was not acknowledged in time."""
    client.rpush(queue, *messages)


def take(client: redis.Redis, queue: str = QUEUE, priority: int = 0) -> None:
    """The message at the head."""
    assert client.rpop(list_key(queue, priority).decode())


def hold(client: redis.Redis, *jobs: str, exchange: str = "", key: str = QUEUE, prefix: str = "", **more: Any) -> None:
    """Worker's hands: messages that were delivered and not acknowledged."""
    records = {
        f"tag {job} {more.get('retries', 0)}": json.dumps(
            [json.loads(message(job, exchange=exchange, key=key, **more)), exchange, key]
        )
        for job in jobs
    }
    client.hset(prefix + "unacked", mapping=records)


def bind(
    client: redis.Redis, *queues: str, exchange: str = "x", key: str = "", topic: str = "", prefix: str = ""
) -> None:
    """Declares queues of an exchange."""
    client.sadd(f"{prefix}{BINDINGS}{exchange}", *(SEPARATOR.join((key, topic, queue)) for queue in queues))


def runs(*ids: str, queue: str = QUEUE, since: float = 0.0) -> Running:
    """These jobs run, and no others."""
    jobs = {queue: len(ids)} if ids else {}
    return Running(frozenset(ids), jobs, dict.fromkeys(jobs, since), {"hold": len(ids)} if ids else {})
