"""What one worker answered when it was asked, for as long as that is believed."""

from __future__ import annotations

import math
from typing import Final, TypeVar

from exporter.systems.celery.control.answers import Active, Answer, Consumes, Registered, Reserved, Stats

SILENT_ROUNDS: Final = 3
"""A worker without heartbeats that leaves as many questions in a row unanswered may have gone, though somebody who does
not answer is there."""
A = TypeVar("A", Consumes, Stats, Registered, Reserved, Active)


class Asked:
    """The answers of one worker. `tick` is always the monotonic time."""

    __slots__ = ("_answers", "_last", "_pid", "answered", "doubled", "prefix", "silent")

    def __init__(self) -> None:
        self.prefix = ""
        """What stands before the names of its queues."""
        self.answered: float | None = None
        """When it last answered."""
        self.silent = 0
        """How many questions it left unanswered since."""
        self.doubled = False
        """Whether two of its name answered the last question that it answered."""
        self._answers: dict[type[Answer], tuple[Answer, float, float]] = {}  # until when believed, when asked
        self._last: tuple[type[Answer], float] | None = None  # what it was asked, and when
        self._pid: int | None = None

    def take(self, answer: Answer, prefix: str, asked_at: float, tick: float, until: float) -> None:
        """An answer to what was asked at `asked_at`, believed `until` then."""
        if isinstance(answer, Stats):
            self.is_process(answer.pid)
            self._pid = answer.pid
        self.prefix = prefix
        self.answered = tick
        self.silent = 0
        self.doubled = self._last == (type(answer), asked_at)
        self._last = type(answer), asked_at
        self._answers[type(answer)] = answer, until, asked_at

    def miss(self) -> None:
        """It left a question unanswered."""
        self.silent += 1

    def is_process(self, pid: int | None) -> None:
        """The worker is process `pid` now: what another one answered says nothing of it."""
        if pid is not None and self._pid is not None and pid != self._pid:
            self.forget()

    def forget(self) -> None:
        """All that it answered; not that it did."""
        self._answers.clear()
        self._pid = None

    # -- what is asked ------------------------------------------------------------------------------------------

    def latest(self, kind: type[A], tick: float) -> A | None:
        """Its last answer of a kind."""
        answer, until, _ = self._answers.get(kind, (None, -math.inf, 0.0))
        return answer if isinstance(answer, kind) and tick <= until else None

    def consumes(self, name: str) -> bool:
        """Whether it said that it consumes the queue of that name."""
        answer, *_ = self._answers.get(Consumes, (None,))
        return isinstance(answer, Consumes) and name in answer.queues

    def queues(self, tick: float) -> frozenset[str] | None:
        """The queues that it consumes; None while that is not known."""
        answer = self.latest(Consumes, tick)
        if answer is None or not self.prefix:
            return None if answer is None else answer.queues
        return frozenset(self.prefix + name for name in answer.queues)

    @property
    def queues_asked_at(self) -> float:
        """When it was asked for them."""
        _, _, asked_at = self._answers.get(Consumes, (None, 0.0, -math.inf))
        return asked_at

    def only_queue(self, tick: float = -math.inf) -> str | None:
        """The one queue that it consumes, if it is one and known."""
        queues = self.queues(tick)
        return next(iter(queues)) if queues is not None and len(queues) == 1 else None
