"""The front of one ARQ queue: the running jobs stand there, and behind them the oldest ready one."""

from __future__ import annotations

from typing import Final

from exporter.brokers.pulls import Command, Reply
from exporter.systems.arq.layout import IN_PROGRESS, JOB
from exporter.systems.keys import key_bytes

PAGE: Final = 100
MAX_PAGES: Final = 50
"""5,000 running jobs in one queue: beyond, how many of the due ones are ready is not known."""
_ABORTED_SCORE: Final = 1.0
"""`Job.abort` of a deferred job sets this score, so that a worker takes it at once: no due time (arq/jobs.py)."""


class Front:
    """Walked page by page until one holds no running job, and a ready one was met; or until the due jobs end."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.key = key_bytes(queue)
        self.due: int | None = None
        self.scheduled: int | None = None
        self.running: set[bytes] = set()  # a job that comes in front while we walk shifts one into two pages
        self.ready: dict[bytes, None] = {}  # those met on the way, in their order
        self.failed = False
        self.is_queue = True
        self.oldest_ready: float | None = None
        self.page: list[tuple[bytes, float]] = []
        self.doubtful: dict[bytes, None] = {}  # ready ones of pages on which not every job has a definition
        self.expired: int | None = 0  # ready ones without a definition; None where that cannot be known
        self._pages = 0
        self._ended = False

    @property
    def wants_page(self) -> bool:
        """Whether the walk goes on."""
        return self.due != 0 and not self.failed and not self._ended and self._pages < MAX_PAGES

    @property
    def complete(self) -> bool:
        """Whether every running job was found."""
        return not self.failed and (self.due == 0 or self._ended)

    @property
    def gave_up(self) -> bool:
        """Whether the walk ended at MAX_PAGES."""
        return self._pages == MAX_PAGES and not self._ended and not self.failed

    @property
    def ready_jobs(self) -> int | None:
        """How many due jobs no worker has; None where that is not known."""
        return max(0, self.due - len(self.running)) if self.complete and self.due is not None else None

    def fail(self) -> None:
        """A page or its marks could not be read: what runs is not known."""
        self.failed, self.page, self.expired = True, [], None

    def refute(self) -> None:
        """Something else than a queue stands there."""
        self.is_queue = False
        self.fail()

    def page_command(self) -> Command:
        """The command for the next page: job ids and due times."""
        start = self._pages * PAGE
        return ("ZRANGE", self.key, start, start + PAGE - 1, "WITHSCORES")

    def page_questions(self) -> tuple[Command, Command]:
        """The commands for what `take_marks` takes of the jobs in `page`."""
        ids = [job_id for job_id, _ in self.page]
        return ("MGET", *(IN_PROGRESS + job_id for job_id in ids)), ("EXISTS", *(JOB + job_id for job_id in ids))

    def take_page(self, reply: Reply, now_ms: float) -> None:
        """The reply to `page_command`; the marks of the jobs that stand in `page` then are wanted next."""
        members = [(job_id, float(score)) for job_id, score in zip(reply[::2], reply[1::2], strict=True)]
        self.page = [(job_id, score) for job_id, score in members if score <= now_ms]
        self._pages += 1
        self._ended = len(self.page) < PAGE

    def take_marks(self, marks: Reply, definitions: int) -> None:
        """Which jobs of the page are in progress: a value stands where a key does. And how many have a definition."""
        running = {job_id for (job_id, _), mark in zip(self.page, marks, strict=True) if mark is not None}
        self.running |= running
        ready = [member for member in self.page if member[0] not in running]
        for job_id, score in ready:
            self._meet_ready(job_id, score)
        if definitions < len(self.page):
            self.doubtful.update((job_id, None) for job_id, _ in ready)
        # A page full of aborted jobs says nothing: those that run may stand behind them.
        self._ended = self._ended or (not running and self.oldest_ready is not None)

    def _meet_ready(self, job_id: bytes, score: float) -> None:
        self.ready[job_id] = None
        if self.oldest_ready is None and score > _ABORTED_SCORE:
            self.oldest_ready = score / 1000
