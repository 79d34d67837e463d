"""What ARQ results say that were written as JSON or msgpack: every ending of a real worker, as far as they keep it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import redis
from arq import Retry
from arq.jobs import Job

from exporter.model import Outcome, Unreadable
from exporter.safe.text import UNKNOWN
from exporter.systems.arq.records.endings import MAX_TRIES, UNSERIALIZED
from exporter.systems.arq.records.fields import UnreadableResult
from exporter.systems.arq.records.results import SURELY_RAN, Serializer, read_result
from exporter.systems.arq.records.serializers import told_by
from tests.servers import RedisServer
from tests.systems.arq_plain import BOTH, JSON, MSGPACK, json_by, knows
from tests.systems.arq_stage import HUGE, ST, Serialize, Stage, raiser, read_whole, shortened, stage_on, written


def as_dict(value: Any) -> Any:
    return {"type": type(value).__name__, "text": str(value)}


# -- real workers -----------------------------------------------------------------------------------------------

ABORTED, FAILED, UNTOLD = (Outcome.ABORTED, None), (Outcome.FAILED, UNKNOWN), (Outcome.UNKNOWN, None)
NOT_FOUND, OUT_OF_TRIES = (Outcome.NOT_FOUND, None), (Outcome.FAILED, MAX_TRIES)
EXPIRED, UNDECODABLE = (Outcome.EXPIRED, None), (Outcome.UNDECODABLE, None)
TIMED_OUT = (Outcome.FAILED, "TimeoutError")
NAMES = (
    "failed", "timed out", "out of tries", "not found", "expired", "undecodable", "aborted before", "aborted within"
)  # fmt: skip
BY_REPR = (FAILED, TIMED_OUT, OUT_OF_TRIES, NOT_FOUND, EXPIRED, UNDECODABLE, ABORTED, ABORTED)
BY_TEXT = (FAILED, FAILED, OUT_OF_TRIES, NOT_FOUND, EXPIRED, UNDECODABLE, FAILED, FAILED)
NOTHING = (FAILED, FAILED, FAILED, FAILED, UNTOLD, UNTOLD, FAILED, FAILED)
WORKERS: dict[str, tuple[Serializer, Serialize, Callable[[bytes], Any], tuple[tuple[Outcome, str | None], ...]]] = {
    "json of reprs": (JSON, json_by(repr), json.loads, BY_REPR),
    "json of texts": (JSON, json_by(str, indent=1), json.loads, BY_TEXT),
    "json of dicts": (JSON, json_by(as_dict), json.loads, NOTHING),
    "json of plain values": (JSON, json_by(), json.loads, NOTHING),
    "msgpack of reprs": (MSGPACK, msgspec.msgpack.Encoder(enc_hook=repr).encode, msgspec.msgpack.decode, BY_REPR),
    "msgpack of texts": (MSGPACK, msgspec.msgpack.Encoder(enc_hook=str).encode, msgspec.msgpack.decode, BY_TEXT),
    "msgpack of plain values": (MSGPACK, msgspec.msgpack.encode, msgspec.msgpack.decode, NOTHING),
}
"""The encoding, both ways of it, and how what ended as in NAMES is told."""


@pytest.mark.parametrize("worker", WORKERS)
async def test_every_ending(redis_server: RedisServer, client: redis.Redis, worker: str) -> None:
    serializer, serialize, deserialize, expected = WORKERS[worker]
    async with stage_on(redis_server.url(), client, serializer, serialize, deserialize) as stage:
        good, failed = await all_endings(stage)
        results = {name: await stage.result(job) for name, job in (good | failed).items()}

    for name, job in good.items():
        assert (results[name].outcome, results[name].exception) == (Outcome.SUCCEEDED, None)
        stage.check_run(job, results[name])
    assert results["retried"].retried == 2
    told = {name: (results[name].outcome, results[name].exception) for name in failed}
    assert told == dict(zip(NAMES, expected, strict=True))
    for name in NAMES[2:]:  # of none of them an attempt is known to have run till its end
        assert results[name].started is None
    assert (results["failed"].started is not None) is (BY_REPR[2] == told["out of tries"])


async def all_endings(stage: Stage) -> tuple[dict[str, Job], dict[str, Job]]:
    """A worker runs a job for every ending; the jobs that succeed, and the others by NAMES."""

    def retried(attempt: int) -> None:
        if attempt < 3:
            raise Retry

    good = {
        "succeeded": await stage.enqueue(1, {"et": 2}, task="ok"),
        "retried": await stage.enqueue(task="retried"),
        "with long arguments": await stage.enqueue("x" * HUGE, task="ok"),
    }
    failed = {name: await stage.enqueue("s", task=name) for name in NAMES}
    stage.client.delete(f"arq:job:{failed['expired'].job_id}")
    stage.client.set(f"arq:job:{failed['undecodable'].job_id}", b'{"t": ')
    stage.client.zadd("arq:abort", {failed["aborted before"].job_id: time.time() * 1000})

    waits = asyncio.Event()

    async def abort_what_waits() -> None:
        await waits.wait()
        stage.client.zadd("arq:abort", {failed["aborted within"].job_id: time.time() * 1000})

    def begin_to_wait(*_: Any) -> Any:
        waits.set()
        return asyncio.Event().wait()

    aborting = asyncio.create_task(abort_what_waits())
    await stage.work(
        stage.task(lambda *_: {"s": False, "r": "CancelledError()"}, "ok"),
        stage.task(retried, "retried"),
        stage.task(raiser(ValueError("bad")), "failed"),
        stage.task(lambda *_: asyncio.Event().wait(), "timed out", timeout=0.05),
        stage.task(raiser(Retry()), "out of tries"),
        stage.task(begin_to_wait, "aborted within"),
        *(stage.task(print, name) for name in ("expired", "undecodable", "aborted before")),
    )
    await aborting
    assert stage.ended.keys() >= {failed["aborted within"].job_id}
    return good, failed


# -- what a failure was made of ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "outcome", "exception"),
    [
        ("", Outcome.FAILED, UNKNOWN),  # of a timeout, an abort, a `raise ValueError`: all the same
        ("ValueError('bad')", Outcome.FAILED, UNKNOWN),
        ("ValueError()", Outcome.FAILED, UNKNOWN),
        ("HTTPConnectionPool(host='db', port=80): Max retries exceeded with url: /", Outcome.FAILED, UNKNOWN),
        ("TimeoutError('bad')", Outcome.FAILED, UNKNOWN),
        ("got a TimeoutError()", Outcome.FAILED, UNKNOWN),
        ("TimeoutError()", Outcome.FAILED, "TimeoutError"),
        ("CancelledError()", Outcome.ABORTED, None),
        ("CancelledError", Outcome.FAILED, UNKNOWN),
        ("got a CancelledError()", Outcome.FAILED, UNKNOWN),
        (UNSERIALIZED, Outcome.FAILED, UNKNOWN),
        ({"type": "ValueError"}, Outcome.FAILED, UNKNOWN),
        (["ValueError"], Outcome.FAILED, UNKNOWN),
        (None, Outcome.FAILED, UNKNOWN),
        (7, Outcome.FAILED, UNKNOWN),
        ("x" * 20_000, Outcome.FAILED, UNKNOWN),
        # Only one that knows of more tries than it had: what another job's result said is no word on this one.
        ("max 2 retries exceeded", Outcome.FAILED, MAX_TRIES),
        ("max 3 retries exceeded", Outcome.FAILED, UNKNOWN),
        ("JobExecutionFailed('max 2 retries exceeded')", Outcome.FAILED, MAX_TRIES),
        ("JobExecutionFailed('max 3 retries exceeded')", Outcome.FAILED, UNKNOWN),
        ("OtherError('max 2 retries exceeded')", Outcome.FAILED, UNKNOWN),
        ("function 'f' not found", Outcome.NOT_FOUND, None),
        ("function 'g' not found", Outcome.FAILED, UNKNOWN),
        ("JobExecutionFailed(\"function 'f' not found\")", Outcome.NOT_FOUND, None),
        ("JobExecutionFailed(\"function 'g' not found\")", Outcome.FAILED, UNKNOWN),
        ("job expired", Outcome.FAILED, UNKNOWN),
        ("JobExecutionFailed('job expired')", Outcome.FAILED, UNKNOWN),
        ("unable to deserialize job", Outcome.FAILED, UNKNOWN),
    ],
)
def test_what_the_text_of_a_failure_tells(raised: Any, outcome: Outcome, exception: str | None) -> None:
    for serialize in BOTH.values():
        result = read_whole(written(serialize=serialize, t=3, s=False, r=raised))

        assert (result.outcome, result.exception) == (outcome, exception)


@pytest.mark.parametrize(
    ("raised", "ran"),
    [("bad", True), ("ValueError('bad')", True), ("TimeoutError()", True), ("x" * 20_000, True), ("x" * HUGE, True),
     ("", None), (UNSERIALIZED, None), ({"type": "ValueError"}, None), (None, None), ("JobExecutionFailed", None),
     ("arq.worker.JobExecutionFailed: function 'f' not found", None), ("CancelledError()", None),
     ("function 'f' not found", False), ("max 0 retries exceeded", False)],
    ids=shortened,
)  # fmt: skip
def test_whether_an_attempt_ran(raised: Any, ran: bool | None) -> None:
    """Where that isn't certain, only the time that it took can tell."""
    for serialize in BOTH.values():
        for took in (0.0, SURELY_RAN - 0.001, SURELY_RAN):
            result = read_whole(written(serialize=serialize, s=False, r=raised, ft=ST + round(took * 1000)))

            assert (result.started is not None) is (took >= SURELY_RAN if ran is None else ran)


def test_a_job_that_arq_could_not_read_has_not_failed() -> None:
    raised: Any
    for serialize in BOTH.values():
        for raised in (UNSERIALIZED, "", {}, "function '<unknown>' not found", "max 0 retries exceeded"):
            result = read_whole(written(serialize=serialize, f="<unknown>", et=0, s=False, r=raised))
            assert (result.outcome, result.task, result.started) == (Outcome.UNKNOWN, None, None)


def test_a_configured_serializer_reads_nothing_else() -> None:
    values = {Serializer.PICKLE: written(), **{name: written(serialize=serialize) for name, serialize in BOTH.items()}}
    for written_by, value in values.items():
        assert told_by(value) is written_by
        for configured in Serializer:
            if configured in (written_by, Serializer.AUTO):
                knows(read_result(value, b"", configured), outcome=Outcome.SUCCEEDED)
            else:
                with pytest.raises(UnreadableResult) as caught:
                    read_result(value, b"", configured)
                assert caught.value.reason is Unreadable.ENCODING
