"""The document on ARQ says what the program does."""

from __future__ import annotations

import re
from typing import Final

from exporter import catalogue
from exporter.systems.arq import Arq
from exporter.systems.arq.features import permissions
from exporter.systems.arq.feed.modes import FeedMode
from exporter.systems.arq.feed.unkept import Unkept
from exporter.systems.arq.options import ArqOptions
from exporter.systems.arq.records.serializers import Serializer
from tests.documents import Document, quoted

DOCUMENT: Final = Document("arq.md")


def test_options() -> None:
    choices = {"feed": FeedMode, "serializer": Serializer, "unkept": Unkept}
    rows = DOCUMENT.rows("What to configure")
    described = {quoted(name)[0]: (quoted(values), quoted(default)) for name, values, default, _ in rows}

    assert described.keys() == {*ArqOptions.__struct_fields__} - {"enabled"}
    for name, kind in choices.items():
        assert described[name] == ([*kind], [str(getattr(ArqOptions(), name))])
    assert described["discover"][1] == [str(ArqOptions().discover).lower()]


def test_every_family_is_said_to_be_known_or_absent() -> None:
    named = {name for metric, *_ in DOCUMENT.rows("What is known") for name in re.findall(r"taskqueue_\w+", metric)}
    by_feed, of_celery = ("taskqueue_feed_",), ("taskqueue_unacked_", "taskqueue_oldest_unacked_timestamp_seconds")
    wanted = {name for name, family in catalogue.FAMILIES.items() if family.labels[:2] == catalogue.B}

    assert {
        name for name in wanted - named if not name.startswith((*by_feed, *of_celery, "taskqueue_worker_"))
    } == set()


def test_every_outcome_is_explained() -> None:
    told = {code for cell in DOCUMENT.rows("How a job can end") for code in quoted(cell[1])}

    assert {*Arq.outcomes} <= told


def test_what_each_feature_needs() -> None:
    described = {
        quoted(feature)[0]: {*quoted(commands)} for feature, commands, _ in DOCUMENT.rows("The rights it needs")
    }

    assert described == {need.feature: need.commands for need in permissions(ArqOptions(), 0)}


def test_links_within_lead_somewhere() -> None:
    assert DOCUMENT.loose_links() == set()
