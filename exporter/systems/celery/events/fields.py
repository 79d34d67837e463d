"""What the texts in Celery's events mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_WRAPPER: Final = "ExceptionWithTraceback"
"""billiard's, around what a worker raises in the name of a task: WorkerLostError, TimeLimitExceeded. Its `repr` does
not tell what it holds (billiard's `einfo.py`)."""
_REJECT: Final = "reject requeue="
"""How celery's `Reject` shows itself (its `exceptions.py`), unless it is wrapped."""
_REJECT_PATH: Final = "celery.exceptions.Reject"
_TRACEBACK: Final = "Traceback (most recent call last):"
_KEPT_NAMES: Final = 10_000
_kept: dict[str, str] = {}


def interned(name: str | None) -> str | None:
    """A name, kept once: the same few come with every event, each time as a new string.

    Not by `sys.intern`, which on Python 3.12 keeps for ever what others may make up.
    """
    if not name:
        return None
    if len(_kept) >= _KEPT_NAMES:
        _kept.clear()
    return _kept.setdefault(name, name)


def due_time(eta: str | None) -> float | None:
    """Unix time of an ETA; one without an offset is UTC, as celery sends it."""
    try:
        moment = datetime.fromisoformat(eta) if eta else None
        if moment is None:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def exception_class(text: str | None, traceback: str | None = None) -> str | None:
    """The class of an exception by its `repr`; None where that begins with something else."""
    name, bracket, _ = (text or "").partition("(")
    if name == _WRAPPER:
        path = _raised(traceback or "")
        return None if path is None else path.rpartition(".")[2]
    return name if bracket and _is_class(name) else None


def is_rejection(text: str | None, traceback: str | None = None) -> bool:
    """Whether an exception is celery's `Reject`: the message of a task is not to be run, which is no failure."""
    if (text or "").startswith(_WRAPPER):
        return _raised(traceback or "") == _REJECT_PATH
    return (text or "").startswith(_REJECT)


def _raised(traceback: str) -> str | None:
    """The class, with its module, that the last traceback in a text ends with: the first line after its frames, which
    are indented."""
    frames = traceback.rpartition(_TRACEBACK)[2].splitlines()
    line = next((line for line in frames if line and not line[0].isspace()), "")
    name = line.partition(":")[0]
    return name if _is_class(name) else None


def _is_class(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))
