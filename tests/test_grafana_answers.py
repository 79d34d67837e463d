"""That what dashboards lack would be found."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.dashboards import Panel, panels
from tests.e2e.untold import NOBODY, OF_ARQ, OF_CELERY, PARTS, silent, surprises
from tests.grafana_answers import Shown, hastened, named, points
from tests.grafana_check import Link

SOME: dict[str, Any] = {"result": [{"metric": {"queue": "a"}, "value": [1.0, "2"]}]}
NO_NUMBER: dict[str, Any] = {"result": [{"metric": {"queue": "a"}, "values": [[1.0, "NaN"], [2.0, "NaN"]]}]}
NONE: dict[str, Any] = {"result": []}
BOTH = ("arq", "celery")


def panel(query: str, *legends: str) -> Panel:
    """One with queries of these legends, by the name that `named` gives."""
    uid, row, title = query.split(": ")[:3]
    letters = zip("ABC", legends, strict=False)
    targets = [{"refId": ref, "expr": "up", "legendFormat": legend} for ref, legend in letters]
    return Panel(uid, row, row_is_closed=False, model={"title": title, "targets": targets})


def test_what_is_no_number_is_no_data() -> None:
    assert points(SOME) == {frozenset({("queue", "a")}): [(1.0, 2.0)]}
    assert points(NO_NUMBER) == {}


def test_each_query_of_several_has_a_name() -> None:
    assert named(panel("tq-a: Row: One", "__auto"), "A") == "tq-a: Row: One"
    assert named(panel("tq-a: Row: Two", "in", "out"), "B") == "tq-a: Row: Two: out"


def test_exceptions_name_queries_that_there_are() -> None:
    known = {named(panel, query.ref) for panel in panels() for query in panel.queries}
    assert {one.query for one in NOBODY + OF_ARQ + OF_CELERY} <= known


def test_exceptions_name_metrics_that_parts_of_queries_read() -> None:
    several = [query.expr for panel in panels() for query in panel.queries if " or " in query.expr]
    assert [metric for metric in PARTS if not any(metric in expr for expr in several)] == []


def test_a_part_without_data_is_found() -> None:
    made = panel("tq-a: Row: Two", "in", "out")
    assert silent([Shown(made, {}, {"A": [], "B": ["rate(a[1m])"]})]) == ["tq-a: Row: Two: out: rate(a[1m])"]
    assert silent([Shown(made, {}, {"B": ["count(taskqueue_cgroup_threads_max)"]})]) == []


def test_durations_are_hastened_but_those_of_grafana() -> None:
    expr = "sum_over_time(rate(a[$__rate_interval])[1h:30s]) + a offset 5m > 300"
    assert hastened(expr, 10) == "sum_over_time(rate(a[$__rate_interval])[360000ms:3000ms]) + a offset 30000ms > 300"


@pytest.mark.parametrize("answer", [NONE, NO_NUMBER])
def test_a_query_without_data_is_found(answer: dict[str, Any]) -> None:
    shown = Shown(panel("tq-a: Row: Two", "in", "out"), {"A": SOME, "B": answer})
    assert surprises([shown], BOTH) == ["no data: tq-a: Row: Two: out"]


def test_data_that_nobody_can_have_is_found() -> None:
    first = NOBODY[0]
    assert first.always
    made = panel(first.query, first.query.rpartition(": ")[2], "another")
    assert surprises([Shown(made, {"A": SOME})], BOTH) == [f"data: {first.query}"]
    assert surprises([Shown(made, {"A": NONE})], BOTH) == []


def test_what_a_system_cannot_tell_is_left_out_for_it_alone() -> None:
    query = OF_ARQ[0].query
    without = Shown(panel(query, "another", query.rpartition(": ")[2]), {"A": SOME, "B": NONE})
    assert surprises([without], ["arq"]) == []
    assert surprises([without], ["celery"]) == surprises([without], BOTH) == [f"no data: {query}"]


def test_a_row_of_another_system_must_be_empty() -> None:
    assert surprises([Shown(panel("tq-a: ARQ: One", ""), {"A": SOME})], ["celery"]) == ["data: tq-a: ARQ: One"]
    assert surprises([Shown(panel("tq-a: ARQ: One", ""), {"A": NONE})], ["celery"]) == []
    assert surprises([Shown(panel("tq-a: ARQ: One", ""), {"A": NONE})], ["arq"]) == ["no data: tq-a: ARQ: One"]


def test_a_link_is_read_as_an_address() -> None:
    link = Link("a&b", urlsplit("/d/tq-system?var-job=x&var-queue=a%26b%3Ac&var-system=&from=1&to=2"))
    assert (link.uid, link.selected) == ("tq-system", {"job": "x", "queue": "a&b:c", "system": ""})
    assert Link("a", urlsplit("https://example.org/d/tq-system")).uid == ""
