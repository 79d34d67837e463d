"""Answers to the queries of dashboards that have all labels that they can have: what is named can then be found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import promql_parser

from tests.dashboards import Asked, Dashboard, dashboards, put_in
from tests.grafana.expressions import BUILT_IN, labels_of
from tests.grafana_answers import Answer, Shown

AT: Final = 1_700_000_000
"""Seconds."""
BOUNDS: Final = ("0.1", "1", "+Inf")


def shown() -> list[Shown]:
    """All panels, each query with an answer."""
    return [
        Shown(panel, {query.ref: answer(query, dashboard) for query in panel.queries})
        for dashboard in dashboards()
        for panel in dashboard.panels
    ]


def answer(query: Asked, dashboard: Dashboard) -> Answer:
    """The time as the value, in milliseconds: a number as good as any, and a date where one is shown."""
    sample = [AT, str(1000 * AT)]
    form: Mapping[str, Any] = {"value": sample} if query.instant else {"values": [sample]}
    result = [{"metric": labels, **form} for labels in _series(labels_in(query.expr, dashboard))]
    return {"resultType": "vector" if query.instant else "matrix", "result": result}


def labels_in(expr: str, dashboard: Dashboard) -> frozenset[str]:
    """The labels that the series of a query can have."""
    return labels_of(promql_parser.parse(put_in(expr, dashboard.everything() | BUILT_IN)))


def _series(labels: frozenset[str]) -> Iterator[dict[str, str]]:
    named = {label: f"a {label}" for label in sorted(labels)}
    yield from [named | {"le": bound} for bound in BOUNDS] if "le" in labels else [named]
