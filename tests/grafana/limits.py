"""The numbers that alerts compare with, and which of them each threshold of a dashboard is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final

import promql_parser
from promql_parser import BinaryExpr, Call, NumberLiteral, ParenExpr, VectorSelector

from grafana.src.limits import ABOVE
from scripts.rulebook import TARGET, Rule
from tests.dashboards import VARIABLE, Panel
from tests.grafana.expressions import BUILT_IN, Node, walked

COMPARISONS: Final = {">", "<", ">=", "<=", "==", "!="}
STRICTLY: Final = {">": ABOVE}
"""Grafana's thresholds are reached from below: what an alert calls above begins a little higher."""
OF_TARGET: Final = re.compile(r"(?:queue|queue_task):taskqueue_target_(\w+):effective|taskqueue_target:(\w+)")
"""The target of a queue or task, or its default."""
SEVERITY: Final = {"red": {"critical"}, "orange": {"warning", "info"}}
GOOD: Final = {"green", "blue", "gray"}
SOME: Final = {0, 1e-6, 1}
"""Any at all: of whole numbers, and of what is between them."""


@dataclass(frozen=True, slots=True)
class Number:
    """What an alert compares with: a number, or so many times a target; and how."""

    factor: float
    target: str = ""
    comparison: str = field(default=">", compare=False)

    @property
    def strictly(self) -> float:
        """How far from it a threshold is, in which what is worse is above."""
        return STRICTLY.get(self.comparison, 0.0)


@dataclass(frozen=True, slots=True)
class Limit:
    """Why a threshold is what it is: an alert compares with so much of a target, or with a number of its own."""

    alert: str
    target: str = ""

    def allows(self, value: float, numbers: Sequence[Number], targets: Mapping[str, str]) -> bool:
        return any(math.isclose(value, self._threshold(number, targets)) for number in numbers)

    def _threshold(self, number: Number, targets: Mapping[str, str]) -> float:
        if number.target != self.target:
            return math.nan
        value = number.factor * float(targets[number.target]) if number.target else number.factor
        return value + number.strictly


class Share(Limit):
    """The panel shows shares of the target, whose default it need not know."""

    def _threshold(self, number: Number, targets: Mapping[str, str]) -> float:
        return number.factor + number.strictly if number.target == self.target else math.nan


class OfLimit(Limit):
    """The panel shows shares of what the alert compares with, which it divides by."""

    def _threshold(self, number: Number, targets: Mapping[str, str]) -> float:
        return 1 + number.strictly if number.target == self.target else math.nan


class Some(Limit):
    """The panel counts what the alert is about: there should be none, or all should be well."""

    def allows(self, value: float, numbers: Sequence[Number], targets: Mapping[str, str]) -> bool:
        return value in SOME


@dataclass(frozen=True, slots=True)
class Plain:
    """No alert has it: `why` says what the two sides of it are."""

    why: str


