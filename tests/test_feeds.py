"""Feeds are followed for ever, each for itself, and tell when they saw nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import structlog

from exporter import feeds
from exporter.brokers.errors import BrokerError, Refused
from exporter.brokers.push import ConnectionLost
from exporter.config import Config
from exporter.engine import Engine, Selection
from exporter.exposition import TEXT, Renderer
from exporter.feeds import FeedState
from exporter.ledger import Ledger
from exporter.model import Finished, Outcome, Sink, Unreadable
from exporter.safe.limits import Limits
from exporter.systems import SYSTEMS
from tests.servers import Series, parse_metrics, series
from tests.toys import Run, broker, config, one_queue, scraped, success, system_toy, until

Follow = Callable[[Sink], Awaitable[None]]
DONE = Finished("q", "t", "1", 1_700_000_000.0, Outcome.SUCCEEDED)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def state(clock: Clock) -> FeedState:
    ledger = Ledger("toy", "main", (), Limits(), Counter())
    return FeedState(("toy", "main", "events"), ledger, clock=lambda: 5.0, monotonic=clock)


def shown(state: FeedState) -> dict[Series, float]:
    return parse_metrics(b"".join(Renderer().render(state.families(), TEXT)).decode())


def of(family: str, **labels: str) -> Series:
    return series(f"taskqueue_feed_{family}", system="toy", broker="main", feed="events", **labels)


# -- what a feed tells about itself -----------------------------------------------------------------------------


def test_counters_are_there_at_0_before_anything_happened() -> None:
    found = shown(state(Clock()))

    assert found == {
        of("connected"): 0,
        of("events_total", kind="job"): 0,
        of("events_total", kind="worker"): 0,
        of("lost_events_total"): 0,
        of("gap_seconds_total"): 0,
        of("reconnects_total"): 0,
        of("forgotten_jobs_total"): 0,
        **{of("undecodable_total", reason=reason): 0 for reason in Unreadable},
    }


def test_what_is_told_is_shown() -> None:
    feed = state(Clock())

    feed.connected("pubsub")
    feed.received("job", 24)
    feed.received("worker", 2)
    feed.lost(7)
    feed.forgotten(3)
    feed.undecodable(Unreadable.BOUNDS, 2)

    found = shown(feed)
    assert found[of("connected")] == found[of("info", mode="pubsub")] == 1
    assert found[of("events_total", kind="job")] == 24
    assert found[of("events_total", kind="worker")] == 2
    assert found[of("lost_events_total")] == 7
    assert found[of("forgotten_jobs_total")] == 3
    assert found[of("undecodable_total", reason="bounds")] == 2
    assert found[of("last_event_timestamp_seconds")] == 5


def test_a_gap_grows_while_it_lasts_and_stands_afterwards() -> None:
    clock = Clock()
    feed = state(clock)

    feed.connected("scan")
    clock.now += 10
    assert shown(feed)[of("gap_seconds_total")] == 0

    feed.disconnected(since=clock.now - 4)
    clock.now += 3
    found = shown(feed)
    assert found[of("gap_seconds_total")] == 4 + 3
    assert found[of("connected")] == found[of("reconnects_total")] == 0
    assert of("info", mode="scan") not in found

    clock.now += 1
    feed.connected("tracking")
    clock.now += 50
    found = shown(feed)
    assert found[of("gap_seconds_total")] == 4 + 3 + 1
    assert found[of("reconnects_total")] == 1


def test_a_feed_that_was_never_connected_is_blind_since_it_began() -> None:
    clock = Clock()
    feed = state(clock)

    clock.now += 2
    assert shown(feed)[of("gap_seconds_total")] == 0, "the first attempt is under way"
    feed.disconnected()
    assert shown(feed)[of("gap_seconds_total")] == 2
    clock.now += 3
    feed.connected("pubsub")

    found = shown(feed)
    assert found[of("gap_seconds_total")] == 2 + 3
    assert found[of("reconnects_total")] == 0


def test_a_mode_that_changes_while_connected_is_no_reconnect() -> None:
    feed = state(Clock())

    feed.connected("tracking")
    feed.connected("scan")

    found = shown(feed)
    assert found[of("reconnects_total")] == 0
    assert found[of("info", mode="scan")] == 1
    assert of("info", mode="tracking") not in found


def test_to_lose_what_was_lost_already_changes_nothing() -> None:
    clock = Clock()
    feed = state(clock)
    feed.connected("pubsub")
    feed.disconnected()
    clock.now += 5

    feed.disconnected(since=clock.now - 100)

    assert shown(feed)[of("gap_seconds_total")] == 5


def test_a_gap_goes_on_while_jobs_may_end_where_a_connected_feed_does_not_look() -> None:
    clock = Clock()
    feed = state(clock)
    feed.connected("scan")
    clock.now += 20

    feed.astray(since=clock.now - 1)
    feed.disconnected(since=clock.now - 3)
    clock.now += 1
    feed.connected("scan")
    clock.now += 6
    found = shown(feed)
    assert found[of("connected")] == 1
    assert found[of("gap_seconds_total")] == 3 + 1 + 6

    feed.astray(None)
    clock.now += 50
    assert shown(feed)[of("gap_seconds_total")] == 3 + 1 + 6
    feed.disconnected(since=clock.now - 52)
    assert shown(feed)[of("gap_seconds_total")] == 3 + 1 + 6 + 50, "no second twice"


def test_a_feed_that_is_lost_longer_than_that_is_blind_until_it_is_back() -> None:
    clock = Clock()
    feed = state(clock)
    feed.connected("pubsub")

    clock.now += 5
    feed.astray(since=clock.now - 50)
    feed.disconnected()
    clock.now += 2
    feed.astray(None)
    clock.now += 3
    assert shown(feed)[of("gap_seconds_total")] == 5 + 2 + 3
    feed.connected("pubsub")
    clock.now += 9

    assert shown(feed)[of("gap_seconds_total")] == 5 + 2 + 3


def test_a_feed_that_was_never_connected_is_blind_since_it_began_whatever_moves() -> None:
    clock = Clock()
    feed = state(clock)

    clock.now += 4
    feed.astray(since=clock.now - 1)
    feed.disconnected()

    assert shown(feed)[of("gap_seconds_total")] == 4


def test_a_feed_that_does_not_see_all_is_not_stable() -> None:
    clock = Clock()
    feed = state(clock)
    feed.connected("pubsub")
    clock.now += feeds.STABLE_AFTER + 1
    assert feed.stable

    feed.astray(since=clock.now)
    assert not feed.stable


# -- followed by the engine -------------------------------------------------------------------------------------


class Script:
    """A feed that does at each attempt what it is told, and the last thing again."""

    name = "events"

    def __init__(self, *attempts: Follow) -> None:
        self.attempts = attempts
        self.begun = 0

    async def follow(self, sink: Sink) -> None:
        self.begun += 1
        await self.attempts[min(self.begun, len(self.attempts)) - 1](sink)


async def stay(sink: Sink) -> None:
    sink.connected("pubsub")
    sink.record([DONE])
    await asyncio.Event().wait()


async def refuse(sink: Sink) -> None:
    raise Refused("NOPERM not for you")


async def be_away(sink: Sink) -> None:
    raise BrokerError("ConnectionRefusedError: nobody there")


async def lose(sink: Sink) -> None:
    sink.connected("pubsub")
    raise ConnectionLost("cut off", time.monotonic())


async def fall_silent(sink: Sink) -> None:
    sink.connected("pubsub")
    heard_at = time.monotonic()
    await asyncio.sleep(0.3)
    raise ConnectionLost("silent", heard_at)


async def crash(sink: Sink) -> None:
    raise ZeroDivisionError("a fault\nof the feed")


async def give_up(sink: Sink) -> None:
    return None


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(feeds, "LONGEST_DELAY", 0.01)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long followers paused, in order."""
    found: list[float] = []

    async def sleep(seconds: float, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        found.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(feeds, "sleep", sleep)
    return found


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch, run: Run) -> Callable[..., Awaitable[tuple[Engine, Script]]]:
    """Start an engine whose one system has a scripted feed; its counters are shown at once."""

    async def start(
        *attempts: Follow, observe: Callable[[], Awaitable[object]] = cannot_observe
    ) -> tuple[Engine, Script]:
        script = Script(*attempts)
        toy = system_toy("toy", observe)
        toy.feeds = (script,)  # type: ignore[assignment, method-assign]
        monkeypatch.setitem(SYSTEMS, "toy", toy)
        return await run(settings()), script

    return start


