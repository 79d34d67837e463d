"""statvfs(2) of many mounts, of which any may hang for ever (NFS without its server).

A call that hangs cannot be ended: its thread is left behind, and its mount is not asked again until that thread comes
back. Mounts that answered when they were last asked are asked first, the quickest before the others, whatever hangs.
One that never answered is asked only while fewer than THREADS calls hang, and fewer than AT_ONE_PLACE of what was
mounted at its place before it: what is mounted anew again and again keeps no other from being asked. So there are never
more threads than THREADS, one more, and one for each mount that answered before it hung.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

from exporter.collectors.mounts import Mount

PATIENCE: Final = 2.0
"""Seconds that one look waits, for all its mounts together."""
STAGGER: Final = 0.1
"""Seconds without an answer after which the other mounts are asked by a further thread."""
THREADS: Final = 64
"""Calls that may hang before a mount that never answered is not asked any more."""
AT_ONE_PLACE: Final = 4
"""The same for one device at one mount point, where a mount that hangs was unmounted by force and mounted again."""
REST: Final = 120.0
"""Seconds for which one thread waits for the next look: a new one for each would cost more than the call."""

Answer = os.statvfs_result | OSError
"""What statvfs said."""


class NoAnswer(OSError):
    """The mount was asked, now or before, and has not answered yet."""

    def __init__(self) -> None:
        super().__init__(errno.ETIMEDOUT, "no answer from statvfs, and it is not asked again before it answers")


class _Look:
    """One look at some mounts: what is still to be asked, what is being asked, and what was answered."""

    def __init__(self, mounts: Iterable[Mount] = ()) -> None:
        self.waiting = deque(mounts)
        self.pending: set[Mount] = set()
        self.answers: dict[Mount, Answer] = {}

    @property
    def ended(self) -> bool:
        return not (self.waiting or self.pending)


class Prober:
    """Asks mounts, and remembers which of them answered, and which have not answered yet."""

    def __init__(
        self,
        statvfs: Callable[[bytes], os.statvfs_result] = os.statvfs,
        patience: float = PATIENCE,
        stagger: float = STAGGER,
        threads: int = THREADS,
        rest: float = REST,
    ) -> None:
        self._statvfs = statvfs
        self._patience = patience
        self._stagger = stagger
        self._limit = threads
        self._rest = rest
        self._looking = threading.Lock()
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._begun = threading.Condition(self._lock)
        self._look = _Look()
        self._took: dict[Mount, float] = {}  # seconds that the last answer took
        self._asked: set[Mount] = set()
        self._resting: object = None  # a mark of the thread that rests
        self.threads = 0
        """How many there are: those that hang, and one that waits for the next look."""

    def look(self, mounts: Collection[Mount]) -> dict[Mount, Answer]:
        """What each of `mounts` answered; NoAnswer of those that did not in time, or have not since an earlier look.
        Missing are those that were not asked, as too many others hang.

        Returns after PATIENCE seconds at the latest; of two looks at once the second one begins then.
        """
        with self._looking, self._lock:
            self._took = {mount: self._took[mount] for mount in mounts if mount in self._took}
            # A sort keeps what is new in the order of the list.
            in_turn = sorted(mounts, key=lambda mount: self._took.get(mount, math.inf))
            look = self._look = _Look(mount for mount in in_turn if mount not in self._asked)
            self._begin(look)
            self._wait(look)
            look.waiting.clear()  # a thread that comes back later finds nothing more to do
            return {mount: NoAnswer() for mount in mounts if mount in self._asked} | look.answers

    def _wait(self, look: _Look) -> None:
        deadline = time.monotonic() + self._patience
        while self.threads and not look.ended and (left := deadline - time.monotonic()) > 0:
            answered = len(look.answers)
            self._ended.wait_for(lambda: look.ended, min(left, self._stagger))
            if len(look.answers) == answered:
                self._begin(look)

    def _begin(self, look: _Look) -> None:
        """A further thread, if there is something to ask: the one that rests, or a new one."""
        if not look.waiting:
            return
        if self._resting:
            self._resting = None
            self._begun.notify()
            return
        with contextlib.suppress(RuntimeError):  # the system has none left: those that there are go on
            threading.Thread(target=self._work, name="statvfs", daemon=True).start()
            self.threads += 1

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            look, mount = taken
            began = time.monotonic()
            answer = self._ask(mount)
            with self._lock:
                self._took[mount] = time.monotonic() - began
                self._asked.discard(mount)
                look.pending.discard(mount)
                look.answers[mount] = answer

    def _take(self) -> tuple[_Look, Mount] | None:
        """The next mount to ask, as soon as there is one; None where another thread waits for it already."""
        with self._lock:
            while (mount := self._next(self._look)) is None:
                if self._look.ended:
                    self._ended.notify()
                if not self._rests():
                    self.threads -= 1
                    return None
            self._asked.add(mount)
            self._look.pending.add(mount)
            return self._look, mount

    def _next(self, look: _Look) -> Mount | None:
        while look.waiting:
            mount = look.waiting.popleft()
            if mount in self._took or self._may_hang(mount):
                return mount
        return None

    def _may_hang(self, mount: Mount) -> bool:
        """Whether there is a thread for it to keep."""
        here = sum((other.device, other.mountpoint) == (mount.device, mount.mountpoint) for other in self._asked)
        return len(self._asked) < self._limit and here < AT_ONE_PLACE

    def _rests(self) -> bool:
        """Waits for the next look, if no other thread does. Whether one came."""
        if self._resting or not self._rest:
            return False
        mine = self._resting = object()
        if self._begun.wait_for(lambda: self._resting is not mine, self._rest):
            return True
        self._resting = None
        return False

    def _ask(self, mount: Mount) -> Answer:
        try:
            return self._statvfs(mount.mountpoint.encode("utf-8", "surrogateescape"))
        except OSError as error:
            return error
        except ValueError as error:  # a path that cannot be one
            return OSError(errno.EINVAL, str(error))
