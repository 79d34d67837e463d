"""Regular expressions of the configuration: checked, and those that leave things out."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from exporter.safe.documents import shown
from exporter.safe.text import one_line


def check_expressions(options: msgspec.Struct, *keys: str) -> None:
    """Raises ValueError, in the configuration's terms, if a key of `options` is no regular expression."""
    for key in keys:
        text = getattr(options, key)
        try:
            re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(
                f"{key}: found {shown(text)} ({one_line(str(error), 100)}), wanted a regular expression"
            ) from None


def left_out(expression: str) -> Callable[[str], bool]:
    """Whether a name matches, anywhere in it as in node_exporter: `^` and `$` anchor. An empty one matches nothing."""
    if not expression:
        return lambda name: False
    pattern = re.compile(expression)
    return lambda name: pattern.search(name) is not None
