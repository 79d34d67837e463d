"""What dashboards get to see: their queries, with variables put in, asked of a Prometheus."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from tests.dashboards import Asked, Dashboard, Panel, put_in
from tests.e2e.prometheus import PrometheusServer
from tests.grafana.branches import branches, unfiltered
from tests.rules.accelerated import WRITTEN, shortened

STEP: Final = 15.0
"""Seconds between two points, where time does not run faster: from one scrape to the next."""
BEFORE: Final = (0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0, 24.0)
"""Seconds before the end at which a panel of the present is looked at, until it has all data: jobs come and go, and
between two of them none runs."""
AT_ONCE: Final = 4
"""Queries."""

Answer = Mapping[str, Any]
"""What Prometheus's API calls `data`."""
Points = dict[frozenset[tuple[str, str]], list[tuple[float, float]]]
"""By their labels, the series of an answer: times and values."""


def points(answer: Answer) -> Points:
    """The series of an answer, without what is no number."""
    found: Points = {}
    for series in answer["result"]:
        told = series.get("values") or [series["value"]]
        values = [(at, float(value)) for at, value in told if not math.isnan(float(value))]
        if values:
            found[frozenset(series["metric"].items())] = values
    return found


@dataclass(frozen=True, slots=True)
class Selection:
    """What is selected at the top of a dashboard: values by variables, All for every other one."""

    name: str
    values: Mapping[str, str] = field(default_factory=dict)

    def of(self, dashboard: Dashboard) -> dict[str, str]:
        """The values of the variables that the dashboard has."""
        every = dashboard.everything()
        return every | {name: value for name, value in self.values.items() if name in every}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a panel shows: by the letter of its query the answer to each.

    `silent` has the parts of its queries that never have data, by the letters: those of a top-level `or`, asked without
    their comparisons, as what they find wrong need not be there.
    """

    panel: Panel
    answers: Mapping[str, Answer]
    silent: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def empty(self) -> list[str]:
        """The names of its queries that have no data."""
        return [named(self.panel, ref) for ref, answer in self.answers.items() if not points(answer)]


def named(panel: Panel, ref: str) -> str:
    """What a reader sees of a query: panel, and legend or column where the panel has several."""
    if len(panel.queries) == 1:
        return str(panel)
    columns = [made["options"].get("renameByName", {}) for made in panel.model.get("transformations", ())]
    titles = [names[f"Value #{ref}"] for names in columns if f"Value #{ref}" in names]
    (legend,) = (target["legendFormat"] for target in panel.model["targets"] if target["refId"] == ref)
    return f"{panel}: {titles[0] if titles else legend}"


def hastened(expr: str, factor: float) -> str:
    """A query that looks back for a part of the time, as rules do that run faster."""
    return WRITTEN.sub(lambda found: shortened(found[0], factor), expr)


class Asking:
    """A Prometheus that watched something from one Unix time to another, `factor` times as fast as it should."""

    def __init__(self, prometheus: PrometheusServer, began: float, ended: float, factor: float) -> None:
        self._prometheus, self._factor = prometheus, factor
        self.began, self.ended, self._step = began, ended, STEP / factor
        self._built_in = {
            "__rate_interval": f"{round(4000 * self._step)}ms",  # Grafana's, of points that are a scrape apart
            "__interval": f"{round(1000 * self._step)}ms",
            "__range": f"{round(1000 * (ended - began))}ms",
        }
        self._known: dict[tuple[str, str, float], Answer] = {}

    # -- one question

    def query(self, expr: str, values: Mapping[str, str], at: float | None = None) -> Answer:
        """What a query gives at an instant; all the time if there is none. AssertionError on an error."""
        return self._asked(self.put_in(expr, values), at)

    def offered(self, dashboard: Dashboard, variable: str, values: Mapping[str, str]) -> list[str]:
        """What a variable offers while others have these values."""
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", dashboard.variables[variable]["query"])
        assert asked is not None, dashboard.variables[variable]
        found: list[str] = self._get(f"label/{asked[2]}/values", {"match[]": put_in(asked[1], values)} | self._time)
        return sorted(found)

    def put_in(self, expr: str, values: Mapping[str, str]) -> str:
        """A query as it is asked: as much faster as the rules, with variables put in."""
        return put_in(hastened(expr, self._factor), {**self._built_in, **values})

    # -- all that a dashboard asks

    def shown(self, dashboards: Sequence[Dashboard], selection: Selection) -> list[Shown]:
        """All panels with their answers."""
        asked = [(panel, selection.of(dashboard)) for dashboard in dashboards for panel in dashboard.panels]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda one: self.panel(*one), asked))

    def panel(self, panel: Panel, values: Mapping[str, str]) -> Shown:
        """A panel at the latest instant at which all of it has data; if there is none, that at which most has."""
        best = Shown(panel, {})
        for before in BEFORE:
            ask = partial(self._of_panel, values=values, at=self.ended - before)
            shown = Shown(panel, {query.ref: ask(query) for query in panel.queries})
            if not best.answers or len(shown.empty) < len(best.empty):
                best = shown
            if not best.empty or not any(query.instant for query in panel.queries):
                break
        return best

    def in_parts(self, dashboards: Sequence[Dashboard], selection: Selection) -> list[Shown]:
        """All panels, with the parts of their queries that have no data in all the time."""
        asked = [(panel, selection.of(dashboard)) for dashboard in dashboards for panel in dashboard.panels]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda one: Shown(one[0], {}, self._silent(*one)), asked))

    def _silent(self, panel: Panel, values: Mapping[str, str]) -> dict[str, list[str]]:
        return {
            query.ref: [
                part
                for part in branches(self.put_in(query.expr, values))
                if not points(self._asked(unfiltered(part), None))
            ]
            for query in panel.queries
        }

    def _of_panel(self, query: Asked, values: Mapping[str, str], at: float) -> Answer:
        return self.query(query.expr, values, at if query.instant else None)

    @property
    def _time(self) -> dict[str, str]:
        return {"start": f"{self.began:.3f}", "end": f"{self.ended:.3f}"}

    def _asked(self, expr: str, at: float | None) -> Answer:
        key = (expr, "query_range" if at is None else "query", at or 0.0)
        if key not in self._known:
            when = self._time | {"step": f"{self._step:g}"} if at is None else {"time": f"{at:.3f}"}
            self._known[key] = self._get(key[1], {"query": expr, **when})
        return self._known[key]

    def _get(self, path: str, parameters: Mapping[str, str]) -> Any:
        status, body = self._prometheus.request("GET", f"/api/v1/{path}?{urlencode(parameters)}")
        answer = json.loads(body)
        assert status == 200, (parameters, answer)
        return answer["data"]
