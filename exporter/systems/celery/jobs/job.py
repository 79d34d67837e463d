"""What is remembered of a job and of its attempts."""

from __future__ import annotations

from typing import Final

import msgspec

from exporter.model import Finished, Retried, Started
from exporter.safe.text import UNKNOWN

BELIEVED_SECONDS: Final = 1e9
"""No run and no wait is longer."""
Happened = Started | Retried | Finished
"""What may wait for the queue of its job."""


class Attempt(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One run of a job in one worker; each is itself and equal to no other."""

    worker: str
    started: float  # Unix time, by the worker's clock
    number: int  # 1 for the first
    begun: float  # when we heard of it, by our monotonic clock
    since: float  # `started`, by our clock where the worker's is not to be trusted: Unix time


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
    shadow: str | None = None
    """What workers call it, where its caller chose a name for it (`shadow=`): it goes by the one that was sent."""
    received_at: float | None = None
    """When it was received first, by its worker's clock."""
    got: float = 0.0
    """When we heard that it was received last, by our monotonic clock."""
    replaces: bool = False
    """It came in another's place, under its id."""
    receiver: str | None = None
    """The worker that received it last."""
    sent: bool = False
    """Its `task-sent` was seen."""
    started: bool = False
    first_started: bool = False
    """Its first attempt was."""
    ended: bool = False
    ended_at: float | None = None
    """When it was last told to have ended, by its worker's clock."""
    filled_at: float | None = None
    """The same where its result alone told so: its events, if they come at all, come late."""
    filled_start: bool = False
    """Whether that counts as a start that nobody heard."""
    only: str | None = None
    """The only queue of a worker when that received it: its queue, unless `task-sent` names that."""
    named: bool = False
    """Whether something was recorded of it already: what follows goes under the same name."""
    requeued: str | None = None
    """The worker that gave its message back, while nobody is known to have got that since."""
    settled: bool = False
    """Nothing of it waits for its queue any more, whether or not that is known."""
    attempts: tuple[Attempt, ...] = ()
    """Those that run, oldest first. A redelivered job may run in two workers at once."""
    held: list[tuple[Happened, float | None]] | None = None
    """What waits, each with the time by its worker's clock where it is the job's first start."""
    held_until: float = 0.0
    rejected: str | None = None
    """The worker whose rejection of it is the last of what is held."""
    former: Job | None = None
    """The job that this one replaces under its id, where a start of that one is still to come."""

    @property
    def task(self) -> str:
        """Its name as a label."""
        return self.name or UNKNOWN

    def runs_in(self, worker: str) -> Attempt | None:
        """The oldest of its attempts in a worker."""
        for attempt in self.attempts:
            if attempt.worker == worker:
                return attempt
        return None

    def drop(self, attempt: Attempt) -> None:
        """An attempt runs no more."""
        self.attempts = () if self.attempts == (attempt,) else tuple(a for a in self.attempts if a is not attempt)

    def waited(self, started: float) -> float | None:
        """From due to `started`, if that can be told."""
        if self.due is None:
            return None
        wait = started - self.due
        return None if wait > BELIEVED_SECONDS else max(0.0, wait)
