"""Workers with the hook: who lives, who was lost and who left, by records and by our clock."""

from __future__ import annotations

import time
from collections.abc import Collection
from itertools import chain
from typing import Any, cast

import pytest
import redis

from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.pulls import Pulls
from exporter.brokers.turn import Turn
from exporter.model import Unreadable, WorkerState
from exporter.systems.arq.ends.ends import Ends
from exporter.systems.arq.hook import feed as hook_feed
from exporter.systems.arq.hook.feed import HookFeed
from exporter.systems.arq.hook.reading import read_workers
from exporter.systems.arq.hook.records import Progress, WorkerRecord
from exporter.systems.arq.hook.streams import QUEUES
from exporter.systems.arq.hook.workers import NOT_KNOWN, OTHERS_MEMORY, QueueWorkers, Workers
from tests.servers import RedisServer
from tests.systems.hook_following import following, look_often
from tests.systems.hook_records import WORKERS, HookedWorker, worker_key
from tests.systems.sinks import RecordingSink
from tests.toys import until

NOW = 1_700_000_000.0
BEAT = 4.0
A, B = "web:1:0000000a", "web:1:0000000b"


class Table:
    """Workers that are looked at each second, at most; time goes by as the test says."""

    def __init__(self, forget_after: float = 3600.0, skew: float = 0.0, beat: float = BEAT) -> None:
        """`skew`: the workers' clocks are so many seconds ahead."""
        self.tick = 1000.0
        self.skew = skew
        self.beat = beat
        self.workers = Workers(forget_after)
        self.queues = ["q"]
        self.index: dict[str, float] = {}
        self.records: dict[str, WorkerRecord | None] = {}
        self.workers.connected(self.tick)

    @property
    def now(self) -> float:
        """By our clock."""
        return NOW + self.tick - 1000

    def write(self, *ids: str, queue: str = "q", started: float = NOW, busy: int = 1) -> None:
        for worker_id in ids:
            at = self.index[worker_id] = self.now + self.skew
            self.records[worker_id] = WorkerRecord(queue, started, at, self.beat, 10, busy, 3, "0.28.0", 0)

    def look(self) -> list[str]:
        """Who wrote since the last look."""
        self.workers.index(self.index, self.now, self.tick)
        new = [who for who in self.index if self.workers.look(who, self.records.get(who), self.tick, self.tick)]
        self.workers.looked(self.queues, self.tick)
        return new

    def passes(self, seconds: float, *writing: str) -> None:
        """Time, in which some write at their beats."""
        end = self.tick + seconds
        while self.tick < end:
            self.tick += 1.0
            if (self.tick - 1000) % BEAT == 0:
                self.write(*writing)
            self.look()

    @property
    def states(self) -> Collection[WorkerState] | None:
        return self.workers.states(self.now, self.tick)

    @property
    def up(self) -> dict[str, bool]:
        return {state.worker: state.up for state in self.states or ()}

    def queue(self, untold: float | None = None, queue: str = "q") -> QueueWorkers:
        return self.workers.queue(queue, untold, self.now, self.tick)


# -- alive, lost, gone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew", [-5000.0, 0.0, 5000.0])
def test_a_worker_that_is_killed_is_lost_within_three_beats(skew: float) -> None:
    table = Table(skew=skew)
    table.write(A)
    assert table.look() == [A]
    assert table.look() == []
    # given one that lives
    table.passes(10 * BEAT, A)
    (state,) = table.states or ()
    last = cast(float, state.last_heartbeat)
    assert table.now - 1 <= last <= table.now  # as well as a look each second can tell
    assert state == WorkerState("web:1", True, ("q",), last, 10, 1, None, 3, "0.28.0")
    # when it writes no more
    table.passes(2 * BEAT)
    assert table.up == {"web:1": True}
    table.passes(BEAT)
    # then
    assert table.up == {"web:1": False}
    (state,) = table.states or ()
    assert (state.slots, state.busy_slots, state.last_heartbeat) == (10, None, last)
    # when its record is gone too, and it comes back
    table.records[A] = None
    table.look()
    assert table.up == {"web:1": False}
    table.write(A)
    assert table.look() == [A]
    assert table.up == {"web:1": True}


