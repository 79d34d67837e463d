"""The front of one ARQ queue: the running jobs stand there, and behind them the oldest ready one."""

from __future__ import annotations

from typing import Final

from exporter.brokers.pulls import Command, Reply
from exporter.systems.keys import key_bytes

PAGE: Final = 100
MAX_PAGES: Final = 50
"""5,000 running jobs in one queue: beyond, how many of the due ones are ready is not known."""
_ABORTED_SCORE: Final = 1.0
"""`Job.abort` of a deferred job sets this score, so that a worker takes it at once: no due time (arq/jobs.py)."""


class Front:
    """Walked page by page until a page holds a due job that does not run and none that does, or the due jobs end."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.key = key_bytes(queue)
        self.due = 0
        self.scheduled = 0
        self.running: list[bytes] = []
        self.first_ready: bytes | None = None
        self.oldest_ready: float | None = None
        self.page: list[tuple[bytes, float]] = []
        self._pages = 0
        self._ended = False

    @property
    def wants_page(self) -> bool:
        """Whether the walk goes on."""
        return self.due > 0 and not self._ended and self._pages < MAX_PAGES

    @property
    def complete(self) -> bool:
        """Whether every running job was found."""
        return self.due == 0 or self._ended

    @property
    def gave_up(self) -> bool:
        """Whether the walk ended at MAX_PAGES."""
        return not self.complete and self._pages == MAX_PAGES

    def page_command(self) -> Command:
        """The command for the next page: job ids and due times."""
        start = self._pages * PAGE
        return ("ZRANGE", self.key, start, start + PAGE - 1, "WITHSCORES")

    def take_page(self, reply: Reply, now_ms: float) -> bool:
        """The reply to `page_command`. Returns whether due jobs stand in it, whose marks are wanted then."""
        members = [(job_id, float(score)) for job_id, score in zip(reply[::2], reply[1::2], strict=True)]
        self.page = [(job_id, score) for job_id, score in members if score <= now_ms]
        self._pages += 1
        self._ended = len(self.page) < PAGE
        return bool(self.page)

    def take_marks(self, marks: Reply) -> None:
        """Which jobs of the page are in progress: a value stands where a key does."""
        running = {job_id for (job_id, _), mark in zip(self.page, marks, strict=True) if mark is not None}
        self.running += running
        for job_id, score in self.page:
            if job_id not in running:
                self._meet_ready(job_id, score)
        self._ended = self._ended or not running

    def _meet_ready(self, job_id: bytes, score: float) -> None:
        if self.first_ready is None:
            self.first_ready = job_id
        if self.oldest_ready is None and score > _ABORTED_SCORE:
            self.oldest_ready = score / 1000
