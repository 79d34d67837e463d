"""Running jobs by task, by their definitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from exporter.brokers.pulls import Pulls
from exporter.safe.text import UNKNOWN
from exporter.systems.arq.features import Feature
from exporter.systems.arq.layout import JOB
from exporter.systems.arq.queues.front import Front, Run
from exporter.systems.arq.records.definitions import HEAD_BYTES, task_of
from exporter.systems.arq.records.serializers import Serializer
from exporter.systems.keys import Problems


class RunningTasks:
    """Remembers the tasks of jobs while they run: a definition is read once."""

    def __init__(self, pulls: Pulls, serializer: Serializer) -> None:
        self._pulls = pulls
        self._serializer = serializer
        self._tasks: dict[Run, str] = {}

    async def count(self, fronts: Collection[Front], problems: Problems) -> Mapping[str, int] | None:
        """Running jobs by task; None where it is not known what runs, or definitions may not be read."""
        running = {run: front for front in fronts for run in front.running.items()}
        self._tasks = {run: task for run, task in self._tasks.items() if run in running}
        if not all(front.complete for front in fronts):
            return None
        new = [(front, run) for run, front in running.items() if run not in self._tasks]
        replies = await self._pulls.many(
            command
            for front, (job_id, _) in new
            for command in (("GETRANGE", JOB + job_id, 0, HEAD_BYTES - 1), ("ZSCORE", front.key, job_id))
        )
        denied = False
        for (front, run), head, queued in zip(new, replies[::2], replies[1::2], strict=True):
            if problems.note(front.queue, head, feature=Feature.BY_TASK):
                denied = True
            elif head or queued is not None:  # else it has ended meanwhile
                self._tasks[run] = (task_of(head, self._serializer) if head else None) or UNKNOWN
        if denied:
            return None
        return Counter(self._tasks[run] for front in fronts for run in front.running.items() if run in self._tasks)
