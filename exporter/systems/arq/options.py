"""ARQ's section of the configuration."""

from __future__ import annotations

import enum
from typing import Annotated, Final, TypeVar

import msgspec

from exporter.safe.documents import shown
from exporter.systems.arq.feed.modes import FeedMode
from exporter.systems.arq.feed.unkept import Unkept
from exporter.systems.arq.records.serializers import Serializer
from exporter.systems.base import SystemOptions

E = TypeVar("E", bound=enum.StrEnum)
_BOOLEANS: Final = {True: "on", False: "off"}
"""What YAML 1.1 makes of plain words."""


class ArqOptions(SystemOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The section as it is written; the properties are what it means."""

    feed: str | bool = "auto"
    """How results are followed: see `modes.FeedMode`."""
    serializer: str = "auto"
    """What arq's `job_serializer` writes: see `serializers.Serializer`."""
    unkept: str | bool = "auto"
    """Whether jobs that keep no result are watched to their end: see `unkept.Unkept`."""
    hook: bool = True
    """Read what workers tell that have taskqueue-hooks."""
    forget_workers_after: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    """Seconds after which a worker that was lost, rather than shut down, is shown no more. Takes the hook."""

    def __post_init__(self) -> None:
        _choice(FeedMode, "feed", self.feed)
        _choice(Serializer, "serializer", self.serializer)
        _choice(Unkept, "unkept", self.unkept)

    @property
    def feed_mode(self) -> FeedMode:
        return _choice(FeedMode, "feed", self.feed)

    @property
    def job_serializer(self) -> Serializer:
        return _choice(Serializer, "serializer", self.serializer)

    @property
    def unkept_mode(self) -> Unkept:
        return _choice(Unkept, "unkept", self.unkept)


def _choice(kind: type[E], name: str, value: str | bool) -> E:
    """The member that an option's value means. Raises ValueError."""
    text = _BOOLEANS[value] if isinstance(value, bool) else value
    if text not in list(kind):
        raise ValueError(f"{name}: found {shown(value)}, wanted one of {', '.join(kind)}")
    return kind(text)
