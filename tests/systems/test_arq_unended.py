"""What follows from what is told and seen of jobs, step by step; and looks that meet."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from typing import cast

import pytest
from arq.jobs import serialize_job

from exporter.model import Finished, Known, Outcome
from exporter.systems.arq.feed import looks
from exporter.systems.arq.feed.glances import Glance, Question
from exporter.systems.arq.feed.looks import Looks
from exporter.systems.arq.feed.modes import Line, pushed_keys
from exporter.systems.arq.feed.unended import News, Unended
from exporter.systems.arq.records.serializers import Serializer
from tests.systems.sinks import RecordingSink

QUEUE = "arq:queue"
JOB = b"job"


def definition(task: str = "send", enqueued: int = 1) -> bytes:
    data = serialize_job(task, (), {}, None, enqueued)
    assert data is not None
    return data


def there(data: bytes = definition()) -> Glance:
    return Glance(JOB, data, QUEUE, False)


def gone(*, kept: bool = False) -> Glance:
    return Glance(JOB, b"", None, kept)


class Story:
    """Jobs, and what was told of their ends."""

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.jobs = Unended(Serializer.AUTO, self.told.append, lambda: 7.0)

    def see(self, glance: Glance, definitions: int = 0) -> list[str]:
        """The tasks of what ended by this."""
        events = [*self.jobs.judge(glance, News(definitions))]
        return [event.task for event in events if isinstance(event, Finished)]

    @property
    def unseen(self) -> int:
        return self.jobs.settle().total()


def test_a_job_is_told_of_when_it_is_learned_and_when_it_ends() -> None:
    story = Story()
    assert [*story.jobs.judge(there(), News(1))] == [Known(QUEUE, "send")]
    assert [*story.jobs.judge(gone(), News(1))] == [Finished(QUEUE, "send", "job", 7.0, Outcome.UNKNOWN)]
    assert story.told == [JOB]


@pytest.mark.parametrize(
    ("known", "definitions", "kept", "ends", "unseen"),
    [
        # of a known job: its definition went, once for each of its lives
        (True, 0, False, 1, 0),
        (True, 1, False, 1, 0),
        (True, 2, False, 1, 0),  # it came (before the search that learned of it) and went
        (True, 3, False, 1, 1),
        (True, 1, True, 0, 0),
        (True, 3, True, 1, 0),  # the last life left a result
        (True, 5, True, 1, 1),
        # of one that nobody knew: it came and went
        (False, 0, False, 0, 0),
        (False, 1, False, 0, 1),  # at once, for the server
        (False, 2, False, 0, 1),
        (False, 3, False, 0, 2),
        (False, 4, False, 0, 2),
        (False, 2, True, 0, 0),
        (False, 4, True, 0, 1),
    ],
)
def test_how_often_a_job_that_is_gone_ended(known: bool, definitions: int, kept: bool, ends: int, unseen: int) -> None:
    story = Story()
    if known:
        story.see(there(), 1)
    assert story.see(gone(kept=kept), definitions) == ["send"] * ends
    assert story.unseen == unseen
    assert story.see(gone()) == []
    assert story.unseen == 0


@pytest.mark.parametrize(("definitions", "unseen"), [(1, 0), (3, 1), (5, 2)])
def test_lives_before_that_of_a_job_that_is_there(definitions: int, unseen: int) -> None:
    story = Story()
    assert story.see(there(), definitions) == []
    assert story.unseen == unseen


@pytest.mark.parametrize(("definitions", "unseen"), [(0, 0), (1, 0), (2, 0), (4, 1), (6, 2)])
def test_an_id_that_is_used_again(definitions: int, unseen: int) -> None:
    story = Story()
    story.see(there(), 1)
    assert story.see(there(definition("charge", 2)), definitions) == ["send"]
    assert story.unseen == unseen
    assert story.see(gone(), 1) == ["charge"]


def test_a_definition_that_cannot_be_read_any_more_is_of_the_same_job() -> None:
    story = Story()
    story.see(there(), 1)
    assert story.see(there(b"by another program"), 1) == []
    assert story.see(gone(), 1) == ["send"]


@pytest.mark.parametrize(
    ("known", "definitions", "doubtful"),
    [(True, 0, True), (True, 1, False), (True, 2, True), (False, 0, False), (False, 1, True), (False, 2, False)],
)
def test_something_is_on_its_way_of_a_job_that_is_gone(known: bool, definitions: int, doubtful: bool) -> None:
    story = Story()
    if known:
        story.see(there(), 1)
    assert story.jobs.doubtful(gone(), News(definitions)) is doubtful
    assert not story.jobs.doubtful(there(), News(definitions))


@pytest.mark.parametrize("event", [b"set", b"del", b"expired", b"evicted", b"expire", b"rename_from"])
def test_notifications(event: bytes) -> None:
    found = pushed_keys([b"pmessage", b"pattern", b"__keyspace@0__:arq:job:a:b", event])
    assert found == ([b"arq:job:a:b"] if event in (b"set", b"del", b"expired", b"evicted") else [])


# -- looks ------------------------------------------------------------------------------------------------------


class Server:
    """What stands there of one job, and connections that show it."""

    def __init__(self) -> None:
        self.glance = there()
        self.late: list[bytes] = []
        """Keys of which it is told no sooner than at a barrier."""
        self.story = Story()
        self.looks = Looks(self.story.jobs, lambda: [QUEUE], lambda event, sink: sink.record([event]))
        self.sink = RecordingSink()
        self.data = self
        self.go = asyncio.Event()
        self.go.set()

    async def barrier(self) -> None:
        """As that of a line."""
        await self.go.wait()
        for key in self.late:
            self.looks.pushed(key)
        self.late.clear()

    async def look(self, _: object, questions: Collection[Question]) -> list[Glance]:
        """In place of `glances.look`."""
        seen = [self.glance for _ in questions]
        await asyncio.sleep(0)
        return seen

    async def told(self, definitions: int) -> None:
        """The job is looked at after so much was told."""
        for _ in range(definitions):
            self.looks.pushed(b"arq:job:job")
        reading = asyncio.create_task(self.looks.read_pushed(cast(Line, self), self.sink))
        quiet = 0
        while quiet < 10:
            await asyncio.sleep(0)
            quiet = 0 if self.looks._pending or self.looks._looking.locked() else quiet + 1
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    async def search(self) -> None:
        await self.looks.look_again(cast(Line, self), self.sink, lost=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(looks, "look", server.look)
    monkeypatch.setattr(looks, "COALESCE", 0)
    return server


async def test_a_push_that_comes_after_the_look_that_it_explains(server: Server) -> None:
    server.glance, server.late = gone(), [b"arq:job:job"]
    await server.told(1)  # that it came; that it went is on its way
    assert server.story.unseen == 1
    assert not server.late
    await server.told(0)
    assert server.story.unseen == 0


async def test_a_search_finds_an_end_that_is_about_to_be_told(server: Server) -> None:
    await server.told(1)
    server.glance, server.late = gone(), [b"arq:job:job"]
    await server.search()
    await server.told(0)
    assert Counter(event.task for event in server.sink.finished) == {"send": 1}
    assert server.story.unseen == 0


async def test_a_look_is_judged_before_the_next_one_begins(server: Server) -> None:
    await server.told(1)
    server.glance, server.late = gone(), [b"arq:job:job"]
    server.go.clear()
    search = asyncio.create_task(server.search())
    await asyncio.sleep(0.01)  # it has seen that the job is gone, and waits for what is on its way
    server.glance = there(definition("charge", 2))
    server.looks.pushed(b"arq:job:job")
    reading = asyncio.create_task(server.told(0))
    await asyncio.sleep(0.01)
    server.go.set()
    await asyncio.gather(search, reading)
    assert [event.task for event in server.sink.finished] == ["send"]
    assert JOB in server.story.jobs
