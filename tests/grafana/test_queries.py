"""What dashboards ask is there to be asked, and asked so that replicas of the exporter do not count twice."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cache
from typing import Any, Final

import promql_parser
import pytest
import yaml
from promql_parser import AggregateExpr, BinaryExpr, Call, NumberLiteral, ParenExpr, VectorSelector

from exporter.catalogue import Family, cgroup, feeds, host, itself, jobs, processes, queues, redis
from grafana.src.promql import RECORDED_EVERY
from scripts.rulebook import RULES, alerts
from tests.grafana.expressions import (
    INTERVAL,
    OF_ALERTS,
    RANGE,
    Query,
    Selector,
    is_by,
    is_known,
    labels_of_metric,
    named_labels,
    queries,
    selectors_of,
    walked,
)

EACH = pytest.mark.parametrize("query", queries(), ids=str)
EACH_OF_A_PANEL = pytest.mark.parametrize("query", [query for query in queries() if query.of_panel], ids=str)


def names_of(*modules: Any) -> set[str]:
    return {family.name for module in modules for family in vars(module).values() if isinstance(family, Family)}


SHARED: Final = names_of(queues, jobs, redis)
"""Families that every replica of the exporter has the same of."""
FEEDS: Final = names_of(feeds)
"""Each replica has its own of them, but the feed is the same."""
OWN: Final = names_of(itself, host, cgroup, processes)
"""Families of one exporter or its host."""


def is_of(selector: Selector, names: set[str]) -> bool:
    return selector.family is not None and selector.family.name in names


def is_counter(selector: Selector) -> bool:
    family = selector.family
    if family is None:
        return selector.metric.endswith("_total")
    return family.kind == "counter" or selector.metric != family.name


def is_counted(selector: Selector) -> bool:
    """Whether the query asks how many series there are, and not for what they say."""
    return selector.aggregation is not None and str(selector.aggregation.op) in {"count", "group"}


def is_one_for_all_replicas(selector: Selector) -> bool:
    """Whether the innermost aggregation takes one of what replicas say, the highest or the lowest."""
    node = selector.aggregation
    if node is None or str(node.op) not in {"max", "min", "group"}:
        return False
    named = set(node.modifier.labels) if node.modifier else set()
    return not named & {"instance", "pod"} if is_by(node) else named >= {"instance", "pod"}


# -- names --------------------------------------------------------------------------------------------------------


@EACH
def test_a_query_is_promql_and_what_it_reads_exists(query: Query) -> None:
    assert query.selectors
    assert not [selector.metric for selector in query.selectors if not is_known(selector.metric)]


@EACH
def test_the_labels_that_a_query_selects_by_exist(query: Query) -> None:
    for selector in query.selectors:
        assert set(selector.matchers) - {"__name__"} <= labels_of_metric(selector.metric), selector.metric


@EACH
def test_the_labels_that_a_query_groups_and_matches_by_exist(query: Query) -> None:
    by_replica = {"instance", "pod"}  # `without` is said of what has none, too
    unknown = {label for label, there in named_labels(query.parsed) if label not in there | by_replica}
    assert not unknown


# -- counters -----------------------------------------------------------------------------------------------------


@EACH
def test_a_counter_is_read_as_a_rate_and_nothing_else_is(query: Query) -> None:
    for selector in query.selectors:
        if is_counter(selector) and is_counted(selector):
            continue
        if ":" not in selector.metric:
            assert is_counter(selector) == (selector.function in {"rate", "increase"}), selector.metric
        else:
            assert selector.function not in {"rate", "increase", "irate"}, selector.metric


@cache
def of_alerts(metric: str) -> set[timedelta | None]:
    """How far alerts look back that read a metric."""
    read = [[*selectors_of(promql_parser.parse(alert.expr))] for alert in alerts()]
    among = [selectors for selectors in read if any(selector.metric == metric for selector in selectors)]
    return {selector.range for selectors in among for selector in selectors} - {None}


@EACH_OF_A_PANEL
def test_rates_look_back_for_as_long_as_grafana_says(query: Query) -> None:
    """Or as an alert does, where a panel shows what the alert compares."""
    for selector in query.selectors:
        if selector.function in {"rate", "increase"}:
            said = INTERVAL if selector.function == "rate" else RANGE
            assert selector.range in {said, *of_alerts(selector.metric)}, selector.metric


@EACH
def test_no_query_takes_the_last_two_samples_for_a_rate(query: Query) -> None:
    calls = {node.func.name for node in walked(query.parsed) if isinstance(node, Call)}
    assert not calls & {"irate", "idelta"}


def test_recorded_rates_stand_for_as_long_as_they_are_apart() -> None:
    groups = yaml.safe_load((RULES / "recording.yml").read_text())["groups"]
    assert {group["interval"] for group in groups} == {f"{RECORDED_EVERY}s"}


# -- replicas -----------------------------------------------------------------------------------------------------


@EACH_OF_A_PANEL
def test_what_belongs_to_no_exporter_is_one_for_all_replicas(query: Query) -> None:
    for selector in query.selectors:
        if is_of(selector, SHARED):
            assert "instance" not in selector.matchers, selector.metric
            assert is_one_for_all_replicas(selector), selector.metric
        elif ":" in selector.metric:
            assert "instance" not in selector.matchers or "instance" in labels_of_metric(selector.metric)


@EACH_OF_A_PANEL
def test_what_belongs_to_an_exporter_is_that_of_the_selected_ones(query: Query) -> None:
    if "instance" not in query.dashboard.variables:
        return
    for selector in query.selectors:
        if is_of(selector, OWN | FEEDS):
            assert "instance" in selector.matchers, selector.metric


@EACH_OF_A_PANEL
def test_what_exporters_say_of_their_feeds_is_not_added_up(query: Query) -> None:
    for selector in query.selectors:
        if is_of(selector, FEEDS) and "instance" not in selector.matchers:
            assert is_one_for_all_replicas(selector), selector.metric


@EACH
def test_every_series_is_of_the_selected_jobs(query: Query) -> None:
    """Or, as alerts that say nothing of a job are about every job, of none. Targets, and what is recorded of them, have
    no job."""
    for selector in query.selectors:
        has_job = selector.metric in OF_ALERTS or "job" in labels_of_metric(selector.metric)
        if has_job and query.where != "variable job":
            of_job = {"=~|$job", "=~$job"} if selector.metric in OF_ALERTS else {"=~$job"}
            assert selector.matchers.get("job") in of_job, selector.metric


@EACH
def test_a_label_is_selected_by_the_variable_of_its_name(query: Query) -> None:
    """By regular expression, as several can be selected. An alert that says nothing of a queue is about every queue."""
    for selector in query.selectors:
        for label, matcher in selector.matchers.items():
            assert "$" not in matcher or matcher in {f"=~${label}", f"=~|${label}"}, (selector.metric, label)


# -- numbers ------------------------------------------------------------------------------------------------------


@EACH
def test_nothing_is_divided_by_zero(query: Query) -> None:
    """A divisor is a number, above 0 by a guard, or by what it is; or what is divided is above 0, and infinite then."""
    for node in walked(query.parsed):
        if isinstance(node, BinaryExpr) and str(node.op) == "/":
            assert is_guarded(node.rhs) or is_above_zero(node.lhs), str(node)


NEVER_ZERO: Final = re.compile(r"(queue:taskqueue_target_|taskqueue_target:)\w+_seconds(:effective)?")
"""Targets in seconds: to have none is not to name one, or a very long time."""


def is_above_zero(node: Any) -> bool:
    if isinstance(node, ParenExpr):
        return is_above_zero(node.expr)
    guarded = isinstance(node, BinaryExpr) and str(node.op) == ">"
    return guarded and isinstance(node.rhs, NumberLiteral) and node.rhs.val >= 0


def is_guarded(divisor: Any) -> bool:
    if isinstance(divisor, ParenExpr):
        return is_guarded(divisor.expr)
    if isinstance(divisor, NumberLiteral):
        return bool(divisor.val)
    if isinstance(divisor, BinaryExpr) and str(divisor.op) in {">", "!="}:
        return isinstance(divisor.rhs, NumberLiteral)
    if isinstance(divisor, AggregateExpr) and str(divisor.op) in {"max", "min"}:
        return is_guarded(divisor.expr)
    if isinstance(divisor, Call) and divisor.func.name == "scalar":
        return is_guarded(divisor.args[0])
    return isinstance(divisor, VectorSelector) and bool(NEVER_ZERO.fullmatch(divisor.name or ""))
