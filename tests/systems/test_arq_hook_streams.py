"""How far streams were read, and which numbers of records are believed."""

from __future__ import annotations

from exporter.brokers.errors import ReplyTooLarge
from exporter.systems.arq.hook.reading import START, NoStream
from exporter.systems.arq.hook.streams import QUEUES, STEP, Numbers, Streams


def test_what_stands_there_is_passed_over_and_what_begins_anew_is_not() -> None:
    streams = Streams()
    streams.want(["known", "huge", "odd"])
    # given one of whose last id nothing is known but that it is one of by now
    streams.pass_over({"known": (7, 1), "huge": ReplyTooLarge(), "odd": NoStream()}, now_ms=9)
    assert streams.readable == {"known": (7, 1), "huge": (9, 0)}
    assert "of 1 queues" in str(streams.problem)
    # when they are checked, nothing is read anew but what went back
    streams.read("known", (8, 0))
    streams.check({"known": (7, 9), "huge": ReplyTooLarge()}, {"known": (7, 9), "huge": (9, 0)})
    assert streams.readable == {"known": (8, 0), "huge": (9, 0)}
    streams.check({"known": (7, 9), "odd": START}, streams.positions())
    assert streams.readable == {"known": START, "huge": (9, 0), "odd": START}
    assert [queue for queue in streams.wanted if streams.rewound(queue)] == ["known"]
    assert streams.problem is None
    # when a queue is gone that had no stream
    streams.check({"odd": NoStream()}, streams.positions())
    assert streams.problem
    streams.want(["known"])
    assert streams.problem is None
    # when there are very many, then those that were wanted last are remembered
    for number in range(3):
        streams.want([f"{number}-{place}" for place in range(QUEUES)])
    assert "known" not in streams.positions()
    assert not streams.rewound("known")
    assert len(streams.positions()) == 2 * QUEUES


def test_a_number_is_believed_as_far_as_its_worker_can_have_come() -> None:
    numbers = Numbers()
    assert numbers.credible("w", STEP)
    assert not numbers.credible("w", STEP + 1)
    # when it was read, or told by its worker, it may be more
    numbers.take("w", 1000)
    numbers.made("v", 500)
    for worker, reached in (("w", 1000), ("v", 500)):
        assert numbers.credible(worker, reached + STEP)
        assert not numbers.credible(worker, reached + STEP + 1)
