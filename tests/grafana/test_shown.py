"""What Grafana makes of the dashboards' panels if every query has an answer with all labels that it can have."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest

from tests.dashboards import Dashboard, Panel, dashboards, panels
from tests.e2e.untold import ROWS
from tests.grafana.expressions import label_values
from tests.grafana.made_up import AT, labels_in, shown
from tests.grafana_answers import Selection
from tests.grafana_check import checked

EACH = pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: dashboard.uid)
PLACEHOLDER: Final = re.compile(r"\{\{\s*(.+?)\s*\}\}")
ANNOTATION_KEYS: Final = {
    *("name", "datasource", "enable", "hide", "iconColor", "expr", "step", "titleFormat", "textFormat", "tagKeys"),
    *("useValueForTime", "builtIn", "target", "filter", "type"),
}
"""Those that Grafana, and its Prometheus data source, know. Others are dropped without a word."""


@pytest.mark.needs("node", "npm")
def test_grafana_shows_every_panel_as_it_is_meant() -> None:
    found = checked(shown(), Selection("All"), AT - 60, AT)
    assert [(str(one.panel), one.errors) for one in found if one.errors] == []


# -- legends ------------------------------------------------------------------------------------------------------


@EACH
def test_the_labels_that_a_legend_names_exist(dashboard: Dashboard) -> None:
    for panel in dashboard.panels:
        for target in panel.model["targets"]:
            unknown = set(PLACEHOLDER.findall(target["legendFormat"])) - labels_in(target["expr"], dashboard)
            assert not unknown, (str(panel), target["legendFormat"])


@pytest.mark.parametrize("panel", panels(), ids=str)
def test_what_is_shown_as_a_date_is_in_milliseconds(panel: Panel) -> None:
    for query in panel.queries:
        if _unit(panel, query.ref).startswith("dateTime"):
            assert re.search(r"\b1000 \* ", query.expr), query.expr


def _unit(panel: Panel, ref: str) -> str:
    """That of the query's series or column."""
    names: dict[str, str] = {}
    for made in panel.model.get("transformations", ()):
        names |= made["options"].get("renameByName", {})
    (legend,) = (target["legendFormat"] for target in panel.model["targets"] if target["refId"] == ref)
    name = names.get(f"Value #{ref}", names.get("Value", legend))
    config: dict[str, Any] = panel.model["fieldConfig"]
    own = [
        str(made["value"])
        for override in config["overrides"]
        if override["matcher"]["options"] == name
        for made in override["properties"]
        if made["id"] == "unit"
    ]
    return [str(config["defaults"]["unit"]), *own][-1]


# -- several in one panel -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("panel", panels(), ids=str)
def test_a_panel_shows_nothing_twice(panel: Panel) -> None:
    shown = [query.expr for query in panel.queries]
    for expr in shown:
        kinds = re.split(r"label_replace\(| or ", re.sub(r', "kind", "[^"]*", "", ""\)', "", expr))
        several = [kind.strip() for kind in kinds if kind.strip()] if '"kind"' in expr else []
        assert len(several) == len({*several}), expr
    assert len(shown) == len({*shown})


@pytest.mark.parametrize("panel", panels(), ids=str)
def test_percentiles_are_those_that_their_legends_say(panel: Panel) -> None:
    for target in panel.model["targets"]:
        said = re.fullmatch(r"p(\d\d)", target["legendFormat"])
        asked = re.match(r"histogram_quantile\(0\.(\d+),", target["expr"])
        if said and asked:
            assert said[1] == asked[1].ljust(2, "0")


@pytest.mark.parametrize("panel", [panel for panel in panels() if panel.model["type"] == "table"], ids=str)
def test_of_several_series_a_row_shows_the_highest(panel: Panel) -> None:
    assert all(query.expr.startswith("max by (") for query in panel.queries)


# -- annotations --------------------------------------------------------------------------------------------------


@EACH
def test_annotations_say_only_what_grafana_knows(dashboard: Dashboard) -> None:
    for annotation in dashboard.annotations:
        assert annotation.keys() <= ANNOTATION_KEYS, annotation["name"]
        assert {"expr", "titleFormat", "textFormat", "step"} <= annotation.keys()
        assert annotation.get("useValueForTime", "on") == "on"
        assert ("useValueForTime" in annotation) == annotation["expr"].startswith("1000 * "), annotation["name"]


@EACH
def test_the_labels_that_an_annotation_names_exist(dashboard: Dashboard) -> None:
    for annotation in dashboard.annotations:
        named = set(PLACEHOLDER.findall(annotation["titleFormat"] + annotation["textFormat"]))
        assert named <= labels_in(annotation["expr"], dashboard), annotation["name"]


# -- heads --------------------------------------------------------------------------------------------------------


@EACH
def test_a_variable_is_narrowed_down_by_all_that_it_depends_on(dashboard: Dashboard) -> None:
    names = [*dashboard.variables]
    for name, variable in dashboard.variables.items():
        before = names[: names.index(name)]
        if variable["type"] == "query":
            used = set(re.findall(r'(\w+)=~"\$\1"', variable["query"]))
            labels = labels_in(label_values(variable["query"])[0], dashboard)
            assert name in labels
            assert used == {other for other in before if other in labels}
            assert variable["sort"] == 1  # by the alphabet


@EACH
def test_it_shows_some_hours_in_the_time_of_who_looks(dashboard: Dashboard) -> None:
    begins = re.fullmatch(r"now-(\d+)h", dashboard.model["time"]["from"])
    assert begins
    assert 1 <= int(begins[1]) <= 24
    assert dashboard.model["time"]["to"] == "now"
    assert dashboard.model["timezone"] == "browser"


@EACH
def test_what_one_system_alone_has_is_closed(dashboard: Dashboard) -> None:
    assert all(panel.row_is_closed for panel in dashboard.panels if panel.row in ROWS)
