"""What each feature of ARQ's side asks of the broker. Each is lost alone where the broker denies it that."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable

from exporter.model import Permissions
from exporter.systems.arq.feed.modes import FeedMode, Scope, channels, commands
from exporter.systems.arq.feed.unkept import Unkept
from exporter.systems.arq.layout import (
    ABORTS,
    HOOKED_EVENTS,
    HOOKED_QUEUES,
    HOOKED_WORKER,
    HOOKED_WORKERS,
    IN_PROGRESS,
    JOB,
    RESULT,
    TRIES,
)
from exporter.systems.arq.options import ArqOptions
from exporter.systems.arq.queues import health
from exporter.systems.keys import pattern


class Feature(enum.StrEnum):
    """As messages and documents name them."""

    DEPTH = "depth"
    RUNNING = "running"  # and so ready, the oldest of both, and progress
    EXPIRED = "expired jobs"
    ABORTS = "abort requests"
    BY_TASK = "running by task"
    HEALTH = "health record"
    DISCOVERY = "discovery"
    AHEAD = "due times"  # and so the waits of jobs that were deferred or tried again
    RESULTS = "results"
    UNKEPT = "jobs without result"
    HOOK = "hook"  # workers, and what they tell of their jobs


def permissions(options: ArqOptions, db: int) -> Collection[Permissions]:
    """What the features that are on need."""
    queues = ["*"] if options.discover else [*map(pattern, options.queues)]
    jobs, marks = _all(JOB), _all(IN_PROGRESS)
    records = [queue + pattern(health.SUFFIX.decode()) for queue in queues]
    needed = [
        _need(Feature.DEPTH, "zcount", queues),
        _need(Feature.RUNNING, "zrange mget pttl zscore", [*queues, marks, _all(TRIES)]),
        _need(Feature.EXPIRED, "exists zscore", [*queues, jobs]),
        _need(Feature.ABORTS, "zcard", [ABORTS.decode()]),
        _need(Feature.BY_TASK, "getrange zscore", [*queues, jobs]),
        _need(Feature.HEALTH, "getrange pttl", records),
    ]
    if options.discover:
        needed.append(_need(Feature.DISCOVERY, "scan getrange zrange exists", ["*"]))
    needed += _of_results(options, db, queues)
    if options.hook:
        streams = [HOOKED_EVENTS.decode() + queue for queue in queues]
        keys = [HOOKED_QUEUES.decode(), HOOKED_WORKERS.decode(), _all(HOOKED_WORKER), *streams]
        needed.append(_need(Feature.HOOK, "hmget hstrlen xinfo|stream xread zrange", keys))
    return needed


def _of_results(options: ArqOptions, db: int, queues: Collection[str]) -> Collection[Permissions]:
    """What it takes to follow results, and the ends of jobs that keep none."""
    mode, unkept = options.feed_mode, options.unkept_mode
    if mode is FeedMode.OFF:
        return []
    jobs, results = _all(JOB), _all(RESULT)
    needed = [
        _need(Feature.AHEAD, "zrangebyscore", queues),
        _need(Feature.RESULTS, " ".join(commands(mode)), [results], channels(mode, db)),
    ]
    if unkept is not Unkept.OFF:
        keys = [*queues, jobs, results]
        needed.append(
            _need(Feature.UNKEPT, "scan zrange getrange zscore exists info", keys, channels(mode, db, [*Scope]))
        )
    return needed


def _all(prefix: bytes) -> str:
    return f"{prefix.decode()}*"


def _need(feature: Feature, words: str, keys: Iterable[str], listens: Iterable[str] = ()) -> Permissions:
    return Permissions(feature.value, frozenset(words.split()), frozenset(keys), frozenset(listens))