async def cannot_observe() -> object:
    raise BrokerError("down")


def settings(**changes: object) -> Config:
    plain = config(broker(systems=["toy"]))
    return Config(plain.brokers, plain.host_collectors, plain.limits, birth_hold=0.0, **changes)  # type: ignore[arg-type]


FINISHED = series(
    "taskqueue_jobs_finished_total", system="toy", broker="main", queue="q", task="t", outcome="succeeded"
)
Start = Callable[..., Awaitable[tuple[Engine, Script]]]


async def test_what_feeds_count_is_shown_though_the_broker_is_down(follow: Start) -> None:
    engine, _ = await follow(stay)

    found = await scraped(engine)

    assert found[FINISHED] == found[of("connected")] == 1
    assert found[series("taskqueue_broker_up", broker="main")] == 0


@pytest.mark.parametrize("fault", [refuse, crash, give_up, lose])
async def test_a_feed_that_fails_is_followed_again(follow: Start, fault: Follow) -> None:
    engine, script = await follow(fault, fault, fault, stay)

    await until(lambda: script.begun == 4)

    found = await scraped(engine)
    assert found[of("connected")] == found[FINISHED] == 1
    assert found[of("reconnects_total")] == (3 if fault is lose else 0)


async def test_a_lost_connections_silence_is_part_of_the_gap(follow: Start) -> None:
    engine, script = await follow(fall_silent, stay)

    await until(lambda: script.begun == 2)

    assert 0.3 <= (await scraped(engine))[of("gap_seconds_total")] < 5


