"""Ways from one dashboard to the next, and to the runbooks.

Values of a row or series are percent-encoded: queues may be called anything. What the dashboard's variables select goes
along, and so does its time range.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models.dashboard import DashboardLinkType

from scripts import rulebook

OVERVIEW: Final = "tq-overview"
ONE_SYSTEM: Final = "tq-system"
ONE_TASK: Final = "tq-task"
REDIS: Final = "tq-redis"
EXPORTER: Final = "tq-exporter"

TAG: Final = "taskqueue"
RUNBOOKS: Final = os.path.dirname(rulebook.alerts()[0].annotations["runbook_url"]) + "/"
"""Where runbooks are, as the annotations of alerts have it."""


def to(uid: str, values: Mapping[str, str], keep: tuple[str, ...] = ("job",)) -> str:
    """The address of a dashboard: some of its variables set, by name, to values (`label("queue")`), those named in
    `keep` to what is selected here."""
    kept = [f"${{{name}:queryparam}}" for name in ("datasource", *keep)]
    given = [f"var-{name}={value}" for name, value in values.items()]
    return f"/d/{uid}?" + "&".join([*kept, *given, "${__url_time_range}"])


def label(name: str) -> str:
    """The label of the series that is clicked."""
    return f"${{__field.labels.{name}:percentencode}}"


def cell(column: str) -> str:
    """The cell of a column, by its title, in the row of a table that is clicked."""
    return f'${{__data.fields["{column}"]:percentencode}}'


def runbook(alert: str) -> str:
    """The address of an alert's runbook; `alert` is its name, or a value that is one."""
    return f"{RUNBOOKS}{alert}.md"


def between_dashboards() -> builders.DashboardLink:
    """One drop-down with all of these dashboards."""
    link = builders.DashboardLink("Task queues").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).include_vars(True).keep_time(True).icon("external link")


def out(title: str, url: str) -> builders.DashboardLink:
    """One link in the head of a dashboard that leads elsewhere."""
    link = builders.DashboardLink(title).type(DashboardLinkType.LINK).url(url)
    return link.icon("doc").target_blank(True)
