"""What is remembered of a job and of its attempts."""

from __future__ import annotations

import msgspec

from exporter.safe.text import UNKNOWN
from exporter.systems.celery.events import Event


class Attempt(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One run of a job in one worker; each is itself and equal to no other."""

    worker: str
    started: float  # Unix time
    number: int  # 1 for the first
    begun: float  # when we heard of it, by our monotonic clock


class Job(msgspec.Struct, gc=False):
    """What events told of one id. A job that ended is kept for a while, as late and repeated events of it come."""

    uuid: str
    name: str | None = None
    queue: str | None = None
    due: float | None = None
    retries: int = 0
    pending: int | None = None
    """The lowest number of retries with which it was received and not started yet: a retry may be received before the
    attempt that asked for it is said to have started."""
    sent: bool = False
    """Its `task-sent` was seen."""
    started: bool = False
    first_started: bool = False
    """Its first attempt was."""
    ended: bool = False
    requeued: bool = False
    """Its worker gave its message back, and nobody has started it since."""
    settled: bool = False
    """Nothing of it is held any more, whether or not its queue is known."""
    attempts: tuple[Attempt, ...] = ()
    """Those that run, oldest first. A redelivered job may run in two workers at once."""
    held: list[Event] | None = None
    rejected: Event | None = None

    @property
    def task(self) -> str:
        """Its name as a label."""
        return self.name or UNKNOWN
