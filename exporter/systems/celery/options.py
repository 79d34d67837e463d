"""Celery's section of the configuration."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from exporter.safe.documents import shown
from exporter.systems.base import SystemOptions
from exporter.systems.celery.events.frames import FORMATS
from exporter.systems.celery.layout import PRIORITY_STEPS, SEPARATOR, VISIBILITY_TIMEOUT

_NEVER: Final = ("pickle", "yaml", "application/x-python-serialize", "application/x-yaml")
"""What runs what it reads, or may."""
_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class CeleryOptions(SystemOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Celery's section. `separator` (kombu's `sep`), `priority_steps`, `global_keyprefix` and `visibility_timeout` are
    what its `broker_transport_options` say of them."""

    separator: Annotated[str, msgspec.Meta(min_length=1)] = SEPARATOR
    priority_steps: tuple[Annotated[int, msgspec.Meta(ge=0, le=255)], ...] = PRIORITY_STEPS
    global_keyprefix: str | None = None
    """Read only what stands under this prefix, and name queues without it. None: read all, and name queues by their
    keys."""
    visibility_timeout: _Seconds = VISIBILITY_TIMEOUT
    """Seconds after which an unacknowledged message is delivered again."""
    events: bool = True
    """Follow the events of workers and producers."""
    accept_content: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("json",)
    """Formats of events and results that are read: `json`, `msgpack`. A pickle is never opened."""
    results: bool = True
    """After a gap in the events, count the jobs whose results tell that they ended in it."""
    inspect: bool = True
    """Ask the workers for their queues, slots and tasks: the only thing that writes (one message to all workers, and a
    list for their answers)."""
    inspect_interval: Annotated[float, msgspec.Meta(ge=1)] = 15.0
    """Seconds between two questions to all workers, each about one thing."""
    enable_events: bool = False
    """Tell workers that send no task events to send them."""
    forget_workers_after: _Seconds = 3600.0
    """Seconds after which a worker that was lost, rather than shut down, is shown no more."""

    def __post_init__(self) -> None:
        if self.enable_events and not (self.inspect and self.events):
            off = "events" if self.inspect else "inspect"
            raise ValueError(f"enable_events: found true with {off}: false, wanted {off}: true")
        for name in self.accept_content:
            if name not in FORMATS:
                never = ", which is never opened" if name in _NEVER else ""
                raise ValueError(f"accept_content: found {shown(name)}{never}, wanted some of {', '.join(FORMATS)}")
