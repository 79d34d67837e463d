"""What dashboards ask: every selector of their queries with what is done to it, and the labels that a query has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Final, TypeAlias

import promql_parser

from exporter import catalogue
from exporter.catalogue import Family
from scripts.rulebook import ABROAD, CHILDREN, TARGET, alerts, exists, records
from tests.dashboards import Dashboard, dashboards, put_in

Node: TypeAlias = Any
"""Of an expression; the parser's classes have no common one."""
INTERVAL: Final = timedelta(seconds=67)
RANGE: Final = timedelta(hours=3, seconds=7)
BUILT_IN: Final = {"__rate_interval": "1m7s", "__range": "3h7s"}
"""Variables of Grafana's own, and what stands for them here: durations that no query has otherwise."""
GIVEN: Final = frozenset({"job", "instance", "pod"})
"""Labels that Prometheus gives to what it scrapes; `pod` where its configuration does."""
OF_ALERTS: Final = {"ALERTS", "ALERTS_FOR_STATE"}
FURTHER: Final = {
    "process_cpu_seconds_total": "prometheus_client, of the exporter itself",
    "process_resident_memory_bytes": "prometheus_client, of the exporter itself",
    "process_open_fds": "prometheus_client, of the exporter itself",
    "process_max_fds": "prometheus_client, of the exporter itself",
    "scrape_samples_scraped": "Prometheus, of each target",
}
"""Metrics of others that only dashboards read, beside those that rules read: who gives them."""
OPERATORS: Final = {
    "MatchOp.Equal": "=",
    "MatchOp.NotEqual": "!=",
    "MatchOp.Re": "=~",
    "MatchOp.NotRe": "!~",
}
SET_OPERATORS: Final = {"and", "unless"}


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a dashboard: of a panel, a variable or an annotation, as `where` says."""

    dashboard: Dashboard
    where: str
    expr: str
    of_panel: bool

    @property
    def text(self) -> str:
        """The expression as Prometheus can read it. Variables stand for themselves, `$job`, in whichever form."""
        return put_in(self.expr, {name: f"${name}" for name in self.dashboard.variables} | BUILT_IN)

    @property
    def parsed(self) -> Node:
        """ValueError if it is no expression."""
        return promql_parser.parse(self.text)

    @property
    def selectors(self) -> tuple[Selector, ...]:
        return tuple(selectors_of(self.parsed))

    def __str__(self) -> str:
        return f"{self.dashboard.uid}: {self.where}"


@dataclass(frozen=True, slots=True)
class Selector:
    """One selector of series. Matchers are by their labels, as `=~$job`; `above` is all that it stands in, the whole
    expression first."""

    metric: str
    matchers: Mapping[str, str]
    above: tuple[Node, ...]

    @property
    def range(self) -> timedelta | None:
        """Over which it looks back, if it does."""
        inner = self.above[-1] if self.above else None
        return inner.range if isinstance(inner, promql_parser.MatrixSelector) else None

    @property
    def function(self) -> str:
        """What is done to its range."""
        outer = self.above[-2] if self.range and len(self.above) > 1 else None
        return str(outer.func.name) if isinstance(outer, promql_parser.Call) else ""

    @property
    def aggregation(self) -> Node | None:
        """The innermost aggregation that it is in."""
        found = [node for node in self.above if isinstance(node, promql_parser.AggregateExpr)]
        return found[-1] if found else None

    @property
    def family(self) -> Family | None:
        """Of the catalogue, if it is of one."""
        return family_of(self.metric)


@cache
def queries() -> tuple[Query, ...]:
    """All queries of all dashboards."""
    return tuple(query for dashboard in dashboards() for query in queries_of(dashboard))


def queries_of(dashboard: Dashboard) -> Iterator[Query]:
    for panel in dashboard.panels:
        for asked in panel.queries:
            yield Query(dashboard, f"{panel.row}: {panel.title}: {asked.ref}", asked.expr, of_panel=True)
    for name, variable in dashboard.variables.items():
        if variable["type"] == "query":
            yield Query(dashboard, f"variable {name}", label_values(variable["query"])[0], of_panel=False)
    for annotation in dashboard.annotations:
        yield Query(dashboard, f"annotation {annotation['name']}", annotation["expr"], of_panel=False)


def label_values(query: str) -> tuple[str, str]:
    """The series and the label of a variable's query."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    assert found, query
    return found[1], found[2]


