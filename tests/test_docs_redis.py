"""The document on Redis says what the collector does, and what redis_exporter has besides."""

from __future__ import annotations

from typing import Final

from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.pulls import Pulls
from exporter.catalogue import FAMILIES
from exporter.collectors.redis_info import RedisInfo, RedisInfoOptions
from tests.documents import Document, quoted
from tests.redis_exporter import LEFT_OUT, OURS, RENAMED, THEIRS

DOCUMENT: Final = Document("redis.md")


def test_options_and_their_defaults() -> None:
    described = {quoted(name)[0]: quoted(default) for name, default, _ in DOCUMENT.rows("Options of the collector")}

    assert described.keys() == {*RedisInfoOptions.__struct_fields__}
    for name in described.keys() - {"enabled"}:
        assert described[name] == [str(getattr(RedisInfoOptions(), name)).lower()]


def test_what_each_feature_needs() -> None:
    rows = DOCUMENT.rows("Rights of the collector")
    described = {quoted(feature)[0]: {*quoted(commands)} for feature, commands, _ in rows}

    collector = RedisInfo("main", Pulls(Access(parse_address("redis://h"))))
    assert described == {need.feature: need.commands for need in collector.permissions()}


def test_what_redis_exporter_has_under_another_name_and_what_is_left_out() -> None:
    rows = DOCUMENT.rows("Beside redis_exporter")
    renamed = {quoted(row[0])[0]: quoted(row[1])[0] for row in rows if len(row) == 3}
    reasons = {quoted(row[0])[0]: row[1].strip() for row in rows if len(row) == 2}

    assert renamed == {
        THEIRS + theirs: (OURS + ours).removeprefix("taskqueue_") for theirs, (ours, _) in RENAMED.items()
    }
    assert reasons == LEFT_OUT


def test_families_that_are_named_exist() -> None:
    absent = {name for cell, _ in DOCUMENT.rows("What is absent") for name in quoted(cell)}
    told = {name for reason in LEFT_OUT.values() for name in quoted(reason)} - {"redis_mode", "taskqueue_broker_up"}

    for name in absent | told:
        assert any(family.startswith(OURS + name.removesuffix("*")) for family in FAMILIES), name
