"""A password that must show nowhere."""

from __future__ import annotations

from urllib.parse import quote

CANARY = "cAnary/one@two%20three:four"
QUOTED = quote(CANARY, safe="")
"""As it stands in a URL."""


def holds_canary(text: str) -> bool:
    """Whether a part of the password shows, raw or as in a URL."""
    return any(part in text for part in ("cAnary", "one@two", "two%20", "two%2520", "three", "four"))
