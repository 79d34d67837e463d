"""What workers answer when they are asked, by method (celery's `worker/control.py`)."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Annotated, Final

import msgspec

from exporter.safe.text import one_line
from exporter.systems.celery.events.frames import LONGEST_NAME

MOST_ITEMS: Final = 10_000
"""Queues, tasks or jobs of one worker. What says that it has more is not read."""
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)]
_Text = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
_Pid = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Method(enum.StrEnum):
    """What is asked."""

    QUEUES = "active_queues"
    STATS = "stats"
    REGISTERED = "registered"
    RESERVED = "reserved"
    ACTIVE = "active"
    ENABLE_EVENTS = "enable_events"


class Consumes(msgspec.Struct, frozen=True):
    """The queues that a worker consumes, as it names them."""

    queues: frozenset[str]


class Stats(msgspec.Struct, frozen=True):
    """How many jobs a worker runs at once, at most, its process, and the class of its pool."""

    slots: int | None
    pid: int | None
    pool: str | None = None


class Registered(msgspec.Struct, frozen=True):
    """How many tasks a worker knows, those of celery itself left out."""

    tasks: int


class Reserved(msgspec.Struct, frozen=True):
    """The jobs that a worker has and did not start; not those that wait for their ETA."""

    ids: frozenset[str]


class ActiveJob(msgspec.Struct, frozen=True):
    """A job that runs. `started` is Unix time by the worker's clock."""

    id: str
    task: str | None
    exchange: str | None
    routing_key: str | None
    started: float | None


class Active(msgspec.Struct, frozen=True):
    """What runs in a worker."""

    jobs: tuple[ActiveJob, ...]


class Alive(msgspec.Struct, frozen=True):
    """No more than that the worker answered."""


Answer = Consumes | Stats | Registered | Reserved | Active | Alive


class AnswerError(ValueError):
    """What a worker answered is not what the method promises. One line."""


def read_answer(method: Method, answer: bytes) -> Answer:
    """The JSON of one worker's answer. Raises AnswerError."""
    try:
        return _READERS[method](answer)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise AnswerError(one_line(f"the answer to {method}: {error}")) from None


# -- as they are sent -------------------------------------------------------------------------------------------


class _Queue(msgspec.Struct, gc=False):
    name: _Name


class _Pool(msgspec.Struct, gc=False):
    implementation: _Text | None = None
    limit: _Count | None = msgspec.field(name="max-concurrency", default=None)
    processes: list[_Pid] | None = None  # of prefork and solo


class _Autoscaler(msgspec.Struct, gc=False):
    max: _Count | None = None


class _Stats(msgspec.Struct, gc=False):
    pool: _Pool | None = None
    autoscaler: _Autoscaler | None = None
    pid: _Pid | None = None


class _Delivery(msgspec.Struct, gc=False):
    exchange: _Text | None = None
    routing_key: _Text | None = None


class _Job(msgspec.Struct, gc=False):
    id: _Name
    name: _Name | None = None
    time_start: float | None = None
    delivery_info: _Delivery | None = None


_Queues = Annotated[list[_Queue], msgspec.Meta(max_length=MOST_ITEMS)]
_Texts = Annotated[list[str], msgspec.Meta(max_length=MOST_ITEMS)]
_Jobs = Annotated[list[_Job], msgspec.Meta(max_length=MOST_ITEMS)]
_QUEUES: Final = msgspec.json.Decoder(_Queues)
_STATS: Final = msgspec.json.Decoder(_Stats)
_TEXTS: Final = msgspec.json.Decoder(_Texts)
_JOBS: Final = msgspec.json.Decoder(_Jobs)
_ANY: Final = msgspec.json.Decoder(dict[str, str])


def _consumes(answer: bytes) -> Consumes:
    return Consumes(frozenset(queue.name for queue in _QUEUES.decode(answer)))


def _stats(answer: bytes) -> Stats:
    stats = _STATS.decode(answer)
    return Stats(_slots(stats), stats.pid, None if stats.pool is None else stats.pool.implementation)


def _slots(stats: _Stats) -> int | None:
    """A pool that scales can grow so far, whatever it is now. Celery's prefork pool gives as its limit where it began,
    also after `pool_grow` and `pool_shrink`: it has as many slots as processes."""
    if stats.autoscaler is not None and stats.autoscaler.max is not None:
        return stats.autoscaler.max
    if stats.pool is None or stats.pool.limit is None:
        return None
    return len(stats.pool.processes) if stats.pool.processes else stats.pool.limit


def _registered(answer: bytes) -> Registered:
    return Registered(len(_TEXTS.decode(answer)))


def _reserved(answer: bytes) -> Reserved:
    return Reserved(frozenset(job.id for job in _JOBS.decode(answer)))


def _active(answer: bytes) -> Active:
    return Active(tuple(map(_active_job, _JOBS.decode(answer))))


def _active_job(job: _Job) -> ActiveJob:
    delivery = job.delivery_info or _Delivery()
    return ActiveJob(job.id, job.name, delivery.exchange, delivery.routing_key, job.time_start)


def _alive(answer: bytes) -> Alive:
    if "error" in _ANY.decode(answer):
        raise AnswerError("refused")
    return Alive()


_READERS: Final[Mapping[Method, Callable[[bytes], Answer]]] = {
    Method.QUEUES: _consumes,
    Method.STATS: _stats,
    Method.REGISTERED: _registered,
    Method.RESERVED: _reserved,
    Method.ACTIVE: _active,
    Method.ENABLE_EVENTS: _alive,
}
