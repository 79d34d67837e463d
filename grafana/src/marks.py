"""What is marked on all panels over time: alerts that fire, exporters that started, workers that came and went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.models.dashboard import AnnotationContainer, AnnotationQuery

from grafana.src import alerts, limits
from grafana.src.panels import DATASOURCE
from grafana.src.promql import JOB, of

RECENT: Final = "2m"
"""How long a worker that is new, or gone, is marked: Grafana asks once a minute."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Times at which `expr` gives anything; texts have `{{label}}` in them."""

    name: str
    colour: str
    expr: str
    title: str
    text: str
    by_value: bool = False
    """Its value is the time, in milliseconds, whenever it is asked for."""
    shown: bool = True
    """Until someone switches it on or off at the top of the dashboard."""


class PrometheusAnnotation(AnnotationQuery):
    """The SDK knows nothing of what the datasource adds."""

    def __init__(self, mark: Mark) -> None:
        super().__init__(mark.name, DATASOURCE, enable=mark.shown, icon_color=mark.colour, expr=mark.expr)
        self._mark = mark

    def to_json(self) -> dict[str, object]:
        mark = self._mark
        more = {"titleFormat": mark.title, "textFormat": mark.text, "step": "60s"}
        return super().to_json() | more | ({"useValueForTime": "on"} if mark.by_value else {})


def of_labels(labels: Sequence[str]) -> AnnotationContainer:
    """Those of a dashboard that has variables for these labels."""
    queue_labels = [label for label in ("system", "broker", "queue", "task") if label in labels]
    return AnnotationContainer(
        list_val=[PrometheusAnnotation(mark) for mark in (_alerts(queue_labels), EXPORTERS, WORKERS)]
    )


def _alerts(labels: Sequence[str]) -> Mark:
    by = "job, alertname, severity, system, broker, queue, task"
    firing = alerts.of_labels("ALERTS", labels, 'alertstate="firing"')
    return Mark("Alerts", limits.BAD, f"max by ({by}) ({firing})", "{{alertname}} ({{severity}})", _WHERE)


_WHERE: Final = "{{system}} {{broker}} {{queue}} {{task}}"
EXPORTERS: Final = Mark(
    "Exporter starts",
    limits.NEUTRAL,
    f"1000 * {of('process_start_time_seconds', JOB)} and on (job, instance) {of('taskqueue_exporter_build_info', JOB)}",
    "exporter started",
    "{{instance}}",
    by_value=True,
)
_UP: Final = of("worker:taskqueue_worker_up:max", JOB)
_EARLIER: Final = f"{_UP} offset {RECENT}"
WORKERS: Final = Mark(
    "Workers come and go",
    limits.UNKNOWN,
    f"{_UP} unless {_EARLIER} or {_EARLIER} unless {_UP} or changes({_UP}[{RECENT}]) > 0",
    "worker came, went or was lost",
    "{{system}} {{worker}}",
    shown=False,
)
