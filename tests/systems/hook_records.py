"""Workers with the hook, as far as Redis sees them: the records that taskqueue-hooks writes, written by the test."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

import redis

QUEUE = "arq:queue"
DAY = 86_400
QUEUES = "taskqueue:arq:queues"
WORKERS = "taskqueue:arq:workers"


def worker_key(worker: str) -> str:
    return f"taskqueue:arq:worker:{worker}"


def events_key(queue: str = QUEUE) -> str:
    return f"taskqueue:arq:events:{queue}"


def fields(worker: str, number: int, /, **changes: Any) -> dict[str, str]:
    """An entry: the n-th record of a worker, of a job that succeeded now."""
    now = time.time()
    end = changes.get("end", now)
    entry = {
        **{"v": 1, "worker": worker, "n": number, "job": f"{worker}-{number}", "task": "send", "outcome": "succeeded"},
        **{"exception": "", "try": 1, "due": now - 2, "start": now - 1},
        **{"end": end, "written": end, "kept": 0},
    }
    return {name: str(value) for name, value in (entry | changes).items()}


def flat(entry: Mapping[str, str]) -> list[bytes]:
    """Names and values in turn, as Redis gives them."""
    return [part.encode() for pair in entry.items() for part in pair]


class HookedWorker:
    """One worker: `beat()` writes its record, `end()` a job's, `leave()` says goodbye."""

    def __init__(self, client: redis.Redis, name: str, queue: str = QUEUE, **changes: Any) -> None:
        """`name` may be a whole id. `changes` are to the fields of its record."""
        self.id = name if name[-9:-8] == ":" else f"{name}:0000abcd"
        self.queue = queue
        self.n = 0
        self._client = client
        self._started = time.time()
        self._changes: dict[str, Any] = {"beat": 5.0, "slots": 10, "busy": 0, "arq": "0.28.0"} | changes

    def beat(self, running: Iterable[object] = (), at: float | None = None, **changes: Any) -> None:
        self._write([], running, at, changes)

    def end(self, *jobs: str, **changes: Any) -> None:
        """Records of jobs that ended, in one write."""
        entries = []
        for job in jobs:
            self.n += 1
            entries.append(fields(self.id, self.n, job=job, **changes))
        self._write(entries, (), None, {})

    def leave(self) -> None:
        with self._client.pipeline() as write:
            write.delete(worker_key(self.id))
            write.zrem(WORKERS, self.id)
            write.execute()

    def _write(
        self, entries: list[dict[str, str]], running: Iterable[object], at: float | None, changes: dict[str, Any]
    ) -> None:
        now = time.time() if at is None else at
        self._changes |= changes
        record = {
            **{"v": 1, "name": self.id[:-9], "queue": self.queue, "started": self._started, "at": now, "functions": 3},
            **{"python": "3.11.2", "hooks": "0.1.0", "records": self.n, "dropped": 0},
            **self._changes,
            "running": json.dumps(list(running)),
        }
        with self._client.pipeline() as write:
            write.zadd(QUEUES, {self.queue: now})
            write.zadd(WORKERS, {self.id: now})
            write.expire(QUEUES, DAY)
            write.expire(WORKERS, DAY)
            write.hset(worker_key(self.id), mapping={name: str(value) for name, value in record.items()})
            write.pexpire(worker_key(self.id), int(float(record["beat"]) * 3000))
            for entry in entries:
                write.xadd(events_key(self.queue), entry, maxlen=20_000, approximate=True)  # type: ignore[arg-type]
                write.expire(events_key(self.queue), DAY)
            write.execute()
