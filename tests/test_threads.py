"""Blocking work in threads of its own: what comes back, and what becomes of those who hang."""

from __future__ import annotations

import asyncio
import threading

import pytest

from exporter.threads import in_thread


async def test_what_a_function_returns_or_raises_comes_back() -> None:
    assert await in_thread(threading.current_thread, "name of it") is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0, "x")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration()])
async def test_what_no_future_takes_is_an_error_like_others(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(RuntimeError, match=type(error).__name__):
        await in_thread(fail, "x")


async def test_one_that_hangs_keeps_no_other_waiting() -> None:
    release = threading.Event()
    hung = [in_thread(lambda: release.wait(30), "hung") for _ in range(40)]

    assert await asyncio.wait_for(in_thread(lambda: 7, "other"), 10) == 7
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "hung")

    release.set()
    assert await asyncio.gather(*hung) == [True] * 40


async def test_nobody_waits_any_more() -> None:
    release = threading.Event()
    future = in_thread(lambda: release.wait(30), "hung")
    future.cancel()
    release.set()

    assert await in_thread(lambda: 7, "other") == 7
    assert future.cancelled()
