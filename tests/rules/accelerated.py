"""The project's rules with time running faster, so that a test need not wait for a quarter of an hour.

What is shortened is every duration that the rules themselves write: windows, `offset`, `for`, `keep_firing_for` and
`interval`. Targets are numbers of the world that is watched: they stay, unless a test says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from scripts.rulebook import RULES

UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
DURATION: Final = r"(?:\d+(?:ms|[smhdw]))+"
WRITTEN: Final = re.compile(rf"(?<=\[){DURATION}(?=[\]:])|(?<=offset ){DURATION}|(?<=:){DURATION}(?=\])")
"""Durations in an expression: of ranges, offsets and the steps of subqueries."""
PER_INTERVAL: Final = re.compile(r"\* 30$")
"""How a sum of recorded rates becomes a count: times the seconds from one to the next."""
OPTIONAL: Final = ("compat-redis-exporter.yml",)
"""Rules that Prometheus does not load unless told to."""


def seconds(duration: str) -> float:
    """`1h30m` as a number."""
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdw])", duration))


def shortened(duration: str, factor: float) -> str:
    """The duration divided by a factor, to a millisecond."""
    return f"{round(seconds(duration) / factor * 1000)}ms"


def accelerated(directory: Path, factor: float, targets: Mapping[str, float] | None = None) -> list[Path]:
    """Writes the rules to a directory, `factor` times as fast, and returns the files. `targets` replaces defaults of
    `targets.yml` by name, without the prefix; a name that is not there is a KeyError."""
    left = dict(targets or {})
    written = []
    for path in sorted(RULES.glob("*.yml")):
        if path.name in OPTIONAL:
            continue
        groups = yaml.safe_load(path.read_text())
        for group in groups["groups"]:
            _accelerate_group(group, factor, left)
        written.append(directory / path.name)
        written[-1].write_text(yaml.safe_dump(groups, sort_keys=False))
    if left:
        raise KeyError(f"no default target is called {', '.join(left)}")
    return written


def _accelerate_group(group: dict[str, Any], factor: float, targets: dict[str, float]) -> None:
    group["interval"] = shortened(group["interval"], factor)
    for rule in group["rules"]:
        target = str(rule.get("record", "")).removeprefix("taskqueue_target:")
        if target in targets and "labels" not in rule:
            rule["expr"] = str(targets.pop(target))
            continue
        rule["expr"] = WRITTEN.sub(lambda found: shortened(found[0], factor), str(rule["expr"]))
        rule["expr"] = PER_INTERVAL.sub(f"* {30 / factor:g}", rule["expr"].strip())
        for key in {"for", "keep_firing_for"} & rule.keys():
            rule[key] = shortened(rule[key], factor)
