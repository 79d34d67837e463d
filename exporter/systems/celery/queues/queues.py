"""All queues of a broker, looked at together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import msgspec

from exporter.brokers.pulls import Pulls
from exporter.model import JobState, QueueState
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.options import CeleryOptions
from exporter.systems.celery.queues.front import Front, read_front, with_tail
from exporter.systems.celery.queues.lists import List, Lists
from exporter.systems.celery.queues.search import Search
from exporter.systems.celery.queues.states import InHand, note_strays, sort, states
from exporter.systems.celery.queues.unacked import Counted, Messages, Unacked, count_unacked
from exporter.systems.celery.queues.watched import Watched
from exporter.systems.celery.workers.running import Running
from exporter.systems.celery.workers.skew import AGREE
from exporter.systems.keys import Problems


class Heard(Protocol):
    """What events tell of the jobs in the queues."""

    def due(self, job: str) -> float | None:
        """When a job that was sent, and has not ended, was due: Unix time; None if that is not known."""
        ...

    def progress(self, queue: str) -> float | None:
        """When a job of a queue was last started."""
        ...


class Read(msgspec.Struct, frozen=True):
    """What Redis holds of some queues."""

    names: Mapping[str, bool]
    """Each with whether it came into being while we watched."""
    depths: Mapping[List, int]
    fronts: Mapping[List, Front]
    in_hand: InHand
    unacked: Counted
    """What is unacknowledged in all queues."""
    at: float
    """When the fronts were there: Unix time."""


class Queues:
    """What earlier scrapes saw of them is remembered."""

    def __init__(
        self, pulls: Pulls, options: CeleryOptions, search: Search, heard: Heard, clock: Callable[[], float]
    ) -> None:
        self._pulls = pulls
        self._clock = clock
        self._search = search
        self._heard = heard
        self._only = options.global_keyprefix
        self._lists = Lists(pulls, options.priority_steps, options.separator, self._only)
        self._unacked = Unacked(pulls)
        self._watched: dict[str, Watched] = {}
        self._evident: set[str] = set()

    async def read(self, names: Mapping[str, bool], problems: Problems) -> Read:
        """What Redis holds of the queues of these names, each with whether it came into being while we watched."""
        counted = await count_unacked(self._pulls, self._search.prefixes, problems)
        asked = self._unacked.questions(counted.few)
        depths, tags = await self._lists.depths(names.keys(), problems, asked)
        fronts, now = await self._fronts(depths, problems)
        messages = await self._unacked.read(counted.few, tags, problems)
        in_hand = await self._in_hand(names, messages, now, problems)
        return Read(names, depths, fronts, in_hand, counted, now)

    def states(self, read: Read, running: Running | None) -> list[QueueState]:
        """The queues that were read, where `running` is what ran just after that; None where that is not known."""
        self._watched = {name: watched for name, watched in self._watched.items() if name in read.names}
        return [self._state(name, read, running) for name in read.names if (name, 0) in read.depths]

    async def _fronts(self, depths: Mapping[List, int], problems: Problems) -> tuple[dict[List, Front], float]:
        """Of each list that has jobs, the first ones: as many as it takes. And when they were there."""
        heads = await self._lists.heads([where for where, depth in depths.items() if depth], problems)
        now = self._clock()
        fronts = {where: read_front([text], depths[where], self._heard.due, now) for where, text in heads.items()}
        if odd := [where for where, front in fronts.items() if front.odd]:
            more = await self._lists.fronts(odd, problems)
            now = self._clock()
            fronts |= {
                where: read_front(texts, depths[where], self._heard.due, now) for where, texts in more.items() if texts
            }
        tails = await self._lists.tails([where for where in fronts if depths[where] > 1], problems)
        fronts |= {where: with_tail(fronts[where], text, self._heard.due, now) for where, text in tails.items()}
        return fronts, now

    async def _in_hand(
        self, names: Collection[str], messages: Mapping[str, Messages], now: float, problems: Problems
    ) -> InHand:
        routes = self._search.routes
        seen = {prefix: await sort(found, prefix, routes, now) for prefix, found in messages.items()}
        note_strays(seen.values(), problems)
        if self._only is not None:
            return InHand(seen, {}, (self._only,))
        if self._search.homes is not None:
            return InHand(seen, self._search.homes, self._search.prefixes)
        # Names may begin with a key prefix that nobody told us: only a message tells that there is none.
        self._evident |= {queue for part in seen.values() for queue in part.queues}
        self._evident.intersection_update(names)
        return InHand(seen, dict.fromkeys(self._evident, self._search.prefixes), (UNKNOWN,))

    def _state(self, queue: str, read: Read, running: Running | None) -> QueueState:
        steps = self._lists.steps(queue)
        by_priority = {priority: read.depths[queue, priority] for priority in steps}
        watched = self._watched.get(queue)
        if watched is None:
            watched = self._watched[queue] = Watched(empty=read.names[queue])
        fronts = {step: read.fronts[queue, step] for step in steps if (queue, step) in read.fronts}
        watched.note(by_priority, fronts, read.at)
        jobs = {JobState.READY: sum(by_priority.values()), **states(queue, read.in_hand, running)}
        return QueueState(
            queue=queue,
            jobs=jobs,
            ready_by_priority=by_priority,
            oldest_ready=watched.oldest_ready,
            oldest_running=None if running is None else _oldest_running(queue, running, read.at),
            last_progress=max(watched.last_progress, min(read.at, self._heard.progress(queue) or 0.0)),
        )


def _oldest_running(queue: str, running: Running, now: float) -> float | None:
    """A job whose queue is not known may run for longer; what began in time to come tells of a clock that is wrong."""
    oldest = None if UNKNOWN in running.jobs else running.oldest.get(queue)
    return None if oldest is None or oldest > now + AGREE else min(oldest, now)
