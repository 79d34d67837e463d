"""What was counted not long ago: the same end of a job is told twice when a connection was lost in between."""

from __future__ import annotations

import math
from typing import Final

LIMIT: Final = 2_000_000
"""Identities held, some 80 bytes each: ten minutes of 3,300 results a second."""
MARGIN: Final = 600.0
"""Seconds by which the clocks of workers may differ from ours."""
_MINUTE: Final = 60
_CLOSE: Final = 10  # minutes: what lies further ahead is kept by the hour
_HOUR: Final = 60  # minutes
_FURTHEST: Final = 48  # hours


class Memory:
    """Hashes of (key, time of the end), in sets by minute, forgotten by whole minutes. Times are Unix seconds.

    Bounded: at the limit the oldest minute goes, and `horizon` rises: what ended before it may have been forgotten, or
    was never known by the time that we have now.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._buckets: dict[int, set[int]] = {}  # by minute; a dozen or two, as `prune` takes the old ones away
        self._size = 0
        self._first = -math.inf  # the minute that `prune` has come to
        self.horizon = -math.inf

    def __len__(self) -> int:
        return self._size

    def __contains__(self, identity: int) -> bool:
        for bucket in self._buckets.values():  # noqa: SIM110  any() over a generator takes three times as long
            if identity in bucket:
                return True
        return False

    @property
    def reach(self) -> float:
        """What ended before this was forgotten by `prune`, or never taken in."""
        return self._first * _MINUTE

    def add(self, identity: int, at: float, now: float) -> None:
        """Remembers `identity` until `prune` passes `at`. What it has passed already isn't worth remembering."""
        bucket = _bucket(at, now)
        if bucket < self._first:
            return
        held = self._buckets.setdefault(bucket, set())
        before = len(held)
        held.add(identity)
        self._size += len(held) - before
        while self._size > self._limit:
            oldest = min(self._buckets)
            self.horizon = max(self.horizon, float((oldest + 1) * _MINUTE))
            self._drop(oldest)

    def prune(self, before: float) -> None:
        """Forgets the minutes that ended by then."""
        self._first = max(self._first, before // _MINUTE)
        for bucket in [bucket for bucket in self._buckets if bucket < self._first]:
            self._drop(bucket)

    def rebase(self, now: float) -> None:
        """The clock was set, to `now`: nothing is forgotten because of that, nor for MARGIN from now on."""
        minute = int(now // _MINUTE)
        held = self._buckets.setdefault(minute, set())
        for bucket in [bucket for bucket in self._buckets if bucket < minute]:
            held |= self._buckets.pop(bucket)
        self._size = sum(map(len, self._buckets.values()))
        self._first = (now - MARGIN) // _MINUTE
        self.horizon = now

    def _drop(self, bucket: int) -> None:
        self._size -= len(self._buckets.pop(bucket))


def _bucket(at: float, now: float) -> int:
    """The minute of `at`. A worker's clock may be ahead by hours: such ends are kept until that time has come and is
    past, in few sets, however many times a hostile result may name."""
    close = int(now // _MINUTE) + _CLOSE
    if at < (close + 1) * _MINUTE:
        return int(at // _MINUTE)
    furthest = close // _HOUR + _FURTHEST
    return min(int(min(at, now + _FURTHEST * _HOUR * _MINUTE) // _MINUTE) // _HOUR + 1, furthest) * _HOUR
