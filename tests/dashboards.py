"""Reading the dashboards under `grafana/dashboards`: their panels and queries, with variables put in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.servers import ROOT

DIRECTORY: Final = ROOT / "grafana" / "dashboards"
VARIABLE: Final = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
"""`$name`, `${name}` and `${name:format}`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One query of a panel, as the dashboard has it."""

    ref: str
    expr: str
    instant: bool
    table: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `row` is the headline that it is under."""

    uid: str
    row: str
    row_is_closed: bool
    model: Mapping[str, Any]

    @property
    def id(self) -> int:
        number: int = self.model["id"]
        return number

    @property
    def title(self) -> str:
        return str(self.model["title"])

    @property
    def queries(self) -> tuple[Asked, ...]:
        return tuple(
            Asked(target["refId"], target["expr"], bool(target.get("instant")), target.get("format") == "table")
            for target in self.model["targets"]
        )

    def __str__(self) -> str:
        return f"{self.uid}: {self.row}: {self.title}"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard."""

    model: Mapping[str, Any] = field(repr=False)

    @property
    def uid(self) -> str:
        return str(self.model["uid"])

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels but rows, those of closed rows too."""
        return tuple(self._panels())

    def _panels(self) -> Iterator[Panel]:
        row, closed = "", False
        for model in self.model["panels"]:
            if model["type"] != "row":
                yield Panel(self.uid, row, closed, model)
                continue
            row, closed = model["title"], bool(model.get("collapsed"))
            for inner in model["panels"]:
                yield Panel(self.uid, row, closed, inner)

    @property
    def variables(self) -> Mapping[str, Mapping[str, Any]]:
        """Its variables by name."""
        return {variable["name"]: variable for variable in self.model["templating"]["list"]}

    @property
    def annotations(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(self.model["annotations"]["list"])

    def everything(self) -> dict[str, str]:
        """What stands for each variable while All is selected."""
        return {name: made["allValue"] for name, made in self.variables.items() if made["type"] == "query"}


@cache
def dashboards() -> tuple[Dashboard, ...]:
    """All of them, by their file names."""
    return tuple(Dashboard(json.loads(path.read_text())) for path in sorted(DIRECTORY.glob("*.json")))


def panels() -> tuple[Panel, ...]:
    """The panels of all dashboards."""
    return tuple(panel for dashboard in dashboards() for panel in dashboard.panels)


def put_in(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables replaced, `$__rate_interval` and the like among them; KeyError where one has no
    value."""
    return VARIABLE.sub(lambda found: values[found[1] or found[2]], text)


def of_directory(directory: Path) -> dict[str, str]:
    """The files of a directory of dashboards: names and texts."""
    return {path.name: path.read_text() for path in directory.glob("*.json")}
