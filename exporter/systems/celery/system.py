"""Celery's queues on Redis, observed.

A queue is one list per priority step, pushed at the left and popped at the right; what a worker took and has not
acknowledged stands in the hash `unacked`, which all queues of a database share, with delivery times in
`unacked_index` (kombu/transport/redis.py, `Channel._q_for_pri`, `QoS`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from itertools import chain
from typing import Annotated, Final

import msgspec

from exporter.brokers.pulls import BrokerError, Pulls, ReplyTooLarge
from exporter.brokers.turn import Turn
from exporter.model import Feed, JobState, Observation, Outcome, Permissions, QueueState
from exporter.safe.documents import shown
from exporter.systems.base import Discovery, RedisSystem, SystemOptions
from exporter.systems.celery.feed import EventsFeed
from exporter.systems.head import Head
from exporter.systems.keys import Problems, key_bytes, key_text, pattern

SEPARATOR: Final = "\x06\x16"
"""kombu's default, between the parts of a binding and between a queue and its priority."""
PRIORITY_STEPS: Final = (0, 3, 6, 9)
"""kombu's default; the lowest number is consumed first, and 0 has the queue's plain name."""
FINE_STEPS: Final = tuple(range(10))
"""Read of a queue that has jobs at one of these beside the steps we know of: its depth would lack them."""
BINDINGS: Final = "_kombu.binding."
UNACKED: Final = "unacked"
UNACKED_INDEX: Final = "unacked_index"
# Exchanges whose queues carry no tasks: remote control, its replies, events.
_NO_TASKS: Final = ("pidbox", "celeryev")
# A reply queue that never goes away leaves its binding behind: sets of a million members were seen.
_MAX_BINDINGS: Final = 10_000
_MAX_PREFIXES: Final = 100
# Heads read in one go: whole messages, of any size.
_PEEKED_LISTS: Final = 50

_List = tuple[str, int]  # queue, priority


