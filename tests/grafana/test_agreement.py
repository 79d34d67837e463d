"""Colours about queues and tasks mean what alerts mean, whatever the targets are: over made series one is there exactly
while the expression of the alert holds."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from scripts.rulebook import alerts
from tests.dashboards import dashboards, put_in
from tests.grafana.expressions import BUILT_IN
from tests.grafana.limits import thresholds_of
from tests.promtool import promtool

pytestmark = pytest.mark.needs("promtool")

NOW: Final = 3600
"""Seconds: what is asked is asked an hour after time began."""
QUEUE: Final = ("job", "system", "broker", "queue")
TASK: Final = (*QUEUE, "task")
PLACE: Final = 'job="tq",system="celery",broker="main"'
NOTHING: Final = None
"""In the place of a value: there is no series."""
Values = Sequence[float | None]


# -- made series --------------------------------------------------------------------------------------------------


def each_of(label: str, values: Mapping[str, Values]) -> Iterator[dict[str, str]]:
    """A queue, or task, for each combination of the values of some metrics."""
    for at, found in enumerate(itertools.product(*values.values())):
        name = f'queue="q",task="{label}{at}"' if label == "task" else f'queue="{label}{at}"'
        for metric, value in zip(values, found, strict=True):
            if value is not NOTHING:
                yield series(f"{metric}{{{PLACE},{name}}}", value)


def series(name: str, value: float) -> dict[str, str]:
    """One sample, from now."""
    return {"series": name, "values": f"_ {value:g}"}


def ago(*seconds: float) -> Values:
    """Not known, and points of time."""
    return [NOTHING, *(NOW - one for one in seconds)]


TARGETS: Final = (0, 0.01, 0.1, 1)
"""Of shares: 14.4 times 0.1 is above 1."""
SHARES: Final = (NOTHING, 0, 0.055, 0.0601, 0.12, 0.15, 0.61, 0.9995, 1)
OF_LATE: Final = (NOTHING, 0, 0.055, 0.0601, 0.15, 0.9995)
"""Within the short window."""
FAILURES: Final = {
    "queue:taskqueue_target_failure_ratio:effective": (NOTHING, *TARGETS),
    "queue:taskqueue_jobs_bad:ratio_rate1h": SHARES,
    "queue:taskqueue_jobs_bad:ratio_rate5m": OF_LATE,
    "queue:taskqueue_jobs_valid:increase1h": (NOTHING, 19, 20),
}
SLOW_FAILURES: Final = {
    "queue:taskqueue_target_failure_ratio:effective": (NOTHING, *TARGETS),
    "queue:taskqueue_jobs_bad:ratio_rate6h": SHARES,
    "queue:taskqueue_jobs_bad:ratio_rate30m": OF_LATE,
    "queue:taskqueue_jobs_valid:increase6h": (NOTHING, 19, 20),
}
BOTH_FAILURES: Final = {
    "queue:taskqueue_target_failure_ratio:effective": (0, 0.01),
    **{f"queue:taskqueue_jobs_bad:ratio_rate{window}": (0, 0.1, 0.2) for window in ("5m", "30m", "1h", "6h")},
    "queue:taskqueue_jobs_valid:increase1h": (19, 20),
    "queue:taskqueue_jobs_valid:increase6h": (20,),
}
LATE: Final = {
    "queue:taskqueue_target_late_ratio:effective": (NOTHING, *TARGETS),
    "queue:taskqueue_job_wait_late:ratio_rate1h": SHARES,
    "queue:taskqueue_job_wait_late:ratio_rate5m": OF_LATE,
    "queue:taskqueue_job_wait_observed:increase1h": (NOTHING, 19, 20),
}
WAITS: Final = {
    "queue:taskqueue_target_wait_seconds:effective": (NOTHING, 0, 60),
    "queue:taskqueue_queue_oldest_ready_age_seconds:max": (NOTHING, 0, 59, 60, 61, 300, 301),
    "queue:taskqueue_queue_last_progress_timestamp_seconds:min": ago(0, 60, 61, 300, 301),
    "queue:taskqueue_queue_ready_jobs:max": (NOTHING, 0, 5),
}
STANDSTILLS: Final = {
    "queue:taskqueue_target_stalled_seconds:effective": (NOTHING, 60),
    "queue:taskqueue_queue_last_progress_timestamp_seconds:min": ago(0, 60, 61, 300),
    "queue:taskqueue_queue_ready_jobs:max": (NOTHING, 0, 5),
    "queue:taskqueue_queue_running_jobs:max": (NOTHING, 0, 1),
    "queue:taskqueue_queue_busy_slots:max": (NOTHING, 1),
}
WORKERS: Final = {
    "queue:taskqueue_queue_ready_jobs:max": (NOTHING, 0, 5),
    "queue:taskqueue_queue_workers:max": (NOTHING, 0, 2),
    "queue:taskqueue_queue_last_progress_timestamp_seconds:min": ago(30, 300),
    "queue:taskqueue_target_unstaffed_seconds:effective": (NOTHING, 180),
}
FAILING: Final = {
    "queue_task:taskqueue_target_task_failure_ratio:effective": (NOTHING, *TARGETS, 0.5),
    "queue_task:taskqueue_jobs_bad:ratio_rate10m": (NOTHING, 0, 0.3, 0.5, 0.6, 1),
    "queue_task:taskqueue_jobs_bad:increase10m": (NOTHING, 4, 5),
}
RETRIED: Final = {
    "queue_task:taskqueue_target_retry_ratio:effective": (NOTHING, *TARGETS, 0.5),
    "queue_task:taskqueue_jobs_retried:ratio_rate10m": (NOTHING, 0, 0.3, 0.5, 0.6, 1),
    "queue_task:taskqueue_jobs_retried:increase10m": (NOTHING, 4, 5),
}
FAILING_OR_RETRIED: Final = {
    "queue_task:taskqueue_target_task_failure_ratio:effective": (0, 0.5),
    "queue_task:taskqueue_jobs_bad:ratio_rate10m": (NOTHING, 0, 0.5, 0.6),
    "queue_task:taskqueue_jobs_bad:increase10m": (4, 5),
    "queue_task:taskqueue_target_retry_ratio:effective": (0, 0.3),
    "queue_task:taskqueue_jobs_retried:ratio_rate10m": (NOTHING, 0.3, 0.4),
    "queue_task:taskqueue_jobs_retried:increase10m": (4, 5),
}
FOR_ALL: Final = [series("taskqueue_target:traffic_jobs", 20), series("taskqueue_target:failures", 5)]


# -- colours ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour of a panel, where one of its queries is at a threshold, or `compared`: `alerts` hold."""

    board: str
    panel: str
    ref: str
    alerts: tuple[tuple[str, str], ...]
    """Names and severities; one of them is enough."""
    kind: str
    values: Mapping[str, Values]
    by: tuple[str, ...] = QUEUE
    column: str = ""
    compared: str = ""

    def __str__(self) -> str:
        return f"{self.board}: {self.panel}: {self.ref}: {self.alerts[0]}"

    @property
    def coloured(self) -> str:
        (board,) = (board for board in dashboards() if board.uid == self.board)
        (expr, compared) = next(
            (query.expr, self.compared or self._reached(dict(thresholds_of(panel))[self.column]))
            for panel in board.panels
            for query in panel.queries
            if (panel.title, query.ref) == (self.panel, self.ref)
        )
        return f"(({put_in(expr, board.everything() | BUILT_IN)}) {compared})"

    def _reached(self, thresholds: Sequence[Any]) -> str:
        colour = {"warning": "orange", "critical": "red"}[self.alerts[0][1]]
        (value,) = (one.value for one in thresholds if one.colour == colour)
        return f">= {value!r}"

    @property
    def fires(self) -> str:
        found = {(rule.name, rule.labels["severity"]): rule.expr for rule in alerts() if rule.is_alert}
        on = ", ".join(self.by)
        return " or ".join(f"group by ({on}) ({found[one]})" for one in self.alerts)

    def disagreements(self, was: str = "", becomes: str = "") -> list[dict[str, str]]:
        """Tests that there is no series while both agree."""
        fires, on = self.fires.replace(was, becomes), ", ".join(self.by)
        assert fires != self.fires or not was
        exprs = (f"{self.coloured} unless on ({on}) ({fires})", f"({fires}) unless on ({on}) {self.coloured}")
        return [asked(expr) for expr in exprs]


