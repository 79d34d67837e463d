"""Thresholds: what is orange here has a warning, what is red a critical alert or none that could be worse.

All numbers are those that alerts compare with, the defaults of `prometheus/rules/targets.yml`. Where a queue or task
can have a target of its own, show the share of it (`queue:taskqueue_target_…:effective`) rather than the bare number:
a dashboard knows the defaults only.
"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue, Threshold, ThresholdsMode

from scripts import rulebook

GOOD: Final = "green"
WARNING: Final = "orange"
BAD: Final = "red"
NEUTRAL: Final = "blue"
UNKNOWN: Final = "gray"
ABOVE: Final = 1e-6
"""Alerts fire above a number, Grafana colours what reaches a threshold: by so much is one above."""

Thresholds = builders.ThresholdsConfig


def target(name: str) -> float:
    """The default of a target, as `targets.yml` has it; KeyError where there is none."""
    return float(rulebook.targets()[name])


def above(*, warning: float | None = None, bad: float | None = None) -> Thresholds:
    """Good up to a number and with it, as alerts have it."""
    warning, bad = (None if value is None else value + ABOVE for value in (warning, bad))
    return over(warning=warning, bad=bad)


def over(*, warning: float | None = None, bad: float | None = None) -> Thresholds:
    """Good, until a number is reached from below: for what is counted."""
    reached = [(warning, WARNING), (bad, BAD)]
    return _steps(GOOD, [(value, colour) for value, colour in reached if value is not None])


def under(*, bad: float) -> Thresholds:
    """Good from a number on, bad below it."""
    return _steps(BAD, [(bad, GOOD)])


def override(thresholds: Thresholds) -> list[DynamicConfigValue]:
    """These thresholds for one series or column alone."""
    return [
        DynamicConfigValue(id_val="thresholds", value=thresholds.build()),
        DynamicConfigValue(id_val="color", value={"mode": "thresholds"}),
    ]


def none() -> Thresholds:
    """A number that is neither good nor bad."""
    return _steps(NEUTRAL, [])


def _steps(base: str, steps: list[tuple[float, str]]) -> Thresholds:
    made = [Threshold(value=None, color=base), *(Threshold(value=value, color=colour) for value, colour in steps)]
    return Thresholds().mode(ThresholdsMode.ABSOLUTE).steps(made)
