"""What one worker tells: its running attempts, the ends that are still to be written, and the task that writes."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import secrets
import socket
import time
from collections import deque
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Iterator

from . import _records
from ._connection import Connection
from ._guard import complain, safely
from ._waiting import Signal, background
from ._worker import slots_of

if TYPE_CHECKING:
    from ._jobs import Attempt
    from ._options import Options

GATHER = 0.2
"""How long ends are gathered for one write."""
BATCH = 100
"""Ends in one MULTI at most: to encode them holds up the worker's loop (about 3 ms)."""
GOODBYE = 1.0
"""How long a worker's end may wait for the last write."""
LAST_JOBS = 60.0
"""How long after the end of `Worker.main` a worker still reports, if jobs of it run or their ends are not written."""


class Reporter:
    """One per worker, in the worker's loop. Jobs call `ended()` and change `running`; all else is the task's."""

    def __init__(self, worker: Any, options: Options) -> None:
        self.worker = worker
        self.running: dict[Attempt, None] = {}
        self._options = options
        self._name = (options.name or f"{socket.gethostname()}:{os.getpid()}")[: _records.NAME_LENGTH]
        self._id = f"{self._name}:{secrets.token_hex(4)}"
        self._started = time.time()
        self._ends: deque[_records.End] = deque(maxlen=options.buffer)
        self._unconfirmed: list[_records.End] = []
        self._numbers = itertools.count(1)
        self._made = 0
        self._dropped = 0
        self._cleaned = float("-inf")
        self._connection = Connection(worker.pool)
        self._news = Signal()
        self._closing = Signal()
        self._task: asyncio.Task[None] | None = None
        self._main: asyncio.Task[Any] | None = None
        self._over_since: float | None = None
        self._leaves = False

    # -- what jobs do -------------------------------------------------------------------------------------------

    def ended(self, attempt: Attempt, outcome: str, exception: str, kept: bool) -> None:
        """An attempt ended now. If the buffer is full, its oldest record is lost, and counted."""
        self._made = next(self._numbers)
        self._dropped += len(self._ends) == self._options.buffer
        job, times = (attempt.job[: _records.JOB_LENGTH], attempt.task), (attempt.due, attempt.start, time.time())
        self._ends.append(_records.End(self._made, *job, outcome, exception, attempt.attempt, *times, kept))
        self._news.set()

    # -- its life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Report from now on, in the background, until the task that runs `Worker.main` is done."""
        self.follow()
        self._task = background(self._report())

    def follow(self) -> None:
        """The task that runs now is the one that runs `Worker.main`.

        There is no telling when `main` itself ends: of a task that awaits it and goes on, the end is the task's.
        """
        main = asyncio.current_task()
        if main is not None and main is not self._main:
            self._main = main
            main.add_done_callback(functools.partial(safely, self._wake))

    def _wake(self, _: object) -> None:
        self._news.set()

    @property
    def reports(self) -> bool:
        """Whether it reports and will go on, in the loop that runs now."""
        task = self._task
        if task is None or task.done() or self._leaves:
            return False
        return task.get_loop() is asyncio.get_running_loop()

    async def stop(self) -> None:
        """Write what is left and say goodbye, if Redis answers within a second."""
        task, self._task = self._task, None
        leaves = self._leaves
        self._closing.set()
        self._news.set()
        try:
            if task is not None and await ended_in_time(task) and leaves and self._ends:
                # Of jobs that ran on when it was over: its goodbye may have been half said, or said long ago.
                await ended_in_time(background(self._say_goodbye()))
        finally:
            await self._connection.drop()

    # -- the task that writes -----------------------------------------------------------------------------------

    async def _report(self) -> None:
        """Write at each beat and soon after an end; after a failure at the next beat.

        There is no other writer: no late write can bring back what the goodbye took away.
        """
        while not self._closing.is_set and not self._is_over():
            if not await self._written():
                await self._closing.wait(self._options.beat)
            elif not self._is_over():
                await self._news.wait(self._options.beat)
                if self._news.is_set:
                    await self._closing.wait(GATHER)
        self._leaves = True
        await self._say_goodbye()
        await self._connection.drop()

    def _is_over(self) -> bool:
        """Whether `Worker.main` has ended, and so have its jobs and the writing of their ends, or too long ago."""
        if self._main is None or not self._main.done():
            self._over_since = None
            return False
        self._over_since = self._over_since or time.monotonic()
        to_do = self._ends or self._unconfirmed or any(not task.done() for task in self.worker.tasks.values())
        return not to_do or time.monotonic() - self._over_since > LAST_JOBS

    async def _written(self) -> bool:
        """Write once, and on while there is enough for another write; False if Redis did not take all."""
        try:
            await self._write()
            while len(self._ends) >= BATCH:
                await self._write()
        except Exception as error:
            await self._connection.drop()
            with suppress(Exception):
                complain(self._write, error)
            return False
        return True

    async def _write(self) -> None:
        """Write the worker and the next ends: those of a write of which nobody knows whether it was carried out first,
        under the same numbers. Raises if an end could not be written."""
        self._unconfirmed = self._unconfirmed or self._next_ends()
        if not self._ends and not self._closing.is_set:
            self._news.clear()
        replies = await self._connection.execute(self._commands())
        # MULTI carries out what it can: a key of ours that is of another type fails alone.
        refused = [reply for reply in replies if isinstance(reply, Exception)]
        self._unconfirmed = [one for one, reply in zip(self._unconfirmed, replies) if isinstance(reply, Exception)]
        if self._unconfirmed:
            raise refused[0]
        if refused:
            complain(self._write, refused[0])

    def _next_ends(self) -> list[_records.End]:
        return [self._ends.popleft() for _ in range(min(BATCH, len(self._ends)))]

    async def _say_goodbye(self) -> None:
        """Write what is left, and take the worker back."""
        try:
            while self._unconfirmed or self._ends:
                await self._write()
            await self._connection.execute(_records.goodbye_commands(self._id))
        except Exception as error:
            complain(self._say_goodbye, error)

    # -- what it writes -----------------------------------------------------------------------------------------

    def _commands(self) -> Iterator[_records.Command]:
        now = time.time()
        running = (attempt.running() for attempt in itertools.islice(self.running, _records.RUNNING_LISTED))
        return chain(
            self._end_commands(now),
            _records.worker_commands(self._record(now), running),
            self._cleaning_commands(now),
        )

    def _end_commands(self, now: float) -> Iterator[_records.Command]:
        if not self._unconfirmed:
            return iter(())
        queue, length = self.worker.queue_name, self._options.stream_length
        return _records.end_commands(self._id, queue, self._unconfirmed, now, length)

    def _cleaning_commands(self, now: float) -> Iterator[_records.Command]:
        """Once a beat."""
        if time.monotonic() - self._cleaned < self._options.beat:
            return iter(())
        self._cleaned = time.monotonic()
        return _records.cleaning_commands(now)

    def _record(self, now: float) -> _records.Worker:
        return _records.Worker(
            id=self._id,
            name=self._name,
            queue=self.worker.queue_name,
            started=self._started,
            at=now,
            beat=self._options.beat,
            slots=slots_of(self.worker),
            busy=len(self.running),
            functions=len(self.worker.functions),
            records=self._made,
            dropped=self._dropped,
        )


async def ended_in_time(task: asyncio.Task[None]) -> bool:
    """Whether a task that is about to end does so within a second; else cancel it. Raises what it raised."""
    done, late = await asyncio.wait({task}, timeout=GOODBYE)
    if late:
        task.cancel()
        await asyncio.wait({task}, timeout=GATHER)
    for one in done:
        one.result()
    return not late
