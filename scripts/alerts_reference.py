"""The reference of alerts, for `docs/alerts.md`: `python -m scripts.alerts_reference`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from scripts.rulebook import RUNBOOKS, TARGET, Rule, alerts, sources, targets

QUESTIONS: Final = {
    "alerts-late.yml": "Late: is anything late, or unstaffed?",
    "alerts-failing.yml": "Failing: is anything failing?",
    "alerts-trust.yml": "Trust: can the numbers be trusted?",
    "alerts-ground.yml": "Ground: are the broker and the host sound?",
}
"""The headline over the alerts of each file."""

INTRODUCTION: Final = """\
# Alerts

Generated from `prometheus/rules/` and `docs/runbooks/` by `make docs`; a test holds them together. How alerts become
notifications, and how to change what counts as late: [alerting](alerting.md).

*For* is how long the condition must hold. *Thresholds* are the defaults of `prometheus/rules/targets.yml`, where a line
changes one of them, or adds another for one queue or task; where none stands, the expression in the file says it all.
"""


def reference() -> Iterator[str]:
    """The reference, line by line, as Markdown."""
    yield from INTRODUCTION.splitlines()
    for file, of_file in groupby(
        sorted(alerts(), key=lambda rule: [*QUESTIONS].index(rule.file)), lambda rule: rule.file
    ):
        yield ""
        yield f"## {QUESTIONS[file]}"
        yield ""
        yield f"In `prometheus/rules/{file}`."
        yield ""
        yield "| alert | severity | fires when | for | thresholds |"
        yield "|---|---|---|---|---|"
        for name, same in groupby(of_file, lambda rule: rule.name):
            yield _row(name, [*same])


def _row(name: str, same: list[Rule]) -> str:
    """One alert, which may have a rule for each severity."""
    severities = " or ".join(dict.fromkeys(rule.labels["severity"] for rule in same))
    holds = " or ".join(dict.fromkeys("at once" if rule.holds == "0s" else rule.holds for rule in same))
    cells = (f"[{name}](runbooks/{name}.md)", severities, fires_when(name), holds, _thresholds(same))
    return f"| {' | '.join(cells)} |"


def fires_when(name: str) -> str:
    """What the alert's runbook says in its first paragraph, without the severity."""
    paragraph = (RUNBOOKS / f"{name}.md").read_text().split("\n\n")[1]
    words = re.sub(r"^\*\*.+?\*\* (Fires when )?", "", " ".join(paragraph.split()))
    return f"{words[0].upper()}{words[1:]}"


def _thresholds(same: list[Rule]) -> str:
    read = {name for rule in same for name in sources(rule.expr) if name.startswith(TARGET) and name != f"{TARGET}.+"}
    defaults = targets()
    named = (name.removeprefix(TARGET) for name in sorted(read))
    return ", ".join(f"`{name}` {defaults[name]}" if name in defaults else f"`{name}`" for name in named) or "none"


if __name__ == "__main__":
    print("\n".join(reference()))
