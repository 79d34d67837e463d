"""Finding the Worker that runs a hook: arq hands its hooks no more than `ctx`.

The settings alone do not tell what a worker does: `arq --burst`, `run_worker(settings, queue_name=…)` and the like
override them.
"""

from __future__ import annotations

import inspect
from types import FrameType
from typing import Any


def find_worker(ctx: object) -> Any:
    """The arq Worker that awaits us and whose context `ctx` is; LookupError if there is none.

    `Worker.main` awaits `on_startup` and `Worker.close` awaits `on_shutdown` (arq/worker.py), so the worker is the
    `self` of a frame below ours, whoever runs it: the command line, `async_run()`, or a task of the user's own.
    """
    frame: FrameType | None = inspect.currentframe()
    # Not our own frame: with `f_locals` it would hold itself for ever, and all that it holds.
    while frame is not None and (frame := frame.f_back) is not None:
        candidate: Any = frame.f_locals.get("self")
        if is_worker(candidate) and candidate.ctx is ctx:
            return candidate
    raise LookupError("no arq Worker awaits this hook itself")


def is_worker(candidate: object) -> bool:
    """By its type alone: `isinstance` asks a proxy for `__class__`, which may fail or load something."""
    from arq.worker import Worker

    return issubclass(type(candidate), Worker)


def slots_of(worker: Any) -> int:
    """How many jobs a worker runs at once. Before 0.26 arq keeps that in the semaphore only, where it is not public."""
    slots: int = worker.max_jobs if hasattr(worker, "max_jobs") else worker.sem._bound_value
    return slots
