"""That each part of a query is found, and asked as if nothing were left out of it."""

from __future__ import annotations

import promql_parser
import pytest

from tests.dashboards import put_in
from tests.grafana.branches import branches, unfiltered
from tests.grafana.expressions import BUILT_IN, Query, queries


def written(expr: str) -> str:
    """As the parser writes it."""
    return str(promql_parser.parse(expr))


@pytest.mark.parametrize(
    ("expr", "parts"),
    [
        ("up", []),
        ("up and down or on (job) left", ["up and down", "left"]),
        ("(a or b) or c", ["a", "b", "c"]),
        ("max by (queue) ((a == 0) or 0 * a)", ["a == 0", "0 * a"]),
        ("count(a == 0 or b == 0) or 0 * count(a)", ["a == 0", "b == 0", "0 * count(a)"]),
        ("count(a == 0) or 0 * count(a)", ["count(a == 0)", "0 * count(a)"]),
    ],
)
def test_branches(expr: str, parts: list[str]) -> None:
    assert branches(expr) == [written(part) for part in parts]


@pytest.mark.parametrize(
    ("expr", "without"),
    [
        ("count(a == 0)", "count(a)"),
        ("a / (b > 0)", "a / (b)"),
        ("1 + 0 * (a > 0 or b > 0)", "1 + 0 * (a or b)"),
        ("a == 0 unless ignoring (pod) b == 0", "a"),
        ("rate(a[5m]) and on (job) b == 1", "rate(a[5m]) and on (job) b"),
    ],
)
def test_unfiltered(expr: str, without: str) -> None:
    assert unfiltered(expr) == written(without)


@pytest.mark.parametrize("query", [query for query in queries() if query.of_panel], ids=str)
def test_every_branch_can_be_asked_alone(query: Query) -> None:
    for branch in branches(put_in(query.expr, query.dashboard.everything() | BUILT_IN)):
        promql_parser.parse(unfiltered(branch))