def test_no_gap_begins_before_its_connection() -> None:
    clock = Clock()
    feed = state(clock)
    clock.now += 50
    feed.connected("pubsub")

    feed.disconnected(since=clock.now - 20)

    assert shown(feed)[of("gap_seconds_total")] == 0


async def test_what_a_server_refuses_a_feed_is_a_problem_of_its_collector(follow: Start) -> None:
    with structlog.testing.capture_logs() as logged:
        engine, script = await follow(refuse, observe=one_queue)
        await until(lambda: script.begun > 1)
        found = await scraped(engine)
        # and when the server lets it, all is well again
        script.attempts = (stay,)
        script.begun = 0
        await until(lambda: script.begun == 1)
        mended = await scraped(engine)

    assert found[of("connected")] == success(found, "toy") == 0
    said = [entry["problem"] for entry in logged if entry["event"] == "collector failed"]
    assert "feed events refused: NOPERM not for you" in said
    assert mended[of("connected")] == success(mended, "toy") == 1


@pytest.mark.parametrize("fault", [be_away, lose, crash])
async def test_what_may_pass_by_itself_is_none(follow: Start, fault: Follow) -> None:
    engine, script = await follow(refuse, fault, observe=one_queue)
    await until(lambda: script.begun > 3)

    assert success(await scraped(engine), "toy") == 1


@pytest.mark.parametrize(("fault", "problem"), [(refuse, "NOPERM not for you"), (lose, "cut off")])
async def test_a_problem_is_logged_once(
    follow: Start, capsys: pytest.CaptureFixture[str], fault: Follow, problem: str
) -> None:
    _, script = await follow(fault)

    await until(lambda: script.begun > 5)

    assert capsys.readouterr().out.count(problem) == 1


@pytest.mark.parametrize("fault", [refuse, lose])
async def test_the_pause_between_attempts_grows(follow: Start, pauses: list[float], fault: Follow) -> None:
    """Also where each connection is ended at once: such a server must not be hammered."""
    _, script = await follow(fault)

    await until(lambda: script.begun > 12)

    assert all(2**n / 2 <= pauses[n] / feeds.FIRST_DELAY <= 2**n for n in range(3))
    assert len(set(pauses)) > 6, "they differ by chance"
    assert max(pauses) <= feeds.LONGEST_DELAY


async def test_a_connection_that_held_is_come_back_to_at_once(
    follow: Start, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "STABLE_AFTER", -1.0)

    _, script = await follow(lose)
    await until(lambda: script.begun > 8)

    assert max(pauses) <= feeds.FIRST_DELAY


async def test_a_selection_without_the_system_has_none_of_its_counters(follow: Start) -> None:
    engine, _ = await follow(stay)
    await scraped(engine)

    answer = await engine.scrape(5.0, Selection(but=frozenset({"toy"})))

    assert not {metric.name for metric in answer.families} & {"taskqueue_jobs_finished", "taskqueue_feed_connected"}


async def test_an_unchanged_broker_keeps_its_feed_and_its_counters(follow: Start) -> None:
    engine, script = await follow(stay)
    await until(lambda: script.begun == 1)

    await engine.reload(settings())

    assert (await scraped(engine))[FINISHED] == 1
    assert script.begun == 1


async def test_a_broker_that_is_removed_is_not_followed_any_more(follow: Start) -> None:
    engine, script = await follow(stay)
    await until(lambda: script.begun == 1)

    await engine.reload(config())

    assert not any(name.startswith(("taskqueue_jobs", "taskqueue_feed")) for name, _ in await scraped(engine))
