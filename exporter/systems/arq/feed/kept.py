"""How many results stand, by queue: told when one comes and when one goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

LIMIT: Final = 250_000
"""Results held, some 100 bytes each. Where more stand, how many is not known."""
COMPLETED: Final = "completed"
FAILED: Final = "failed"

_Where = tuple[str, str]


class KeptResults:
    """Which results stand, as a search found them and as it was told since. Keys are held as hashes."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._standing: dict[int, _Where] | None = None  # None: not known
        self._found: dict[int, _Where] | None = None  # by the search that goes on
        self._counts: Counter[_Where] = Counter()
        self._shared: dict[_Where, _Where] = {}  # one tuple for all that are equal

    def begin(self) -> None:
        """A search begins."""
        self._found = {}

    def end(self) -> None:
        """The search has come to its end: what it did not find stands no more."""
        self._standing, self._found = self._found, None
        self._counts = Counter((self._standing or {}).values())
        self._check()

    def forget(self) -> None:
        """What comes and goes from now on is not told."""
        self._standing = None

    def stands(self, key: bytes, queue: str, *, success: bool) -> None:
        """A result was read."""
        identity = hash(key)
        where = (queue, COMPLETED if success else FAILED)
        where = self._shared.setdefault(where, where)
        if self._found is not None and len(self._found) <= self._limit:
            self._found[identity] = where
        if self._standing is not None:
            self._drop(self._standing, identity)
            self._standing[identity] = where
            self._counts[where] += 1
            self._check()

    def gone(self, key: bytes) -> None:
        """Nothing stands there."""
        identity = hash(key)
        if self._found is not None:
            self._found.pop(identity, None)
        if self._standing is not None:
            self._drop(self._standing, identity)

    def of(self, queue: str) -> Mapping[str, int]:
        """How many stand of the queue, by state; nothing where it isn't known."""
        if self._standing is None:
            return {}
        return {state: self._counts[queue, state] for state in (COMPLETED, FAILED)}

    def _drop(self, standing: dict[int, _Where], identity: int) -> None:
        before = standing.pop(identity, None)
        if before is not None:
            self._counts[before] -= 1

    def _check(self) -> None:
        if self._standing is not None and len(self._standing) > self._limit:
            self._standing = None
