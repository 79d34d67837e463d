"""The form that all dashboards have: their heads and variables, how panels are laid out, what each says of itself."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from tests.dashboards import VARIABLE, Dashboard, Panel, dashboards, panels
from tests.grafana.expressions import BUILT_IN, label_values, queries_of

EACH = pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: dashboard.uid)
EACH_PANEL = pytest.mark.parametrize("panel", panels(), ids=str)
UIDS: Final = ["tq-exporter", "tq-overview", "tq-redis", "tq-system", "tq-task"]
COLUMNS: Final = 24
OPEN_AT_MOST: Final = 10
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
TYPES: Final = {"timeseries", "stat", "table", "bargauge", "gauge", "heatmap", "state-timeline", "status-history"}
"""Panels of Grafana's core since 10.1 at the latest, but for pies."""
SAYS: Final = re.compile(
    r"(?P<means>[^\n]+)\n\n\*\*Normal:\*\* (?P<normal>[^\n]+)\n\n\*\*What to do:\*\* (?P<do>[^\n]+)"
    r"(?:\n\n\*\*Not known:\*\* (?P<unknown>[^\n]+))?"
)
UNITS: Final = {
    "bool",
    "Bps",
    "bytes",
    "dateTimeAsIso",
    "dateTimeFromNow",
    "none",
    "ops",
    "percentunit",
    "s",
    "short",
    "string",
}
"""Those that dashboards use; all of Grafana's table, and of those that its dashboard-linter knows."""


def heads(dashboard: Dashboard) -> list[Mapping[str, Any]]:
    """The headlines."""
    return [model for model in dashboard.model["panels"] if model["type"] == "row"]


def by_row(dashboard: Dashboard) -> list[tuple[str, list[Panel]]]:
    return [(row, list(found)) for row, found in itertools.groupby(dashboard.panels, key=lambda panel: panel.row)]


