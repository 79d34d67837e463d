"""Secrets: a value that cannot be printed by accident."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

LONGEST_SECRET: Final = 64 * 1024
"""Characters that are read of a file: no password is longer, and the path may be a mistake."""


class SecretError(ValueError):
    """A file holds no secret. One line that names its key, never what stands in it."""


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


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A password in a file, which others may replace at any time: read anew by each `reveal()`.

    Equal by its path: a reload after the password was rotated finds nothing changed. The path itself is never told: a
    secret may stand there by mistake.
    """

    path: str = field(repr=False)
    key: str = field(default="password_file", compare=False)
    """What the path is called in the configuration, for errors."""

    def reveal(self) -> str:
        """The one line of the file. Raises SecretError where there is none."""
        try:
            with Path(self.path).open(encoding="utf-8") as file:
                text = file.read(LONGEST_SECRET + 1)
        except OSError as error:
            raise self._error(f"no file that can be read ({error.strerror})") from None
        except ValueError:  # a null byte in the name is one, too
            raise self._error("no UTF-8 text") from None
        lines = text.strip().splitlines()
        if len(lines) != 1 or len(text) > LONGEST_SECRET:
            found = f"a file of {len(lines)} lines" if len(lines) != 1 else f"more than {LONGEST_SECRET} characters"
            raise self._error(found)
        return lines[0]

    def _error(self, found: str) -> SecretError:
        return SecretError(f"{self.key}: found {found}, wanted one line")


@dataclass(frozen=True, slots=True)
class SecretUrlFile(SecretFile):
    """The password of a URL that stands in a file. What else the URL says is not read again here."""

    def reveal(self) -> str:
        """The password. Raises SecretError where there is no URL with one."""
        try:
            parts = urlsplit(SecretFile.reveal(self))
        except ValueError as error:
            if isinstance(error, SecretError):
                raise
            raise self._error("no URL that can be read") from None
        # As redis-py reads it (`parse_url`).
        password = parts.password or parse_qs(parts.query).get("password", [""])[0]
        if not password:
            raise self._error("no URL with a password")
        return unquote(password)


def hide_urls(text: str) -> str:
    """`text` without what follows `://`: what others typed may hold a password there, and be no URL at all.

    One slash is enough, as a path made of a URL keeps no more.
    """
    return re.sub(":/.*", "://***", text, flags=re.DOTALL)
