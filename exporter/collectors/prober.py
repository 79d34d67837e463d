"""statvfs(2) of many mounts, of which any may hang for ever (NFS without its server).

A call that hangs cannot be ended: its thread is left behind, and its mount is not asked again until that thread comes
back. Of one mount there is never more than one such thread, and of all no more than THREADS.
"""

from __future__ import annotations

import errno
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
THREADS: Final = 16

Answer = os.statvfs_result | OSError
"""What statvfs said."""


class _Look:
    """One look at some mounts: what is still to be asked, and what was answered."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self.waiting = deque(mounts)
        self.wanted = len(self.waiting)
        self.answers: dict[Mount, Answer] = {}
        self.threads = 0

    @property
    def ended(self) -> bool:
        return len(self.answers) == self.wanted


class Prober:
    """Asks mounts, and remembers which of them have not answered yet."""

    def __init__(
        self,
        statvfs: Callable[[bytes], os.statvfs_result] = os.statvfs,
        patience: float = PATIENCE,
        stagger: float = STAGGER,
        threads: int = THREADS,
    ) -> None:
        self._statvfs = statvfs
        self._patience = patience
        self._stagger = stagger
        self._limit = threads
        self._changed = threading.Condition()
        self._asked: set[Mount] = set()
        self._threads = 0

    def look(self, mounts: Collection[Mount]) -> dict[Mount, Answer]:
        """What each of `mounts` answered. Missing are those that did not in time, or have not since an earlier look,
        and those for which there was no thread left.

        Returns after PATIENCE seconds at the latest.
        """
        with self._changed:
            look = _Look(mount for mount in mounts if mount not in self._asked)
            self._begin(look)
            self._wait(look)
            look.waiting.clear()  # a thread that comes back later finds nothing more to do
            return dict(look.answers)

    def hangs(self, mount: Mount) -> bool:
        """Whether it was asked and has not answered yet."""
        with self._changed:
            return mount in self._asked

    def _wait(self, look: _Look) -> None:
        deadline = time.monotonic() + self._patience
        while look.threads and not look.ended and (left := deadline - time.monotonic()) > 0:
            answered = len(look.answers)
            self._changed.wait_for(lambda: look.ended, min(left, self._stagger))
            if len(look.answers) == answered:
                self._begin(look)

    def _begin(self, look: _Look) -> None:
        """A further thread, if there is something to ask and the limit allows it."""
        if look.waiting and self._threads < self._limit:
            threading.Thread(target=self._work, args=(look,), name="statvfs", daemon=True).start()
            self._threads += 1
            look.threads += 1

    def _work(self, look: _Look) -> None:
        while (mount := self._take(look)) is not None:
            answer = self._ask(mount)
            with self._changed:
                self._asked.discard(mount)
                look.answers[mount] = answer
                if look.ended:
                    self._changed.notify_all()

    def _take(self, look: _Look) -> Mount | None:
        with self._changed:
            if look.waiting:
                self._asked.add(look.waiting[0])
                return look.waiting.popleft()
            self._threads -= 1
            return None

    def _ask(self, mount: Mount) -> Answer:
        try:
            return self._statvfs(mount.mountpoint.encode("utf-8", "surrogateescape"))
        except OSError as error:
            return error
        except ValueError as error:  # a path that cannot be one
            return OSError(errno.EINVAL, str(error))
