"""The rules: what they read exists, every alert is proven, explained and documented, and a target is one line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from scripts.alerts_reference import reference
from scripts.rulebook import (
    ABROAD,
    PROMETHEUS,
    RULES,
    RUNBOOKS,
    TARGET,
    Rule,
    alerts,
    exists,
    metrics_of,
    records,
    rests_on,
    rules,
    sources,
    targets,
)
from tests.promtool import promtool
from tests.servers import ROOT

ASKED: Final = {"ALERTS", "ALERTS_FOR_STATE", f"{TARGET}NAME"}
"""What only queries of runbooks read, beside what Prometheus tells of itself."""
ALERTS = {rule.name: rule for rule in alerts()}
CASES: Final = sorted((PROMETHEUS / "tests").glob("*.yml"))
SECTIONS: Final = ["Meaning", "Likely causes", "Tell them apart", "What to do", "When to silence"]
MISSING: Final = "TargetMissing"
"""The alert that names all targets, and compares with none."""
FIRES_WITHOUT_DATA: Final = {"Watchdog", "ExporterAbsent", MISSING}
"""Alerts that are there to fire when there are no metrics."""
UIDS: Final = {"tq-overview", "tq-system", "tq-task", "tq-redis", "tq-exporter"}


# -- promtool -----------------------------------------------------------------------------------------------------


@cache
def cases_of(path: Path) -> dict[str, Any]:
    """What a file beside the rules holds: cases, or targets for some."""
    return dict(yaml.safe_load(path.read_text()))


@pytest.mark.needs("promtool")
def test_the_rules_pass_every_check() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", *sorted(RULES.glob("*.yml")))


@pytest.mark.needs("promtool")
def test_the_configuration_of_prometheus_is_good() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("alert", sorted({rule.name for rule in alerts()}))
def test_an_alert_does_what_its_cases_say(alert: str, tmp_path: Path) -> None:
    found = False
    for path in CASES:
        groups = [group for group in cases_of(path).get("tests", []) if of_alert(group) == alert]
        if groups:
            found = True
            promtool("test", "rules", alone(alert, path, groups, tmp_path))
    assert found


def test_every_case_is_of_an_alert() -> None:
    names = {of_alert(group) for path in CASES for group in cases_of(path).get("tests", []) if path.stem != "compat"}
    assert names == {rule.name for rule in alerts()}


def of_alert(group: dict[str, Any]) -> str:
    """The alert that a group of cases is about, by its name."""
    return str(group.get("name", "")).split(" ")[0]


def alone(alert: str, path: Path, groups: list[dict[str, Any]], folder: Path) -> Path:
    """The cases of one alert with the rules that it rests on, and no others: all of them would take minutes."""
    cases = cases_of(path)
    asked = [case["expr"] for group in groups for case in group.get("promql_expr_test", [])]
    exprs = [*asked, *(rule.expr for rule in alerts() if rule.name == alert)]
    needed = re.compile("|".join(rests_on(*exprs) | {alert}))  # a name, or the pattern of several
    rule_files = [(path.parent / name).resolve() for name in cases["rule_files"]]
    for file in rule_files:
        parsed = yaml.safe_load(file.read_text())
        for group in parsed["groups"]:
            group["rules"] = [rule for rule in group["rules"] if needed.fullmatch(rule.get("alert") or rule["record"])]
        (folder / file.name).write_text(yaml.safe_dump(parsed, sort_keys=False))
    written = folder / f"{path.stem}-cases.yml"
    files = [file.name for file in rule_files]
    written.write_text(yaml.safe_dump(cases | {"rule_files": files, "tests": groups}, sort_keys=False, width=1000))
    return written


def groups_of_cases() -> Iterator[dict[str, Any]]:
    """What the files of cases hold, one group of series and expectations at a time."""
    for path in CASES:
        yield from cases_of(path).get("tests", [])


def expectations(alert: str, what: str, *, to_the_end: bool = False) -> list[tuple[set[str], list[Any]]]:
    """Of the groups called `ALERT what`: the metrics they have, at all or at their end, and what fires when."""
    found = []
    for group in groups_of_cases():
        if re.match(rf"{alert} {what}\b", group.get("name", "")):
            series = group.get("input_series", [])
            there = [line for line in series if not to_the_end or is_there_to_the_end(line["values"])]
            metrics = {metric for line in there for metric in metrics_of(line["series"])}
            expected = [case["exp_alerts"] for case in group.get("alert_rule_test", []) if case["alertname"] == alert]
            found.append((metrics, expected))
    return found


def is_there_to_the_end(values: str | int) -> bool:
    """Whether the last of a series of a case is a value: neither a scrape that failed nor none at all."""
    return not re.fullmatch(r"stale|_(x\d+)?", str(values).split()[-1])


def own_metrics(alert: str) -> set[str]:
    """What the alert rests on, but for targets: metrics of exporters, and the series recorded of them."""
    names = rests_on(*(rule.expr for rule in alerts() if rule.name == alert))
    return {name for name in names if not name.startswith(TARGET)}


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_each_alert_has_a_case_that_fires_one_that_does_not_and_one_without_data(alert: str) -> None:
    fires = expectations(alert, "fires")
    assert any(any(expected) for _, expected in fires), f"no case in which {alert} fires"
    without = expectations(alert, "has no data", to_the_end=True)
    assert without, f"no case without data for {alert}"
    assert all(expected for _, expected in without), f"a case without data says nothing of {alert}"
    if alert not in FIRES_WITHOUT_DATA:
        assert not any(any(expected) for _, expected in without), f"{alert} fires in a case without data"
        # It lacks some of what the alert rests on: with all that a firing case has of it, there would be data.
        own = own_metrics(alert)
        assert not any(metrics >= fired & own for metrics, _ in without for fired, _ in fires), alert
    if alert != "Watchdog":
        quiet = expectations(alert, "does not fire")
        assert any(expected and not any(expected) for _, expected in quiet), f"no case in which {alert} is quiet"
        # It has all that the alert needs to fire, but for the value: else it would be one more without data.
        assert any(metrics >= fired for metrics, _ in quiet for fired, _ in fires), alert


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [pytest.param(rule, id=f"{rule.file}-{rule.name}") for rule in rules()])
def test_what_a_rule_reads_exists(rule: Rule) -> None:
    assert not {metric for metric in rule.reads if not exists(metric)}


def test_only_what_is_read_is_listed_as_given_by_others() -> None:
    assert {metric for rule in rules() for metric in rule.reads} >= set(ABROAD)


@pytest.mark.parametrize("rule", [pytest.param(rule, id=f"{rule.file}-{rule.name}") for rule in records()])
def test_a_recorded_series_is_called_by_level_metric_and_operation(rule: Rule) -> None:
    if rule.file == "compat-redis-exporter.yml":
        assert rule.name.startswith("redis_")
    elif not rule.name.startswith(TARGET):
        level, metric, operation = rule.name.split(":")
        assert re.fullmatch("[a-z_]+", level)
        assert re.fullmatch("taskqueue_[a-z0-9_]+", metric)
        assert re.fullmatch("[a-z]+[a-z0-9_]*", operation)


def test_every_target_is_compared_with() -> None:
    compared = {name for rule in alerts() if rule.name != MISSING for name in sources(rule.expr)}
    missing = {name for name in targets() if TARGET + name not in compared}
    assert not missing


def test_every_target_is_missed_when_its_default_is_gone() -> None:
    assert ALERTS[MISSING].reads == {TARGET + name for name in targets()}


@pytest.mark.parametrize("document", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.stem)
def test_every_recorded_series_that_a_document_names_exists(document: Path) -> None:
    names = set(re.findall(r"\b\w+:taskqueue_\w+:\w+|\btaskqueue_target:\w+", document.read_text()))
    known = {rule.name for rule in records()} | {f"{TARGET}period_seconds", f"{TARGET}NAME"}
    assert names <= known


# -- annotations and runbooks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [pytest.param(rule, id=f"{rule.file}-{rule.name}") for rule in alerts()])
def test_an_alert_says_what_is_so_and_where_to_read_on(rule: Rule) -> None:
    assert set(rule.annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert set(rule.labels) == {"severity"}
    assert rule.labels["severity"] in {"critical", "warning", "info", "none"}
    assert rule.annotations["runbook_url"].endswith(f"/docs/runbooks/{rule.name}.md")
    match = re.fullmatch(r"http://localhost:3000/d/([a-z-]+)(\?.+)?", rule.annotations["dashboard_url"])
    assert match, rule.annotations["dashboard_url"]
    assert match[1] in UIDS
    for variable, value in re.findall(r"[?&]var-(\w+)=([^&]+)", match[2] or ""):
        assert value == f"{{{{ $labels.{variable} | urlquery }}}}"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERTS)


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_a_runbook_can_be_followed(path: Path) -> None:
    text = path.read_text()
    title, first = text.split("\n\n")[:2]
    severities = {rule.labels["severity"] for rule in alerts() if rule.name == path.stem} - {"none"}
    assert title == f"# {path.stem}"
    assert {found.lower() for found in re.findall("Critical|Warning|Info", first.split("**")[1])} == severities
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    queries = re.findall(r"```promql\n(.*?)```", text, re.DOTALL)
    assert queries or path.stem == "Watchdog"
    for query in queries:
        for expression in filter(None, re.split(r"\n\s*\n", query)):
            commentless = re.sub(r"^#.*\n?", "", expression, flags=re.MULTILINE).strip()
            unknown = {metric for metric in metrics_of(commentless) if not exists(metric)} - ASKED
            assert all(metric.startswith(("prometheus_", "process_", "scrape_")) for metric in unknown), unknown


def test_the_reference_is_what_the_rules_say() -> None:
    assert (ROOT / "docs" / "alerts.md").read_text() == "\n".join(reference()) + "\n", "run `make docs`"


# -- targets ------------------------------------------------------------------------------------------------------

WAITING: Final = """
rule_files: [rules/targets.yml, rules/recording.yml, rules/alerts-late.yml]
evaluation_interval: 30s
tests:
  - interval: 30s
    input_series:
      - series: taskqueue_queue_jobs{{job="tq",instance="a",system="celery",broker="main",queue="mails",state="ready"}}
        values: 50x60
    promql_expr_test:
      - expr: count(ALERTS{{alertname="QueueBacklog",alertstate="firing"}}) or vector(0)
        eval_time: 20m
        exp_samples: [{{value: {firing}}}]
