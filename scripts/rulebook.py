"""The rules under `prometheus/rules`: what they record, what they alert on, and which metrics they read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import promql_parser
import yaml

from exporter import catalogue

ROOT: Final = Path(__file__).resolve().parent.parent
PROMETHEUS: Final = ROOT / "prometheus"
RULES: Final = PROMETHEUS / "rules"
RUNBOOKS: Final = ROOT / "docs" / "runbooks"
TARGET: Final = "taskqueue_target:"
"""What the names of targets begin with."""
ABROAD: Final = {
    "up": "Prometheus, of each target",
    "scrape_duration_seconds": "Prometheus, of each target",
    "process_start_time_seconds": "prometheus_client, of the exporter itself",
    "prometheus_rule_evaluation_failures_total": "Prometheus, of itself",
}
"""Metrics that rules read and that no catalogue of ours has: who gives them."""
NOT_ALWAYS_THERE: Final = {f"{TARGET}period_seconds", f"{TARGET}.+"}
"""Targets that have no default, and the pattern of all."""
CHILDREN: Final = ("lhs", "rhs", "expr", "param", "vector_selector")
"""Where an expression of the parser holds others, each kind some of these."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: of an alert, unless it records a series."""

    file: str
    group: str
    name: str
    expr: str
    is_alert: bool
    holds: str = "0s"
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """The metrics that its expression names."""
        return metrics_of(self.expr)


@cache
def metrics_of(expr: str) -> frozenset[str]:
    """The names of the metrics in an expression; ValueError if it is none."""
    return frozenset(_names(promql_parser.parse(expr)))


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, promql_parser.VectorSelector):
        named = [matcher.value for matcher in node.matchers.matchers if matcher.name == "__name__"]
        yield from [node.name] if node.name else named
    below = [getattr(node, name) for name in CHILDREN if getattr(node, name, None) is not None]
    for child in [*below, *getattr(node, "args", ())]:
        yield from _names(child)


@cache
def rules() -> tuple[Rule, ...]:
    """All rules of all files."""
    return tuple(rule for path in sorted(RULES.glob("*.yml")) for rule in rules_of(path))


def rules_of(path: Path) -> Iterator[Rule]:
    """The rules of one file."""
    for group in yaml.safe_load(path.read_text())["groups"]:
        for rule in group["rules"]:
            yield Rule(
                file=path.name,
                group=group["name"],
                name=rule.get("alert") or rule["record"],
                expr=str(rule["expr"]),
                is_alert="alert" in rule,
                holds=rule.get("for", "0s"),
                labels=rule.get("labels", {}),
                annotations=rule.get("annotations", {}),
            )


@cache
def alerts() -> tuple[Rule, ...]:
    """Those that fire."""
    return tuple(rule for rule in rules() if rule.is_alert)


@cache
def records() -> tuple[Rule, ...]:
    """Those that record a series."""
    return tuple(rule for rule in rules() if not rule.is_alert)


def exists(metric: str) -> bool:
    """Whether some exporter or rule gives a metric, or Prometheus itself one that rules read."""
    family = re.sub("_(bucket|count|sum)$", "", metric)
    histogram = family in catalogue.FAMILIES and catalogue.FAMILIES[family].kind == "histogram"
    ours = metric in catalogue.FAMILIES or histogram or metric in {rule.name for rule in records()}
    return ours or metric in ABROAD or metric in NOT_ALWAYS_THERE


def rests_on(*exprs: str) -> set[str]:
    """Every metric that expressions name, those that rules name to record these, and so on."""
    reads: dict[str, set[str]] = {}
    for rule in records():
        reads.setdefault(rule.name, set()).update(rule.reads)
    found: set[str] = set()
    left = {name for expr in exprs for name in metrics_of(expr)}
    while left:
        name = left.pop()
        found.add(name)
        left |= reads.get(name, set()) - found
    return found


def sources(expr: str) -> set[str]:
    """The metrics, recorded ones resolved, that an expression rests on, and the targets that it compares with."""
    recorded = {rule.name for rule in records()}
    return {name for name in rests_on(expr) if name not in recorded or name.startswith(TARGET)}


def targets() -> dict[str, str]:
    """The defaults of `targets.yml` by name, without the prefix."""
    return {
        rule.name.removeprefix(TARGET): rule.expr
        for rule in records()
        if rule.name.startswith(TARGET) and not rule.labels
    }
