"""The document on ARQ says what the program does, and its alerts fire when they should."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from exporter import catalogue
from exporter.systems.arq import Arq
from exporter.systems.arq.features import permissions
from exporter.systems.arq.feed.modes import FeedMode
from exporter.systems.arq.feed.unkept import Unkept
from exporter.systems.arq.options import ArqOptions
from exporter.systems.arq.records.serializers import Serializer
from tests.documents import ALWAYS_0, ALWAYS_1, LATELY, MINUTES, NOW, Document, Values, case, quoted

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


# -- alerts -----------------------------------------------------------------------------------------------------

NIGHTLY: Final = 'task_last_finished_timestamp_seconds{task="cron:nightly"}'

WELL: Final[Values] = {
    'queue_oldest_ready_timestamp_seconds{queue="q"}': NOW,
    'queue_last_progress_timestamp_seconds{queue="q"}': NOW,
    'queue_jobs{queue="q", state="running"}': ALWAYS_0,
    'queue_oldest_running_timestamp_seconds{queue="q"}': NOW,
    NIGHTLY: NOW,
    'jobs_finished_total{queue="q", task="t", outcome="expired"}': ALWAYS_0,
    'jobs_finished_total{queue="q", task="t", outcome="not_found"}': ALWAYS_0,
    'queue_expired_jobs{queue="q"}': ALWAYS_0,
    "abort_requests{}": f"3x{MINUTES}",
    'worker_up{worker="w"}': ALWAYS_1,
    'queue_workers{queue="q"}': ALWAYS_1,
    'queue_jobs{queue="q", state="ready"}': ALWAYS_1,
    'collector_success{collector="arq"}': ALWAYS_1,
    'feed_connected{feed="results"}': ALWAYS_1,
}
OLD: Final[Values] = {name: ALWAYS_0 for name in WELL if name.startswith(("queue_oldest_ready", "queue_last_progress"))}
ILL: Final[dict[str, Values]] = {
    "ArqNobodyWorks": OLD,
    "ArqStuck": OLD | {'queue_jobs{queue="q", state="running"}': ALWAYS_1},
    "ArqRunsTooLong": {'queue_oldest_running_timestamp_seconds{queue="q"}': ALWAYS_0},
    "ArqCronDidNotRun": {NIGHTLY: f"_x{MINUTES}"},
    "ArqJobsExpire": {'jobs_finished_total{queue="q", task="t", outcome="expired"}': LATELY},
    "ArqJobsNobodyCanRun": {'jobs_finished_total{queue="q", task="t", outcome="not_found"}': LATELY},
    "ArqAbortsLeak": {"abort_requests{}": f"1+1x{MINUTES}"},
    "ArqWorkerLost": {'worker_up{worker="w"}': ALWAYS_0},
    "ArqNoWorkers": {'queue_workers{queue="q"}': ALWAYS_0},
    "ArqNotCounted": {'feed_connected{feed="results"}': ALWAYS_0},
}
"""By alert what is otherwise than when all is well."""


def test_every_alert_has_its_case() -> None:
    assert {*ILL} == DOCUMENT.alerts()


@pytest.mark.needs("promtool")
def test_alerts_fire_when_they_should_and_not_else(tmp_path: Path) -> None:
    at_90 = f"{MINUTES}m"
    cases = [case("arq", "1m", WELL | values, {at_90: alert}) for alert, values in ILL.items()]
    cases.append(case("arq", "1m", WELL, {at_90: None}))
    # no worker with the hook, but jobs that run: on workers without it
    others = ILL["ArqNoWorkers"] | {'queue_jobs{queue="q", state="running"}': ALWAYS_1}
    cases.append(case("arq", "1m", WELL | others, {at_90: None}))
    # a job that ended once, told of by an exporter that was started anew an hour later
    ended = WELL | {NIGHTLY: "0x1 _x40"}
    cases.append(case("arq", "1h", {NIGHTLY: ended[NIGHTLY]}, {"25h": None, "27h": "ArqCronDidNotRun"}))

    DOCUMENT.check_alerts(cases, tmp_path)
