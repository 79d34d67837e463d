"""What *Are task events on?* says, and that it is orange exactly while EventsMissing or FeedDisconnected would be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from scripts.rulebook import alerts, metrics_of, records
from tests.dashboards import dashboards, put_in
from tests.promtool import promtool

CUT_OFF, NOT_NOW, COMES_AND_GOES, OFF, OF_PRODUCERS, ON, NOTHING = range(7)
"""What the query gives, by its texts."""
MISSING: Final = {OFF, OF_PRODUCERS}
DISCONNECTED: Final = {CUT_OFF, COMES_AND_GOES}
BROKER: Final = 'job="tq",system="celery",broker="main"'
A: Final = f'instance="a:1",{BROKER}'
B: Final = f'instance="b:1",{BROKER}'
TASK: Final = f'{A},queue="q",task="t"'
SAW: Final = "0 5 " * 160
"""A depth that falls again and again."""
UP: Final = {f'taskqueue_broker_up{{job="tq",instance="{at}",broker="main"}}': "1x320" for at in ("a:1", "b:1")}
CONNECTED: Final = UP | {
    f'taskqueue_feed_connected{{{A},feed="events"}}': "1x320",
    f'taskqueue_feed_gap_seconds_total{{{A},feed="events"}}': "0x320",
    f'taskqueue_feed_reconnects_total{{{A},feed="events"}}': "0x320",
    f'taskqueue_feed_events_total{{{A},feed="events",kind="job"}}': "0x320",
    f'taskqueue_feed_events_total{{{A},feed="events",kind="worker"}}': "0+15x320",
}
JOBS_RUN: Final = {f'taskqueue_queue_jobs{{{A},queue="q",state="ready"}}': SAW}


@dataclass(frozen=True, slots=True)
class Case:
    """Series of which one is made every 30 s, and what the panel says at some minutes: None if nothing."""

    name: str
    series: dict[str, str]
    says: dict[int, int | None]


def heard(events: str, started: str, finished: str, enqueued: str = "0x320") -> dict[str, str]:
    """What a feed counts."""
    return {
        f'taskqueue_feed_events_total{{{A},feed="events",kind="job"}}': events,
        f"taskqueue_jobs_started_total{{{TASK}}}": started,
        f'taskqueue_jobs_finished_total{{{TASK},outcome="succeeded"}}': finished,
        f"taskqueue_jobs_enqueued_total{{{TASK}}}": enqueued,
    }


def feed(instance: str, connected: str, gaps: str, reconnects: str) -> dict[str, str]:
    return {
        f'taskqueue_feed_connected{{{instance},feed="events"}}': connected,
        f'taskqueue_feed_gap_seconds_total{{{instance},feed="events"}}': gaps,
        f'taskqueue_feed_reconnects_total{{{instance},feed="events"}}': reconnects,
    }


RISES: Final = "0+3x320"
STOPS: Final = "0+3x40 120x280"
"""Workers are started again without -E after 20 minutes."""
CASES: Final = (
    Case("on", CONNECTED | JOBS_RUN | heard(RISES, RISES, RISES), {10: ON, 60: ON}),
    Case("only long jobs begin", CONNECTED | heard(RISES, "0+0x30 1x290", "0x320"), {20: ON, 60: NOTHING}),
    Case("off", CONNECTED | JOBS_RUN | heard(STOPS, STOPS, STOPS), {15: ON, 30: ON, 45: OFF, 60: OFF}),
    Case("never on", CONNECTED | JOBS_RUN, {30: OFF, 60: OFF}),
    Case(
        "off, but producers tell",
        CONNECTED | JOBS_RUN | heard(RISES, STOPS, STOPS, RISES),
        {15: ON, 45: NOTHING, 70: NOTHING, 100: OF_PRODUCERS},
    ),
    Case("idle", CONNECTED | heard("5x320", "5x320", "5x320"), {10: NOTHING, 60: NOTHING}),
    Case(
        "cut off",
        CONNECTED | JOBS_RUN | heard(STOPS, STOPS, STOPS) | feed(A, "1x40 0x280", "0x40 0+30x280", "0x320"),
        {15: ON, 21: NOT_NOW, 24: CUT_OFF, 60: CUT_OFF},
    ),
    Case(
        "cut off for a moment",
        CONNECTED | JOBS_RUN | heard(RISES, RISES, RISES) | feed(A, "1x39 0x1 1x280", "0x40 10x281", "0x40 1x281"),
        {15: ON, 20: NOT_NOW, 22: ON, 60: ON},
    ),
    Case(
        "comes and goes",
        CONNECTED | JOBS_RUN | heard(RISES, RISES, RISES) | feed(A, "1x320", "0+6x320", "0+1x320"),
        {20: COMES_AND_GOES, 60: COMES_AND_GOES},
    ),
    Case(
        "another exporter hears",
        CONNECTED | JOBS_RUN | heard(RISES, RISES, RISES) | feed(B, "0x320", "0+30x320", "0x320"),
        {10: ON, 60: ON},
    ),
    Case(
        "the broker is down",
        CONNECTED
        | {f'taskqueue_broker_up{{job="tq",instance="{at}",broker="main"}}': "1x40 0x280" for at in ("a:1", "b:1")}
        | feed(A, "1x40 0x280", "0x40 0+30x280", "0x320"),
        {15: NOTHING, 40: NOT_NOW},
    ),
    Case(
        "no exporter",
        {name: f"{values.replace('x320', 'x40')} stale" for name, values in CONNECTED.items()}
        | dict.fromkeys(JOBS_RUN, "0 5 " * 20 + "stale")
        | dict.fromkeys(heard("", "", ""), "0+3x40 stale"),
        {15: ON, 25: None, 30: None, 60: None},
    ),
    Case(
        "no exporter, and events were off",
        {name: f"{values.replace('x320', 'x80')} stale" for name, values in CONNECTED.items()}
        | dict.fromkeys(JOBS_RUN, "0 5 " * 40 + "stale"),
        {35: OFF, 43: None, 50: None, 60: None},
    ),
    Case("no Celery", UP, {10: None}),
)


def asked() -> str:
    """The panel's query, with all selected."""
    (board,) = [dashboard for dashboard in dashboards() if dashboard.uid == "tq-system"]
    (panel,) = [panel for panel in board.panels if panel.title == "Are task events on?"]
    return put_in(panel.queries[0].expr, board.everything())


