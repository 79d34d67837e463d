"""The workload's table against the sample apps, and how an load is produced."""

from collections.abc import Mapping
from typing import Any

import pytest

from exporter.demo.workload import ARQ_LOADS, CELERY_LOADS, Load, produce

pytest.importorskip("arq")


class Recorder:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.jobs: list[tuple[int, Mapping[str, Any]]] = []

    async def enqueue(self, task: str, queue: str, number: int, options: Mapping[str, Any]) -> None:
        self.jobs.append((number, options))


async def test_options_take_turns_and_the_limit_ends_the_act() -> None:
    recorder = Recorder()

    await produce(recorder, Load("t", "q", every=0, burst=2, options=[{"priority": 0}, {"priority": 9}], limit=3))

    assert recorder.jobs == [(0, {"priority": 0}), (1, {"priority": 9}), (2, {"priority": 0})]


def test_tasks_exist_but_for_those_that_no_worker_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQUEUE_DEMO_REDIS_URL", "redis://127.0.0.1:1/0")
    from exporter.demo.apps import arq_app, celery_app

    unknown = {"renamed_task", "archive_order"}
    assert {load.task for load in ARQ_LOADS if not hasattr(arq_app, load.task)} == unknown
    assert {load.task for load in CELERY_LOADS if load.task not in celery_app.app.tasks} == unknown


def test_bursts_and_rates_stay_light() -> None:
    per_second = sum(load.burst / load.every for load in (*ARQ_LOADS, *CELERY_LOADS))

    assert per_second < 12
