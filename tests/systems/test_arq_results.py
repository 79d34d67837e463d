"""What ARQ results say: every ending of a real worker, told as it really was; and values that say nothing."""

from __future__ import annotations

import asyncio
import enum
import functools
import pickle
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis
from arq import Retry, create_pool, func
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import DeserializationError, Job, SerializationError, serialize_result
from arq.worker import JobExecutionFailed, Worker

from exporter.model import Outcome, Unreadable
from exporter.safe.text import UNKNOWN
from exporter.systems.arq.results import (
    FIELDS,
    HEAD_BYTES,
    MAX_TRIES,
    NO_TASK,
    SURELY_RAN,
    TAIL_BYTES,
    Result,
    UnreadableResult,
    is_cut,
    read_result,
)
from tests.safe.hostile import BOMBS, CALLS, HOSTILE, mutated, nothing_runs
from tests.servers import RedisServer

QUEUE = "arq:reports"
HUGE = 200_000
ET, ST, FT = 1_700_000_000_000, 1_700_000_001_000, 1_700_000_003_500


def read_whole(value: bytes) -> Result:
    """As a feed reads it: the head, and the tail where the head was cut."""
    head = value[:HEAD_BYTES]
    return read_result(head, value[-TAIL_BYTES:] if is_cut(head) else b"")


# -- a real worker ----------------------------------------------------------------------------------------------


class Tasks(enum.StrEnum):
    """Names of tasks, as some applications keep them."""

    SEND = "send"


class ShopError(Exception):
    """An exception of the user's own, which pickles by keyword."""

    def __init__(self, *, order: int) -> None:
        super().__init__(order)
        self.order = order

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(ShopError, order=self.order), ()


class Stage:
    """An ARQ application, and what its jobs record of themselves."""

    def __init__(self, pool: ArqRedis, client: redis.Redis) -> None:
        self.pool = pool
        self.client = client
        self.began: dict[str, list[float]] = {}  # by job id, one for each attempt
        self.ended: dict[str, float] = {}
        self.running = asyncio.Event()

    def task(self, body: Callable[..., Any], name: str = "task", **options: Any) -> Any:
        """A function of the application: `body` gets the number of the attempt and the arguments."""

        async def run(ctx: dict[str, Any], *arguments: Any) -> Any:
            self.began.setdefault(ctx["job_id"], []).append(time.time())
            self.running.set()
            try:
                result = body(ctx["job_try"], *arguments)
                return await result if asyncio.iscoroutine(result) else result
            finally:
                self.ended[ctx["job_id"]] = time.time()

        return func(run, name=name, **options)

    async def enqueue(self, *arguments: Any, task: str = "task", **options: Any) -> Job:
        job = await self.pool.enqueue_job(task, *arguments, _queue_name=QUEUE, **options)
        assert job is not None
        return job

    async def work(self, *functions: Any, **options: Any) -> None:
        """A worker runs until the queue is empty."""
        options = {"poll_delay": 0.01, "max_tries": 3, "allow_abort_jobs": True} | options
        worker = Worker(
            functions, queue_name=QUEUE, redis_pool=self.pool, burst=True, handle_signals=False, **options
        )  # fmt: skip
        await worker.async_run()

    async def result(self, job: Job) -> Result:
        """What is read of a job's result. Wherever arq tells a thing itself, it must be the same."""
        value = self.client.get(f"arq:result:{job.job_id}")
        assert isinstance(value, bytes)
        with nothing_runs():
            result = read_whole(value)
        told = await job.result_info()
        assert told is not None
        assert result.queue == told.queue_name == QUEUE
        assert (result.task or NO_TASK) == told.function
        assert result.tries == told.job_try
        assert (result.enqueued or 0) == told.enqueue_time.timestamp()
        assert (result.outcome is Outcome.SUCCEEDED) is told.success
        assert result.finished == told.finish_time.timestamp()
        assert result.started in (None, told.start_time.timestamp())
        return result

    def check_run(self, job: Job, result: Result) -> None:
        """Started and finished enclose the last attempt (arq rounds to milliseconds)."""
        assert result.started is not None
        assert result.finished is not None
        assert result.started - 0.001 <= self.began[job.job_id][-1]
        assert all(began <= result.started + 0.001 for began in self.began[job.job_id][:-1])
        assert self.ended[job.job_id] <= result.finished + 0.001

    def check_no_run(self, job: Job, result: Result, attempts: int = 0) -> None:
        assert len(self.began.get(job.job_id, [])) == attempts
        assert result.started is None
        assert result.finished is not None