"""


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(
    ("was", "becomes", "firing"),
    [
        pytest.param("", "", 0, id="as-shipped"),
        pytest.param('backlog_jobs", expr: "100"', 'backlog_jobs", expr: "20"', 1, id="another-default"),
        pytest.param(
            '      - {record: "taskqueue_target:backlog_jobs", expr: "100"}\n',
            '      - {record: "taskqueue_target:backlog_jobs", expr: "100"}\n'
            '      - {record: "taskqueue_target:backlog_jobs", expr: "20", labels: {system: celery, queue: mails}}\n',
            1,
            id="one-queue",
        ),
        pytest.param(
            '      - {record: "taskqueue_target:backlog_jobs", expr: "100"}\n',
            '      - {record: "taskqueue_target:backlog_jobs", expr: "20"}\n'
            '      - {record: "taskqueue_target:backlog_jobs", expr: "200", '
            "labels: {system: celery, broker: main, queue: mails}}\n",
            0,
            id="one-queue-of-one-broker",
        ),
    ],
)
def test_a_threshold_is_changed_by_one_line_in_one_file(tmp_path: Path, was: str, becomes: str, firing: int) -> None:
    # given the rules as they are, with 50 jobs waiting
    shutil.copytree(RULES, tmp_path / "rules")
    file = tmp_path / "rules" / "targets.yml"
    # when one line of the targets becomes another
    assert file.read_text().count(was) == 1 or not was
    file.write_text(file.read_text().replace(was, becomes))
    # then so much is a backlog
    (tmp_path / "cases.yml").write_text(WAITING.format(firing=firing))
    promtool("test", "rules", tmp_path / "cases.yml")
