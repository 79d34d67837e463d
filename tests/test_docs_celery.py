"""The document on Celery says what the program does, and its alerts fire when they should."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from exporter import catalogue
from exporter.systems.celery import Celery
from exporter.systems.celery.features import permissions
from exporter.systems.celery.options import CeleryOptions
from tests.documents import ALWAYS_0, ALWAYS_1, LATELY, MINUTES, NOW, Document, Values, case, quoted

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


# -- alerts -----------------------------------------------------------------------------------------------------

BEAT: Final = 'task_last_finished_timestamp_seconds{task="nightly", outcome="succeeded"}'
WELL: Final[Values] = {
    'queue_workers{queue="q"}': ALWAYS_1,
    'queue_jobs{queue="q", state="ready"}': ALWAYS_1,
    'queue_last_progress_timestamp_seconds{queue="q"}': NOW,
    'queue_oldest_ready_timestamp_seconds{queue="q"}': NOW,
    'queue_oldest_running_timestamp_seconds{queue="q"}': NOW,
    'worker_up{worker="w"}': ALWAYS_1,
    "oldest_unacked_timestamp_seconds{}": NOW,
    "unacked_visibility_timeout_seconds{}": f"3600x{MINUTES}",
    'jobs_finished_total{queue="q", task="t", outcome="not_found"}': ALWAYS_0,
    BEAT: NOW,
    "feed_lost_events_total{}": ALWAYS_0,
    'collector_success{collector="celery"}': ALWAYS_1,
    'feed_connected{feed="events"}': ALWAYS_1,
}
ILL: Final[dict[str, Values]] = {
    "CeleryNoWorkers": {'queue_workers{queue="q"}': ALWAYS_0},
    "CeleryStandsStill": {'queue_last_progress_timestamp_seconds{queue="q"}': ALWAYS_0},
    "CeleryLate": {'queue_oldest_ready_timestamp_seconds{queue="q"}': ALWAYS_0},
    "CeleryRunsTooLong": {'queue_oldest_running_timestamp_seconds{queue="q"}': ALWAYS_0},
    "CeleryWorkerLost": {'worker_up{worker="w"}': ALWAYS_0},
    "CeleryRunsTwiceSoon": {"oldest_unacked_timestamp_seconds{}": ALWAYS_0},
    "CeleryTasksNobodyCanRun": {'jobs_finished_total{queue="q", task="t", outcome="not_found"}': LATELY},
    "CeleryBeatDidNotRun": {BEAT: f"_x{MINUTES}"},
    "CeleryEventsLost": {"feed_lost_events_total{}": LATELY},
    "CeleryNotCounted": {'feed_connected{feed="events"}': ALWAYS_0},
}
"""By alert what is otherwise than when all is well."""


def test_every_alert_has_its_case() -> None:
    assert {*ILL} == DOCUMENT.alerts()


@pytest.mark.needs("promtool")
def test_alerts_fire_when_they_should_and_not_else(tmp_path: Path) -> None:
    at_90 = f"{MINUTES}m"
    cases = [case("celery", "1m", WELL | values, {at_90: alert}) for alert, values in ILL.items()]
    cases.append(case("celery", "1m", WELL, {at_90: None}))
    # a beat task that ran once, told of by an exporter that was started anew an hour later
    cases.append(case("celery", "1h", {BEAT: "0x1 _x40"}, {"25h": None, "27h": "CeleryBeatDidNotRun"}))

    DOCUMENT.check_alerts(cases, tmp_path)
