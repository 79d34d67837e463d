"""The files of one control group in one hierarchy: each is read once at a look, and parsed by its form.

Forms are those of the kernel's cgroup-v2.rst ("Interface Files"): one number, flat keyed, nested keyed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

from exporter.safe.text import one_line

_LARGEST: Final = 1024 * 1024
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.EOPNOTSUPP})
"""The kernel lacks it, the controller is off, or pressure is (psi=0)."""
NO_LIMIT: Final = 2**62
"""From here on a limit of v1 is none: it writes the largest number of pages in bytes (cAdvisor draws the same line)."""


class Absent(Exception):
    """What is asked for is not there: a kernel or a controller does not give it."""


class Unreadable(Exception):
    """What is asked for is there, and cannot be read or understood. The message is one line."""


class Files:
    """The group's folder and those of its parents, as far as they can be seen."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self._texts: dict[Path, str] = {}

    def text(self, name: str, folder: Path | None = None) -> str:
        """What a file holds. Raises Absent, Unreadable."""
        path = (folder or self.folders[0]) / name
        if path not in self._texts:
            self._texts[path] = _text(path)
        return self._texts[path]

    def number(self, name: str) -> int:
        """The one number of a file."""
        return whole(self.text(name).strip(), name)

    def field(self, name: str, key: str) -> int:
        """The number behind `key` in a file of lines `key number`."""
        for line in self.text(name).splitlines():
            found, _, value = line.partition(" ")
            if found == key:
                return whole(value.strip(), f"{name}: {key}")
        raise Absent(key)

    def pairs(self, name: str) -> list[tuple[str, dict[str, str]]]:
        """Of each line its words `key=value`, and whose they are: the last word before them. Some kernels (5.15) do not
        end the line of a device that has none, and write the next device behind it."""
        lines = [line.split() for line in self.text(name).splitlines()]
        return [(_owner(words), dict(word.split("=", 1) for word in words if "=" in word)) for words in lines]

    def lowest(self, limit: Callable[[Path], float | None]) -> float:
        """The lowest limit of the group and its parents: a parent's holds for it, too. Raises Absent if there is
        none; Unreadable if one cannot be read, as that might be the lowest."""
        limits = []
        for folder in self.folders:
            try:
                limits.append(limit(folder))
            except Absent:  # the root group has no limits
                continue
        known = [found for found in limits if found is not None]
        if not known:
            raise Absent("limit")
        return min(known)


def _owner(words: Sequence[str]) -> str:
    before = list(takewhile(lambda word: "=" not in word, words))
    return before[-1] if before else ""


def whole(text: str, where: str) -> int:
    """A number of the kernel, as found at `where`. Raises Unreadable."""
    if not (text.isascii() and text.isdigit()):
        raise Unreadable(f"{where}: found {one_line(repr(text), 40)}, wanted a number")
    return int(text)


def _text(path: Path) -> str:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(_LARGEST)
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise Absent(path.name) from None
        raise Unreadable(f"{path.name}: found no file that can be read ({error.strerror}), wanted one") from None
