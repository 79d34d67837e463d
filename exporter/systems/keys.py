"""Names of keys as text and back, what stands at keys, and the problems met while reading them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Final, TypeVar

from exporter.brokers.errors import Refused, Reply
from exporter.safe.text import one_line

T = TypeVar("T")


def key_text(key: bytes) -> str:
    """A key as text. Bytes that are no UTF-8 survive as lone surrogates, so that `key_bytes` gives the same key."""
    return key.decode("utf-8", "surrogateescape")


def key_bytes(text: str) -> bytes:
    """The key that `key_text` came from."""
    return text.encode("utf-8", "surrogateescape")


def is_key(text: str) -> bool:
    """Whether it can be a key's name: not with lone surrogates of other kinds, which JSON can spell."""
    try:
        key_bytes(text)
    except UnicodeEncodeError:
        return False
    return True


def pattern(name: str) -> str:
    """A pattern, in the glob of Redis (util.c, `stringmatchlen`), that only this name matches."""
    return _SPECIAL.sub(r"\\\g<0>", name)


_SPECIAL: Final = re.compile(r"[*?\[\]\\]")


def pages(items: Iterable[T], size: int) -> Iterable[list[T]]:
    """The items by the page."""
    items = iter(items)
    while page := list(islice(items, size)):
        yield page


def read_string(reply: Reply) -> bytes | None:
    """Of a result, what the reply to GETRANGE gives: empty where none stands there (any more), None where it is no
    string. Raises Refused."""
    if isinstance(reply, bytes):
        return reply
    if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
        raise Refused(one_line(f"results cannot be read: {reply}"))
    return None


class Problems:
    """What could not be observed, as a few lines: a thousand queues that fail alike are one problem."""

    def __init__(self, first: str | None = None) -> None:
        self._counts: Counter[str] = Counter([first] if first else [])
        self._example: dict[str, str] = {}

    def add(self, problem: str, queue: str | None = None) -> None:
        """One more thing that could not be observed."""
        self._counts[problem] += 1
        if queue is not None:
            self._example.setdefault(problem, queue)

    def note(self, queue: str | None, *replies: Reply, feature: str = "") -> bool:
        """Whether one of the `replies` for `queue` is an error; then it is noted, with the `feature` that is lost."""
        error = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if error is not None:
            self.add(one_line(f"{feature}: {error}" if feature else str(error)), queue)
        return error is not None

    def lines(self) -> Collection[str]:
        """One line for each kind of problem."""
        return [self._line(problem, count) for problem, count in self._counts.items()]

    def _line(self, problem: str, count: int) -> str:
        if problem not in self._example:
            return problem
        others = f" and {count - 1} more" if count > 1 else ""
        return f"queue {one_line(self._example[problem])!r}{others}: {problem}"
