"""The document on Celery says what the program does."""

from __future__ import annotations

import re
from typing import Final

from exporter import catalogue
from exporter.systems.celery import Celery
from exporter.systems.celery.features import permissions
from exporter.systems.celery.options import CeleryOptions
from tests.documents import Document, quoted

DOCUMENT: Final = Document("celery.md")


def test_options_and_their_defaults() -> None:
    rows = DOCUMENT.rows("What to configure")
    described = {quoted(name)[0]: quoted(default) for name, _, default, _ in rows}

    assert described.keys() == {*CeleryOptions.__struct_fields__} - {"enabled"}
    defaults = CeleryOptions()
    for name in ("discover", "events", "enable_events", "results", "inspect"):
        assert described[name] == [str(getattr(defaults, name)).lower()]
    for name in ("visibility_timeout", "inspect_interval", "forget_workers_after"):
        assert described[name] == [f"{getattr(defaults, name):g}"]
    assert described["separator"] == [repr(defaults.separator).replace("'", '"')]
    assert described["priority_steps"] == [str(list(defaults.priority_steps))]


def test_every_family_is_said_to_be_known_or_absent() -> None:
    named = {name for metric, *_ in DOCUMENT.rows("What is known") for name in re.findall(r"taskqueue_\w+", metric)}
    wanted = {name for name, family in catalogue.FAMILIES.items() if family.labels[:2] == catalogue.B}

    assert {name for name in wanted - named if not name.startswith("taskqueue_feed_")} == set()


def test_every_outcome_is_explained() -> None:
    told = {code for cell in DOCUMENT.rows("How a task can end") for code in quoted(cell[1])}

    assert {*Celery.outcomes} == told


def test_what_each_feature_needs() -> None:
    rows = DOCUMENT.rows("The rights it needs")
    described = {quoted(feature)[0]: {*quoted(commands)} for feature, commands, _ in rows}

    assert described == {need.feature: need.commands for need in permissions(CeleryOptions(), 0)}


def test_links_within_lead_somewhere() -> None:
    assert DOCUMENT.loose_links() == set()
