"""How many results stand, told from searches and from what comes and goes."""

from __future__ import annotations

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from exporter.systems.arq.feed import feed
from exporter.systems.arq.feed.kept import KeptResults
from tests.servers import RedisServer, StartRedis
from tests.systems.arq_results import QUEUE, following, names, write

OTHER = "arq:letters"


@pytest.fixture
def client(server: RedisServer) -> redis.Redis:
    return server.client()


@pytest.fixture(autouse=True)
def _search_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SCAN_INTERVAL", 0.05)
    monkeypatch.setattr(feed, "BUSY_SHARE", 1.0)


@pytest.mark.parametrize("mode", ["tracking", "keyspace", "scan"])
async def test_it_is_what_stands_in_redis(server: RedisServer, client: redis.Redis, mode: str) -> None:
    write(client, *names("old", 30))
    write(client, *names("bad", 5), success=False, value=ValueError("no"))
    async with following(server.url(), mode) as followed:
        kept = followed.feed.tally.kept
        await followed.until(lambda: kept.of(QUEUE) == {"completed": 30, "failed": 5})
        assert kept.of("arq:unheard") == {"completed": 0, "failed": 0}
        # when results come, are written over, go and expire
        write(client, *names("new", 10), queue=OTHER)
        write(client, "old0", success=False, value=ValueError("no"))
        client.delete("arq:result:old1", "arq:result:bad0")
        client.pexpire("arq:result:old2", 1)
        # then
        await followed.until(lambda: kept.of(OTHER) == {"completed": 10, "failed": 0})
        await followed.until(lambda: kept.of(QUEUE) == {"completed": 27, "failed": 5})
        # when it comes back after a while
        await followed.stop()
        assert kept.of(QUEUE) == {}
        client.delete("arq:result:old3")
        await followed.restart()
        await followed.until(lambda: kept.of(QUEUE) == {"completed": 26, "failed": 5})
        if mode == "keyspace":
            return  # in which a flush is not told
        client.flushall()
        await followed.until(lambda: kept.of(QUEUE) == {"completed": 0, "failed": 0})


async def test_it_is_not_known_where_nothing_tells_that_results_expire(start_redis: StartRedis) -> None:
    server = start_redis(notify_keyspace_events="K$")
    write(server.client(), "one")
    async with following(server.url(), "keyspace") as followed:
        await followed.until(lambda: followed.feed.seeded)
        await followed.until_watched()
        assert followed.feed.tally.kept.of(QUEUE) == {}


def test_more_than_it_holds() -> None:
    kept = KeptResults(limit=3)
    kept.begin()
    for place in range(10):
        kept.stands(b"%d" % place, QUEUE, success=True)
    kept.end()
    assert kept.of(QUEUE) == {}
    kept.begin()
    kept.stands(b"1", QUEUE, success=True)
    kept.end()
    assert kept.of(QUEUE) == {"completed": 1, "failed": 0}
    for place in range(10):
        kept.stands(b"%d" % place, QUEUE, success=True)
    assert kept.of(QUEUE) == {}


Steps = st.lists(st.tuples(st.sampled_from(["stands", "fails", "gone"]), st.integers(0, 5)), max_size=30)


@given(before=Steps, meanwhile=Steps, after=Steps)
def test_searches_and_what_is_told_agree(
    before: list[tuple[str, int]], meanwhile: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    kept, truth = KeptResults(), dict[bytes, bool]()

    def happen(steps: list[tuple[str, int]], *, told: bool) -> None:
        for step, place in steps:
            key = b"%d" % place
            if step == "gone":
                truth.pop(key, None)
            else:
                truth[key] = step == "stands"
            if told and step == "gone":
                kept.gone(key)
            elif told:
                kept.stands(key, QUEUE, success=truth[key])

    happen(before, told=False)
    kept.begin()
    for key, success in list(truth.items()):
        kept.stands(key, QUEUE, success=success)
    happen(meanwhile, told=True)
    kept.end()
    happen(after, told=True)
    completed = sum(truth.values())
    assert kept.of(QUEUE) == {"completed": completed, "failed": len(truth) - completed}
