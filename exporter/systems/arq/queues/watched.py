"""What is remembered of an ARQ queue from look to look."""

from __future__ import annotations

from exporter.systems.arq.queues.front import Front, Run
from exporter.systems.arq.queues.health import Health, Jobs, Look
from exporter.systems.head import Head


class Watched:
    """One queue."""

    __slots__ = ("_first", "_head", "_left", "_looked", "health", "last_progress", "running_since")

    def __init__(self, now: float) -> None:
        self._head = Head()
        self._first: Run | None = None
        self._looked = now
        self._left = 0
        self.last_progress = now
        self.running_since: dict[Run, float] = {}
        self.health = Health()

    @property
    def oldest_running(self) -> float | None:
        """Since when the longest-running job is seen to run."""
        return min(self.running_since.values(), default=None)

    def note(self, front: Front, look: Look | None, now: float, ended: int) -> None:
        """What a look at the queue, begun `now`, gave. `look` is that at its health record, if it could be read.
        `ended` counts the jobs of the queue whose end the feed saw."""
        ran = self.running_since
        if not front.failed:
            self.running_since = {run: ran.get(run, now) for run in front.running.items()}
            self._note_progress(front, now)
            self._left += len(ran.keys() - self.running_since.keys()) if front.complete else 0
        if look is None:
            self.health.lose()
        else:
            lasting = sum(since < self._looked for since in self.running_since.values())
            self.health.note(look, Jobs(self._left, ended, lasting))
        self._looked = now

    def _note_progress(self, front: Front, now: float) -> None:
        ready = front.ready_jobs
        if ready is None:
            return
        # The job watched is the first one until it leaves: a lost worker's jobs come back in front of it, and an
        # aborted one does, which is no progress.
        if self._first is None or self._first not in front.ready.items():
            self._first = next(iter(front.ready.items()), None)
        if self._head.note(self._first, ready, now) or ready == 0:
            self.last_progress = now