def place(model: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom."""
    at = model["gridPos"]
    return at["x"], at["y"], at["x"] + at["w"], at["y"] + at["h"]


def overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    (left, top, right, bottom), (left2, top2, right2, bottom2) = place(one), place(other)
    return left < right2 and left2 < right and top < bottom2 and top2 < bottom


def units(panel: Panel) -> Iterator[str]:
    """Its unit, and those of single series or columns."""
    config = panel.model["fieldConfig"]
    yield config["defaults"]["unit"]
    for override in config["overrides"]:
        yield from (found["value"] for found in override["properties"] if found["id"] == "unit")


# -- the dashboard ------------------------------------------------------------------------------------------------


def test_there_are_five_and_a_file_is_called_as_its_dashboard() -> None:
    assert [dashboard.uid for dashboard in dashboards()] == UIDS


@EACH
def test_its_head(dashboard: Dashboard) -> None:
    model = dashboard.model
    assert re.fullmatch(r"Task queues / [A-Z][a-z ]+", model["title"])
    assert model["description"]
    assert model["tags"] == ["taskqueue"]
    assert model["refresh"] == "30s"
    assert model["graphTooltip"] == 1  # a shared crosshair
    assert model["editable"] is False
    assert model["schemaVersion"] == 38
    assert model.get("id") is None  # that of one Grafana's database
    assert not {"__inputs", "__requires", "__elements", "version", "iteration"} & set(model)


@EACH
def test_one_drop_down_leads_to_all_others(dashboard: Dashboard) -> None:
    (down,) = [link for link in dashboard.model["links"] if link["type"] == "dashboards"]
    assert down["asDropdown"]
    assert down["includeVars"]
    assert down["keepTime"]
    assert down["tags"] == ["taskqueue"]


@EACH
def test_every_datasource_is_the_one_that_is_selected(dashboard: Dashboard) -> None:
    asking = [*dashboard.annotations, *(variable for variable in dashboard.variables.values() if has_query(variable))]
    for panel in dashboard.panels:
        asking += [panel.model, *panel.model["targets"]]
    assert [model["datasource"] for model in asking] == [DATASOURCE] * len(asking)


# -- variables ----------------------------------------------------------------------------------------------------


def has_query(variable: Mapping[str, Any]) -> bool:
    return bool(variable["type"] == "query")


@EACH
def test_its_variables(dashboard: Dashboard) -> None:
    first, *others = dashboard.variables.values()
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    assert first["label"] == "Data source"
    for variable in others:
        name = variable["name"]
        assert has_query(variable)
        assert variable["multi"]
        assert variable["includeAll"]
        assert variable["allValue"] == (".+" if name in {"job", "instance"} else ".*")
        assert variable["refresh"] == 2  # when the time range changes
        assert variable["label"] == name.capitalize()
        assert variable["current"]["value"] == "$__all"
        assert label_values(variable["query"])[1] == name


@EACH
def test_a_variable_is_narrowed_down_by_those_before_it(dashboard: Dashboard) -> None:
    known: set[str] = set()
    for name, variable in dashboard.variables.items():
        assert used_in(variable["query"]) <= known, name
        known.add(name)


@EACH
def test_every_variable_is_used_and_every_one_that_is_used_exists(dashboard: Dashboard) -> None:
    asked = {name for query in queries_of(dashboard) if query.of_panel for name in used_in(query.expr)}
    for query in queries_of(dashboard):
        assert used_in(query.expr) <= {*dashboard.variables, *BUILT_IN}, query.where
    assert asked - BUILT_IN.keys() == dashboard.variables.keys() - {"datasource"}


def used_in(text: str) -> set[str]:
    return {found[1] or found[2] for found in VARIABLE.finditer(text)}


# -- layout -------------------------------------------------------------------------------------------------------


@EACH
def test_panels_have_numbers_of_their_own(dashboard: Dashboard) -> None:
    ids = [model["id"] for model in [*heads(dashboard), *(panel.model for panel in dashboard.panels)]]
    assert sorted(ids) == list(range(1, len(ids) + 1))


@EACH
def test_titles_are_of_their_own_within_a_row(dashboard: Dashboard) -> None:
    twice = {key for key, times in Counter((panel.row, panel.title) for panel in dashboard.panels).items() if times > 1}
    assert not twice
    assert len({head["title"] for head in heads(dashboard)}) == len(heads(dashboard))


@EACH
def test_panels_do_not_overlap(dashboard: Dashboard) -> None:
    models = [*heads(dashboard), *(panel.model for panel in dashboard.panels)]
    assert all(place(model)[0] >= 0 and place(model)[2] <= COLUMNS for model in models)
    assert not [(a["title"], b["title"]) for a, b in itertools.combinations(models, 2) if overlap(a, b)]


@EACH
def test_every_line_of_panels_is_full(dashboard: Dashboard) -> None:
    for row, found in by_row(dashboard):
        places = [place(panel.model) for panel in found]
        for y in {top for _, top, _, _ in places}:
            across = sum(right - left for left, top, right, bottom in places if top <= y < bottom)
            assert across == COLUMNS, (row, y)


@EACH
def test_no_open_row_has_too_many_panels(dashboard: Dashboard) -> None:
    assert dashboard.model["panels"][0]["type"] == "row"
    for row, found in by_row(dashboard):
        assert found[0].row_is_closed or len(found) <= OPEN_AT_MOST, row


# -- panels -------------------------------------------------------------------------------------------------------


@EACH_PANEL
def test_a_panel_explains_itself(panel: Panel) -> None:
    says = SAYS.fullmatch(panel.model["description"])
    assert says, panel.model["description"]
    assert all(text is None or text.endswith((".", "?", ")")) for text in says.groups()), says.groups()
    assert panel.title == panel.title.strip() != ""


@EACH_PANEL
def test_a_panel_says_why_there_is_no_data(panel: Panel) -> None:
    text = panel.model["fieldConfig"]["defaults"]["noValue"]
    assert text not in {"", "No data"}
    says = SAYS.fullmatch(panel.model["description"])
    kind = panel.model["type"]
    assert (text == "Not known") == (kind == "stat")  # a long one would be drawn so small that nobody could read it
    assert (kind in {"stat", "state-timeline"}) == bool(says and says["unknown"])


@EACH_PANEL
def test_a_panel_is_of_a_type_that_every_grafana_has(panel: Panel) -> None:
    assert panel.model["type"] in TYPES
    assert "pluginVersion" not in panel.model
    assert "libraryPanel" not in panel.model


@EACH_PANEL
def test_the_units_of_a_panel_are_known(panel: Panel) -> None:
    assert set(units(panel)) <= UNITS


@EACH_PANEL
def test_queries_of_a_panel_are_called_a_b_and_so_on(panel: Panel) -> None:
    refs = "".join(query.ref for query in panel.queries)
    assert refs
    assert refs == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(refs)]


@EACH_PANEL
def test_a_table_asks_for_the_present_and_a_graph_for_all_the_time(panel: Panel) -> None:
    over_time = panel.model["type"] in {"timeseries", "heatmap", "state-timeline", "status-history"}
    assert all(query.instant != over_time for query in panel.queries)
    assert all(query.table == (panel.model["type"] == "table") for query in panel.queries)
