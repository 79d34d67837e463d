"""What Grafana makes of answers: `grafana/preview/check.mjs`, in Node with Grafana's own libraries."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from tests import dashboards
from tests.dashboards import Panel
from tests.grafana_answers import Selection, Shown
from tests.servers import ROOT

PREVIEW: Final = ROOT / "grafana" / "preview"
DEADLINE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Link:
    """Where a cell, or a point, of a panel leads to."""

    text: str
    """Of the cell: who sees none cannot click it."""
    url: SplitResult

    @property
    def selected(self) -> dict[str, str]:
        """What it selects of the variables of the dashboard that it leads to."""
        parameters = parse_qs(self.url.query, keep_blank_values=True, strict_parsing=True)
        return {name[4:]: ",".join(values) for name, values in parameters.items() if name.startswith("var-")}

    @property
    def uid(self) -> str:
        """The dashboard that it leads to; empty if to none."""
        path = Path(self.url.path)
        return path.name if path.parent == Path("/d") and not self.url.netloc else ""


@dataclass(frozen=True, slots=True)
class Checked:
    """A panel as Grafana shows it."""

    panel: Panel
    errors: list[str]
    links: list[Link]


def checked(shown: Sequence[Shown], selection: Selection, began: float, ended: float) -> list[Checked]:
    """Panels with what they show."""
    answers: dict[str, dict[int, Mapping[str, Any]]] = {}
    panels = [one.panel for one in shown]
    for one in shown:
        answers.setdefault(one.panel.uid, {})[one.panel.id] = dict(one.answers)
    asked = {
        "directory": str(dashboards.DIRECTORY),
        "from": round(began * 1000),
        "to": round(ended * 1000),
        "variables": {name: [value] for name, value in selection.values.items()},
        "answers": answers,
    }
    found = _run(asked)
    return [_checked(panel, found[panel.uid][str(panel.id)]) for panel in panels]


def _run(asked: Mapping[str, Any]) -> dict[str, Any]:
    assert (PREVIEW / "node_modules").is_dir(), "to be installed by `make grafana/preview/node_modules/.made`"
    done = subprocess.run(
        ["node", "check.mjs"], cwd=PREVIEW, input=json.dumps(asked), capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _checked(panel: Panel, found: Mapping[str, Any]) -> Checked:
    rows = [{cell.get("field"): cell["text"] for cell in row} for row in found["cells"]]
    links = [Link(rows[one["row"]][one["field"]], urlsplit(one["url"])) for one in found["links"]]
    return Checked(panel, list(found["errors"]), links)
