"""Links lead to dashboards, variables and runbooks that exist, with values that the panel has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from scripts.rulebook import RUNBOOKS, Rule, alerts
from tests.dashboards import Dashboard, Panel, dashboards, panels
from tests.grafana.expressions import labels_of, queries

DASHBOARDS: Final = {dashboard.uid: dashboard for dashboard in dashboards()}
BASE: Final = "https://github.com/taskqueue-exporter/taskqueue-exporter/blob/main/docs/runbooks/"
CELL: Final = re.compile(r'\$\{__data\.fields\["([^"]+)"\]:percentencode\}')
LABEL: Final = re.compile(r"\$\{__field\.labels\.(\w+):percentencode\}")
KEPT: Final = re.compile(r"\$\{(\w+):queryparam\}")
GIVEN: Final = re.compile(r"var-(\w+)=(.+)")
WITH_TIME: Final = "${__url_time_range}"
DETAIL: Final = ("job", "system", "broker", "queue")


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a panel, or of the head of a dashboard, where there is no panel."""

    dashboard: Dashboard
    panel: Panel | None
    url: str

    def __str__(self) -> str:
        return f"{self.panel or self.dashboard.uid}: {self.url}"

    @property
    def target(self) -> str:
        """The dashboard that it leads to, by uid; empty if none."""
        found = re.match(r"/d/([\w-]+)(?=[?/]|$)", self.url)
        return found[1] if found else ""

    @property
    def parameters(self) -> list[str]:
        return self.url.partition("?")[2].split("&") if "?" in self.url else []

    @property
    def given(self) -> dict[str, str]:
        """Variables that it sets, with their values."""
        return {found[1]: found[2] for parameter in self.parameters if (found := GIVEN.fullmatch(parameter))}

    @property
    def kept(self) -> set[str]:
        """Variables that it takes along."""
        return {found[1] for parameter in self.parameters if (found := KEPT.fullmatch(parameter))}


def links() -> Iterator[Link]:
    for panel in panels():
        for model in [*panel.model.get("links", ()), *data_links(panel)]:
            yield Link(DASHBOARDS[panel.uid], panel, model["url"])
    for dashboard in dashboards():
        for model in dashboard.model["links"]:
            if model["type"] == "link":
                yield Link(dashboard, None, model["url"])


def data_links(panel: Panel) -> Iterator[Mapping[str, Any]]:
    """What one comes to by clicking a value."""
    config = panel.model["fieldConfig"]
    yield from config["defaults"].get("links", ())
    for override in config["overrides"]:
        for found in override["properties"]:
            if found["id"] == "links":
                yield from found["value"]


def columns(panel: Panel) -> dict[str, str]:
    """The columns of a table: the labels, or values of queries, that they show, by their titles."""
    transformations = panel.model.get("transformations", ())
    arranged = [found["options"] for found in transformations if found["id"] == "organize"]
    return {
        title: name
        for options in arranged
        for name, title in options["renameByName"].items()
        if not options["excludeByName"].get(name)
    }


def labels(panel: Panel) -> frozenset[str]:
    """The labels that series of a panel have."""
    there = [
        labels_of(query.parsed)
        for query in queries()
        if query.dashboard.uid == panel.uid and query.where.startswith(f"{panel.row}: {panel.title}: ")
    ]
    return frozenset().union(*there)


LINKS: Final = list(links())
EACH = pytest.mark.parametrize("link", LINKS, ids=str)
EACH_BETWEEN = pytest.mark.parametrize("link", [link for link in LINKS if link.target], ids=str)
EACH_ALERT = pytest.mark.parametrize(
    "alert", [pytest.param(alert, id=f"{alert.name}-{at}") for at, alert in enumerate(alerts())]
)


# -- between dashboards -------------------------------------------------------------------------------------------


@EACH
def test_a_link_leads_to_a_dashboard_or_a_runbook(link: Link) -> None:
    assert link.target or link.url.startswith(BASE)


