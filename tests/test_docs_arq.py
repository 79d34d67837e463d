"""The document on ARQ says what the program does, and its alerts fire when they should."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from exporter import catalogue
from exporter.systems.arq import Arq
from exporter.systems.arq.features import permissions
from exporter.systems.arq.feed.modes import FeedMode
from exporter.systems.arq.feed.unkept import Unkept
from exporter.systems.arq.options import ArqOptions
from exporter.systems.arq.records.serializers import Serializer
from tests.servers import ROOT

DOCUMENT: Final = (ROOT / "docs" / "arq.md").read_text()


def section(title: str) -> str:
    """What stands below a headline, up to the next."""
    (text,) = re.findall(rf"^#+ {title}\n(.*?)(?=^#|\Z)", DOCUMENT, re.DOTALL | re.MULTILINE)
    return str(text)


def rows(title: str) -> list[list[str]]:
    """The cells of a section's tables, without the headlines."""
    tables = re.findall(r"^\|[-|]+\|\n((?:\|.*\n)+)", section(title), re.MULTILINE)
    return [re.split(r"(?<!\\)\|", line)[1:-1] for table in tables for line in table.splitlines()]


def quoted(cell: str) -> list[str]:
    """What stands in a cell as code."""
    return [code.replace("\\|", "|") for code in re.findall("`([^`]+)`", cell)]


def test_options() -> None:
    choices = {"feed": FeedMode, "serializer": Serializer, "unkept": Unkept}
    described = {
        quoted(name)[0]: (quoted(values), quoted(default)) for name, values, default, _ in rows("What to configure")
    }

    assert described.keys() == {*ArqOptions.__struct_fields__} - {"enabled"}
    for name, kind in choices.items():
        assert described[name] == ([*kind], [str(getattr(ArqOptions(), name))])
    assert described["discover"][1] == [str(ArqOptions().discover).lower()]


def test_every_family_is_said_to_be_known_or_absent() -> None:
    named = {name for metric, *_ in rows("What is known") for name in re.findall(r"taskqueue_\w+", metric)}
    by_feed, of_celery = ("taskqueue_feed_",), ("taskqueue_unacked_jobs", "taskqueue_oldest_unacked_timestamp_seconds")
    wanted = {name for name, family in catalogue.FAMILIES.items() if family.labels[:2] == catalogue.B}

    assert {
        name for name in wanted - named if not name.startswith((*by_feed, *of_celery, "taskqueue_worker_"))
    } == set()


def test_every_outcome_is_explained() -> None:
    told = {code for cell in rows("How a job can end") for code in quoted(cell[1])}

    assert {*Arq.outcomes} <= told


def test_what_each_feature_needs() -> None:
    described = {quoted(feature)[0]: {*quoted(commands)} for feature, commands, _ in rows("The rights it needs")}

    assert described == {need.feature: need.commands for need in permissions(ArqOptions(), 0)}


def test_links_within_lead_somewhere() -> None:
    titles = {re.sub(r"\W+", "-", title.lower()) for title in re.findall(r"^#+ (.+)$", DOCUMENT, re.MULTILINE)}

    assert {*re.findall(r"\]\(#([^)]+)\)", DOCUMENT)} <= titles


# -- alerts -----------------------------------------------------------------------------------------------------

MINUTES: Final = 90
ALWAYS_0, NOW = f"0x{MINUTES}", f"0+60x{MINUTES}"
LATELY: Final = f"0x{MINUTES - 10} 1x10"
"""A counter that rose ten minutes ago."""
NIGHTLY: Final = 'task_last_finished_timestamp_seconds{task="cron:nightly"}'

Values = dict[str, str]

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
    'worker_up{worker="w"}': f"1x{MINUTES}",
    'queue_workers{queue="q"}': f"1x{MINUTES}",
    'queue_jobs{queue="q", state="ready"}': f"1x{MINUTES}",
    'collector_success{collector="arq"}': f"1x{MINUTES}",
    'feed_connected{feed="results"}': f"1x{MINUTES}",
}
OLD: Final[Values] = {name: ALWAYS_0 for name in WELL if name.startswith(("queue_oldest_ready", "queue_last_progress"))}
ILL: Final[dict[str, Values]] = {
    "ArqNobodyWorks": OLD,
    "ArqStuck": OLD | {'queue_jobs{queue="q", state="running"}': f"1x{MINUTES}"},
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
    assert {*ILL} == {*re.findall(r"- alert: (\w+)", section("Alerts"))}


@pytest.mark.needs("promtool")
def test_alerts_fire_when_they_should_and_not_else(tmp_path: Path) -> None:
    (rules,) = re.findall("```yaml\n(.*?)```", section("Alerts"), re.DOTALL)
    (tmp_path / "rules.yml").write_text(rules)
    at_90 = f"{MINUTES}m"
    cases = [case("1m", WELL | values, {at_90: alert}) for alert, values in ILL.items()]
    cases.append(case("1m", WELL, {at_90: None}))
    # no worker with the hook, but jobs that run: on workers without it
    others = ILL["ArqNoWorkers"] | {'queue_jobs{queue="q", state="running"}': f"1x{MINUTES}"}
    cases.append(case("1m", WELL | others, {at_90: None}))
    # a job that ended once, told of by an exporter that was started anew an hour later
    ended = WELL | {NIGHTLY: "0x1 _x40"}
    cases.append(case("1h", {NIGHTLY: ended[NIGHTLY]}, {"25h": None, "27h": "ArqCronDidNotRun"}))
    tests = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))

    done = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "tests.yml"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def case(interval: str, series: Values, firing: Mapping[str, str | None]) -> dict[str, Any]:
    """Which alert fires at what time, if any."""
    return {
        "interval": interval,
        "input_series": [{"series": labelled(name), "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": at,
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else [],
            }
            for at, alert in firing.items()
        ],
    }


def labelled(name: str) -> str:
    """A series of the exporter as Prometheus stores it."""
    family, _, labels = name.partition("{")
    system = "" if family == "collector_success" else 'system="arq", '
    return f'taskqueue_{family}{{job="taskqueue", instance="a", broker="main", {system}{labels}'.replace(", }", "}")
