"""The engine: sources side by side, one run of each at a time, deadlines, reload."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
import structlog

from exporter import sources
from exporter.engine import Selection
from tests.servers import Series, series
from tests.toys import VALUE, Gate, Hangs, Register, Run, broker, config, one_queue, scraped, success, until

QUICK = 0.05
"""A deadline for scrapes that are to miss something."""


def shown(found: dict[Series, float], broker: str = "main") -> float | None:
    return found.get(series(VALUE.name, broker=broker, name="a"))


# -- one run at a time ------------------------------------------------------------------------------------------


async def test_scrapes_at_the_same_time_share_one_run(run: Run, register: Register) -> None:
    gate = Gate()
    register(gate=gate)
    engine = await run(config(broker(collectors=["gate"])))
    scrapes = [asyncio.create_task(scraped(engine)) for _ in range(10)]
    await until(lambda: gate.runs)

    gate.open.set()
    answers = await asyncio.gather(*scrapes)

    assert gate.runs == 1
    assert {shown(found) for found in answers} == {1.0}


async def test_the_next_scrape_after_an_end_runs_anew(run: Run, register: Register) -> None:
    gate = Gate()
    gate.open.set()
    register(gate=gate)
    engine = await run(config(broker(collectors=["gate"])))
    await until(engine.ready)

    assert [shown(await scraped(engine)) for _ in range(3)] == [2, 3, 4]  # the first was the engine's own


async def test_the_deadline_holds_and_nothing_late_is_shown(run: Run, register: Register) -> None:
    gate = Gate()
    register(gate=gate, other=one_queue)
    engine = await run(config(broker(collectors=["gate"], systems=["other"])))

    began = asyncio.get_running_loop().time()
    late = await scraped(engine, 0.3)
    took = asyncio.get_running_loop().time() - began
    gate.open.set()
    await until(engine.ready)
    after = await scraped(engine)

    assert 0.29 < took < 1.5
    assert (success(late, "gate"), shown(late)) == (0, None)
    assert success(late, "other") == 1
    assert (success(after, "gate"), shown(after)) == (1, 2), "the run that came late shall not be shown"


async def test_a_thread_that_hangs_is_alone_and_not_started_again(run: Run, register: Register) -> None:
    hangs = Hangs()
    register(hangs=hangs, other=one_queue)
    engine = await run(config(broker(systems=["other"]), hosts=["hangs"]))

    for _ in range(3):
        found = await scraped(engine, QUICK)
        assert success(found, "hangs", "") == 0
        assert success(found, "other") == 1
        assert found[series("taskqueue_collector_duration_seconds", collector="hangs", broker="")] >= QUICK * 0.9
    assert hangs.runs == 1

    hangs.release.set()
    await until(lambda: hangs.runs == 1 and engine._hosts["hangs"].ended_once)
    found = await scraped(engine)
    assert success(found, "hangs", "") == 1
    assert found[series("taskqueue_toy_host_value", name="a")] == 2, "a fresh run, not what the old thread brought"


async def test_what_a_thread_brings_after_ages_is_not_shown(
    run: Run, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = Hangs()
    register(hangs=hangs)
    engine = await run(config(hosts=["hangs"]))
    await scraped(engine, QUICK)
    monkeypatch.setattr(sources, "RUN_LIMIT", QUICK / 2)

    joined = asyncio.create_task(scraped(engine))
    await asyncio.sleep(0)
    hangs.release.set()

    assert success(await joined, "hangs", "") == 0


async def test_a_run_without_end_is_cancelled(run: Run) -> None:
    async def forever() -> sources.Gathered:
        await asyncio.Event().wait()
        raise AssertionError

    result = await sources.Source("toy", "main", forever, limit=QUICK).join()

    assert result.problem == f"no end within {QUICK} s"


async def test_a_timeout_of_a_collectors_own_is_not_taken_for_ours() -> None:
    async def fails() -> sources.Gathered:
        raise TimeoutError("the server's")

    result = await sources.Source("toy", "main", fails).join()

    assert result.problem == "TimeoutError: the server's"


# -- what a scrape tells ----------------------------------------------------------------------------------------


async def test_systems_and_brokers_fill_one_family_together(run: Run, register: Register) -> None:
    register(one=one_queue, two=one_queue)
    engine = await run(config(broker("a", systems=["one", "two"]), broker("b", systems=["one"])))

    families = (await engine.scrape(5.0)).families

    names = [family.name for family in families]
    assert len(names) == len(set(names))
    (paused,) = [family for family in families if family.name == "taskqueue_queue_paused"]
    assert {(s.labels["broker"], s.labels["system"]) for s in paused.samples} == {
        ("a", "one"),
        ("a", "two"),
        ("b", "one"),
    }


async def test_series_counts_what_stands_before_it(run: Run) -> None:
    families = (await (await run(config(broker()))).scrape(5.0)).families

    assert families[-1].samples[0].value == sum(len(family.samples) for family in families[:-1])


async def test_a_selection_runs_and_shows_only_what_it_names(run: Run, register: Register) -> None:
    gate = Gate()
    register(gate=gate, other=one_queue)
    engine = await run(config(broker(systems=["other"], collectors=["gate"])))

    families = (await engine.scrape(5.0, Selection(only=frozenset({"other"})))).families

    (succeeded,) = [family for family in families if family.name == "taskqueue_collector_success"]
    assert [sample.labels["collector"] for sample in succeeded.samples] == ["other"]


async def test_ready_waits_for_the_first_end_of_every_source(run: Run, register: Register) -> None:
    gate = Gate()
    register(gate=gate)
    engine = await run(config(broker("a", collectors=["gate"]), broker("b")))
    await until(lambda: engine.brokers["b"].ready())
    assert not engine.ready()

    gate.open.set()

    await until(engine.ready)


async def test_ready_comes_when_the_first_collection_fails(run: Run) -> None:
    engine = await run(config(broker()))  # nothing listens there

    await until(engine.ready)

    assert (await scraped(engine))[series("taskqueue_broker_up", broker="main")] == 0


async def test_a_problem_is_logged_when_it_comes_and_when_it_goes(run: Run, register: Register) -> None:
    trouble: list[str] = ["no luck"]

    async def observe() -> object:
        return dataclasses.replace(await one_queue(), problems=tuple(trouble))

    register(toy=observe)
    with structlog.testing.capture_logs() as logged:
        engine = await run(config(broker(systems=["toy"])))
        for _ in range(3):
            await scraped(engine)
        trouble.clear()
        for _ in range(3):
            await scraped(engine)

    said = [(entry["event"], entry.get("problem")) for entry in logged if entry.get("collector") == "toy"]
    assert said == [("collector failed", "no luck"), ("collector recovered", None)]


async def test_a_source_that_is_always_late_is_logged_once(run: Run, register: Register) -> None:
    gate = Gate()
    register(gate=gate)
    with structlog.testing.capture_logs() as logged:
        engine = await run(config(broker(collectors=["gate"])))
        for _ in range(3):
            await scraped(engine, 0.01)
            gate.open.set()
            await until(lambda: gate.ended == gate.runs)
            gate.open.clear()

    said = [entry["event"] for entry in logged if entry.get("collector") == "gate"]
    assert said == ["collector failed"]