@pytest.fixture
async def stage(redis_server: RedisServer, client: redis.Redis) -> AsyncIterator[Stage]:
    pool = await create_pool(RedisSettings.from_dsn(redis_server.url()))
    yield Stage(pool, client)
    await pool.aclose()


def raiser(error: Exception) -> Callable[..., None]:
    def body(*_: Any) -> None:
        raise error

    return body


def shortened(value: object) -> str:
    return f"{value!r:.20}"


@pytest.mark.parametrize(
    "returned",
    [None, "text", "x" * HUGE, list(range(HUGE)), [7] * 10_000, {"st": 1, "ft": 2, "q": 3}, ["st", "ft", "q"]],
    ids=shortened,
)
@pytest.mark.parametrize(
    "argument", [None, "x" * HUGE, [["s", "r"]] * 2, list(range(HUGE)), [7] * 10_000, {"et": 1, "s": 0}], ids=shortened
)
async def test_success(stage: Stage, argument: Any, returned: Any) -> None:
    job = await stage.enqueue(argument)
    await stage.work(stage.task(lambda *_: returned))
    result = await told_or_unknown(stage, job, argument, returned)

    if result.outcome is Outcome.SUCCEEDED:
        assert (result.task, result.exception, result.retried) == ("task", None, 0)
        stage.check_run(job, result)


async def told_or_unknown(stage: Stage, job: Job, argument: Any, returned: Any) -> Result:
    """Only where both are too long, nobody can tell the outcome: `s` stands between them."""
    if not is_small(argument) and not is_small(returned):
        value = stage.client.get(f"arq:result:{job.job_id}")
        assert isinstance(value, bytes)
        result = read_whole(value)
        assert (result.outcome, result.task, result.queue) == (Outcome.UNKNOWN, "task", QUEUE)
        stage.check_run(job, result)
        return result
    return await stage.result(job)


def is_small(value: Any) -> bool:
    return value is None or len(value) < 1000


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError("bad"), "ValueError"),
        (ValueError("x" * HUGE), "ValueError"),
        (KeyError([1] * HUGE), "KeyError"),
        (KeyError(), "KeyError"),
        (ShopError(order=1), "partial of ShopError"),
        (OSError(2, "no such file", "name"), "FileNotFoundError"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError"),
        (ExceptionGroup("several", [ValueError(), KeyError()]), "ExceptionGroup"),
        (TypeError(ValueError), "TypeError"),
        # raised by a job that waited for the result of another
        (JobExecutionFailed("job expired"), "JobExecutionFailed"),
        (JobExecutionFailed("max 5 retries exceeded"), "JobExecutionFailed"),
        (JobExecutionFailed("function 'other' not found"), "JobExecutionFailed"),
        (JobExecutionFailed(), "JobExecutionFailed"),
        (DeserializationError("unable to deserialize job"), "DeserializationError"),
    ],
)
async def test_failure(stage: Stage, error: Exception, name: str) -> None:
    job = await stage.enqueue()
    await stage.work(stage.task(raiser(error)))
    result = await stage.result(job)

    assert (result.outcome, result.exception, result.retried) == (Outcome.FAILED, name.rpartition(" ")[2], 0)
    stage.check_run(job, result)


async def test_failure_with_long_arguments(stage: Stage) -> None:
    job = await stage.enqueue("x" * HUGE)
    await stage.work(stage.task(raiser(ValueError("bad"))))
    result = await stage.result(job)

    assert (result.outcome, result.exception) == (Outcome.FAILED, "ValueError")
    stage.check_run(job, result)


async def test_retries_and_then_success(stage: Stage) -> None:
    def body(attempt: int) -> None:
        if attempt < 3:
            raise Retry

    job = await stage.enqueue()
    await stage.work(stage.task(body))
    result = await stage.result(job)

    assert (result.outcome, result.tries, result.retried) == (Outcome.SUCCEEDED, 3, 2)
    assert len(stage.began[job.job_id]) == 3
    stage.check_run(job, result)


