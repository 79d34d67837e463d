"""The front of one ARQ queue: the running jobs stand there, and behind them the oldest ready one.

A worker that takes a job sets its mark (arq/worker.py, `start_jobs`), and with its next command counts the try
(`run_job`); when the job ends, the count goes (`finish_job`). So a mark without tries belongs to a job that was taken a
moment ago, or to the last one of that id, which ended: arq leaves the mark of a cron job for `LEFT_MS`, and until it
lapses no worker takes a job of that id. The time that is left to the mark tells the two apart.
"""

from __future__ import annotations

from typing import Final

from exporter.brokers.errors import Command, Reply
from exporter.systems.arq.layout import IN_PROGRESS, JOB, TRIES
from exporter.systems.keys import key_bytes

PAGE: Final = 100
MAX_PAGES: Final = 50
"""5,000 running jobs in one queue: beyond, how many of the due ones are ready is not known."""
LEFT_MS: Final = 60_000
"""For so long the mark of a cron job outlives it (arq/constants.py, `keep_cronjob_progress`)."""
_ABORTED_SCORE: Final = 1.0
"""`Job.abort` of a deferred job sets this score, so that a worker takes it at once: no due time (arq/jobs.py)."""

Run = tuple[bytes, float]
"""A run of a job, by id and score: that of the next job of the id is another, and that after a deferral."""


def is_of_a_run(mark: bytes | None, tries: bytes | None, life_ms: int) -> bool:
    """Whether a job runs whose mark and tries are these, and so long is left to the mark (as PTTL says it).

    Wrong only in the moment in which a job is taken by a worker whose jobs all time out in less than 50 s: it does not
    run yet. Taken for a run is what a cron job leaves that is to be tried again, as its tries stand.
    """
    return mark is not None and (tries is not None or life_ms == -1 or life_ms > LEFT_MS)


class Front:
    """Walked page by page until one holds no running job, and a ready one was met; or until the due jobs end."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.key = key_bytes(queue)
        self.due: int | None = None
        self.scheduled: int | None = None
        self.running: dict[bytes, float] = {}  # scores by id: a job that comes in front shifts one into two pages
        self.ready: dict[bytes, float] = {}  # of those met on the way, in their order
        self.failed = False
        self.is_queue = True
        self.page: list[Run] = []
        self.unsure: list[Run] = []  # of the page: those with a mark, and no tries
        self.doubtful: set[bytes] = set()  # ready ones that may have ended, or have no definition
        self.expired: int | None = 0  # ready ones without a definition; None where that cannot be known
        self._pages = 0
        self._whole = False  # all due jobs were met
        self._runs_on_page = False
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
        if not self.complete or self.due is None:
            return None
        # The due ones were counted before the walk: some of them have ended since.
        return len(self.ready) if self._whole else max(len(self.ready), self.due - len(self.running))

    @property
    def oldest_ready(self) -> float | None:
        """When the oldest ready job became due, in Unix seconds."""
        first = min((score for score in self.ready.values() if score > _ABORTED_SCORE), default=None)
        return None if first is None else first / 1000

    def fail(self) -> None:
        """A page or its marks could not be read: what runs is not known, and so not what is ready."""
        self.failed, self.expired = True, None
        for met in (self.page, self.unsure, self.ready, self.doubtful):
            met.clear()

    def refute(self) -> None:
        """Something else than a queue stands there."""
        self.is_queue = False
        self.fail()

    def page_command(self) -> Command:
        """The command for the next page: job ids and due times."""
        start = self._pages * PAGE
        return ("ZRANGE", self.key, start, start + PAGE - 1, "WITHSCORES")

    def page_questions(self) -> tuple[Command, Command]:
        """The commands for what `take_marks` takes of the jobs in `page`. One MGET sees marks and tries of one moment;
        and EXISTS comes after it, so that a job which ended before it lacks its definition."""
        ids = [job_id for job_id, _ in self.page]
        keys = [prefix + job_id for prefix in (IN_PROGRESS, TRIES) for job_id in ids]
        return ("MGET", *keys), ("EXISTS", *(JOB + job_id for job_id in ids))

    def life_questions(self) -> list[Command]:
        """The commands for what `take_lives` takes."""
        return [("PTTL", IN_PROGRESS + job_id) for job_id, _ in self.unsure]

    def take_page(self, reply: Reply, now_ms: float) -> None:
        """The reply to `page_command`; the marks of the jobs that stand in `page` then are wanted next."""
        members = [(job_id, float(score)) for job_id, score in zip(reply[::2], reply[1::2], strict=True)]
        self.page = [(job_id, score) for job_id, score in members if score <= now_ms]
        self._pages += 1
        self._ended = self._whole = len(self.page) < PAGE

    def take_marks(self, marks: Reply, definitions: int) -> None:
        """The marks and the tries of the jobs of the page, a value where a key stands; and how many of the jobs have a
        definition. If `unsure` holds some then, the time left to their marks is wanted next."""
        self._runs_on_page = False
        for run, mark, tries in zip(self.page, marks[: len(self.page)], marks[len(self.page) :], strict=True):
            if mark is not None and tries is None:
                self.unsure.append(run)
            else:
                self._meet(run, runs=mark is not None, doubtful=definitions < len(self.page))
        self._end_page()

    def take_lives(self, lives: Reply) -> None:
        """How long the marks of the `unsure` jobs live, in milliseconds."""
        for run, life in zip(self.unsure, lives, strict=True):
            self._meet(run, runs=is_of_a_run(b"1", None, life), doubtful=True)
        self.unsure.clear()
        self._end_page()

    def confirm(self, job_id: bytes, queued: float | None, now_ms: float) -> bool:
        """What the score of a doubtful job is now, if it still stands in the queue. Returns whether it is ready."""
        if queued is None or queued > now_ms:
            del self.ready[job_id]
        else:
            self.ready[job_id] = queued
        return job_id in self.ready

    def _meet(self, run: Run, *, runs: bool, doubtful: bool) -> None:
        job_id, score = run
        if runs:
            self.ready.pop(job_id, None)  # it was met on the page before, and started since
            self.running[job_id] = score
            self._runs_on_page = True
        elif job_id not in self.running:
            self.ready[job_id] = score
            if doubtful:
                self.doubtful.add(job_id)

    def _end_page(self) -> None:
        # A page full of aborted jobs says nothing: those that run may stand behind them.
        quiet = not self.unsure and not self._runs_on_page
        self._ended = self._ended or (quiet and self.oldest_ready is not None)
