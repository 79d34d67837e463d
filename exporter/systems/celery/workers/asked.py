"""What one worker answered when it was asked, for as long as that is believed."""

from __future__ import annotations

import math
from typing import Final, TypeVar

from exporter.systems.celery.control.answers import Active, Answer, Consumes, Registered, Reserved, Stats

SILENT_ROUNDS: Final = 3
"""A worker without heartbeats is lost when it leaves as many questions in a row unanswered."""
A = TypeVar("A", Consumes, Stats, Registered, Reserved, Active)


class Asked:
    """The answers of one worker. `tick` is always the monotonic time."""

    __slots__ = ("_answers", "_pid", "_silent", "_until", "answered", "prefix")

    def __init__(self) -> None:
        self.prefix = ""
        """What stands before the names of its queues."""
        self.answered: float | None = None
        """When it last answered."""
        self._answers: dict[type[Answer], tuple[Answer, float]] = {}  # and until when they are believed
        self._pid: int | None = None
        self._silent = 0
        self._until = -math.inf

    def take(self, answer: Answer, prefix: str, tick: float, until: float) -> None:
        """An answer, believed `until` then."""
        if isinstance(answer, Stats):
            self.is_process(answer.pid)
            self._pid = answer.pid
        self.prefix = prefix
        self.answered = tick
        self._silent = 0
        self._until = until
        self._answers[type(answer)] = answer, until

    def miss(self, until: float) -> None:
        """It left a question unanswered."""
        self._silent += 1
        self._until = until

    def is_process(self, pid: int | None) -> None:
        """The worker is process `pid` now: what another one answered says nothing of it."""
        if pid is not None and self._pid is not None and pid != self._pid:
            self.forget()

    def forget(self) -> None:
        """All that it answered; not that it did."""
        self._answers.clear()
        self._pid = None

    # -- what is asked ------------------------------------------------------------------------------------------

    def judged(self, tick: float) -> bool:
        """Whether its answers, or their absence, tell if it lives."""
        return tick <= self._until

    def alive(self, tick: float) -> bool:
        """Whether they say that it does."""
        return self.answered is not None and self.judged(tick) and self._silent < SILENT_ROUNDS

    def latest(self, kind: type[A], tick: float) -> A | None:
        """Its last answer of a kind."""
        answer, until = self._answers.get(kind, (None, -math.inf))
        return answer if isinstance(answer, kind) and tick <= until else None

    def consumes(self, name: str) -> bool:
        """Whether it said that it consumes the queue of that name."""
        answer, _ = self._answers.get(Consumes, (None, 0.0))
        return isinstance(answer, Consumes) and name in answer.queues

    def queues(self, tick: float) -> frozenset[str] | None:
        """The queues that it consumes; None while that is not known."""
        answer = self.latest(Consumes, tick)
        return None if answer is None else frozenset(self.prefix + name for name in answer.queues)

    def only_queue(self, tick: float = -math.inf) -> str | None:
        """The one queue that it consumes, if it is one and known."""
        queues = self.queues(tick)
        return next(iter(queues)) if queues is not None and len(queues) == 1 else None