def test_one_whose_record_is_gone_is_lost_and_one_that_says_goodbye_is_gone() -> None:
    table = Table()
    table.passes(BEAT, A, B)
    table.records[A] = None
    del table.index[B]
    table.passes(1)
    assert table.up == {"web:1": False}
    del table.index[A]
    table.look()
    assert table.up == {}


def test_one_that_was_lost_before_we_came_is_shown_for_a_while() -> None:
    table = Table(forget_after=100)
    table.index = {A: table.now - 90, "older:0000000c": table.now - 101}
    table.look()
    assert table.states == [WorkerState("web:1", up=False, last_heartbeat=table.now - 90)]
    table.passes(9)
    assert table.up == {"web:1": False}
    table.passes(2)
    assert table.up == {}


def test_nobody_is_lost_because_we_were_cut_off() -> None:
    table = Table()
    table.passes(BEAT, A)
    # given a gap, in which nothing could be written either
    table.workers.disconnected()
    assert table.states is None
    assert table.queue() == NOT_KNOWN
    table.tick += 100
    table.workers.connected(table.tick)
    table.records[A] = None
    table.look()
    assert table.up == {"web:1": True}
    # when a beat goes by
    table.passes(BEAT)
    assert table.up == {"web:1": False}


def test_clocks_may_be_set_and_looks_may_be_rare() -> None:
    table = Table()
    for skew in (0.0, 1000.0, -1000.0):
        table.skew = skew
        for seconds in (BEAT, BEAT - 1):
            table.passes(seconds, A)
            assert table.up == {"web:1": True}
            # what it tells of times is told by our clock, all the same
            (state,) = table.states or ()
            assert table.now - BEAT <= cast(float, state.last_heartbeat) <= table.now
        table.workers.progress(A, Progress(1, table.index[A] - 7))
        table.look()
        reported = table.queue().oldest_progress
        table.tick += 5
        assert cast(float, state.last_heartbeat) - 7 == table.queue().oldest_progress == reported
        table.tick -= 5
    # when it says to report later than it wrote, and when one comes whose clock is wrong from the first
    table.workers.progress(A, Progress(1, table.index[A] + 50))
    table.skew = -5000
    table.write(B)
    table.look()
    assert cast(float, table.queue().oldest_progress) <= table.now
    table.passes(BEAT - 1)
    assert table.up == {"web:1": True, B: True}
    table.skew = 0
    del table.index[B]
    for _ in range(3):
        table.tick += 10 * BEAT
        table.write(A)
        table.look()
        assert table.up == {"web:1": True}


def test_one_that_was_not_looked_at_yet_is_not_down() -> None:
    table = Table()
    table.write(A)
    table.look()
    table.workers.index(table.index | {B: table.now, "other:0000000c": table.now}, table.now, table.tick)
    assert table.up == {"web:1": True}


def test_nothing_is_known_where_nothing_is_left() -> None:
    table = Table()
    table.passes(BEAT, A)
    assert table.up == {"web:1": True}
    # when the server was flushed, or the last record lapsed long after the hook was removed
    table.index, table.queues = {}, []
    table.look()
    assert table.states is None
    assert table.queue() == NOT_KNOWN
    table.write(A)
    table.look()
    assert table.up == {"web:1": True}


# -- names ------------------------------------------------------------------------------------------------------


def test_two_that_live_under_one_name_are_told_apart() -> None:
    table = Table()
    table.write(B, started=NOW - 10)
    table.write(A, started=NOW)
    table.look()
    assert table.up == {"web:1": True, A: True}
    # when the first is lost, the other takes its place
    table.records[B] = None
    table.passes(BEAT, A)
    assert table.up == {"web:1": True}
    # when both are lost, the last one is shown
    last = table.now
    table.passes(3 * BEAT)
    (state,) = table.states or ()
    assert (state.worker, state.up, state.last_heartbeat) == ("web:1", False, last)


