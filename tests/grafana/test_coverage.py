"""What is measured is shown, or watched by a rule."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import pytest

from exporter.catalogue import Family, feeds, itself, jobs, queues
from scripts.rulebook import TARGET, Rule, alerts, rests_on, rules
from tests.grafana.expressions import family_of, queries

CORE: Final[tuple[Any, ...]] = (queues, jobs, feeds, itself)
"""Modules of the catalogue whose families are there whatever is enabled."""
COMPATIBLE: Final = "compat-redis-exporter.yml"
"""Rules that give metrics other names: no one looks at them yet."""
NAMES: Final = [family.name for module in CORE for family in vars(module).values() if isinstance(family, Family)]
GROUND: Final = [alert for alert in alerts() if alert.file == "alerts-ground.yml"]


def families_of(names: set[str]) -> set[str]:
    """The families that metrics are of."""
    return {family.name for name in names if (family := family_of(name)) is not None}


@cache
def shown() -> frozenset[str]:
    """All that dashboards read, directly or through recorded series."""
    return frozenset(rests_on(*(query.text for query in queries())))


@pytest.mark.parametrize("family", NAMES)
def test_every_family_of_the_core_is_shown_or_watched(family: str) -> None:
    watched = rests_on(*(rule.expr for rule in rules() if rule.file != COMPATIBLE))
    assert family in families_of(watched | shown())


@pytest.mark.parametrize("alert", [pytest.param(alert, id=f"{alert.name}-{at}") for at, alert in enumerate(GROUND)])
def test_what_an_alert_of_the_ground_looks_at_is_shown(alert: Rule) -> None:
    own = {name for name in rests_on(alert.expr) if not name.startswith(TARGET)}
    assert families_of(own) <= families_of(set(shown()))
