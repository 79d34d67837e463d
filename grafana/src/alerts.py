"""The alerts that fire, for the head of each dashboard: how many, and which, with ways to runbook and dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders import stat, table

from grafana.src import limits, links
from grafana.src.limits import over
from grafana.src.panels import Query, Says, Size, mapping, number
from grafana.src.promql import JOB, of
from grafana.src.tables import COLOURED_TEXT, Column, Key, rows
from scripts import rulebook

NONE: Final = "No alert fires"
RULES: Final = "No data: the rules are not loaded"
RANKS: Final = {3: "critical", 2: "warning", 1: "info"}
COLOURS: Final = {"critical": limits.BAD, "warning": limits.WARNING, "info": limits.NEUTRAL}
SEVERITIES: Final = mapping({str(rank): (name, COLOURS[name]) for rank, name in RANKS.items()})
ABOUT: Final = (
    *("worker", "instance", "collector", "feed", "reason", "server", "slave_ip", "master_host", "mountpoint", "kind"),
    *("label", "le", "target", "rule_group"),
)
"""Labels that some alerts have, beside those of queues and tasks."""


def of_labels(metric: str, labels: Sequence[str], *matchers: str) -> str:
    """Series of alerts about what is selected. An alert that says nothing of a queue, say, is about every queue."""
    narrowed = [f'{label}=~"|${label}"' for label in ("job", *labels)]
    return of(metric, (), 'alertname!="Watchdog"', *matchers, *narrowed)


def in_files(*names: str) -> str:
    """A matcher for the alerts of some files of rules."""
    return f'alertname=~"{"|".join(rule.name for rule in rulebook.alerts() if rule.file in names)}"'


def firing(labels: Sequence[str], size: Size, *matchers: str) -> stat.Panel:
    """How many fire; `labels` are the dashboard's variables that narrow them down, beside further matchers."""
    none = f"0 * count({of('instance:taskqueue_exporter_known:group', JOB)})"

    def count(severity: str) -> Query:
        fires = of_labels("ALERTS", labels, 'alertstate="firing"', f'severity="{severity}"', *matchers)
        return Query(f"count({fires}) or {none}", severity)

    says = Says(
        "Alerts that fire now, by severity, about what is selected.",
        "0 and 0.",
        "The table of alerts names them; each name leads to its runbook.",
    )
    panel = number("Firing alerts", says, "short", count("critical"), count("warning"), size=size, empty=RULES)
    panel.override_by_name("critical", limits.override(over(bad=1)))
    return panel.override_by_name("warning", limits.override(over(warning=1)))


def table_of(labels: Sequence[str], size: Size, *matchers: str) -> table.Panel:
    """Which fire, and since when."""

    def fires(*severity: str) -> str:
        return of_labels("ALERTS", labels, 'alertstate="firing"', *severity, *matchers)

    def told(expr: str) -> str:
        names = ", ".join(f'"{name}"' for name in ABOUT)
        return f'label_join({expr}, "about", " ", {names})'

    by_rank = " or ".join(f"{rank} * " + fires(f'severity="{name}"') for rank, name in RANKS.items())
    since = f"1000 * {of_labels('ALERTS_FOR_STATE', labels, *matchers)} and ignoring (alertstate) {fires()}"
    queue = {name: links.cell(name.capitalize()) for name in ("job", "system", "broker", "queue")}
    task = {name: links.cell(name.capitalize()) for name in ("system", "task")}
    keys = [
        Key("alertname", "Alert", links.runbook(links.cell("Alert")), "Runbook", width=210),
        Key("job", "Job", width=90),
        Key("system", "System", links.to(links.ONE_SYSTEM, {"system": links.cell("System")}), "This system", 70),
        Key("broker", "Broker", width=90),
        Key("queue", "Queue", links.to(links.ONE_SYSTEM, queue, keep=()), "This queue in depth"),
        Key("task", "Task", links.to(links.ONE_TASK, task), "This task in depth"),
        Key("about", "About"),
    ]
    columns = [
        Column("Severity", told(by_rank), "none", 0, COLOURED_TEXT, width=80, mappings=(SEVERITIES,), early=True),
        Column("Since", told(since), "dateTimeFromNow", width=130),
    ]
    says = Says(
        "Every alert that fires about what is selected, with what it is about, the worst first.",
        "empty.",
        "Click the alert for its runbook, the queue or task to look at it.",
    )
    return rows("Alerts", says, keys, columns, size=size, empty=NONE, sort="Severity")
