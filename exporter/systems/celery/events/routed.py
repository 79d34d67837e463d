"""The queue of a job that was sent by way of an exchange.

`task-sent` names the default queue where a producer names an exchange and no queue (celery's `app/routes.py`, `route`):
the message is somewhere else then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from msgspec.structs import replace

from exporter.systems.celery.events.frames import Event

Route = Callable[[str, str, str], Collection[str]]
"""By what stands before the names of queues, exchange and routing key: the queues that get such a message, as we call
them; none where that is not known."""


def nowhere(prefix: str, exchange: str, routing_key: str) -> Collection[str]:
    """For want of bindings."""
    return ()


def routed(event: Event, prefix: str, route: Route) -> Event:
    """The event, with the queue that its job went to: with none where several got it."""
    queues = route(prefix, event.exchange or "", event.routing_key or "")
    if not queues or (event.queue is not None and prefix + event.queue in queues):
        return event
    return replace(event, queue=next(iter(queues)).removeprefix(prefix) if len(queues) == 1 else None)
