"""Users of a Redis with the rights that `taskqueue-exporter acl` prints, and with some of them taken away."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from exporter import acl
from exporter.brokers.address import parse_address
from exporter.collectors import REDIS_COLLECTORS
from exporter.config import Broker, load
from exporter.systems import SYSTEMS
from tests.servers import RedisServer

DB: Final = 3
SECRET: Final = "secret"
NOTIFIED: Final = ("arq:result:*", "arq:job:*", "arq:job:cron:*", "arq:in-progress:*")
ODD: Final = "an odd 'queue' [*] \\ \"x\""
ARQ_QUEUES: Final = ("arq:queue", "arq:cron", ODD)
"""Those that are named, where any are."""
Feature = tuple[str, str]  # collector, feature
Signal = tuple[str, dict[str, str]]  # family, labels


# -- what each feature gives, and what becomes of it without a right ---------------------------------------------


def jobs(system: str, queue: str, state: str) -> Signal:
    return "taskqueue_queue_jobs", {"system": system, "queue": queue, "state": state}


def finished(system: str, queue: str, task: str, outcome: str) -> Signal:
    labels = {"system": system, "queue": queue, "task": task, "outcome": outcome}
    return "taskqueue_jobs_finished_total", labels


def feed_of(system: str, feed: str) -> list[Signal]:
    queue = {"arq": "arq:queue", "celery": "__unknown__"}[system]
    connected = "taskqueue_feed_connected", {"system": system, "feed": feed}
    return [connected, finished(system, queue, "hold", "succeeded")]


def reconnects(feature: Feature) -> Signal:
    feed = {"arq": "results", "celery": "events"}[feature[0]]
    return "taskqueue_feed_reconnects_total", {"system": feature[0], "feed": feed}


FEEDS: Final = [("arq", "results"), ("celery", "events")]

GIVES: Final[dict[Feature, list[Signal]]] = {
    ("broker", "whether it is up"): [("taskqueue_broker_up", {})],
    ("broker", f"database {DB}"): [],
    ("broker", "name in CLIENT LIST"): [],
    ("arq", "depth"): [jobs("arq", "arq:queue", "scheduled"), jobs("arq", ODD, "scheduled")],
    ("arq", "running"): [jobs("arq", "arq:queue", "ready"), jobs("arq", "arq:queue", "running")],
    ("arq", "expired jobs"): [("taskqueue_queue_expired_jobs", {"system": "arq", "queue": ODD})],
    ("arq", "abort requests"): [("taskqueue_abort_requests", {"system": "arq"})],
    ("arq", "running by task"): [("taskqueue_task_running_jobs", {"system": "arq", "task": "hold"})],
    ("arq", "health record"): [],
    ("arq", "discovery"): [jobs("arq", "arq:found", "scheduled")],
    ("arq", "due times"): [],
    ("arq", "results"): feed_of("arq", "results"),
    ("arq", "jobs without result"): [finished("arq", "arq:cron", "tick", "unknown")],
    ("arq", "hook"): [
        ("taskqueue_feed_connected", {"system": "arq", "feed": "hook"}),
        ("taskqueue_worker_last_heartbeat_timestamp_seconds", {"system": "arq", "worker": "hooked-1"}),
        finished("arq", "arq:cron", "tell", "failed"),
    ],
    ("celery", "depth"): [jobs("celery", "parked", "ready")],
    ("celery", "other priorities"): [
        ("taskqueue_queue_priority_jobs", {"system": "celery", "queue": "celery", "priority": "5"})
    ],
    ("celery", "oldest ready"): [
        ("taskqueue_queue_oldest_ready_timestamp_seconds", {"system": "celery", "queue": "parked"})
    ],
    ("celery", "unacked"): [("taskqueue_unacked_jobs", {"system": "celery"})],
    ("celery", "oldest unacked"): [("taskqueue_oldest_unacked_timestamp_seconds", {"system": "celery"})],
    ("celery", "scheduled and reserved"): [jobs("celery", "parked", "scheduled")],
    ("celery", "discovery"): [jobs("celery", "found", "ready")],
    ("celery", "events"): feed_of("celery", "events")[:1],
    ("celery", "results"): [],  # of use after a gap: until then, success alone tells
    ("celery", "inspect"): [  # which tells the queue of what the events count
        ("taskqueue_workers", {"system": "celery"}),
        finished("celery", "celery", "hold", "succeeded"),
    ],
    ("redis_info", "server"): [],  # shown under the first broker of a server: its success tells
    ("redis_info", "slowlog"): [],
}
"""The series by which a feature shows that it is there. A new feature needs its row."""

NEEDS: Final[dict[Feature, set[Feature]]] = {
    ("arq", "running"): {("arq", "depth")},
    ("arq", "expired jobs"): {("arq", "depth"), ("arq", "running")},
    ("arq", "running by task"): {("arq", "depth"), ("arq", "running")},
    ("arq", "jobs without result"): {("arq", "results")},
    ("arq", "discovery"): {("arq", "depth")},
    ("celery", "other priorities"): {("celery", "depth")},
    ("celery", "oldest ready"): {("celery", "depth")},
    ("celery", "scheduled and reserved"): {("celery", "depth"), ("celery", "unacked"), ("celery", "discovery")},
    ("celery", "discovery"): {("celery", "depth")},
    ("celery", "inspect"): {("celery", "events")},
    ("celery", "results"): {("celery", "events")},
}
"""What a feature builds on. Everything builds on the database's being selected."""