def test_a_lost_one_does_not_come_back_when_its_successor_left() -> None:
    # given one that was lost before we came, and one that is lost now
    table = Table()
    table.index = {"web:1:0000000c": table.now - 60}
    table.write(A, started=NOW - 50)
    table.passes(3 * BEAT)
    assert table.up == {"web:1": False}
    # when one of the same name starts, and leaves in good order
    table.passes(BEAT)
    table.write(B, started=table.now)
    table.look()
    assert table.up == {"web:1": True}
    del table.index[B]
    table.look()
    assert table.up == {}
    # when one comes back that was taken for lost, and is lost in truth
    table.write(A, started=NOW - 50)
    table.look()
    assert table.up == {"web:1": True}
    table.passes(3 * BEAT)
    assert table.up == {"web:1": False}


# -- queues -----------------------------------------------------------------------------------------------------


def test_queues_count_their_live_workers() -> None:
    table = Table()
    assert table.states is None
    table.write(A, busy=3)
    table.write(B, busy=4)
    table.write("other:0000000c", queue="p")
    table.look()
    table.workers.progress(A, Progress(2, NOW - 5))
    table.workers.progress(B, Progress(1, NOW - 7))
    table.look()
    assert table.queue() == QueueWorkers(2, 20, 7, 3, NOW - 7)
    assert table.queue(queue="p") == QueueWorkers(1, 10, 1, 0, None)
    assert table.queue(queue="unheard of") == NOT_KNOWN
    assert {*table.workers.live_queues} == {"p", "q"}
    assert table.workers.longest_beat == BEAT
    # when the running jobs of one cannot be read
    table.workers.progress(B, None)
    table.look()
    assert table.queue() == QueueWorkers(2, 20, 7, None, NOW - 5)


def test_a_queue_without_live_ones_has_none_unless_others_work_there() -> None:
    table = Table()
    table.passes(BEAT, A)
    assert table.queue(untold=table.tick).workers == 1  # a mixed fleet: those that are known
    last_untold = table.tick
    del table.index[A]
    table.passes(2)
    assert table.queue(untold=None) == QueueWorkers()
    assert table.queue(untold=last_untold) == QueueWorkers()
    # when a job ends there all the same
    untold = table.tick
    assert table.queue(untold) == NOT_KNOWN
    table.passes(OTHERS_MEMORY)
    assert table.queue(untold) == QueueWorkers()


def test_the_slowest_beat_counts() -> None:
    table = Table(beat=20.0)
    table.write(A)
    table.beat = 2.0
    table.write(B)
    table.look()
    assert table.workers.longest_beat == 20.0


def test_queues_are_bounded() -> None:
    table = Table()
    table.queues = [f"indexed {number}" for number in range(QUEUES - 1)]
    for number in range(QUEUES + 1):
        table.write(f"w{number}:0000000a", queue=f"live {number}")
    table.look()
    assert len(table.workers.queues) == QUEUES
    assert [*table.workers.live_queues] == ["live 0"]
    assert table.queue(queue="live 1") == NOT_KNOWN


def test_a_record_that_cannot_be_read_is_no_news() -> None:
    table = Table()
    table.passes(BEAT, A)
    assert table.workers.refuse(A, Unreadable.BOUNDS, table.tick)
    assert not table.workers.refuse(A, Unreadable.BOUNDS, table.tick)
    assert table.workers.to_look_at(table.tick + 1) == []
    assert table.workers.to_look_at(table.tick + 61) == [A]
    table.workers.looked(["q"], table.tick)
    assert table.up == {"web:1": True}
    assert table.workers.refuse(A, Unreadable.MALFORMED, table.tick + 3 * BEAT)
    assert table.workers.to_look_at(table.tick) == [A]
    assert table.up == {"web:1": False}


