"""The search for queues in the background: when it runs, and what is known while it has not, or failed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import SimpleNamespace

import pytest

from exporter.brokers.errors import BrokerError
from exporter.systems import base
from exporter.systems.base import Discovery
from tests.systems.observing import Clock


class Search:
    """A search whose results are given by the test."""

    def __init__(self, clock: Clock, *results: Collection[str] | Exception, takes: float = 0.0) -> None:
        self._clock, self._results, self._takes = clock, list(results), takes
        self.runs = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> Collection[str]:
        self.runs += 1
        await self.gate.wait()
        self._clock.now += self._takes
        result = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        if isinstance(result, Exception):
            raise result
        return result


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(base, "time", SimpleNamespace(monotonic=clock))
    return clock


async def settled(discovery: Discovery) -> tuple[str, ...]:
    """What is known once a search that this question started has ended."""
    await discovery.queues()
    for _ in range(5):
        await asyncio.sleep(0)
    return tuple(await discovery.queues())


async def test_the_first_search_is_waited_for(clock: Clock) -> None:
    discovery = Discovery(Search(clock, ["b", "a"]))
    assert tuple(await discovery.queues()) == ("a", "b")
    assert discovery.problem is None


async def test_without_a_search_only_what_is_configured_is_known(clock: Clock) -> None:
    assert tuple(await Discovery(None, ["z", "y"]).queues()) == ("z", "y")
    assert tuple(await Discovery(None).queues()) == ()


async def test_it_searches_again_after_the_interval_and_forgets_nothing(clock: Clock) -> None:
    search = Search(clock, ["a"], ["b"])
    discovery = Discovery(search)
    await settled(discovery)
    clock.now += Discovery.INTERVAL - 1
    assert await settled(discovery) == ("a",)
    assert search.runs == 1
    clock.now += 1
    assert await settled(discovery) == ("a", "b")
    assert search.runs == 2


async def test_a_long_search_is_repeated_less_often(clock: Clock) -> None:
    search = Search(clock, ["a"], takes=10.0)
    discovery = Discovery(search)
    await settled(discovery)
    clock.now += 10.0 / Discovery.BUSY_SHARE - 1
    await settled(discovery)
    assert search.runs == 1
    clock.now += 1
    await settled(discovery)
    assert search.runs == 2


async def test_only_one_search_runs_at_a_time_and_whoever_gives_up_does_not_end_it(clock: Clock) -> None:
    search = Search(clock, ["a"])
    search.gate.clear()
    discovery = Discovery(search)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(discovery.queues(), 0.01)
    search.gate.set()
    assert tuple(await discovery.queues()) == ("a",)
    assert search.runs == 1


async def test_a_first_search_that_fails_is_repeated_at_once(clock: Clock) -> None:
    search = Search(clock, BrokerError("gone"), ["a"])
    discovery = Discovery(search)
    with pytest.raises(BrokerError, match="search for queues failed: gone"):
        await discovery.queues()
    assert tuple(await discovery.queues()) == ("a",)
    assert discovery.problem is None


async def test_a_later_failure_leaves_the_known_queues_and_says_so_until_one_succeeds(clock: Clock) -> None:
    search = Search(clock, ["a"], RuntimeError("two\nlines"), ["b"])
    discovery = Discovery(search)
    await settled(discovery)
    clock.now += Discovery.INTERVAL
    assert await settled(discovery) == ("a",)
    assert discovery.problem == r"search for queues failed: two\nlines"
    clock.now += Discovery.INTERVAL
    assert await settled(discovery) == ("a", "b")
    assert discovery.problem is None


async def test_configured_queues_are_known_though_the_first_search_fails(clock: Clock) -> None:
    discovery = Discovery(Search(clock, BrokerError("denied")), ["mine"])
    assert tuple(await discovery.queues()) == ("mine",)
    assert discovery.problem == "search for queues failed: denied"


async def test_configured_queues_are_known_though_the_first_search_takes_long(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Discovery, "PATIENCE", 0.01)
    search = Search(clock, ["found"])
    search.gate.clear()
    discovery = Discovery(search, ["mine"])
    assert tuple(await discovery.queues()) == ("mine",)
    assert discovery.problem == "no search for queues has ended yet"
    search.gate.set()
    assert await settled(discovery) == ("mine", "found")
    assert discovery.problem is None


async def test_queues_beyond_the_cap_are_left_out_and_told(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Discovery, "KNOWN_QUEUES", 3)
    discovery = Discovery(Search(clock, [f"q{number}" for number in range(5)]), ["mine"])
    assert tuple(await discovery.queues()) == ("mine", "q0", "q1")
    assert discovery.problem == "found 3 queues beyond 3: not watched"


async def test_beyond_the_cap_queues_that_are_gone_make_room(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Discovery, "KNOWN_QUEUES", 3)
    discovery = Discovery(Search(clock, ["gone", "stays"], ["stays", "new"]), ["mine"])
    assert tuple(await discovery.queues()) == ("mine", "gone", "stays")
    clock.now += Discovery.INTERVAL
    assert await settled(discovery) == ("mine", "stays", "new")
    assert discovery.problem is None


async def test_a_queue_that_is_not_found_for_long_is_forgotten(clock: Clock) -> None:
    discovery = Discovery(Search(clock, ["gone", "stays"], ["stays"]), ["mine"])
    assert await settled(discovery) == ("mine", "gone", "stays")
    clock.now += Discovery.MEMORY
    assert await settled(discovery) == ("mine", "gone", "stays")
    clock.now += Discovery.INTERVAL
    assert await settled(discovery) == ("mine", "stays")


async def test_it_tells_queues_that_came_into_being_while_it_watched(clock: Clock) -> None:
    discovery = Discovery(Search(clock, ["old"], ["old", "young"]), ["mine"])
    await discovery.queues()
    clock.now += Discovery.INTERVAL
    await settled(discovery)
    assert [discovery.appeared(queue) for queue in ("mine", "old", "young")] == [False, False, True]


async def test_close_ends_a_search_under_way(clock: Clock) -> None:
    search = Search(clock, ["a"])
    search.gate.clear()
    discovery = Discovery(search)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(discovery.queues(), 0.01)
    await discovery.close()
    assert len(asyncio.all_tasks()) == 1
    await discovery.close()
