"""Workers with the hook: who lives, who was lost and who left, by records and by our clock."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
import redis

from exporter.brokers.address import parse_address
from exporter.brokers.pulls import Pulls
from exporter.brokers.turn import Turn
from exporter.model import Unreadable, WorkerState
from exporter.systems.arq.ends.ends import Ends
from exporter.systems.arq.hook.feed import HookFeed
from exporter.systems.arq.hook.records import Progress, WorkerRecord
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

    def __init__(self, forget_after: float = 3600.0, skew: float = 0.0) -> None:
        """`skew`: the workers' clocks are so many seconds ahead."""
        self.tick = 1000.0
        self.skew = skew
        self.workers = Workers(forget_after)
        self.index: dict[str, float] = {}
        self.records: dict[str, WorkerRecord | None] = {}
        self.workers.connected(self.tick)

    @property
    def now(self) -> float:
        return NOW + self.tick - 1000 + self.skew

    def write(self, *ids: str, queue: str = "q", started: float = NOW, busy: int = 1) -> None:
        for worker_id in ids:
            self.index[worker_id] = self.now
            self.records[worker_id] = WorkerRecord(queue, started, self.now, BEAT, 10, busy, 3, "0.28.0")

    def look(self) -> list[str]:
        """Who wrote since the last look."""
        self.workers.index(self.index, self.now - self.skew, self.tick)
        new = [who for who in self.index if self.workers.look(who, self.records.get(who), self.tick)]
        self.workers.looked(["q"], self.tick)
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
    def up(self) -> dict[str, bool]:
        return {state.worker: state.up for state in self.workers.states(self.tick) or ()}

    def queue(self, untold: float | None = None, queue: str = "q") -> QueueWorkers:
        return self.workers.queue(queue, untold, self.tick)


# -- alive, lost, gone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew", [-5000.0, 0.0, 5000.0])
def test_a_worker_that_is_killed_is_lost_within_three_beats(skew: float) -> None:
    table = Table(skew=skew)
    table.write(A)
    assert table.look() == [A]
    assert table.look() == []
    # given one that lives
    table.passes(10 * BEAT, A)
    (state,) = table.workers.states(table.tick) or ()
    assert state == WorkerState("web:1", True, ("q",), table.now, 10, 1, None, 3, "0.28.0")
    # when it writes no more
    table.passes(2 * BEAT)
    assert table.up == {"web:1": True}
    table.passes(BEAT)
    # then
    assert table.up == {"web:1": False}
    (state,) = table.workers.states(table.tick) or ()
    assert (state.slots, state.busy_slots, state.last_heartbeat) == (10, None, table.now - 3 * BEAT)
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
    assert table.workers.states(table.tick) == [WorkerState("web:1", up=False, last_heartbeat=table.now - 90)]
    table.passes(9)
    assert table.up == {"web:1": False}
    table.passes(2)
    assert table.up == {}


def test_nobody_is_lost_because_we_were_cut_off() -> None:
    table = Table()
    table.passes(BEAT, A)
    # given a gap, in which nothing could be written either
    table.workers.disconnected()
    assert table.workers.states(table.tick) is None
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
        table.passes(BEAT, A)
        assert table.up == {"web:1": True}
        table.passes(BEAT - 1, A)
        assert table.up == {"web:1": True}
    for _ in range(3):
        table.tick += 10 * BEAT
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
    (state,) = table.workers.states(table.tick) or ()
    assert (state.worker, state.up, state.last_heartbeat) == ("web:1", False, last)


# -- queues -----------------------------------------------------------------------------------------------------


def test_queues_count_their_live_workers() -> None:
    table = Table()
    assert table.workers.states(table.tick) is None
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
        assert followed.feed.queue(worker.queue) == QueueWorkers(1, 10, 4, 3, NOW)
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


async def test_a_thousand_workers_take_several_looks(redis_server: RedisServer, client: redis.Redis) -> None:
    with client.pipeline() as write:
        for number in range(1000):
            worker = f"host-{number}:1:0000abcd"
            write.zadd(WORKERS, {worker: time.time()})
            fields = {"v": 1, "queue": f"q{number % 3}", "started": NOW, "at": NOW, "beat": 5, "slots": 10, "busy": 2}
            write.hset(worker_key(worker), mapping={**fields, "functions": 3, "arq": "0.28.0", "running": "[]"})
        write.execute()
    sink, pulls = RecordingSink(), Pulls(parse_address(redis_server.url()))
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