Reason = Limit | Plain
Table = Mapping[tuple[str, str], Sequence[Reason]]
"""Why each threshold of a panel, from below, is what it is: by the panel's title, and that of a column or series."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """One number at which a colour changes; `colour` is that of the worse side."""

    value: float
    colour: str


def numbers_of(rules: Sequence[Rule]) -> list[Number]:
    """All that the expressions of rules compare with."""
    return [number for rule in rules for number in _compared(promql_parser.parse(rule.expr))]


def _compared(expr: Node) -> Iterator[Number]:
    for node in walked(expr):
        if isinstance(node, BinaryExpr) and str(node.op) in COMPARISONS:
            number = _number(node.rhs)
            if number is not None:
                yield replace(number, comparison=str(node.op))


def divided_by(panel: Panel) -> set[Number]:
    """All that the queries of a panel divide by."""
    nodes = (node for query in panel.queries for node in walked(_parsed(query.expr)))
    divisors = (_number(node.rhs) for node in nodes if isinstance(node, BinaryExpr) and str(node.op) == "/")
    return {number for number in divisors if number is not None}


@cache
def _parsed(expr: str) -> Node:
    """A query, of whatever is selected."""
    return promql_parser.parse(VARIABLE.sub(lambda found: BUILT_IN.get(found[1] or found[2], ""), expr))


def _number(node: Node) -> Number | None:
    """What stands on the right of a comparison, if it is known without asking Prometheus. The half that is taken off a
    count, as counts are estimates, is none of it."""
    match node:
        case NumberLiteral():
            return Number(node.val)
        case VectorSelector():
            found = OF_TARGET.fullmatch(node.name or "")
            return Number(1, found[1] or found[2]) if found else None
        case ParenExpr():
            return _number(node.expr)
        case Call() if node.args:
            return _number(node.args[0])
        case BinaryExpr() if str(node.op) == "*" and isinstance(node.lhs, NumberLiteral):
            inner = _number(node.rhs)
            return replace(inner, factor=inner.factor * node.lhs.val) if inner else None
        case BinaryExpr() if str(node.op) == "-":
            return _number(node.lhs)
    return None


def thresholds_of(panel: Panel) -> Iterator[tuple[str, list[Threshold]]]:
    """The thresholds of a panel, and of its columns and series by their names, but for those that have none."""
    config = panel.model["fieldConfig"]
    found = [("", config["defaults"].get("thresholds"))]
    for override in config["overrides"]:
        name, changed = override["matcher"]["options"], override["properties"]
        found += [(name, made["value"]) for made in changed if made["id"] == "thresholds"]
    for name, thresholds in found:
        if thresholds and len(thresholds["steps"]) > 1:
            yield name, _boundaries(thresholds)


def _boundaries(thresholds: Mapping[str, Any]) -> list[Threshold]:
    assert thresholds["mode"] == "absolute"
    below, *steps = thresholds["steps"]
    assert below["value"] is None
    boundaries = []
    for step in steps:
        worse = below if step["color"] in GOOD else step
        boundaries.append(Threshold(step["value"], worse["color"]))
        below = step
    return boundaries


def complaints(
    panels: Sequence[Panel], table: Table, alerts: Sequence[Rule], targets: Mapping[str, str]
) -> Iterator[str]:
    """Each threshold that is not what the table says, or of which it says nothing."""
    there: set[tuple[str, str]] = set()
    for panel in panels:
        for name, found in thresholds_of(panel):
            key = (panel.title, name)
            there.add(key)
            reasons = table.get(key, ())
            if len(reasons) != len(found):
                yield f"{panel}: {name}: {[threshold.value for threshold in found]} for {reasons}"
                continue
            for threshold, reason in zip(found, reasons, strict=True):
                if not holds(panel, threshold, reason, alerts, targets):
                    yield f"{panel}: {name}: {threshold} is not {reason}"
    yield from (f"no panel has {key}" for key in table.keys() - there)


def holds(
    panel: Panel, threshold: Threshold, reason: Reason, alerts: Sequence[Rule], targets: Mapping[str, str]
) -> bool:
    """Whether an alert of the severity that the colour stands for compares with this number."""
    if isinstance(reason, Plain):
        return threshold.value in {0, 1}
    severities = SEVERITY[threshold.colour]
    rules = [rule for rule in alerts if rule.name == reason.alert and rule.labels["severity"] in severities]
    if isinstance(reason, Share) and not any(_reads_target(query.expr, reason.target) for query in panel.queries):
        return False
    numbers = numbers_of(rules)
    if isinstance(reason, OfLimit):
        divisors = divided_by(panel)
        numbers = [number for number in numbers if number in divisors]
    return bool(rules) and reason.allows(threshold.value, numbers, targets)


def _reads_target(expr: str, target: str) -> bool:
    return f"taskqueue_target_{target}:effective" in expr or TARGET + target in expr
