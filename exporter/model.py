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
    progress_jobs: int | None = None  # running jobs that report their progress
    oldest_progress: float | None = None  # of these, the last report of the one that is silent for longest
    expired_jobs: int | None = None  # due jobs whose definition has expired: none of them will run
    health_at: float | None = None  # when a worker of the queue last wrote its health record
    reported_jobs: Mapping[str, int] = field(default_factory=dict)  # attempts by outcome, as the record has them
    reported_running: int | None = None


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

    `workers` is None unless the system can tell who is alive; an empty collection is a known zero. More may live where
    it has not `all_workers`: their number is not known.
    `unacked_jobs`, `oldest_unacked` and `visibility_timeout` (seconds from delivery on) belong to systems whose queues
    share one set of delivered messages (Celery).
    `abort_requests` is given where such requests stand in one place for all queues (ARQ).
    `running` counts running jobs by task, where the system knows the tasks of what runs.
    `problems` names, one line each, what could not be observed: the rest stands, and the collector's success is 0.
    """

    queues: Collection[QueueState] = ()
    workers: Collection[WorkerState] | None = None
    all_workers: bool = True
    unacked_jobs: int | None = None
    oldest_unacked: float | None = None
    visibility_timeout: float | None = None
    abort_requests: int | None = None
    running: Mapping[str, int] | None = None
    problems: Collection[str] = ()


# -- pushed: what happens to jobs -------------------------------------------------------------------------------
# Structs, not dataclasses: one exists for every event (0.15 us against 1.7 us to make), and gc=False keeps large
# tables of them out of the garbage collector's walks.


class Known(msgspec.Struct, frozen=True, gc=False):
    """A task that exists, though nothing happened to it now; where `outcome` is given, a job of it ended so `at`."""

    queue: str
    task: str
    outcome: Outcome | None = None
    at: float | None = None


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
    """An attempt ended in a retry. `run` is how long it ran, in seconds; `wait` is as that of `Started`.

    `retried` is 0 where the job's end, which was told before, counted the retry already.
    """

    queue: str
    task: str
    job_id: str
    at: float
    run: float | None = None
    exception: str | None = None
    attempt: int = 1
    wait: float | None = None
    retried: int = 1


class Finished(msgspec.Struct, frozen=True, gc=False):
    """A job reached its final outcome. `run` is how long its last attempt ran; `exception` is a class name.

    `wait` and `retried` (attempts that ended in a retry) are given where they are known only now.
    """

    queue: str
    task: str
    job_id: str
    at: float
    outcome: Outcome
    wait: float | None = None
    run: float | None = None
    exception: str | None = None
    attempt: int = 1
    retried: int = 0


JobEvent = Known | Enqueued | Started | Retried | Finished


class Unreadable(enum.StrEnum):
    """Why a record of a feed could not be decoded."""

    MALFORMED = "malformed"  # not what its format promises: broken, truncated, a field missing or of a wrong type
    ENCODING = "encoding"  # a format that is not read (a pickled event, a compressed one, a serializer of one's own)
    BOUNDS = "bounds"  # longer, deeper or with more operations than is read


class Sink(Protocol):
    """Where a feed puts what it learns. Bound to one feed of one (system, broker); synchronous; never raises."""

    def record(self, events: Collection[JobEvent]) -> None:
        """Job events, in the order in which they happened."""
        ...

    def connected(self, mode: str) -> None:
        """From now on what happens is seen, by way of `mode` (`tracking`, `keyspace`, `scan`, `pubsub`, ...)."""
        ...

    def received(self, kind: str, n: int) -> None:
        """`n` records came in, of kind `job` or `worker`, readable or not."""
        ...

    def lost(self, n: int) -> None:
        """`n` records are known to be lost."""
        ...

    def undecodable(self, reason: Unreadable, n: int) -> None:
        """`n` records could not be decoded."""
        ...

    def forgotten(self, n: int) -> None:
        """`n` jobs were forgotten before they ended, as the feed's memory is bounded: what follows of them lacks
        what was known (queue, task, wait)."""
        ...


class Feed(Protocol):
    """One stream of what happens to jobs in one broker. Keeps what it knows from one connection to the next."""

    @property
    def name(self) -> str:
        """The label `feed`: `results`, `events` or `hook`."""
        ...

    async def follow(self, sink: Sink) -> None:
        """Connects and pushes what happens into `sink`, until cancelled or the connection is lost: then it raises,
        and is called again."""
        ...


# -- the interface of a queue system ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Permissions:
    """What one feature asks of the broker, in the terms of Redis's ACL: commands, and patterns of the keys that it
    reads, of the channels that it listens to or publishes on, and of the keys that it writes."""

    feature: str
    commands: frozenset[str]
    keys: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()


class QueueSystem(Protocol):
    """One queue system in one broker. Stateful: one instance per (system, broker)."""

    name: ClassVar[str]
    outcomes: ClassVar[Collection[Outcome]]
    """Every outcome that the system's jobs can come to, as far as its feeds can tell."""

    async def observe(self) -> Observation:
        """Look at the broker now. Pulled by a scrape; raises when nothing at all could be observed."""
        ...

    @property
    def feeds(self) -> Collection[Feed]:
        """What can be followed; the same objects at every call."""
        ...

    def permissions(self) -> Collection[Permissions]:
        """What each feature needs of the broker."""
        ...

    async def close(self) -> None:
        """End what the instance runs in the background."""
        ...