def holds(alert: str) -> str:
    (expr,) = [rule.expr for rule in alerts() if rule.name == alert]
    return f"group by (job, system, broker) ({expr})"


def expected(expr: str, minute: int, value: int | None) -> dict[str, Any]:
    samples = [] if value is None else [{"labels": f"{{{BROKER}}}", "value": value}]
    return {"expr": expr, "eval_time": f"{minute}m", "exp_samples": samples}


def rules() -> dict[str, Any]:
    """Those that record what is asked for: of all others the test would only become slow."""
    recorded = {rule.name: rule.expr for rule in records()}
    wanted = metrics_of(asked()) | metrics_of(holds("EventsMissing"))
    while more := {name for metric in wanted & recorded.keys() for name in metrics_of(recorded[metric])} - wanted:
        wanted |= more
    made = [{"record": rule.name, "expr": rule.expr} for rule in records() if rule.name in wanted]
    return {"groups": [{"name": "recorded", "interval": "30s", "rules": made}]}


def checks_of(case: Case) -> dict[str, Any]:
    found = []
    for minute, value in case.says.items():
        found.append(expected(asked(), minute, value))
        known = value is not None  # an alert goes on for a while after the last exporter
        if known:
            found.append(expected(holds("EventsMissing"), minute, 1 if value in MISSING else None))
        if known and case.name != "another exporter hears":
            found.append(expected(holds("FeedDisconnected"), minute, 1 if value in DISCONNECTED else None))
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    return {"name": case.name, "interval": "30s", "input_series": series, "promql_expr_test": found}


@pytest.mark.needs("promtool")
def test_it_says_what_is_so_and_is_orange_as_alerts_are(tmp_path: Path) -> None:
    recording, path = tmp_path / "recording.json", tmp_path / "events.json"  # which is YAML
    recording.write_text(json.dumps(rules()))
    cases = [checks_of(case) for case in CASES]
    path.write_text(json.dumps({"rule_files": [recording.name], "evaluation_interval": "30s", "tests": cases}))
    promtool("test", "rules", path)
