"""Running jobs, and what they report of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from arq.worker import func

from taskqueue_hooks import instrument, progress
from tests.hooks.stage import BEAT, Stage

pytestmark = pytest.mark.usefixtures("all_is_well")


async def test_running_jobs_and_their_progress(stage: Stage) -> None:
    release = asyncio.Event()

    async def silent(ctx: dict[Any, Any]) -> None:
        await release.wait()

    async def telling(ctx: dict[Any, Any]) -> None:
        progress(ctx, 3, 10, "x" * 300)
        progress(ctx, float("nan"), 10, "no number")
        progress(ctx, 4, float("inf"), "no number")
        await release.wait()

    functions = [func(silent, name="silent"), func(telling, name="telling")]
    await stage.start(instrument({"functions": functions}, beat=BEAT))
    await stage.enqueue("silent", "telling")
    running = await stage.until(lambda: told if len(told := stage.running()) == 2 else None)
    first, second = sorted(running, key=lambda job: job["f"])  # arq starts both at once
    assert (first["id"], first["f"], first["try"]) == ("silent-1", "silent", 1)
    assert first.keys() == {"id", "f", "try", "at"}
    assert (second["done"], second["total"], second["message"]) == (3, 10, "x" * 200)
    assert running[0]["at"] <= running[1]["at"]
    assert second["at"] <= second["reported"]
    assert stage.hash()["busy"] == "2"

    release.set()
    await stage.until(lambda: stage.hash()["busy"] == "0")
    assert stage.running() == []


class Hostile:
    """Fails whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __float__(self) -> float:
        raise RuntimeError("no number")


def hostile_calls() -> Iterator[tuple[Any, ...]]:
    for number in (None, "3", b"3", [], True, 10**400, Decimal(3), Hostile(), object()):
        yield number, None, ""
        yield 1, number, ""
    yield 1, 2, Hostile()


async def test_progress_never_raises(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    async def tells(ctx: dict[Any, Any]) -> None:
        for arguments in hostile_calls():
            progress(ctx, *arguments)
        stage.log.append(await stage.until(stage.running))

    await stage.run_jobs(func(tells, name="tells"))
    ((told,),) = stage.log
    assert told.get("done") in (None, 1)  # `total=None` is a total that is not known
    assert stage.outcomes() == [("tells", "succeeded", "")]
    caplog.clear()  # what cannot be made a text is told once


def test_progress_without_a_worker_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    contexts: tuple[Any, ...] = (None, {}, 3, {"_taskqueue_hooks": []}, {"_taskqueue_hooks": "x"})
    for ctx in contexts:
        progress(ctx, 1)
    assert caplog.records == []
    progress(Hostile(), 1)
    caplog.clear()
