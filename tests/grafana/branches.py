"""The parts of queries that are put together by `or`: each of them may lack data while the whole has some."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import promql_parser
from promql_parser import AggregateExpr, BinaryExpr, ParenExpr

from tests.grafana.expressions import Node, walked

FILTERS: Final = {"==", "!=", ">", "<", ">=", "<=", "unless"}
"""What leaves something out of what is on its left."""


def branches(expr: str) -> list[str]:
    """What a query, without variables, is put together of; nothing unless it is of several."""
    found = [str(node) for node in _branches(promql_parser.parse(expr))]
    return found if len(found) > 1 else []


def _branches(node: Node) -> Iterator[Node]:
    if isinstance(node, BinaryExpr) and str(node.op) == "or":
        yield from _branches(node.lhs)
        yield from _branches(node.rhs)
        return
    # max by (queue) (a or b): an aggregation has data where what it is of has some.
    inner = list(_branches(node.expr)) if isinstance(node, ParenExpr | AggregateExpr) else []
    yield from inner if len(inner) > 1 or isinstance(node, ParenExpr) else [node]


def unfiltered(expr: str) -> str:
    """A query without its comparisons: `count(x == 0)`, of which there is nothing while all is well, as `count(x)`."""
    parsed = promql_parser.parse(expr)
    for node in filter(_is_filter, walked(parsed)):
        return unfiltered(str(parsed).replace(str(node), str(node.lhs)))
    return str(parsed)


def _is_filter(node: Node) -> bool:
    return isinstance(node, BinaryExpr) and str(node.op) in FILTERS