FALLBACK: Final = {"+client|tracking", "+client|id", "+subscribe", "&__redis__:invalidate"}
"""Rights without which ARQ's feed searches, and counts kept results as before."""

NOT_MISSED: Final = {
    "+client|setname",  # a name for whoever looks at the server's clients
    "+client|trackinginfo",  # a look whether tracking goes on: older servers cannot tell either
}
"""Rights that cost nothing that is exported."""


# -- the users --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class User:
    """A user with all rights that are printed for its broker but some. Its name is that of the broker.

    What follows from that is worked out once: at each look at all users, it would take seconds for which the exporter,
    in the same loop, stands still.
    """

    broker: Broker
    words: tuple[str, ...]  # of the printed command
    taken: tuple[str, ...] = ()
    version: acl.Version = acl.Version.V7_0

    @property
    def name(self) -> str:
        return self.broker.name

    @property
    def command(self) -> str:
        return " ".join(word for word in self.words if word not in self.taken)

    @cached_property
    def needs(self) -> Collection[acl.Need]:
        """What its broker's collectors ask for."""
        return acl.needs(self.broker)

    @cached_property
    def lost(self) -> set[Feature]:
        """The features that hold a right which was taken, but for those that do without it."""
        missed = {*self.taken} - FALLBACK - NOT_MISSED
        return {
            (need.collector, need.permissions.feature)
            for need in self.needs
            if missed & {acl.quoted(rule) for rule in acl.rules([need.permissions], self.version)}
        }

    @cached_property
    def gone(self) -> set[Feature]:
        """What is lost, and what builds on it."""
        every = {(need.collector, need.permissions.feature) for need in self.needs}
        lost = self.lost
        if ("broker", f"database {DB}") in lost:
            return every
        deaf = {("arq", "jobs without result")} if self.mode == "scan" else set()
        return deaf | {feature for feature in every if {feature, *NEEDS.get(feature, ())} & lost}

    @property
    def failing(self) -> set[Feature]:
        """The features whose collectors say so."""
        return self.gone if ("broker", f"database {DB}") in self.lost else self.lost

    @property
    def mode(self) -> str:
        """How ARQ's feed gets to know of results."""
        without = bool(FALLBACK & {*self.taken})
        return "keyspace" if "+config|get" in self.words else "scan" if without else "tracking"


def rights(words: Iterable[str], signs: str) -> list[str]:
    """Those of the words that allow something, of the kinds that begin with one of the signs."""
    return [word for word in words if word.strip('"')[0] in signs]


def broker(name: str, server: RedisServer, *, zero: bool = False, discover: bool = True, feed: str = "auto") -> Broker:
    """The server as a broker, watched by the user of the broker's name."""
    url = server.url(DB).replace("redis://", f"redis://{name}:{SECRET}@")
    if zero:
        return replace(load(None, url).brokers[0], name=name)
    queues = {"arq": ARQ_QUEUES, "celery": ("celery", "parked")}
    # Where nobody searches for key prefixes, whose messages stand in `unacked` has to be said.
    more: dict[str, dict[str, Any]] = {"arq": {"feed": feed}, "celery": {} if discover else {"global_keyprefix": ""}}
    options = {
        name: system.Options(queues=queues[name], discover=discover, **more.get(name, {}))
        for name, system in SYSTEMS.items()
    }
    return Broker(name, parse_address(url), options, {"redis_info": REDIS_COLLECTORS["redis_info"].Options()})


def user(broker: Broker, version: acl.Version, *taken: str, more: Iterable[str] = ()) -> User:
    printed = acl.text([broker], version, acl.Form.SETUSER)
    (line,) = re.findall("^ACL SETUSER .*$", printed, re.MULTILINE)
    words = re.findall(r'"(?:\\.|[^"\\])*"|\S+', line.replace(acl.PASSWORD, f">{SECRET}"))
    return User(broker, (*words, *more), taken, version)


def users(server: RedisServer, version: acl.Version) -> Iterator[User]:
    """Four that have all that is printed, and one without each right."""
    yield user(broker("zero", server, zero=True), version)
    yield user(broker("keyed", server, discover=False, feed="keyspace"), version)
    for name, discover, signs in (("searching", True, "+"), ("narrow", False, "~%&")):
        full = user(broker(name, server, discover=discover), version)
        yield full
        for number, right in enumerate(rights(full.words, signs)):
            yield user(broker(f"{name}-{number}", server, discover=discover), version, right)
    notified = ("+config|get", "+psubscribe", *(f"&__keyspace@{DB}__:{prefix}" for prefix in NOTIFIED))
    yield user(broker("notified", server), version, "+client|tracking", more=notified)


def apply(server: RedisServer, commands: Collection[str]) -> None:
    """What an operator does: paste the lines into redis-cli."""
    done = subprocess.run(
        ["redis-cli", "-p", str(server.port)], input="\n".join(commands), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["OK"] * len(commands), done.stdout
