"""The head of a ready list, watched over scrapes: since when the first job waits, and whether jobs leave."""

from __future__ import annotations


class Head:
    """One ready list. `head` is whatever identifies its first job; None where that is not known."""

    __slots__ = ("_depth", "_head", "_since")

    def __init__(self, *, empty: bool = False) -> None:
        """`empty` where the list is known to have been so until now."""
        self._head: object = None
        self._depth: int | None = 0 if empty else None
        self._since: float | None = None

    def note(self, head: object, depth: int, now: float) -> bool:
        """What the list looks like now. Returns whether a job left it since the last look."""
        if head is None or head != self._head:
            # Only out of an empty list is a new head's age known; any other may have waited behind the last one.
            self._since = now if head is not None and self._depth == 0 else None
        left = self._depth is not None and (depth < self._depth or self._changed(head))
        self._head, self._depth = head, depth
        return left

    @property
    def since(self) -> float | None:
        """When the present head was put there, right to one scrape and never too early; None if that is unknown."""
        return self._since

    def _changed(self, head: object) -> bool:
        return self._head is not None and head is not None and head != self._head
