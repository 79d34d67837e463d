"""Finding the Worker that runs a hook: arq hands its hooks no more than `ctx`.

The settings alone do not tell what a worker does: `arq --burst`, `run_worker(settings, queue_name=…)` and the like
override them.
"""

from __future__ import annotations

import inspect
from types import FrameType
from typing import Any, Container, Mapping


def find_worker(ctx: object) -> Any:
    """The arq Worker that awaits us and whose context `ctx` is; None if there is none.

    `Worker.main` awaits `on_startup` and `Worker.close` awaits `on_shutdown` (arq/worker.py), so the worker is the
    `self` of a frame below ours, whoever runs it: the command line, `async_run()`, or a task of the user's own.
    """
    from arq.worker import Worker

    frame: FrameType | None = inspect.currentframe()
    # Not our own frame: with `f_locals` it would hold itself for ever, and all that it holds.
    while frame is not None and (frame := frame.f_back) is not None:
        worker = frame.f_locals.get("self")
        if isinstance(worker, Worker) and worker.ctx is ctx:
            return worker
    return None


def slots_of(worker: Any) -> int:
    """How many jobs a worker runs at once. Before 0.26 arq keeps that in the semaphore only, where it is not public."""
    slots: int = worker.max_jobs if hasattr(worker, "max_jobs") else worker.sem._bound_value
    return slots


class StandIn:
    """What the settings say of a worker that was not found, under the names that arq's Worker has."""

    def __init__(self, settings: Mapping[str, Any], ctx: Mapping[Any, Any]) -> None:
        from arq.utils import to_seconds

        given = {**defaults(), **settings}
        self.pool = ctx["redis"]
        self.queue_name = given["queue_name"] or self.pool.default_queue_name
        self.max_jobs = given["max_jobs"]
        self.job_timeout_s = to_seconds(given["job_timeout"])
        self.keep_result_s = to_seconds(given["keep_result"])
        self.keep_result_forever = given["keep_result_forever"]
        self.retry_jobs = given["retry_jobs"]
        self.aborting_tasks: Container[str] = Everything() if given["allow_abort_jobs"] else ()
        self.functions = [*given["functions"], *(given["cron_jobs"] or ())]
        self.tasks: dict[str, Any] = {}


class Everything:
    """Any job that is cancelled may have been aborted, when only the settings are known."""

    def __contains__(self, _: object) -> bool:
        return True


def defaults() -> dict[str, Any]:
    """What arq's Worker takes for each setting that is not given."""
    from arq.worker import Worker

    return {name: parameter.default for name, parameter in inspect.signature(Worker).parameters.items()}
