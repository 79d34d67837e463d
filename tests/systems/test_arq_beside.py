"""Coroutines side by side: when one ends, all do, also those that take a cancellation for their own."""

from __future__ import annotations

import asyncio

import pytest

from exporter.systems.arq.feed import beside
from exporter.systems.arq.feed.beside import first_of


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "AGAIN", 0.01)


class Stubborn:
    """Ends when it has been cancelled so many times."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.go = asyncio.Event()

    async def run(self) -> None:
        while self.left:
            try:
                await self.go.wait()
                return
            except asyncio.CancelledError:
                self.left -= 1
        raise asyncio.CancelledError


async def fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("first")


@pytest.mark.parametrize("times", [1, 2, 7])
async def test_one_that_swallows_cancellations_is_cancelled_again(times: int) -> None:
    stubborn = Stubborn(times)
    async with asyncio.timeout(20):
        with pytest.raises(ValueError, match="first"):
            await first_of(stubborn.run(), fail(), asyncio.sleep(3600))
    assert not stubborn.left


async def test_cancelled_from_outside_it_leaves_none_running() -> None:
    stubborn = Stubborn(2)
    running = asyncio.create_task(first_of(stubborn.run(), asyncio.sleep(3600)))
    await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await running
    assert not stubborn.left


async def test_one_that_never_ends_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "TIMES", 3)
    stubborn = Stubborn(10**6)
    async with asyncio.timeout(20):
        with pytest.raises(ValueError, match="first"):
            await first_of(stubborn.run(), fail())
    stubborn.go.set()
