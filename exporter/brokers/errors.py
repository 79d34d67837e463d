"""What reaching a broker raises."""

from __future__ import annotations

from typing import Any, Final

Command = tuple[str | bytes | int | float, ...]
Reply = Any
CLOSED: Final = "connection closed by the server"
"""However a new connection was ended: which error that is depends on timing, and each other text would be logged."""


class BrokerError(Exception):
    """The broker cannot be read: not reached, no answer in time, refused. One line, without secrets."""


class Refused(BrokerError):
    """The server does not do what a command says."""


class ReplyTooLarge(BrokerError):
    """The replies to one round trip were longer than `bounded.REPLY_BYTES`: fewer commands at a time may do."""


def naming(refusal: str, command: Command) -> str:
    """A refusal for want of a right, with the command named: where it is a key or a channel that is denied, Redis's own
    text does not."""
    if "no permissions" not in refusal.lower() or not command or " run the " in refusal:
        return refusal
    return f"{refusal} ({command[0]!s})"
