"""What each feature of Celery's side asks of the broker. Each is lost alone where the broker denies it that."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable

from exporter.model import Permissions
from exporter.systems.celery.control.messages import EXCHANGE, OWN, REPLY_EXCHANGE
from exporter.systems.celery.layout import BINDINGS, UNACKED, UNACKED_INDEX, event_channels, result_pattern
from exporter.systems.celery.options import CeleryOptions
from exporter.systems.keys import pattern


class Feature(enum.StrEnum):
    """As messages and documents name them."""

    DEPTH = "depth"
    FINE_STEPS = "other priorities"
    OLDEST_READY = "oldest ready"
    UNACKED = "unacked"
    OLDEST_UNACKED = "oldest unacked"
    STATES = "scheduled and reserved"
    DISCOVERY = "discovery"
    EVENTS = "events"
    RESULTS = "results"
    INSPECT = "inspect"  # the only one that writes


def permissions(options: CeleryOptions, db: int) -> Collection[Permissions]:
    """What the features that are on need in a database."""
    discovers = options.discover
    queues = [_any(options)] if discovers else [name for queue in options.queues for name in _lists(queue, options)]
    unacked = [_shared(UNACKED, options)]
    needed = [
        _need(Feature.DEPTH, "llen", queues),
        _need(Feature.FINE_STEPS, "exists", queues),
        _need(Feature.OLDEST_READY, "lrange", queues),
        _need(Feature.UNACKED, "hlen", unacked),
        _need(Feature.OLDEST_UNACKED, "zrange", [_shared(UNACKED_INDEX, options)]),
        _need(Feature.STATES, "hkeys hmget", unacked),
    ]
    if discovers:
        needed.append(_need(Feature.DISCOVERY, "scan sscan", [_shared(BINDINGS, options) + "*"]))
    if options.events:
        needed.append(_need(Feature.EVENTS, "psubscribe", (), [event_channels(db, options.global_keyprefix)]))
    if options.events and options.results:
        needed.append(_need(Feature.RESULTS, "scan getrange", [result_pattern(options.global_keyprefix)]))
    if options.inspect:
        needed.append(_of_inspect(options, db))
    return needed


def _of_inspect(options: CeleryOptions, db: int) -> Permissions:
    """The list of answers, which is ours, and the set that names it, which others write, too. Both are read as well:
    what exporters that were killed left there is cleared."""
    written = [_shared(f"{OWN}*.{REPLY_EXCHANGE}*", options), _shared(BINDINGS + REPLY_EXCHANGE, options)]
    return Permissions(
        Feature.INSPECT.value,
        commands=frozenset({"publish", "sadd", "srem", "sscan", "del", "lpush", "pexpire", "pttl", "llen", "lpop"}),
        channels=frozenset({_shared(f"/{db}.{EXCHANGE}", options)}),
        writes=frozenset(written),
    )


def _lists(queue: str, options: CeleryOptions) -> tuple[str, str]:
    """Of the lists of a queue: priority 0, and the others."""
    name = (options.global_keyprefix or "") + queue
    return pattern(name), pattern(name + options.separator) + "*"


def _any(options: CeleryOptions) -> str:
    """All keys that are of concern."""
    return "*" if options.global_keyprefix is None else pattern(options.global_keyprefix) + "*"


def _shared(key: str, options: CeleryOptions) -> str:
    """A key that all queues under a prefix share."""
    if options.global_keyprefix is None:
        return "*" + key if options.discover else key
    return pattern(options.global_keyprefix) + key


def _need(feature: Feature, words: str, keys: Iterable[str], listens: Iterable[str] = ()) -> Permissions:
    return Permissions(feature.value, frozenset(words.split()), frozenset(keys), frozenset(listens))