# -- on a server ------------------------------------------------------------------------------------------------


async def test_workers_as_they_write(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_often(monkeypatch)
    # given one that was lost long ago
    client.zadd(WORKERS, {"lost:0000abcd": time.time() - 60})
    reports = [{"id": str(place), "f": "f", "try": 1, "at": NOW, "reported": NOW + place} for place in range(3)]
    running = [*reports, {"id": "\ud800", "f": "f", "try": 1, "at": NOW}]
    worker = HookedWorker(client, "w")
    async with following(redis_server) as followed:
        await followed.until_connected()
        assert [state.worker for state in followed.feed.workers() or ()] == ["lost"]
        # when a worker comes
        worker.beat(running, busy=4)
        await until(lambda: followed.feed.queue(worker.queue).workers)
        found = followed.feed.queue(worker.queue)
        assert found == QueueWorkers(1, 10, 4, 3, found.oldest_progress)
        assert found.oldest_progress == pytest.approx(NOW, abs=15)  # its clock is ours, the look may be late
        # when its record has lapsed
        followed.feed._workers.connected(time.monotonic() - 60)
        client.delete(worker_key(worker.id))
        await until(lambda: followed.feed.queue(worker.queue).workers == 0)
        assert {state.worker: state.up for state in followed.feed.workers() or ()} == {"lost": False, "w": False}
        # when it is back, and leaves
        worker.beat()
        await until(lambda: followed.feed.queue(worker.queue).workers)
        worker.leave()
        await until(lambda: [state.worker for state in followed.feed.workers() or ()] == ["lost"])


async def test_of_many_workers_some_are_looked_at_each_time(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[list[str]] = []

    async def read(pulls: Pulls, workers: Collection[str]) -> Any:
        looks.append([*workers])
        return await read_workers(pulls, workers)

    look_often(monkeypatch)
    monkeypatch.setattr(hook_feed, "LOOKED_AT", 2)
    monkeypatch.setattr(hook_feed, "read_workers", read)
    for number in range(5):
        HookedWorker(client, f"w{number}").beat()
    async with following(redis_server) as followed:
        await followed.until(lambda: len(looks) >= 7)
    # then all at first, and afterwards each once before any is again
    assert [len(look) for look in looks[:7]] == [5, 2, 2, 1, 2, 2, 1]
    assert sorted(chain(*looks[1:4])) == sorted(chain(*looks[4:7])) == sorted(looks[0])


async def test_a_thousand_workers_take_several_looks(redis_server: RedisServer, client: redis.Redis) -> None:
    with client.pipeline() as write:
        for number in range(1000):
            worker = f"host-{number}:1:0000abcd"
            write.zadd(WORKERS, {worker: time.time()})
            fields = {"v": 1, "queue": f"q{number % 3}", "started": NOW, "at": NOW, "beat": 5, "slots": 10, "busy": 2}
            fields |= {"functions": 3, "arq": "0.28.0", "records": 0, "running": "[]"}
            write.hset(worker_key(worker), mapping=fields)
        write.execute()
    sink, pulls = RecordingSink(), Pulls(Access(parse_address(redis_server.url())))
    feed = HookFeed(pulls, Turn(), Ends(lambda queue, at: None), 3600)
    feed._sink = sink
    feed._workers.connected(time.monotonic())
    # when each look is at 200
    hashes: list[int] = []
    for _ in range(5):
        assert sink.received_by_kind["worker"] == 200 * len(hashes)
        assert feed.workers() is None  # as long as not all were seen
        await feed._look(200)
        hashes.append(cast(Any, client.info("commandstats"))["cmdstat_hmget"]["calls"])
    # then
    assert hashes == [200, 400, 600, 800, 1000]
    assert len(feed.workers() or ()) == 1000
    assert feed.queue("q0") == QueueWorkers(334, 3340, 668)
    await pulls.close()