async def test_tries_used_up(stage: Stage) -> None:
    job = await stage.enqueue()
    await stage.work(stage.task(raiser(Retry())))
    result = await stage.result(job)

    assert (result.outcome, result.exception, result.retried) == (Outcome.FAILED, MAX_TRIES, 3)
    stage.check_no_run(job, result, attempts=3)


async def test_retry_where_the_worker_does_not_retry(stage: Stage) -> None:
    job = await stage.enqueue()
    await stage.work(stage.task(raiser(Retry(defer=1))), retry_jobs=False)
    result = await stage.result(job)

    assert (result.outcome, result.exception, result.retried) == (Outcome.FAILED, "Retry", 0)
    stage.check_run(job, result)


async def test_timeout(stage: Stage) -> None:
    job = await stage.enqueue()
    await stage.work(stage.task(lambda _: asyncio.Event().wait(), timeout=0.05))
    result = await stage.result(job)

    assert (result.outcome, result.exception) == (Outcome.FAILED, "TimeoutError")
    stage.check_run(job, result)


async def test_not_found(stage: Stage) -> None:
    job = await stage.enqueue(task="nobody's")
    await stage.work(stage.task(print))
    result = await stage.result(job)

    assert (result.outcome, result.task, result.exception) == (Outcome.NOT_FOUND, "nobody's", None)
    stage.check_no_run(job, result)


async def test_expired(stage: Stage) -> None:
    job = await stage.enqueue()
    stage.client.delete(f"arq:job:{job.job_id}")
    await stage.work(stage.task(print))
    result = await stage.result(job)

    assert (result.outcome, result.task, result.enqueued, result.exception) == (Outcome.EXPIRED, None, None, None)
    stage.check_no_run(job, result)


async def test_a_job_that_cannot_be_decoded(stage: Stage) -> None:
    job = await stage.enqueue()
    stage.client.set(f"arq:job:{job.job_id}", b"\x80\x04cut")
    await stage.work(stage.task(print))
    result = await stage.result(job)

    assert (result.outcome, result.task, result.enqueued) == (Outcome.UNDECODABLE, None, None)
    stage.check_no_run(job, result)


async def test_aborted_before_it_started(stage: Stage) -> None:
    job = await stage.enqueue()
    stage.client.zadd("arq:abort", {job.job_id: time.time() * 1000})
    await stage.work(stage.task(print))
    result = await stage.result(job)

    assert (result.outcome, result.task, result.exception) == (Outcome.ABORTED, "task", None)
    stage.check_no_run(job, result)


async def test_aborted_while_it_ran(stage: Stage) -> None:
    job = await stage.enqueue()
    worker = asyncio.create_task(stage.work(stage.task(lambda _: asyncio.Event().wait())))
    await stage.running.wait()
    assert await job.abort(poll_delay=0.01, timeout=10)
    await worker
    result = await stage.result(job)

    assert (result.outcome, result.task, result.exception) == (Outcome.ABORTED, "task", None)


async def test_a_result_that_cannot_be_pickled(stage: Stage) -> None:
    job = await stage.enqueue()
    await stage.work(stage.task(lambda *_: lambda: None))
    result = await stage.result(job)

    with pytest.raises(SerializationError):  # arq takes it for a failure, too
        await job.result()
    assert (result.outcome, result.exception) == (Outcome.FAILED, UNKNOWN)
    stage.check_run(job, result)


async def test_a_task_named_by_an_enum(stage: Stage) -> None:
    job = await stage.enqueue(task=Tasks.SEND)
    missing = await stage.enqueue(task=Tasks.SEND, _job_id="missing")
    await stage.work(stage.task(lambda *_: None, "send"), max_burst_jobs=1)
    await stage.work(stage.task(print, "other"))

    results = [await stage.result(job), await stage.result(missing)]
    assert [(result.task, result.outcome) for result in results] == [
        ("send", Outcome.SUCCEEDED),
        ("send", Outcome.NOT_FOUND),
    ]


async def test_an_attempt_given_by_the_producer(stage: Stage) -> None:
    job = await stage.enqueue(_job_try=2)
    await stage.work(stage.task(lambda *_: None))

    assert (await stage.result(job)).tries == 2


# -- values that arq's function makes ---------------------------------------------------------------------------


