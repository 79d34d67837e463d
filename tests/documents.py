"""Reading the documents under `docs/`: their sections, tables and alerts."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.servers import ROOT

MINUTES: Final = 90
"""For how long the alerts' cases go on, a sample a minute."""
ALWAYS_0: Final = f"0x{MINUTES}"
ALWAYS_1: Final = f"1x{MINUTES}"
NOW: Final = f"0+60x{MINUTES}"
"""The value of a timestamp that is always now."""
LATELY: Final = f"0x{MINUTES - 10} 1x10"
"""A counter that rose ten minutes ago."""

Values = dict[str, str]
"""Series, without the prefix and the labels that all of them have, and their samples in promtool's notation."""


class Document:
    """One document on a system."""

    def __init__(self, name: str) -> None:
        self.text = (ROOT / "docs" / name).read_text()

    def section(self, title: str) -> str:
        """What stands below a headline, up to the next."""
        (text,) = re.findall(rf"^#+ {title}\n(.*?)(?=^#+ |\Z)", self.text, re.DOTALL | re.MULTILINE)
        return str(text)

    def rows(self, title: str) -> list[list[str]]:
        """The cells of a section's tables, without the headlines."""
        tables = re.findall(r"^\|[-|]+\|\n((?:\|.*\n)+)", self.section(title), re.MULTILINE)
        return [re.split(r"(?<!\\)\|", line)[1:-1] for table in tables for line in table.splitlines()]

    def loose_links(self) -> set[str]:
        """Links to headlines of this document that it does not have."""
        titles = {re.sub(r"\W+", "-", title.lower()) for title in re.findall(r"^#+ (.+)$", self.text, re.MULTILINE)}
        return {*re.findall(r"\]\(#([^)]+)\)", self.text)} - titles

    def alerts(self) -> set[str]:
        """The names of its alerts."""
        return {*re.findall(r"- alert: (\w+)", self.section("Alerts"))}

    def check_alerts(self, cases: Collection[dict[str, Any]], folder: Path) -> None:
        """Runs `cases` against its alerts, by promtool."""
        (rules,) = re.findall("```yaml\n(.*?)```", self.section("Alerts"), re.DOTALL)
        (folder / "rules.yml").write_text(rules)
        tests = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [*cases]}
        (folder / "tests.yml").write_text(yaml.safe_dump(tests))
        done = subprocess.run(
            ["promtool", "test", "rules", folder / "tests.yml"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def quoted(cell: str) -> list[str]:
    """What stands in a cell as code."""
    return [code.replace("\\|", "|") for code in re.findall("`([^`]+)`", cell)]


def case(system: str, interval: str, series: Values, firing: Mapping[str, str | None]) -> dict[str, Any]:
    """A case for promtool: which alert fires at what time, if any."""
    return {
        "interval": interval,
        "input_series": [{"series": _labelled(system, name), "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": at,
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else [],
            }
            for at, alert in firing.items()
        ],
    }


def _labelled(system: str, name: str) -> str:
    """A series of the exporter as Prometheus stores it."""
    family, _, labels = name.partition("{")
    own = "" if family == "collector_success" else f'system="{system}", '
    return f'taskqueue_{family}{{job="taskqueue", instance="a", broker="main", {own}{labels}'.replace(", }", "}")
