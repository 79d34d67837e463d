"""The rules of Grafana's dashboard-linter that need no Grafana, with the exceptions that it is given itself.

`make dashboard-linter` runs the linter; these tests are there where it is not, and hold its exceptions to be needed.
Its other rules are tests of the form and of the queries of dashboards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest
import yaml

from tests.dashboards import dashboards
from tests.grafana.expressions import Query, queries_of
from tests.servers import ROOT

EXCLUSIONS: Final[Mapping[str, Any]] = yaml.safe_load((ROOT / "grafana" / "linter" / "exceptions.lint").read_text())[
    "exclusions"
]
LABELS: Final = ("job", "instance")
OTHER_RATE: Final = re.compile(r"\brate\([^\[]*\[(?!\$__rate_interval\])")
"""A rate over a range that does not follow from how far apart scrapes are."""
UNSEEN: Final = {"bargauge", "heatmap", "table"}
"""Panels that the linter does not look at for these."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the linter would say."""

    rule: str
    dashboard: str
    panel: str = ""
    target: int | None = None

    def is_excused(self, entry: Mapping[str, Any]) -> bool:
        """As the linter has it: what an entry does not name, it does not ask for."""
        return (
            entry.get("dashboard", self.dashboard) == self.dashboard
            and entry.get("panel", self.panel) == self.panel
            and str(entry.get("targetIdx", self.target)) == str(self.target)
        )


def findings() -> Iterator[Finding]:
    """All that it would say of these rules."""
    yield from _unselected()
    for dashboard in dashboards():
        for panel in dashboard.panels:
            for at, asked in enumerate(panel.queries):
                if OTHER_RATE.search(asked.expr) and panel.model["type"] not in UNSEEN:
                    yield Finding("target-rate-interval-rule", dashboard.model["title"], panel.title, at)


def _unselected() -> Iterator[Finding]:
    """Dashboards without a variable, and queries that do not select by it, for each of two labels."""
    for dashboard in dashboards():
        title = dashboard.model["title"]
        for label in LABELS:
            if label not in dashboard.variables:
                yield Finding(f"template-{label}-rule", title)
            for panel in dashboard.panels:
                for at, asked in enumerate(panel.queries):
                    query = Query(dashboard, "", asked.expr, of_panel=True)
                    if any(selector.matchers.get(label) != f"=~${label}" for selector in query.selectors):
                        yield Finding(f"target-{label}-rule", title, panel.title, at)


FOUND: Final = sorted(findings(), key=str)
ENTRIES: Final = [(rule, entry) for rule, excluded in EXCLUSIONS.items() for entry in excluded["entries"]]


@pytest.mark.parametrize("finding", FOUND, ids=str)
def test_what_the_linter_would_find_is_an_exception(finding: Finding) -> None:
    excluded = EXCLUSIONS.get(finding.rule, {"entries": []})
    assert any(finding.is_excused(entry) for entry in excluded["entries"])


@pytest.mark.parametrize(("rule", "entry"), ENTRIES, ids=str)
def test_every_exception_is_needed(rule: str, entry: Mapping[str, Any]) -> None:
    assert any(finding.rule == rule and finding.is_excused(entry) for finding in FOUND)


@pytest.mark.parametrize("rule", EXCLUSIONS)
def test_every_exception_has_a_reason_and_names_what_it_is_for(rule: str) -> None:
    excluded = EXCLUSIONS[rule]
    assert excluded.keys() == {"reason", "entries"}
    assert excluded["reason"].endswith(".")
    assert excluded["entries"], "an exception without entries is one for all"
    titles = {dashboard.model["title"] for dashboard in dashboards()}
    assert all(entry.get("dashboard") in titles or "panel" in entry for entry in excluded["entries"])


def test_variables_ask_in_a_way_that_the_linter_can_read() -> None:
    for dashboard in dashboards():
        for query in queries_of(dashboard):
            if query.where.startswith("variable"):
                assert len(query.selectors) == 1, query