def written(protocol: int = 4, **changes: Any) -> bytes:
    """A result as arq serializes it; `changes` by the names of its dict."""
    values: dict[str, Any] = {
        "t": 1,
        "f": "f",
        "a": (),
        "k": {},
        "et": ET,
        "s": True,
        "r": None,
        "st": ST,
        "ft": FT,
        "q": QUEUE,
    }
    values |= {"id": "id"} | changes
    t, f, a, k, et, s, r, st, ft, q, job_id = (values[field] for field in FIELDS)
    value = serialize_result(
        f, a, k, t, et, s, r, st, ft, "ref", q, job_id, serializer=functools.partial(pickle.dumps, protocol=protocol)
    )  # fmt: skip
    assert value is not None
    return value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("error", [ValueError("x"), ValueError("x" * HUGE), ShopError(order=1)])
def test_every_binary_protocol(protocol: int, error: Exception) -> None:
    result = read_whole(written(protocol, s=False, r=error))

    name = "ShopError" if isinstance(error, ShopError) else "ValueError"
    assert result == Result(
        QUEUE, "f", Outcome.FAILED, name, 1, 0, ET / 1000, ST / 1000, FT / 1000
    )  # fmt: skip


@pytest.mark.parametrize(("missing", "queue"), [(("id",), QUEUE), (("q", "id"), None)])
@pytest.mark.parametrize("returned", [None, "x" * HUGE])
def test_older_arqs(missing: tuple[str, ...], queue: str | None, returned: str | None) -> None:
    fields = {key: value for key, value in pickle.loads(written(r=returned)).items() if key not in missing}
    result = read_whole(pickle.dumps(fields))

    assert (result.queue, result.outcome, result.finished) == (queue, Outcome.SUCCEEDED, FT / 1000)


@pytest.mark.parametrize("took", [0.0, 0.002, SURELY_RAN - 0.001, SURELY_RAN, 60.0])
def test_an_aborted_job_is_known_to_have_run_where_it_took_long(took: float) -> None:
    result = read_whole(written(s=False, r=asyncio.CancelledError(), ft=ST + round(took * 1000)))

    assert result.outcome is Outcome.ABORTED
    assert (result.started is not None) is (took >= SURELY_RAN)


def test_a_clock_that_was_set_back_hides_the_start_only() -> None:
    result = read_whole(written(ft=ST - 5))

    assert (result.outcome, result.started, result.finished) == (Outcome.SUCCEEDED, None, (ST - 5) / 1000)


def test_what_the_tail_refers_to_elsewhere_is_not_known() -> None:
    result = read_whole(written(r=[QUEUE, "x" * HUGE]))  # the queue's name is the same object

    assert (result.queue, result.outcome, result.started, result.finished) == (
        None, Outcome.SUCCEEDED, ST / 1000, FT / 1000,
    )  # fmt: skip


def test_a_result_without_its_tail() -> None:
    head = written(r="x" * HUGE)[:HEAD_BYTES]

    assert is_cut(head)
    for tail in (b"", b"u.", b"\x8c\x02ftu.", written(r="x" * HUGE)[-TAIL_BYTES:-1], b"\x8c\x02st" * 100 + b"u."):
        assert read_result(head, tail) == Result(None, "f", Outcome.SUCCEEDED, None, 1, 0, ET / 1000, None, None)


@pytest.mark.parametrize("length", range(HEAD_BYTES - 250, HEAD_BYTES + 50, 7))
def test_a_result_about_as_long_as_a_head(length: int) -> None:
    result = read_whole(written(s=False, r=ValueError("x" * length)))

    assert result == Result(QUEUE, "f", Outcome.FAILED, "ValueError", 1, 0, ET / 1000, ST / 1000, FT / 1000)


@pytest.mark.parametrize(
    "changes",
    [
        {"t": 0}, {"t": -1}, {"t": True}, {"t": 1.0}, {"t": None}, {"t": 1_000_001}, {"t": 1 << 5000}, {"t": "1"},
        {"f": None}, {"f": b"f"}, {"f": 7}, {"f": ["f"]}, {"f": {"f": 1}},
        {"et": -1}, {"et": None}, {"et": True}, {"et": "0"}, {"et": float("nan")}, {"et": float("inf")},
        {"et": 1 << 99}, {"st": -1}, {"st": [1]}, {"st": 1e300}, {"ft": None}, {"ft": {}}, {"ft": 1 << 5000},
        {"s": None}, {"s": 1}, {"s": "yes"}, {"s": []}, {"q": None}, {"q": 1}, {"q": [QUEUE]},
    ],
    ids=shortened,
)  # fmt: skip
def test_fields_of_a_wrong_kind(changes: dict[str, Any]) -> None:
    for more in ({}, {"s": False, "r": ValueError()}):
        fields: dict[str, Any] = more | changes
        assert refused(written(**fields)) is Unreadable.MALFORMED


