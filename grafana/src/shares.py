"""What alerts look at, by what they compare it with: above 1 exactly while the alert's expression holds.

So a colour above 1 means what the alert means, whatever `prometheus/rules/targets.yml` says: with a target of 0 a share
is infinite from the first one on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from grafana.src import limits
from grafana.src.panels import mapping
from grafana.src.promql import QUEUE, kinds, of

KEPT: Final = {"0": ("kept", limits.GOOD), "1": ("slow burn", limits.WARNING), "2": ("fast burn", limits.BAD)}
BURNS: Final = mapping(KEPT)
"""What `Budget.burns` gives."""
INFINITE: Final = mapping({"Infinity": ("∞", limits.NEUTRAL), "-Infinity": ("−∞", limits.NEUTRAL)})
"""Grafana would say: ∞ years."""
WARNED: Final = mapping({"Infinity": ("∞", limits.WARNING)})
TOO_MUCH: Final = mapping({"Infinity": ("∞", limits.BAD)})
"""Infinite shares have the colour of the threshold that they are above."""


def share(value: str, limit: str) -> str:
    """How much of its limit something is; infinite where the limit is 0 and it is not."""
    return f"(({value}) > 0) / {limit} or ({value}) and {limit}"


def least(one: str, other: str) -> str:
    """The lower of two where both are known: an alert that looks at both compares with that."""
    return f"({one} < {other} or {other}) and {one}"


# -- queues: budgets of failures and of late starts -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Burn:
    """A pace at which a budget is used up, which an alert tells of: so many times what the target allows, over both a
    long window and a short one."""

    factor: float
    long: str
    short: str


FAST: Final = Burn(14.4, "1h", "5m")
SLOW: Final = Burn(6, "6h", "30m")


@dataclass(frozen=True, slots=True)
class Budget:
    """Of the jobs of each queue a part may be bad: the recorded series of which part is, of how many jobs there were,
    both without their window, and of which part may be; and whether an alert tells of a slow burn."""

    ratios: str
    jobs: str
    target: str
    slowly: bool

    def ratio(self, window: str) -> str:
        """The part that was bad."""
        return of(self.ratios + window, QUEUE)

    def pace(self, window: str) -> str:
        """How many times what the target allows was bad."""
        return share(self.ratio(window), of(self.target, QUEUE))

    def left(self, window: str) -> str:
        """What remains of the budget of a time."""
        return f"1 - ({self.pace(window)})"

    def of_limit(self, burn: Burn) -> str:
        """The pace by that which the alert compares with. There is none where few jobs ended, as they mean nothing, and
        where all may be bad."""
        target = of(self.target, QUEUE)
        both = least(self.ratio(burn.long), self.ratio(burn.short))
        of_limit = share(both, f"clamp_max({burn.factor:g} * {target}, 0.999)")
        enough = f"{of(self.jobs + burn.long, QUEUE)} > scalar(taskqueue_target:traffic_jobs) - 0.5"
        return f"({of_limit}) and {enough} unless {target} >= 1"

    def burns(self) -> str:
        """2 where the budget burns fast, 1 where it burns slowly, else 0; a queue with two alerts has both."""
        found = {"fast": f"2 * (({self.of_limit(FAST)}) > bool 1)"}
        if self.slowly:
            found["slow"] = f"({self.of_limit(SLOW)}) > bool 1"
        return kinds(found)


FAILURES: Final = Budget(
    "queue:taskqueue_jobs_bad:ratio_rate",
    "queue:taskqueue_jobs_valid:increase",
    "queue:taskqueue_target_failure_ratio:effective",
    slowly=True,
)
"""JobFailureBudgetFastBurn, JobFailureBudgetSlowBurn."""
LATE: Final = Budget(
    "queue:taskqueue_job_wait_late:ratio_rate",
    "queue:taskqueue_job_wait_observed:increase",
    "queue:taskqueue_target_late_ratio:effective",
    slowly=False,
)
"""JobWaitBudgetBurn."""


# -- tasks ------------------------------------------------------------------------------------------------------


def failed(scope: tuple[str, ...]) -> str:
    """The share of a task's jobs that fail, by its target: TaskFailing."""
    target = of("queue_task:taskqueue_target_task_failure_ratio:effective", scope)
    return _often("queue_task:taskqueue_jobs_bad", target, scope)


def retried(scope: tuple[str, ...]) -> str:
    """The share of a task's attempts that are retried, by its target: RetryStorm."""
    target = of("queue_task:taskqueue_target_retry_ratio:effective", scope)
    return _often("queue_task:taskqueue_jobs_retried", target, scope)


def _often(metric: str, target: str, scope: tuple[str, ...]) -> str:
    """1 at most while it happened too seldom for the alert."""
    found = share(of(f"{metric}:ratio_rate10m", scope), target)
    often = f"{of(f'{metric}:increase10m', scope)} > scalar(taskqueue_target:failures) - 0.5"
    return f"({found}) and {often} or clamp_max({found}, 1)"
