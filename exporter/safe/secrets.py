"""Secrets: a value that cannot be printed by accident."""

from __future__ import annotations

import re


class Secret:
    """Holds a password. `str()` and `repr()` show asterisks; `reveal()` is the one way to the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. Only for the call that authenticates."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))


def hide_urls(text: str) -> str:
    """`text` without what follows `://`: what others typed may hold a password there, and be no URL at all.

    One slash is enough, as a path made of a URL keeps no more.
    """
    return re.sub(":/.*", "://***", text, flags=re.DOTALL)