FAST_BURN: Final = ("JobFailureBudgetFastBurn", "critical")
SLOW_BURN: Final = ("JobFailureBudgetSlowBurn", "warning")
LATE_BURN: Final = ("JobWaitBudgetBurn", "critical")
WARNS: Final = ("QueueWaitTooLong", "warning")
FAILS: Final = ("TaskFailing", "warning")
RETRIES: Final = ("RetryStorm", "warning")
PACE: Final = "Failures: pace of the budget"
COLOURS: Final = (
    Colour("tq-overview", PACE, "D", (FAST_BURN,), "queue", FAILURES, column="Fast"),
    Colour("tq-overview", PACE, "E", (SLOW_BURN,), "queue", SLOW_FAILURES, column="Slow"),
    Colour("tq-overview", "Waits: pace of the budget", "D", (LATE_BURN,), "queue", LATE, column="Fast"),
    Colour("tq-overview", "Queues", "E", (FAST_BURN,), "queue", BOTH_FAILURES, compared="== 2"),
    Colour("tq-overview", "Queues", "E", (FAST_BURN, SLOW_BURN), "queue", BOTH_FAILURES, compared=">= 1"),
    Colour("tq-system", "Failures: budget, of its limit", "A", (FAST_BURN,), "queue", FAILURES, compared="> 1"),
    Colour("tq-system", "Failures: budget, of its limit", "B", (SLOW_BURN,), "queue", SLOW_FAILURES),
    Colour("tq-system", "Late starts: budget, of its limit", "A", (LATE_BURN,), "queue", LATE),
    Colour("tq-overview", "Queues", "C", (WARNS,), "queue", WAITS, column="Of target"),
    Colour("tq-overview", "Queues", "C", (("QueueWaitTooLong", "critical"),), "queue", WAITS, column="Of target"),
    Colour("tq-system", "Queues now", "D", (WARNS,), "queue", WAITS, column="Of target"),
    Colour("tq-system", "Standstill, of its limit", "A", (("QueueStalled", "critical"),), "queue", STANDSTILLS),
    Colour("tq-system", "Tasks", "A", (FAILS, RETRIES), "task", FAILING_OR_RETRIED, TASK, "Of limit"),
    Colour("tq-task", "By queue and broker", "C", (FAILS,), "task", FAILING, TASK, "Of failure target"),
    Colour("tq-task", "By queue and broker", "E", (RETRIES,), "task", RETRIED, TASK, "Of retry target"),
)


