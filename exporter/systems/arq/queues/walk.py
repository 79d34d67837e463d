"""Walks over the fronts of ARQ's queues: all queues side by side, a round trip or two for each step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from exporter.brokers.errors import Command, Reply, ReplyTooLarge
from exporter.brokers.pulls import Pulls
from exporter.systems.arq.features import Feature
from exporter.systems.arq.layout import IN_PROGRESS, JOB, TRIES
from exporter.systems.arq.queues.front import MAX_PAGES, PAGE, Front, Run, is_of_a_run
from exporter.systems.keys import Problems

Ran = Callable[[str], Collection[Run]]
"""Gives the jobs of a queue that ran at the last look."""


async def walk(pulls: Pulls, fronts: Iterable[Front], now: float, problems: Problems) -> None:
    """Finds the running jobs and the oldest ready one of each queue, page by page."""
    walking = [front for front in fronts if front.wants_page]
    while walking:
        await _take_pages(pulls, walking, now, problems)
        await _take_marks(pulls, [front for front in walking if front.page], problems)
        await _take_lives(pulls, [front for front in walking if front.unsure], problems)
        walking = [front for front in walking if front.wants_page]
    for front in fronts:
        if front.gave_up:
            problems.add(f"more than {PAGE * MAX_PAGES} running jobs: how many are ready is not known", front.queue)


async def _take_pages(pulls: Pulls, fronts: list[Front], now: float, problems: Problems) -> None:
    for front, (page,) in await _ask(pulls, fronts, lambda front: [front.page_command()], problems):
        if problems.note(front.queue, page, feature=Feature.RUNNING):
            front.fail()
        else:
            front.take_page(page, now * 1000)


async def _take_marks(pulls: Pulls, fronts: list[Front], problems: Problems) -> None:
    for front, (marks, definitions) in await _ask(pulls, fronts, Front.page_questions, problems):
        if front.expired is not None and problems.note(front.queue, definitions, feature=Feature.EXPIRED):
            front.expired = None
        if problems.note(front.queue, marks, feature=Feature.RUNNING):
            front.fail()
        else:
            # Where definitions may not be counted, all ready jobs are in doubt.
            front.take_marks(marks, 0 if isinstance(definitions, Exception) else definitions)


async def _take_lives(pulls: Pulls, fronts: list[Front], problems: Problems) -> None:
    for front, lives in await _ask(pulls, fronts, Front.life_questions, problems):
        if problems.note(front.queue, *lives, feature=Feature.RUNNING):
            front.fail()
        else:
            front.take_lives(lives)


async def _ask(
    pulls: Pulls, fronts: list[Front], questions: Callable[[Front], Sequence[Command]], problems: Problems
) -> list[tuple[Front, list[Reply]]]:
    """The replies to the questions of each front. Who alone is answered by more than is read fails, and is left out."""
    asked = [(front, questions(front)) for front in fronts]
    try:
        replies = iter(await pulls.many(command for _, commands in asked for command in commands))
    except ReplyTooLarge as error:
        if len(fronts) > 1:
            half = len(fronts) // 2
            halves = fronts[:half], fronts[half:]
            return [answer for part in halves for answer in await _ask(pulls, part, questions, problems)]
        problems.add(f"{Feature.RUNNING}: {error}", fronts[0].queue)
        fronts[0].fail()
        return []
    return [(front, [next(replies) for _ in commands]) for front, commands in asked]


async def recall(pulls: Pulls, fronts: Iterable[Front], ran: Ran, now: float, problems: Problems) -> None:
    """Adds jobs that ran at the last look and now stand behind ready ones: when a whole fleet dies at once, the jobs it
    lost come back in front of those that others run."""
    missed = [
        (front, job_id)
        for front in fronts
        if front.complete
        for job_id, _ in ran(front.queue)
        if job_id not in front.running and job_id not in front.ready
    ]
    replies = await pulls.many(
        command
        for front, job_id in missed
        for command in (
            ("ZSCORE", front.key, job_id),
            ("MGET", IN_PROGRESS + job_id, TRIES + job_id),
            ("PTTL", IN_PROGRESS + job_id),
        )
    )
    for (front, job_id), queued, marks, life in zip(missed, replies[::3], replies[1::3], replies[2::3], strict=True):
        if problems.note(front.queue, queued, marks, life, feature=Feature.RUNNING):
            front.fail()
        # A cron job that is to be tried again later keeps its mark, too.
        elif queued is not None and float(queued) <= now * 1000 and is_of_a_run(marks[0], marks[1], life):
            front.running[job_id] = float(queued)


async def verify(pulls: Pulls, fronts: Iterable[Front], ran: Ran, now: float, problems: Problems) -> None:
    """Asks again for the ready jobs of which the walk left a doubt, and counts those whose definition has expired.

    A job that ends loses mark, definition and place in the queue in one go (arq/worker.py, `finish_job`). One that does
    between our reads looks ready, with the due time of a job that was no longer waiting: it stood on the page, had no
    mark when that was read, and no definition after. And one that ran, raised `Retry`, and is due later now looks the
    same but for the definition. Only who still stands in the queue is ready, and if without definition, expired.
    """
    asked = [(front, job_id) for front in fronts for job_id in _in_doubt(front, ran(front.queue))]
    counted = [(front, job_id) for front, job_id in asked if front.expired is not None]
    replies = await pulls.many(
        [
            *(("EXISTS", JOB + job_id) for _, job_id in counted),
            *(("ZSCORE", front.key, job_id) for front, job_id in asked),
        ]
    )
    defined = dict(zip(counted, replies, strict=False))
    for (front, job_id), score in zip(asked, replies[len(counted) :], strict=True):
        definition = defined.get((front, job_id), 1)
        if front.expired is not None and problems.note(front.queue, definition, score, feature=Feature.EXPIRED):
            front.expired = None
        if isinstance(score, Exception):
            continue
        stands = front.confirm(job_id, None if score is None else float(score), now * 1000)
        if stands and front.expired is not None and not definition:
            front.expired += 1


def _in_doubt(front: Front, ran: Collection[Run]) -> Iterable[bytes]:
    """The ready jobs that may not be so."""
    came_back = {job_id for job_id, score in ran if front.ready.get(job_id) == score}
    return [job_id for job_id in front.ready if job_id in front.doubtful or job_id in came_back]
