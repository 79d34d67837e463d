"""The jobs of each queue by state: what workers hold by `unacked`, what runs by the task table or the workers' answers.

A job that is acknowledged early stands in no list while it runs; one that is acknowledged late stands in `unacked`,
too, and counts as running alone. A job with two messages in `unacked` (one that is retried while it still runs) is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from exporter.model import JobState
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.queues.routes import Routes
from exporter.systems.celery.queues.unacked import Messages
from exporter.systems.celery.workers.running import Running
from exporter.systems.keys import Problems

_AT_ONCE: Final = 2_000
"""Messages sorted before the loop gets its turn: a millisecond or so."""
_NO_IDS: Final[frozenset[str]] = frozenset()


class Jobs(msgspec.Struct):
    """Of one queue, the ids of the jobs in workers' hands."""

    due: set[str]
    later: set[str]

    def states(self, running: Collection[str]) -> tuple[int, int]:
        """Of those that do not run: how many are scheduled, and how many reserved."""
        due = self.due.difference(running)
        return len(self.later.difference(due, running)), len(due)


class Sorted(msgspec.Struct):
    """What stands in `unacked` under one key prefix."""

    queues: dict[str, Jobs]
    unsure: set[str]
    """Queues that may have more."""
    strays: int
    """Messages of which nothing tells the queue: any may have more."""

    def knows(self, queue: str) -> bool:
        """Whether all jobs of a queue are known."""
        return not self.strays and queue not in self.unsure


class InHand:
    """What stands in `unacked` under all key prefixes, and where each queue stands."""

    def __init__(
        self, seen: Mapping[str, Sorted], homes: Mapping[str, frozenset[str]], prefixes: Collection[str]
    ) -> None:
        """`seen` lacks the prefixes of which not all is known; `homes` has the prefixes of the queues that are in no
        doubt, any other may have jobs under each of the `prefixes`."""
        self._seen = seen
        self._homes = homes
        self._prefixes = prefixes
        self._ids: frozenset[str] | None = None

    def jobs(self, queue: str) -> Jobs | None:
        """Those of a queue; None where they are not known."""
        seen = [self._seen.get(prefix) for prefix in self._homes.get(queue, self._prefixes)]
        whole = [part for part in seen if part is not None and part.knows(queue)]
        if len(whole) < len(seen):
            return None
        found = [part.queues[queue] for part in whole if queue in part.queues]
        return Jobs(set().union(*(jobs.due for jobs in found)), set().union(*(jobs.later for jobs in found)))

    def holds(self, ids: Collection[str]) -> bool:
        """Whether all these jobs stand there, each in a queue that is known."""
        if self._ids is None:
            queues = [jobs for part in self._seen.values() for jobs in part.queues.values()]
            self._ids = frozenset().union(*(jobs.due for jobs in queues), *(jobs.later for jobs in queues))
        return self._ids.issuperset(ids)


async def sort(messages: Messages, prefix: str, routes: Routes, now: float) -> Sorted:
    """The messages under one key prefix by queue, and by whether they are due."""
    found = Sorted({}, set(), 0)
    for number, delivered in enumerate(messages.values()):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        if delivered is None:
            found.strays += 1
            continue
        queues = routes.queues(prefix, delivered.exchange, delivered.routing_key)
        if len(queues) != 1 or delivered.message is None:
            found.unsure |= queues
            found.strays += not queues
            continue
        (queue,) = queues
        jobs = found.queues.get(queue) or found.queues.setdefault(queue, Jobs(set(), set()))
        due = delivered.message.due
        (jobs.due if due is None or due <= now else jobs.later).add(delivered.message.job)
    return found


def note_strays(found: Collection[Sorted], problems: Problems) -> None:
    """Says how many messages keep the states of all jobs from being known."""
    if strays := sum(part.strays for part in found):
        problems.add(f"{strays} messages in unacked tell no job, or not its queue")


def states(queue: str, in_hand: InHand, running: Running | None) -> dict[JobState, int]:
    """The jobs of a queue that workers have, by state, as far as it is known."""
    jobs = in_hand.jobs(queue)
    found: dict[JobState, int] = {}
    if jobs is not None:
        scheduled, reserved = jobs.states(_NO_IDS if running is None else running.ids)
        found[JobState.SCHEDULED] = scheduled
        if running is not None or not reserved:  # else some of them may run
            found[JobState.RESERVED] = reserved
    runs = None if running is None else _running(queue, jobs, in_hand, running)
    return found if runs is None else found | {JobState.RUNNING: runs}


def _running(queue: str, jobs: Jobs | None, in_hand: InHand, running: Running) -> int | None:
    """By the workers, if they tell the queue of all that runs; else by `unacked`, if all that runs stands there."""
    if UNKNOWN not in running.jobs:
        return running.jobs.get(queue, 0)
    if jobs is None or not in_hand.holds(running.ids):
        return None
    return len((jobs.due | jobs.later).intersection(running.ids))