def asked(expr: str, *samples: dict[str, Any]) -> dict[str, Any]:
    return {"expr": expr, "eval_time": f"{NOW}s", "exp_samples": list(samples)}


def one(value: float) -> dict[str, Any]:
    return {"labels": "{}", "value": value}


def evaluate(directory: Path, made: Sequence[dict[str, str]], tests: Sequence[dict[str, Any]]) -> None:
    """AssertionError where an expression gives something else."""
    case = {"interval": f"{NOW}s", "input_series": [*made, *FOR_ALL], "promql_expr_test": tests}
    (directory / "agreement.yml").write_text(json.dumps({"rule_files": [], "tests": [case]}))
    promtool("test", "rules", directory / "agreement.yml")


@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_a_colour_is_there_exactly_while_its_alert_holds(colour: Colour, tmp_path: Path) -> None:
    made = list(each_of(colour.kind, colour.values))
    some_hold = asked(f"count({colour.fires}) > bool 0", one(1))
    evaluate(tmp_path, made, [*colour.disagreements(), some_hold])


@pytest.mark.parametrize(
    ("colour", "was", "becomes"),
    [
        (COLOURS[0], "14.4 *", "10 *"),
        (COLOURS[0], ":ratio_rate5m", ":ratio_rate1h"),
        (COLOURS[0], "- 0.5", "- 1.5"),
        (COLOURS[1], "6 *", "5 *"),
        (COLOURS[8], "> queue:taskqueue_target_wait", ">= queue:taskqueue_target_wait"),
        (COLOURS[12], "- 0.5", "- 1.5"),
    ],
    ids=str,
)
def test_an_alert_that_holds_at_other_times_is_found(colour: Colour, was: str, becomes: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="FAILED") as failed:
        evaluate(tmp_path, list(each_of(colour.kind, colour.values)), colour.disagreements(was, becomes))
    assert "err:" not in str(failed.value), "too many series"


