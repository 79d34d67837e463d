"""The queue of a job whose producer named an exchange."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from exporter.systems.celery.events.routed import nowhere, routed
from tests.systems.celery_frames import event

BOUND = {
    ("", "post", "parcels"): {"parcels"},
    ("", "news", ""): {"letters", "archive"},
    ("app:", "post", "parcels"): {"app:parcels"},
}


def route(prefix: str, exchange: str, routing_key: str) -> Collection[str]:
    return BOUND.get((prefix, exchange, routing_key), ())


@pytest.mark.parametrize(
    ("prefix", "queue", "exchange", "routing_key", "goes_to"),
    [
        ("", "celery", "post", "parcels", "parcels"),  # Celery tells the default queue
        ("", None, "post", "parcels", "parcels"),
        ("", "parcels", "post", "parcels", "parcels"),
        ("app:", "celery", "post", "parcels", "parcels"),  # the prefix is put before it later
        ("", "celery", "news", "", None),  # copies to several: nothing tells which one a worker has
        ("", "letters", "news", "", "letters"),
        ("", "celery", "elsewhere", "parcels", "celery"),  # no binding known: what is told has to do
        ("", "celery", "post", None, "celery"),
    ],
)
def test_the_queue_is_that_of_the_binding(
    prefix: str, queue: str | None, exchange: str, routing_key: str | None, goes_to: str | None
) -> None:
    sent = event("task-sent", queue=queue, exchange=exchange, routing_key=routing_key)

    assert routed(sent, prefix, route).queue == goes_to


def test_without_bindings_it_is_what_was_told() -> None:
    sent = event("task-sent", queue="celery", exchange="post", routing_key="parcels")

    assert routed(sent, "", nowhere) is sent