@pytest.mark.parametrize(
    "changes",
    [{"t": 0}, {"f": 7}, {"et": -1}, {"s": 1}, {"st": -1}, {"st": "1"}, {"ft": None}, {"q": 1}],
    ids=shortened,
)
def test_fields_of_a_wrong_kind_in_a_value_that_is_cut(changes: dict[str, Any]) -> None:
    assert refused(written(**changes, r="x" * HUGE)) is Unreadable.MALFORMED


def refused(value: bytes) -> Unreadable:
    with pytest.raises(UnreadableResult) as caught:
        read_whole(value)
    return caught.value.reason


@pytest.mark.parametrize("missing", FIELDS[:-2])
def test_a_field_that_is_missing(missing: str) -> None:
    fields = pickle.loads(written())
    del fields[missing]

    assert refused(pickle.dumps(fields)) is Unreadable.MALFORMED


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", Unreadable.MALFORMED),
        (b"{}", Unreadable.ENCODING),
        (b'{"t": 1, "f": "f"}', Unreadable.ENCODING),
        (b"\x8b\xa1t\x01", Unreadable.ENCODING),
        (written(protocol=0), Unreadable.ENCODING),
        (written(protocol=1), Unreadable.ENCODING),
        (b"\x80", Unreadable.ENCODING),
        (b"\x80\x06" + written()[2:], Unreadable.ENCODING),
        (b"\x80\x04", Unreadable.MALFORMED),
        (written()[:-1], Unreadable.MALFORMED),
        (written()[:100], Unreadable.MALFORMED),
        (pickle.dumps([1]), Unreadable.MALFORMED),
        (pickle.dumps({}), Unreadable.MALFORMED),
        (pickle.dumps(list(range(HUGE))), Unreadable.BOUNDS),
        (pickle.dumps({"t": 1, "x": list(range(HUGE))}), Unreadable.BOUNDS),
        (pickle.dumps("x" * HUGE), Unreadable.MALFORMED),
    ],
)
def test_values_that_say_nothing(value: bytes, reason: Unreadable) -> None:
    assert refused(value) is reason


# -- hostile ones -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", HOSTILE)
def test_no_hostile_value_passes_as_a_result(label: str) -> None:
    with nothing_runs():
        refused(HOSTILE[label])


@pytest.mark.parametrize("place", ["a", "r"])
@pytest.mark.parametrize("label", sorted(CALLS.keys() | BOMBS.keys()))
def test_a_hostile_part_of_a_result_runs_nothing(label: str, place: str) -> None:
    body = (CALLS | BOMBS)[label]
    marker = b"\x8c\x06marker\x94"
    value = written(**{"s": False, place: "marker"})  # type: ignore[arg-type]
    assert marker in value

    with nothing_runs():
        try:
            outcome = read_whole(value.replace(marker, body)).outcome
        except UnreadableResult:
            outcome = Outcome.UNDECODABLE

    assert outcome in {Outcome.FAILED, Outcome.UNKNOWN, Outcome.UNDECODABLE}


def test_whatever_it_is_it_is_a_result_or_refused() -> None:
    count, chance, read = 30_000, random.Random(2), 0
    seeds = [
        written(protocol, s=False, r=error) for protocol in (2, 4, 5) for error in (ValueError("x"), "x", [1, {2}])
    ]
    head = written(r="x" * HUGE)[:HEAD_BYTES]
    with nothing_runs():
        for _ in range(count):
            value = mutated(chance, seeds)
            for parts in ((value, b""), (head, value)):
                try:
                    read_result(*parts)
                    read += 1
                except UnreadableResult:
                    pass
    assert read > count


def test_forged_tails_cost_little() -> None:
    tail = (b"\x8c\x01s\x88" * TAIL_BYTES)[: TAIL_BYTES - 2] + b"u."

    assert read_result(written(r="x" * HUGE)[:HEAD_BYTES], tail).finished is None
