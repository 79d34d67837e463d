"""The vocabulary that every layer speaks: what a queue system tells us, free of any broker and any metric.

A *system* (ARQ, Celery, ...) turns what lies in its broker into these types; `gauges` and the ledger turn these
types into metric families. This module imports nothing of ours. All times are Unix seconds, durations are seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import msgspec


class JobState(enum.StrEnum):
    """Where a job that has not ended stands. The states partition a queue."""

    READY = "ready"  # due, and no worker has it
    SCHEDULED = "scheduled"  # due later (ETA, countdown, defer)
    RESERVED = "reserved"  # handed to a worker, not started
    RUNNING = "running"
    PAUSED = "paused"


class Outcome(enum.StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # raised, timed out, or ran out of tries
    ABORTED = "aborted"  # revoked or cancelled
    EXPIRED = "expired"
    NOT_FOUND = "not_found"  # the worker knows no such task
    REJECTED = "rejected"
    UNDECODABLE = "undecodable"
    UNKNOWN = "unknown"  # it ended, and nobody kept how


# -- pulled: what a scrape is told ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue at one moment. `None`, or a key that is missing, means "cannot be known" and is never exported."""

    queue: str
    jobs: Mapping[JobState, int] = field(default_factory=dict)
    ready_by_priority: Mapping[int, int] = field(default_factory=dict)
    kept_results: Mapping[str, int] = field(default_factory=dict)  # by `completed`, `failed`
    oldest_ready: float | None = None  # when the oldest ready job became due
    oldest_running: float | None = None  # since when the longest-running job runs
    last_progress: float | None = None  # last evidence that a job left `ready`
    paused: bool | None = None
    workers: int | None = None
    slots: int | None = None
    busy_slots: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker process as its system names it. `None` means "cannot be known"."""

    worker: str
    up: bool
    queues: Collection[str] = ()
    last_heartbeat: float | None = None
    slots: int | None = None
    busy_slots: int | None = None
    reserved_jobs: int | None = None
    registered_tasks: int | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """The answer of one `observe()`.

    `workers` is None unless the system can tell who is alive; an empty collection is a known zero.
    `unacked_jobs` and `oldest_unacked` belong to systems whose queues share one set of delivered messages (Celery).
    `problems` names, one line each, what could not be observed: the rest stands, and the collector's success is 0.
    """

    queues: Collection[QueueState] = ()
    workers: Collection[WorkerState] | None = None
    unacked_jobs: int | None = None
    oldest_unacked: float | None = None
    problems: Collection[str] = ()


# -- pushed: what happens to jobs -------------------------------------------------------------------------------
# Structs, not dataclasses: one exists for every event (0.15 us against 1.7 us to make), and gc=False keeps large
# tables of them out of the garbage collector's walks.


class Enqueued(msgspec.Struct, frozen=True, gc=False):
    """A job was put into a queue."""

    queue: str
    task: str
    job_id: str
    at: float


class Started(msgspec.Struct, frozen=True, gc=False):
    """An attempt began. `wait` (seconds from due to started) is given at a job's first start, where due is known."""

    queue: str
    task: str
    job_id: str
    at: float
    wait: float | None = None
    attempt: int = 1


class Retried(msgspec.Struct, frozen=True, gc=False):
    """An attempt ended in a retry. `run` is how long it ran, in seconds."""

    queue: str
    task: str
    job_id: str
    at: float
    run: float | None = None
    exception: str | None = None
    attempt: int = 1


class Finished(msgspec.Struct, frozen=True, gc=False):
    """A job reached its final outcome. `run` is how long its last attempt ran; `exception` is a class name."""

    queue: str
    task: str
    job_id: str
    at: float
    outcome: Outcome
    wait: float | None = None
    run: float | None = None
    exception: str | None = None
    attempt: int = 1


JobEvent = Enqueued | Started | Retried | Finished


class Sink(Protocol):
    """Where a feed puts what it learns. Bound to one (system, broker); synchronous; never raises."""

    def record(self, events: Collection[JobEvent]) -> None: ...
    def connected(self, mode: str) -> None: ...
    def disconnected(self) -> None: ...
    def received(self, kind: str, n: int) -> None: ...
    def lost(self, n: int) -> None: ...
    def undecodable(self, reason: str, n: int) -> None: ...


# -- the interface of a queue system ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Permissions:
    """What one feature asks of the broker, in the terms of Redis's ACL: commands, and key patterns that it reads."""

    feature: str
    commands: frozenset[str]
    keys: frozenset[str] = frozenset()


class QueueSystem(Protocol):
    """One queue system in one broker. Stateful: one instance per (system, broker)."""

    name: ClassVar[str]

    async def observe(self) -> Observation:
        """Look at the broker now. Pulled by a scrape; raises when nothing at all could be observed."""
        ...

    async def follow(self, sink: Sink) -> None:
        """Push what happens to jobs into `sink` until cancelled; returns at once where there is nothing to follow."""
        ...

    def permissions(self) -> Collection[Permissions]:
        """What each feature needs of the broker."""
        ...

    async def close(self) -> None:
        """End what the instance runs in the background."""
        ...
