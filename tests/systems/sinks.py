"""A sink that keeps what a feed puts into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from exporter.model import Enqueued, Finished, JobEvent, Known, Retried, Started, Unreadable


class RecordingSink:
    """See `model.Sink`. `log` holds every call in order, by name and arguments."""

    def __init__(self) -> None:
        self.log: list[tuple[object, ...]] = []
        self.events: list[JobEvent] = []
        self.modes: list[str] = []
        self.received_by_kind: Counter[str] = Counter()
        self.undecodable_by_reason: Counter[Unreadable] = Counter()
        self.lost_events = 0
        self.forgotten_jobs = 0

    def record(self, events: Collection[JobEvent]) -> None:
        self.log.append(("record", *events))
        self.events += events

    def connected(self, mode: str) -> None:
        self.log.append(("connected", mode))
        self.modes.append(mode)

    def received(self, kind: str, n: int) -> None:
        self.log.append(("received", kind, n))
        self.received_by_kind[kind] += n

    def lost(self, n: int) -> None:
        self.log.append(("lost", n))
        self.lost_events += n

    def undecodable(self, reason: Unreadable, n: int) -> None:
        self.log.append(("undecodable", reason, n))
        self.undecodable_by_reason[reason] += n

    def forgotten(self, n: int) -> None:
        self.log.append(("forgotten", n))
        self.forgotten_jobs += n

    # -- what came of it ----------------------------------------------------------------------------------------

    @property
    def known(self) -> list[Known]:
        return [event for event in self.events if isinstance(event, Known)]

    @property
    def enqueued(self) -> list[Enqueued]:
        return [event for event in self.events if isinstance(event, Enqueued)]

    @property
    def started(self) -> list[Started]:
        return [event for event in self.events if isinstance(event, Started)]

    @property
    def retried(self) -> list[Retried]:
        return [event for event in self.events if isinstance(event, Retried)]

    @property
    def finished(self) -> list[Finished]:
        return [event for event in self.events if isinstance(event, Finished)]

    def of(self, job_id: str) -> list[JobEvent]:
        """What was recorded of one job, in order."""
        return [event for event in self.events if not isinstance(event, Known) and event.job_id == job_id]