class CeleryOptions(SystemOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Celery's section. `separator` and `priority_steps` are what its `broker_transport_options` say of them."""

    separator: Annotated[str, msgspec.Meta(min_length=1)] = SEPARATOR
    priority_steps: tuple[Annotated[int, msgspec.Meta(ge=0, le=255)], ...] = PRIORITY_STEPS
    events: bool = True
    """Follow the events of workers and producers."""
    forget_workers_after: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    """Seconds after which a worker that was lost, rather than shut down, is shown no more."""


class Celery(RedisSystem):
    """The Celery queues of one database. A queue goes by its key, `global_keyprefix` included."""

    name = "celery"
    Options = CeleryOptions
    outcomes = (
        *(Outcome.SUCCEEDED, Outcome.FAILED, Outcome.ABORTED, Outcome.EXPIRED),
        *(Outcome.NOT_FOUND, Outcome.REJECTED),
    )

    def __init__(
        self,
        pulls: Pulls,
        options: CeleryOptions,
        clock: Callable[[], float] = time.time,
        turn: Turn | None = None,
    ) -> None:
        super().__init__(pulls, options, clock, turn)
        self._feed = EventsFeed(pulls.address, self.turn, clock, options.forget_workers_after)
        self._feeds: tuple[Feed, ...] = (self._feed,) if options.events else ()
        self._discovery = Discovery(self._search if options.discover else None, options.queues)
        self._separator = options.separator
        self._usual_steps = tuple(sorted({0, *options.priority_steps}))
        self._all_steps = tuple(sorted({*self._usual_steps, *FINE_STEPS}))
        self._fine: set[str] = set()  # queues that were seen to use other steps
        self._prefixes: set[str] = {""}
        self._misread: str | None = None  # a binding that we cannot take apart
        self._heads: dict[_List, Head] = {}
        self._progress: dict[str, float] = {}

    async def observe(self) -> Observation:
        queues = await self._discovery.queues()
        problems = Problems(self._discovery.problem)
        if self._misread is not None:
            problems.add(f"found the binding {shown(self._misread)}, wanted three parts between {self._separator!r}")
        await self._look_for_fine_steps(queues, problems)
        depths = await self._depths(queues, problems)
        heads = await self._peek([where for where, depth in depths.items() if depth], problems)
        now = self.clock()
        states = [self._state(queue, depths, heads, now) for queue in queues if (queue, 0) in depths]
        self._forget_all_but(queues)
        unacked, oldest = await self._unacked(problems)
        known = bool(states) or self._feed.heard_workers
        return Observation(
            queues=states,
            workers=self._feed.workers() if known else None,
            running=self._feed.running() if known else None,
            # A database without any trace of Celery has no unacknowledged messages to speak of.
            unacked_jobs=unacked if states or unacked else None,
            oldest_unacked=oldest,
            problems=problems.lines(),
        )

    @property
    def feeds(self) -> Collection[Feed]:
        return self._feeds

    def permissions(self) -> Collection[Permissions]:
        discovers = self.options.discover
        lists = frozenset({"*"} if discovers else chain.from_iterable(map(self._patterns, self.options.queues)))
        prefix = "*" if discovers else ""
        features = [
            Permissions("depth", frozenset({"llen"}), lists),
            Permissions("other priorities", frozenset({"exists"}), lists),
            Permissions("oldest ready", frozenset({"lindex"}), lists),
            Permissions("unacked", frozenset({"hlen"}), frozenset({prefix + UNACKED})),
            Permissions("oldest unacked", frozenset({"zrange"}), frozenset({prefix + UNACKED_INDEX})),
        ]
        if discovers:
            features.append(Permissions("discovery", frozenset({"scan", "sscan"}), frozenset({f"*{BINDINGS}*"})))
        if self._feeds:
            listens = frozenset({self._feed.pattern})
            features.append(Permissions("events", frozenset({"psubscribe"}), channels=listens))
        return features

    def _patterns(self, queue: str) -> tuple[str, str]:
        """Of the lists of a queue: priority 0, and the others."""
        return pattern(queue), pattern(queue + self._separator) + "*"

    async def close(self) -> None:
        await self._discovery.close()

    # -- reading ------------------------------------------------------------------------------------------------

    def _steps(self, queue: str) -> tuple[int, ...]:
        return self._all_steps if queue in self._fine else self._usual_steps

    async def _look_for_fine_steps(self, queues: Collection[str], problems: Problems) -> None:
        """Notes the queues that have jobs at steps which are not configured here: one command for each queue."""
        unusual = [step for step in self._all_steps if step not in self._usual_steps]
        usual = [queue for queue in queues if queue not in self._fine and unusual]
        replies = await self.pulls.many(
            ("EXISTS", *(list_key(queue, step, self._separator) for step in unusual)) for queue in usual
        )
        for queue, reply in zip(usual, replies, strict=True):
            if not problems.note(queue, reply) and reply:
                self._fine.add(queue)

    async def _depths(self, queues: Collection[str], problems: Problems) -> dict[_List, int]:
        """Jobs by queue and priority; a queue of which a list cannot be read is left out whole."""
        lists = [(queue, priority) for queue in queues for priority in self._steps(queue)]
        replies = await self.pulls.many(("LLEN", list_key(*where, self._separator)) for where in lists)
        depths = dict(zip(lists, replies, strict=True))
        for queue in queues:
            own = [(queue, priority) for priority in self._steps(queue)]
            if problems.note(queue, *(depths[where] for where in own)):
                for where in own:
                    del depths[where]
        return depths

    async def _peek(self, lists: list[_List], problems: Problems) -> dict[_List, object]:
        """What identifies the message at the head of each list: a hash, as nothing of it is read or kept."""
        heads: dict[_List, object] = {}
        for start in range(0, len(lists), _PEEKED_LISTS):
            try:
                await self._peek_at(lists[start : start + _PEEKED_LISTS], heads, problems)
            except BrokerError as error:  # the depths stand
                problems.add(f"heads of queues not read: {error}")
                break
        return heads

    async def _peek_at(self, lists: list[_List], heads: dict[_List, object], problems: Problems) -> None:
        try:
            messages = await self.pulls.many(("LINDEX", list_key(*where, self._separator), -1) for where in lists)
        except ReplyTooLarge as error:
            if len(lists) == 1:
                problems.add(f"head not read: {error}", lists[0][0])
                return
            half = len(lists) // 2
            await self._peek_at(lists[:half], heads, problems)
            await self._peek_at(lists[half:], heads, problems)
            return
        for where, message in zip(lists, messages, strict=True):
            if not problems.note(where[0], message) and message is not None:
                heads[where] = hash(message)

    async def _unacked(self, problems: Problems) -> tuple[int | None, float | None]:
        """How many messages are unacknowledged under all key prefixes, and when the oldest was delivered."""
        replies = await self.pulls.many(
            command
            for prefix in sorted(self._prefixes)
            for command in (
                ("HLEN", key_bytes(prefix + UNACKED)),
                ("ZRANGE", key_bytes(prefix + UNACKED_INDEX), 0, 0, "WITHSCORES"),
            )
        )
        counts, indexes = replies[::2], replies[1::2]
        count = None if problems.note(UNACKED, *counts) else sum(map(int, counts))
        if problems.note(UNACKED, *indexes):
            return count, None
        return count, min((float(index[1]) for index in indexes if index), default=None)

    def _forget_all_but(self, queues: Collection[str]) -> None:
        self._heads = {where: head for where, head in self._heads.items() if where[0] in queues}
        self._progress = {queue: at for queue, at in self._progress.items() if queue in queues}
        self._fine.intersection_update(queues)

    def _state(self, queue: str, depths: dict[_List, int], identities: dict[_List, object], now: float) -> QueueState:
        by_priority = {priority: depths[queue, priority] for priority in self._steps(queue)}
        left = False
        waiting: list[float | None] = []
        for priority, depth in by_priority.items():
            head = self._heads.setdefault((queue, priority), Head(empty=self._discovery.appeared(queue)))
            left = head.note(identities.get((queue, priority)), depth, now) or left
            if depth:
                waiting.append(head.since)
        ready = sum(by_priority.values())
        if left or not ready or queue not in self._progress:
            self._progress[queue] = now
        self._progress[queue] = max(self._progress[queue], min(now, self._feed.progress(queue) or 0.0))
        return QueueState(
            queue=queue,
            jobs={JobState.READY: ready},
            ready_by_priority=by_priority,
            oldest_ready=_earliest(waiting),
            last_progress=self._progress[queue],
        )

    # -- discovery ----------------------------------------------------------------------------------------------

    async def _search(self) -> Collection[str]:
        """Queues by their bindings, which producers write too: also those that no worker ever consumed."""
        found: set[str] = set()
        prefixes = {""}
        self._misread = None
        async for keys in self.pulls.scan("MATCH", f"*{BINDINGS}*", "TYPE", "set"):
            for key in keys:
                prefix, _, exchange = key_text(key).partition(BINDINGS)
                if not exchange.endswith(_NO_TASKS):
                    found.update(prefix + queue for queue in await self._bound(key))
                    prefixes.add(prefix)
            if len(found) > self._discovery.KNOWN_QUEUES:
                break
        self._prefixes = set(sorted(prefixes)[:_MAX_PREFIXES])
        return found

    async def _bound(self, key: bytes) -> set[str]:
        """The queues bound to an exchange: the last of the three parts of each member."""
        found: set[str] = set()
        async for members in self.pulls.members(key):
            for member in members:
                parts = key_text(member).split(self._separator)
                if len(parts) == 3:
                    found.add(parts[2])
                else:
                    self._misread = key_text(member)
            if len(found) > _MAX_BINDINGS:
                break
        return found - {""}


def list_key(queue: str, priority: int, separator: str = SEPARATOR) -> bytes:
    """The list of one priority of a queue."""
    return key_bytes(queue if priority == 0 else f"{queue}{separator}{priority}")


def _earliest(times: list[float | None]) -> float | None:
    """The earliest of `times`, unknown as soon as one of them is."""
    known = [moment for moment in times if moment is not None]
    return min(known) if known and len(known) == len(times) else None
