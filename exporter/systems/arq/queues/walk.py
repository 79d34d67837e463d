"""Walks over the fronts of ARQ's queues: all queues side by side, a round trip or two for each step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from exporter.brokers.pulls import Pulls
from exporter.systems.arq.features import Feature
from exporter.systems.arq.layout import IN_PROGRESS, JOB
from exporter.systems.arq.queues.front import MAX_PAGES, PAGE, Front
from exporter.systems.keys import Problems


async def walk(pulls: Pulls, fronts: Iterable[Front], now: float, problems: Problems) -> None:
    """Finds the running jobs and the oldest ready one of each queue, page by page."""
    walking = [front for front in fronts if front.wants_page]
    while walking:
        await _take_pages(pulls, walking, now, problems)
        await _take_marks(pulls, [front for front in walking if front.page], problems)
        walking = [front for front in walking if front.wants_page]
    for front in fronts:
        if front.gave_up:
            problems.add(f"more than {PAGE * MAX_PAGES} running jobs: how many are ready is not known", front.queue)


async def _take_pages(pulls: Pulls, fronts: list[Front], now: float, problems: Problems) -> None:
    pages = await pulls.many(front.page_command() for front in fronts)
    for front, page in zip(fronts, pages, strict=True):
        if problems.note(front.queue, page, feature=Feature.RUNNING):
            front.fail()
        else:
            front.take_page(page, now * 1000)


async def _take_marks(pulls: Pulls, fronts: list[Front], problems: Problems) -> None:
    replies = await pulls.many(question for front in fronts for question in front.page_questions())
    for front, marks, definitions in zip(fronts, replies[::2], replies[1::2], strict=True):
        if front.expired is not None and problems.note(front.queue, definitions, feature=Feature.EXPIRED):
            front.expired = None
        if problems.note(front.queue, marks, feature=Feature.RUNNING):
            front.fail()
        else:
            front.take_marks(marks, len(front.page) if isinstance(definitions, Exception) else definitions)


async def recall(
    pulls: Pulls, fronts: Iterable[Front], ran: Callable[[str], Collection[bytes]], problems: Problems
) -> None:
    """Adds jobs that ran at the last look and now stand behind ready ones: when a whole fleet dies at once, the jobs it
    lost come back in front of those that others run. `ran` gives those of a queue."""
    missed = [
        (front, job_id)
        for front in fronts
        if front.complete
        for job_id in ran(front.queue)
        if job_id not in front.running and job_id not in front.ready
    ]
    replies = await pulls.many(
        command
        for front, job_id in missed
        for command in (("ZSCORE", front.key, job_id), ("MGET", IN_PROGRESS + job_id))
    )
    for (front, job_id), queued, marks in zip(missed, replies[::2], replies[1::2], strict=True):
        if problems.note(front.queue, queued, marks, feature=Feature.RUNNING):
            front.fail()
        elif queued is not None and marks != [None]:
            front.running.add(job_id)


async def count_expired(pulls: Pulls, fronts: Iterable[Front], problems: Problems) -> None:
    """Counts the ready jobs whose definition has expired, of those met on the way.

    A job that ends loses its definition and its place in the queue in one go (arq/worker.py, `finish_job`), so who
    still stands in the queue *after* the definition was found missing has not ended.
    """
    asked = [(front, job_id) for front in fronts if front.expired is not None for job_id in front.doubtful]
    replies = await pulls.many(
        command for front, job_id in asked for command in (("EXISTS", JOB + job_id), ("ZSCORE", front.key, job_id))
    )
    for (front, _), defined, queued in zip(asked, replies[::2], replies[1::2], strict=True):
        if front.expired is None:
            continue
        if problems.note(front.queue, defined, queued, feature=Feature.EXPIRED):
            front.expired = None
        elif not defined and queued is not None:
            front.expired += 1
