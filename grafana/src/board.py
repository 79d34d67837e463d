"""A dashboard: variables, annotations and rows of panels, put together and written as JSON."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard, DashboardCursorSync, GridPos, Panel, RowPanel

from grafana.src import links, marks, variables

COLUMNS: Final = 24
SCHEMA: Final = 38
"""Grafana 10.1's. Later ones take an older dashboard up to theirs when they load it."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a headline, from left to right as they fit; `closed` until someone opens it."""

    title: str
    panels: Sequence[Builder[Panel]]
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    question: str
    """What it answers."""
    variables: Sequence[str]
    """Labels that one can select by, in the order of their dependence: each offers what fits those before it."""
    rows: Sequence[Row]

    def json(self) -> str:
        """The dashboard as Grafana reads it."""
        made = json.loads(JSONEncoder().encode(self._built()))
        return json.dumps(_without_defaults(made), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def _built(self) -> Dashboard:
        made = builders.Dashboard(f"Task queues / {self.title}").uid(self.uid).description(self.question)
        made.tags([links.TAG]).readonly().tooltip(DashboardCursorSync.CROSSHAIR).refresh("30s").timezone("browser")
        made.time("now-3h", "now")
        made.links([links.between_dashboards(), links.out("Runbooks", links.RUNBOOKS)])
        made.variables(variables.of_labels(self.variables))
        board = made.build()
        board.annotations = marks.of_labels(self.variables)
        board.schema_version = SCHEMA
        board.panels = list(_laid_out(self.rows))
        return board


def _laid_out(rows: Sequence[Row]) -> Iterator[Panel | RowPanel]:
    """All panels with their ids and places. Panels of a closed row are in it, those of an open one follow it."""
    numbers = itertools.count(1)
    top = 0
    for row in rows:
        head = RowPanel(id_val=next(numbers), title=row.title, collapsed=row.closed)
        head.grid_pos = GridPos(h=1, w=COLUMNS, x=0, y=top)
        panels = list(_placed([panel.build() for panel in row.panels], top + 1))
        for panel in panels:
            panel.id_val = next(numbers)
        top = max(_bottom(panel) for panel in panels)
        head.panels = panels if row.closed else []
        yield head
        if not row.closed:
            yield from panels


def _placed(panels: Sequence[Panel], top: int) -> Iterator[Panel]:
    """Panels from left to right, and on below the lowest of a line that is full."""
    left = below = 0
    for panel in panels:
        place = panel.grid_pos
        if place is None:
            raise ValueError(f"panel {panel.title!r} has no size")
        if left + place.w > COLUMNS:
            left, top = 0, below
        place.x, place.y = left, top
        left, below = left + place.w, max(below, top + place.h)
        yield panel


def _bottom(panel: Panel) -> int:
    return panel.grid_pos.y + panel.grid_pos.h if panel.grid_pos else 0


def _without_defaults(made: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the SDK says of every panel and variable and what they have no use for."""
    for panel in [*made["panels"], *(panel for row in made["panels"] for panel in row.get("panels", ()))]:
        panel.pop("repeatDirection", None)
        panel.pop("transparent", None)
    for variable in made["templating"]["list"]:
        for name in ("auto", "auto_count", "auto_min", "allowCustomValue", "skipUrlSync"):
            variable.pop(name, None)
    return made