def selectors_of(node: Node, above: tuple[Node, ...] = ()) -> Iterator[Selector]:
    """Every selector of an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        matchers = {matcher.name: OPERATORS[str(matcher.op)] + matcher.value for matcher in node.matchers.matchers}
        yield Selector(node.name or matchers["__name__"].lstrip("=~"), matchers, above)
    for child in children(node):
        yield from selectors_of(child, (*above, node))


def children(node: Node) -> list[Node]:
    """The expressions that an expression is made of."""
    return [*(getattr(node, name) for name in CHILDREN if getattr(node, name, None) is not None), *args(node)]


def args(node: Node) -> list[Node]:
    return list(getattr(node, "args", ()))


def walked(node: Node) -> Iterator[Node]:
    """An expression and all that it is made of."""
    yield node
    for child in children(node):
        yield from walked(child)


# -- labels -------------------------------------------------------------------------------------------------------


def family_of(metric: str) -> Family | None:
    """The family of the catalogue that a metric belongs to, if it is one of ours."""
    return catalogue.FAMILIES.get(metric) or catalogue.FAMILIES.get(re.sub("_(bucket|count|sum)$", "", metric))


def is_known(metric: str) -> bool:
    """Whether an exporter, a rule or Prometheus itself gives a metric."""
    return exists(metric) or metric in OF_ALERTS or metric in FURTHER


@cache
def labels_of_metric(metric: str, asked_for: frozenset[str] = frozenset()) -> frozenset[str]:
    """The labels that series of a metric can have; `asked_for` are recorded ones that this one is recorded of."""
    if (family := family_of(metric)) is not None:
        ends = {"histogram": {"le"} if metric.endswith("_bucket") else set(), "summary": {"quantile"}}
        return GIVEN | {*family.labels} | ends.get(family.kind, set())
    if metric.startswith(TARGET):
        return frozenset({"system", "broker", "queue", "task"})
    if metric in OF_ALERTS:
        found = {label for rule in alerts() for label in labels_of(promql_parser.parse(rule.expr), frozenset())}
        return frozenset({"alertname", "alertstate", "severity", *found})
    if metric in ABROAD or metric in FURTHER:
        return GIVEN
    # A series that is recorded of itself has the labels that the rest of its expression has.
    rules = [rule for rule in records() if rule.name == metric and metric not in asked_for]
    parts = [labels_of(promql_parser.parse(rule.expr), asked_for | {metric}) | {*rule.labels} for rule in rules]
    return frozenset().union(*parts)


def labels_of(node: Node, asked_for: frozenset[str] = frozenset()) -> frozenset[str]:
    """The labels that the result of an expression can have."""
    match node:
        case promql_parser.VectorSelector():
            metric = node.name or next(m.value for m in node.matchers.matchers if m.name == "__name__")
            return labels_of_metric(metric, asked_for)
        case promql_parser.AggregateExpr():
            return _of_aggregation(node, asked_for)
        case promql_parser.BinaryExpr():
            return _of_operation(node, asked_for)
        case promql_parser.Call():
            return _of_call(node, asked_for)
    return frozenset().union(*(labels_of(child, asked_for) for child in children(node)))


def _of_aggregation(node: Node, asked_for: frozenset[str]) -> frozenset[str]:
    inner = labels_of(node.expr, asked_for)
    if str(node.op) in {"topk", "bottomk"}:
        return inner
    named = frozenset(node.modifier.labels) if node.modifier else frozenset()
    kept = named & inner if is_by(node) else inner - named
    return kept | {node.param.val} if str(node.op) == "count_values" else kept


def is_by(node: Node) -> bool:
    """Whether an aggregation names what it keeps; one that names nothing keeps nothing."""
    return node.modifier is None or node.modifier.type == promql_parser.AggModifierType.By


def _of_operation(node: Node, asked_for: frozenset[str]) -> frozenset[str]:
    left, right = (labels_of(side, asked_for) for side in (node.lhs, node.rhs))
    if str(node.op) in SET_OPERATORS:
        return left
    if str(node.op) == "or" or not left or not right:
        return left | right
    card, added = node.modifier and node.modifier.card, {*(getattr(node.modifier, "group_labels", None) or ())}
    if card == promql_parser.VectorMatchCardinality.ManyToOne:
        return left | added
    if card == promql_parser.VectorMatchCardinality.OneToMany:
        return right | added
    matching = node.modifier and node.modifier.matching
    if matching is None:
        return left
    named = frozenset(matching.labels)
    return left & named if matching.type == promql_parser.LabelModifierType.Include else left - named


def _of_call(node: Node, asked_for: frozenset[str]) -> frozenset[str]:
    if node.func.name in {"scalar", "time", "vector"}:
        return frozenset()
    inner = frozenset[str]().union(*(labels_of(child, asked_for) for child in args(node)))
    if node.func.name in {"label_replace", "label_join"}:
        return inner | {args(node)[1].val}
    return inner - {"le"} if node.func.name == "histogram_quantile" else inner


def named_labels(node: Node) -> Iterator[tuple[str, frozenset[str]]]:
    """Each label that an aggregation or a matching of an expression names, and those that there are to be named."""
    for part in walked(node):
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier:
            there = labels_of(part.expr)
            yield from ((label, there) for label in part.modifier.labels)
        matching = isinstance(part, promql_parser.BinaryExpr) and part.modifier and part.modifier.matching
        if matching:
            there = labels_of(part.lhs) | labels_of(part.rhs)
            yield from ((label, there) for label in matching.labels)
