"""What follows from the record where ARQ's workers are instrumented with `taskqueue_hooks`: none of them, some or all.

The hook tells how each attempt ended that an instrumented worker ran. How a job ended that it does not tell of, because
another worker ran it or none did, a result tells, where one is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.e2e.truth import ARQ, Job, Rules
from tests.e2e.truth_record import HOOKED, UNKNOWN


def arq_rules(kept: Callable[[Job], bool], *, results: bool = True, sees_unknown: bool = True) -> Rules:
    """`kept`: whether arq keeps a job's result; `results`: whether the exporter follows those."""

    def told_by_result(job: Job) -> bool:
        return results and kept(job)

    def known(job: Job) -> bool:
        return told_by_result(job) or _ran_hooked(job)

    def how(job: Job) -> str | None:
        # What the function returned could not be serialized. That is arq's failure, where a result was to be kept.
        returned = job.how == f"failed/{UNKNOWN}"
        return "succeeded" if returned and not told_by_result(job) else job.how

    def waits(job: Job) -> bool:
        return _first_ran_hooked(job) or (len(job.starts) == 1 and told_by_result(job))

    def retried(job: Job) -> int:
        return job.retried if known(job) else sum(end.how == "retried" and end.worker == HOOKED for end in job.ends)

    return replace(ARQ, known=known, how=how, waits=waits, retried=retried, sees_unknown=sees_unknown)


def _ran_hooked(job: Job) -> bool:
    return job.final is not None and job.final.worker == HOOKED


def _first_ran_hooked(job: Job) -> bool:
    return bool(job.ends) and job.ends[0].worker == HOOKED