@EACH_BETWEEN
def test_a_link_leads_to_variables_that_exist(link: Link) -> None:
    there = DASHBOARDS[link.target].variables
    assert link.kept | link.given.keys() <= there.keys()
    assert link.kept <= link.dashboard.variables.keys()
    assert not link.kept & link.given.keys()
    assert len(link.kept) + len(link.given) + 1 == len(link.parameters)  # and the time, nothing else


@EACH_BETWEEN
def test_a_link_takes_the_datasource_the_job_and_the_time_along(link: Link) -> None:
    assert "datasource" in link.kept
    assert "job" in link.kept | link.given.keys()
    assert link.parameters[-1] == WITH_TIME


@EACH
def test_what_a_link_takes_from_its_panel_is_there(link: Link) -> None:
    placeholders = re.findall(r"\$\{__(?!url_time_range)[^}]*\}", link.url)
    assert len(placeholders) == len(CELL.findall(link.url)) + len(LABEL.findall(link.url)), "values are to be encoded"
    assert link.panel or not placeholders
    if link.panel:
        assert {*CELL.findall(link.url)} <= columns(link.panel).keys()
        assert {*LABEL.findall(link.url)} <= labels(link.panel)


@EACH_BETWEEN
def test_a_variable_is_given_the_value_of_the_label_of_its_name(link: Link) -> None:
    for variable, value in link.given.items():
        cell, label = CELL.fullmatch(value), LABEL.fullmatch(value)
        if cell and link.panel:
            assert columns(link.panel)[cell[1]] == variable
        elif label:
            assert label[1] == variable
        else:
            assert re.fullmatch(r"[\w:.-]+", value), value


@pytest.mark.parametrize("panel", [panel for panel in panels() if columns(panel)], ids=str)
def test_the_columns_of_a_table_show_what_its_queries_give(panel: Panel) -> None:
    letters = [query.ref for query in panel.queries]
    values = {f"Value #{letter}" for letter in letters} if len(letters) > 1 else {"Value"}
    assert values <= {*columns(panel).values()} <= values | labels(panel)


def leads(start: str, end: str, variables: tuple[str, ...]) -> bool:
    """Whether a row or series of one dashboard leads to another, with these variables set by it."""
    return any(
        link.dashboard.uid == start and link.target == end and link.given.keys() >= {*variables} for link in LINKS
    )


def test_one_comes_from_the_overview_to_the_runbook() -> None:
    assert leads("tq-overview", "tq-system", DETAIL)
    assert leads("tq-system", "tq-task", (*DETAIL, "task"))
    for dashboard in dashboards():
        named = [link for link in LINKS if link.dashboard is dashboard and link.url.startswith(BASE) and link.panel]
        assert named, f"no panel of {dashboard.uid} leads to a runbook"


def test_the_dashboards_of_the_ground_lead_on() -> None:
    for uid in ("tq-redis", "tq-exporter"):
        assert {link.target for link in LINKS if link.dashboard.uid == uid} & {"tq-system", "tq-overview"}, uid


# -- runbooks -----------------------------------------------------------------------------------------------------


@EACH
def test_a_runbook_that_is_linked_exists(link: Link) -> None:
    name = link.url.removeprefix(BASE) if link.url.startswith(BASE) else ""
    if found := CELL.fullmatch(name.removesuffix(".md")):
        assert link.panel
        assert columns(link.panel)[found[1]] == "alertname"
    elif name:
        assert (RUNBOOKS / name).exists()


# -- alerts -------------------------------------------------------------------------------------------------------


@EACH_ALERT
def test_an_alert_leads_to_a_dashboard_and_variables_that_exist(alert: Rule) -> None:
    path = alert.annotations["dashboard_url"].removeprefix("http://localhost:3000")
    uid, _, parameters = path.removeprefix("/d/").partition("?")
    assert uid in DASHBOARDS
    for parameter in filter(None, parameters.split("&")):
        found = GIVEN.fullmatch(parameter)
        assert found, parameter
        assert found[1] in DASHBOARDS[uid].variables
        assert found[2] == f"{{{{ $labels.{found[1]} | urlquery }}}}"
