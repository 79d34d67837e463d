"""What one can select by at the top of a dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from grafana.src.panels import DATASOURCE
from grafana.src.promql import of

KNOWN_BY: Final = {
    "job": "instance:taskqueue_exporter_known:group",
    "instance": "instance:taskqueue_exporter_known:group",
    "system": "queue:taskqueue_queues:group",
    "broker": "broker:taskqueue_broker_up:max",
    "queue": "queue:taskqueue_queues:group",
    "task": "queue_task_outcome:taskqueue_jobs_finished:rate5m",
    "server": "taskqueue_redis_uptime_in_seconds",
}
"""The series whose labels are offered."""
LABELS: Final = {
    "job": ("job",),
    "instance": ("job", "instance"),
    "system": ("job", "system"),
    "broker": ("job", "broker"),
    "queue": ("job", "system", "broker", "queue"),
    "task": ("job", "system", "broker", "queue", "task"),
    "server": ("job", "broker", "server"),
}
"""Which variables narrow down what is offered, itself last."""
ALL: Final = {"job": ".+", "instance": ".+"}
"""What All stands for, where it is not `.*`: every series that an exporter gives has these."""


def of_labels(labels: Sequence[str]) -> list[Builder[VariableModel]]:
    """One for each of these labels, and that for the data source."""
    return [_datasource(), *(_of_label(label, labels) for label in labels)]


def _datasource() -> Builder[VariableModel]:
    return builders.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _of_label(label: str, others: Sequence[str]) -> Builder[VariableModel]:
    narrowing = tuple(name for name in LABELS[label][:-1] if name in others)
    variable = builders.QueryVariable(label).label(label.capitalize()).datasource(DATASOURCE)
    variable.query(f"label_values({of(KNOWN_BY[label], narrowing)}, {label})")
    variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    variable.multi(True).include_all(True).all_value(ALL.get(label, ".*"))
    return variable.current(VariableOption(selected=True, text="All", value="$__all"))
