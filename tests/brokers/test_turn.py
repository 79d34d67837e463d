"""The decoding turn: everyone gets steps, nobody holds up the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from exporter.brokers.turn import DRAINING_SECONDS, MOST_SKIPPED, SLICE_SECONDS, Turn


class Work:
    """A member with `steps` steps to do; each is noted down under its name."""

    def __init__(self, name: str, steps: int, done: list[str], also: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.steps = steps
        self.done = done
        self.also = also

    def step(self) -> bool:
        if self.steps == 0:
            return False
        self.steps -= 1
        self.done.append(self.name)
        self.also()
        return True


class Clock:
    """Goes on by `tick` seconds whenever it is looked at."""

    def __init__(self, tick: float) -> None:
        self.now = 0.0
        self.tick = tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


async def rounds(count: int) -> None:
    """So many rounds of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_members_take_turns_and_nobody_starves() -> None:
    done: list[str] = []
    turn = Turn()
    for member in (Work("a", 1000, done), Work("b", 3, done), Work("c", 3, done)):
        turn.wake(member)
    await rounds(1)
    assert done[:9] == list("abcabcabc")


async def test_who_is_woken_often_has_one_place() -> None:
    done: list[str] = []
    turn = Turn()
    greedy, other = Work("g", 100, done), Work("o", 100, done)
    greedy.also = lambda: turn.wake(greedy)  # also in its own step
    for member in (greedy, greedy, other, greedy):
        turn.wake(member)
    await rounds(2)
    assert done[:100] == ["g", "o"] * 50


async def test_a_slice_ends_and_the_loop_gets_its_rounds() -> None:
    done: list[str] = []
    clock = Clock(SLICE_SECONDS / 10)
    turn = Turn(clock)
    member = Work("a", 10_000, done)
    turn.wake(member)
    await rounds(1)
    assert len(done) <= DRAINING_SECONDS / clock.tick + 1  # something came in just now: more may wait in the socket
    at_first = len(done)
    await rounds(1)
    assert 5 < len(done) - at_first <= 10  # nothing more came
    await rounds(10_000)
    assert len(done) == 10_000


async def test_whoever_left_gets_no_step() -> None:
    done: list[str] = []
    turn = Turn()
    gone = Work("gone", 5, done)
    leaving = Work("leaving", 5, done)
    leaving.also = lambda: turn.leave(leaving)
    for member in (gone, gone, leaving):
        turn.wake(member)
    turn.leave(gone)
    turn.leave(gone)
    await rounds(5)
    assert "gone" not in done


async def test_whoever_did_all_can_be_woken_again() -> None:
    done: list[str] = []
    turn = Turn()
    member = Work("a", 1, done)
    turn.wake(member)
    await rounds(3)
    member.steps = 1
    turn.wake(member)
    await rounds(3)
    assert done == ["a", "a"]


async def test_a_member_that_raises_is_out_and_the_others_go_on() -> None:
    done: list[str] = []
    seen: list[object] = []

    def fail() -> None:
        raise RuntimeError("broken")

    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context["exception"]))
    turn = Turn()
    for member in (Work("bad", 5, done, fail), Work("good", 5, done)):
        turn.wake(member)
    await rounds(5)
    assert done.count("good") == 5
    assert done.count("bad") == 1
    assert len(seen) == 1


async def test_an_idle_turn_schedules_nothing() -> None:
    done: list[str] = []
    clock = Clock(0.0001)
    turn = Turn(clock)
    turn.wake(Work("a", 1, done))
    await rounds(3)
    then = clock.now
    await rounds(10)
    assert done == ["a"]
    assert clock.now == then


async def test_a_flooded_socket_is_read_first_and_yet_nobody_starves() -> None:
    done: list[str] = []
    turn = Turn()
    flooded, other = Work("f", 10_000, done), Work("o", 3, done)
    turn.wake(other)

    for number in range(1, MOST_SKIPPED + 1):
        turn.wake(flooded, flooded=True)
        await rounds(1)
        assert done == [], f"nothing is decoded in round {number}"

    turn.wake(flooded, flooded=True)
    await rounds(1)
    assert done[:6] == list("ofofof")
