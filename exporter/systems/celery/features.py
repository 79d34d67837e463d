"""What each feature of Celery's side asks of the broker. Each is lost alone where the broker denies it that."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable

from exporter.model import Permissions
from exporter.systems.celery.layout import BINDINGS, UNACKED, UNACKED_INDEX
from exporter.systems.celery.options import CeleryOptions
from exporter.systems.keys import pattern


class Feature(enum.StrEnum):
    """As messages and documents name them."""

    DEPTH = "depth"
    FINE_STEPS = "other priorities"
    OLDEST_READY = "oldest ready"
    UNACKED = "unacked"
    OLDEST_UNACKED = "oldest unacked"
    DISCOVERY = "discovery"
    EVENTS = "events"


def permissions(options: CeleryOptions, listens: Collection[str]) -> Collection[Permissions]:
    """What the features that are on need; `listens` are the channels of events."""
    discovers = options.discover
    queues = ["*"] if discovers else [name for queue in options.queues for name in _lists(queue, options)]
    prefix = "*" if discovers else ""
    needed = [
        _need(Feature.DEPTH, "llen", queues),
        _need(Feature.FINE_STEPS, "exists", queues),
        _need(Feature.OLDEST_READY, "lindex", queues),
        _need(Feature.UNACKED, "hlen", [prefix + UNACKED]),
        _need(Feature.OLDEST_UNACKED, "zrange", [prefix + UNACKED_INDEX]),
    ]
    if discovers:
        needed.append(_need(Feature.DISCOVERY, "scan sscan", [f"*{BINDINGS}*"]))
    if options.events:
        needed.append(_need(Feature.EVENTS, "psubscribe", (), listens))
    return needed


def _lists(queue: str, options: CeleryOptions) -> tuple[str, str]:
    """Of the lists of a queue: priority 0, and the others."""
    return pattern(queue), pattern(queue + options.separator) + "*"


def _need(feature: Feature, words: str, keys: Iterable[str], listens: Iterable[str] = ()) -> Permissions:
    return Permissions(feature.value, frozenset(words.split()), frozenset(keys), frozenset(listens))