# -- numbers of all that is selected ------------------------------------------------------------------------------


def number(uid: str, title: str, ref: str) -> str:
    (board,) = (board for board in dashboards() if board.uid == uid)
    (expr,) = (q.expr for panel in board.panels if panel.title == title for q in panel.queries if q.ref == ref)
    return f"({put_in(expr, board.everything() | BUILT_IN)})"


def holds(name: str) -> str:
    return next(rule.expr for rule in alerts() if rule.name == name)


def test_queues_without_workers_are_those_of_the_alert(tmp_path: Path) -> None:
    counted = number("tq-overview", "Workers", "C")
    same = asked(f"{counted} != count({holds('QueueNoWorkers')})")
    evaluate(tmp_path, list(each_of("queue", WORKERS)), [same, asked(f"{counted} > bool 0", one(1))])


PERIOD: Final = 600
REPEATED: Final = 'system="celery",task="nightly"'
RECORDED: Final = f'task:taskqueue_task_last_finished_timestamp_seconds:max{{{PLACE},task="nightly"}}'
KNOWN: Final = series(f'queue_state:taskqueue_queue_jobs:max{{{PLACE},queue="q",state="ready"}}', 0)


@pytest.mark.parametrize("broker", ["", ',broker="main"'])
@pytest.mark.parametrize(
    ("success", "watched", "known", "shown"),
    [
        pytest.param(1.5, 3, True, 1.5, id="in time"),
        pytest.param(2, 3, True, 2, id="at the limit"),
        pytest.param(2.5, 3, True, 2.5, id="too long ago"),
        pytest.param(2.5, 3, False, NOTHING, id="nobody looks"),
        pytest.param(NOTHING, 3, True, math.inf, id="never"),
        pytest.param(NOTHING, 1, True, NOTHING, id="not known yet"),
        pytest.param(NOTHING, 3, False, NOTHING, id="never, but nobody looks"),
    ],
)
def test_periods_without_a_success(
    success: float | None, watched: float, known: bool, shown: float | None, broker: str, tmp_path: Path
) -> None:
    made = [
        series(f"taskqueue_target:period_seconds{{{REPEATED}{broker}}}", PERIOD),
        series(
            f"task:taskqueue_target_period_watched_timestamp_seconds:min{{{REPEATED}{broker}}}", NOW - watched * PERIOD
        ),
        *([KNOWN] if known else []),
        *([series(RECORDED, NOW - success * PERIOD)] if success is not None else []),
    ]
    periods = number("tq-task", "Period", "B")
    above = f"({periods} >= 2.000001)"
    fires = f"group({holds('TaskMissed')})"
    value = asked(f"{periods} > bool 1e300", one(1)) if shown == math.inf else asked(periods, *shows(shown))
    evaluate(tmp_path, made, [value, asked(f"{above} unless on () {fires}"), asked(f"{fires} unless on () {above}")])


def shows(value: float | None) -> list[dict[str, Any]]:
    return [] if value is None else [one(value)]
