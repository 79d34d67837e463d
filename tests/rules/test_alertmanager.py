"""Alertmanager's configuration: who is told of which alert, and which alert keeps which other quiet."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from exporter.catalogue import FAMILIES
from scripts.rulebook import PROMETHEUS, alerts, sources
from tests.alertmanager import Alertmanager, with_examples
from tests.servers import wait_until

CONFIG: Final = PROMETHEUS / "alertmanager.yml"
PARSED: Final = yaml.safe_load(CONFIG.read_text())
NAMES: Final = sorted({rule.name for rule in alerts()})
SEVERITIES: Final = {name: {rule.labels["severity"] for rule in alerts() if rule.name == name} for name in NAMES}
RECEIVERS: Final = {"critical": "pager", "warning": "chat", "info": "quiet", "none": "dead-man"}
HEARD: Final = {
    "ExportersAllDown": "it says so",
    "Watchdog": "a sign of life of Prometheus and Alertmanager",
    "TargetMissing": "the rules are at fault, not an exporter",
    "RuleEvaluationFailing": "Prometheus is at fault, not an exporter",
    "BrokerDown": "may be what the exporters wait for",
    "RedisCanEvictJobs": "stays true",
    "RedisEvicting": "jobs are lost",
    "RedisMemoryHigh": "may be why hosts and brokers fail",
    "RedisPersistenceFailed": "may be why the broker fails",
    "RedisRejectedConnections": "may be why the broker fails",
    "RedisReplicaLag": "may be why the broker fails",
    "HostDiskFilling": "may be why the exporters are down",
    "HostMemoryPressure": "may be why the exporters are down",
}
"""Alerts that are told of while no exporter of the job is up, with why. All others must be quiet then."""
NOT_OF_A_BROKER: Final = {
    "BrokerDown": "it says so",
    "RedisPersistenceFailed": "why a Redis may refuse to answer",
    **dict.fromkeys(("ExporterDown", "ExportersAllDown", "ExporterAbsent"), "of exporters"),
    **dict.fromkeys(("TargetMissing", "RuleEvaluationFailing", "Watchdog"), "of rules"),
    **dict.fromkeys(("HostDiskFilling", "HostMemoryPressure"), "of hosts"),
}
"""Alerts that are told of while a broker is down, with why; and those that have none. All others must be quiet then."""


pytestmark = pytest.mark.needs("amtool", "prometheus-alertmanager")

Labels = dict[str, str]


def amtool(*arguments: str | Path) -> str:
    """What it prints; AssertionError unless it ends well."""
    done = subprocess.run(["amtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- the file -----------------------------------------------------------------------------------------------------


def test_the_configuration_is_good() -> None:
    assert re.search(r"1 templates\s+SUCCESS", amtool("check-config", CONFIG))


def test_the_examples_in_it_are_good(tmp_path: Path) -> None:
    example = tmp_path / "alertmanager.yml"
    example.write_text(with_examples(CONFIG.read_text()))

    amtool("check-config", example)

    kinds = {kind for receiver in yaml.safe_load(example.read_text())["receivers"] for kind in receiver}
    assert kinds == {"name", "slack_configs", "email_configs", "pagerduty_configs", "webhook_configs"}


def test_nothing_is_sent_unless_a_receiver_is_filled_in() -> None:
    assert PARSED["receivers"] == [{"name": name} for name in ("pager", "chat", "quiet", "dead-man")]


# -- routes -------------------------------------------------------------------------------------------------------


def receiver_of(**labels: str) -> str:
    """Who is told of an alert with these labels; several, comma-separated, if several are."""
    given = [f"{name}={value}" for name, value in labels.items()]
    return amtool("config", "routes", "test", f"--config.file={CONFIG}", *given).strip()


@pytest.mark.parametrize(("name", "severity"), [(name, one) for name in NAMES for one in sorted(SEVERITIES[name])])
def test_each_alert_has_a_receiver(name: str, severity: str) -> None:
    assert receiver_of(alertname=name, severity=severity, job="taskqueue") == RECEIVERS[severity]


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"alertname": "Watchdog", "severity": "none"}, "dead-man"),
        ({"alertname": "Watchdog", "severity": "critical", "cluster": "another"}, "dead-man"),
        ({"alertname": "SomebodyElses", "severity": "critical"}, "pager"),
        ({"alertname": "SomebodyElses", "severity": "warning"}, "chat"),
        ({"alertname": "SomebodyElses", "severity": "info"}, "quiet"),
        ({"alertname": "SomebodyElses", "severity": "page"}, "chat"),
        ({"alertname": "SomebodyElses", "severity": "criticality"}, "chat"),
        ({"alertname": "SomebodyElses"}, "chat"),
    ],
)
def test_any_alert_has_a_receiver(labels: Labels, receiver: str) -> None:
    assert receiver_of(**labels) == receiver


def test_only_the_watchdog_has_no_severity() -> None:
    assert [name for name in NAMES if SEVERITIES[name] - {"critical", "warning", "info"}] == ["Watchdog"]


def test_alerts_are_grouped_by_where_they_are() -> None:
    where = ["cluster", "namespace", "alertname", "job", "system", "broker", "queue"]
    assert PARSED["route"]["group_by"] == where
    assert not [route for route in PARSED["route"]["routes"] if "group_by" in route]


def test_times_are_what_the_document_says() -> None:
    root = PARSED["route"]
    dead_man, critical, _, info = root["routes"]

    assert (root["group_wait"], root["group_interval"], root["repeat_interval"]) == ("30s", "5m", "12h")
    assert (dead_man["group_wait"], dead_man["group_interval"], dead_man["repeat_interval"]) == ("0s", "1m", "50s")
    assert critical["repeat_interval"] == "1h"
    assert (info["group_interval"], info["repeat_interval"]) == ("1h", "7d")
    assert PARSED["global"]["resolve_timeout"] == "5m"


# -- inhibition: names ----------------------------------------------------------------------------------------------


def named() -> Iterator[str]:
    """Every pattern of names of alerts in the rules of inhibition."""
    for rule in PARSED["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            label, _, value = re.fullmatch(r'(\w+) (=|!=|=~|!~) "(.*)"', matcher).groups()  # type: ignore[union-attr]
            yield from value.split("|") if label == "alertname" else ()


@pytest.mark.parametrize("pattern", sorted(set(named())))
def test_each_name_that_inhibition_knows_is_an_alert(pattern: str) -> None:
    assert any(re.fullmatch(pattern, name) for name in NAMES)


def test_each_alert_that_is_heard_without_exporters_exists() -> None:
    assert set(HEARD) <= set(NAMES)


def test_of_each_alert_with_two_severities_the_higher_is_heard() -> None:
    rule = PARSED["inhibit_rules"][-1]
    several = {name for name in NAMES if len(SEVERITIES[name]) > 1}

    assert {name for name in NAMES if re.fullmatch(rule["source_matchers"][0].split('"')[1], name)} == several
    of_their_metrics = {
        label
        for alert in alerts()
        for metric in sources(alert.expr)
        for label in (FAMILIES[metric].labels if alert.name in several and metric in FAMILIES else ())
    }
    assert {"queue", "mountpoint"} <= of_their_metrics
    of_parts_of_a_queue = {"state", "task", "outcome", "feed"}  # which recorded series put together
    assert of_their_metrics - of_parts_of_a_queue <= set(rule["equal"])


# -- inhibition: an Alertmanager ------------------------------------------------------------------------------------

JOB: Final = ("cluster", "namespace", "job")
BROKER: Final = (*JOB, "broker")
QUEUE: Final = (*BROKER, "system", "queue")
TASK: Final = (*QUEUE, "task")
INSTANCE: Final = (*JOB, "pod", "instance")
FEED: Final = (*INSTANCE, "system", "broker", "feed")
REDIS: Final = (*BROKER, "server")
DISK: Final = (*INSTANCE, "device", "mountpoint", "fstype")


def alert(name: str, severity: str, labels: Iterable[str], **changes: str | None) -> Labels:
    """An alert that has these labels, each with some value; None takes a label away."""
    given = {label: f"some {label}" for label in labels} | changes
    found = {label: value for label, value in given.items() if value is not None}
    return {"alertname": name, "severity": severity} | found


@dataclass(frozen=True, slots=True)
class Case:
    """Two alerts, and whether the first keeps the second quiet."""

    name: str
    source: Labels
    target: Labels
    quiet: bool

    def posted(self, number: int) -> tuple[Labels, Labels]:
        """Both as they are posted: where they are is nowhere else, so that cases know nothing of each other."""
        return self._at(self.source, number), self._at(self.target, number)

    def _at(self, labels: Labels, number: int) -> Labels:
        moved = {name: f"{labels[name]} {number}" for name in ("cluster", "job") if name in labels}
        return labels | moved | {"case": str(number)}


NO_EXPORTER: Final = alert("ExportersAllDown", "critical", JOB)
NO_BROKER: Final = alert("BrokerDown", "critical", BROKER)
NO_WORKERS: Final = alert("QueueNoWorkers", "critical", QUEUE)
ONE_DOWN: Final = alert("ExporterDown", "warning", INSTANCE)
FAST_BURN: Final = alert("JobFailureBudgetFastBurn", "critical", QUEUE)
QUIET: Final[Sequence[tuple[Labels, Labels, Sequence[str]]]] = [
    (NO_EXPORTER, alert("QueueBacklog", "warning", QUEUE), JOB),
    (NO_EXPORTER, alert("TaskFailing", "warning", TASK), JOB),
    (NO_EXPORTER, ONE_DOWN, JOB),
    (NO_EXPORTER, alert("ExporterAbsent", "critical", ["cluster"]), ["cluster"]),
    (NO_BROKER, alert("QueueStalled", "critical", QUEUE), BROKER),
    (NO_BROKER, alert("FeedDisconnected", "warning", FEED), BROKER),
    (NO_BROKER, alert("RedisMemoryHigh", "warning", REDIS), BROKER),
    (NO_WORKERS, alert("QueueStalled", "critical", QUEUE), QUEUE),
    (NO_WORKERS, alert("QueueWaitTooLong", "warning", QUEUE), QUEUE),
    (NO_WORKERS, alert("QueueWaitTooLong", "critical", QUEUE), QUEUE),
    (NO_WORKERS, alert("QueueBacklog", "warning", QUEUE), QUEUE),
    (NO_WORKERS, alert("QueueBacklogGrowing", "warning", QUEUE), QUEUE),
    (NO_WORKERS, alert("JobWaitBudgetBurn", "critical", QUEUE), QUEUE),
    (NO_WORKERS, alert("WorkersSaturated", "warning", QUEUE), QUEUE),
    (FAST_BURN, alert("JobFailureBudgetSlowBurn", "warning", QUEUE), QUEUE),
    (alert("QueueWaitTooLong", "critical", QUEUE), alert("QueueWaitTooLong", "warning", QUEUE), QUEUE),
    (alert("HostDiskFilling", "critical", DISK), alert("HostDiskFilling", "warning", DISK), DISK),
]
"""What keeps what quiet, and the labels in which both must agree for it."""
LOUD: Final[Sequence[tuple[Labels, Labels]]] = [
    (NO_EXPORTER, alert("ExportersAllDown", "critical", JOB, team="another")),
    (NO_BROKER, alert("BrokerDown", "critical", BROKER, team="another")),
    (NO_BROKER, ONE_DOWN),
    (NO_BROKER, alert("TaskMissed", "warning", TASK, broker=None, queue=None, job=None)),
    (alert("BrokerDown", "critical", JOB), alert("QueueBacklog", "warning", QUEUE, broker=None)),
    (NO_WORKERS, alert("JobsExpired", "warning", QUEUE)),
    (NO_WORKERS, FAST_BURN),
    (FAST_BURN, alert("TaskFailing", "warning", TASK)),
    (NO_BROKER, alert("RedisPersistenceFailed", "critical", REDIS)),
    (NO_BROKER, alert("SomebodyElses", "warning", BROKER)),
    (NO_WORKERS, alert("NoWorkersAtAll", "warning", [*BROKER, "system"])),
    (alert("JobsExpired", "warning", QUEUE), alert("QueueStalled", "critical", QUEUE)),
    (alert("QueueWaitTooLong", "warning", QUEUE), alert("QueueWaitTooLong", "critical", QUEUE)),
    (alert("QueueWaitTooLong", "critical", QUEUE), alert("QueueBacklog", "warning", QUEUE)),
    (alert("SomebodyElses", "critical", JOB), alert("SomebodyElses", "warning", JOB)),
    (alert("ExporterAbsent", "critical", ["cluster"]), alert("QueueBacklog", "warning", QUEUE)),
    (alert("ExporterAbsent", "critical", ["cluster"]), NO_EXPORTER),
    *[(source, alert("Watchdog", "none", JOB)) for source in (NO_EXPORTER, NO_BROKER, NO_WORKERS, ONE_DOWN)],
]
"""What does not keep quiet what, although they have each label in common that both may have."""


def cases() -> Iterator[Case]:
    """Those of the tables, near misses of the first, and each alert of ours with what speaks for all."""
    for source, target, common in QUIET:
        name = f"{source['alertname']} > {target['alertname']} {target['severity']}"
        yield Case(name, source, target, True)
        for label in common:
            yield Case(f"{name}, another {label}", source, target | {label: "another"}, False)
            without = {key: value for key, value in target.items() if key != label}
            if target["alertname"] != "ExporterAbsent":  # which other cases without a cluster would reach
                yield Case(f"{name}, no {label}", source, without, False)
        if "namespace" in common:
            both = [{key: value for key, value in one.items() if key != "namespace"} for one in (source, target)]
            yield Case(f"{name}, neither has a namespace", both[0], both[1], True)
    for source, target in LOUD:
        yield Case(f"{source['alertname']} ! {target['alertname']} {target['severity']}", source, target, False)
    for name in NAMES:
        everywhere = alert(name, "info", [*TASK, *FEED, *REDIS])
        yield Case(f"any exporter is up or {name} is quiet", NO_EXPORTER, everywhere, name not in {*HEARD})
        yield Case(f"the broker is up or {name} is quiet", NO_BROKER, everywhere, name not in NOT_OF_A_BROKER)
        yield Case(f"one exporter is up: {name}", ONE_DOWN, everywhere, False)
        elsewhere = everywhere | {"instance": "another", "pod": "another"}
        yield Case(f"one exporter is up: {name} of the other", ONE_DOWN, elsewhere, False)


CASES: Final = list(cases())
assert len({case.name for case in CASES}) == len(CASES)


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an Alertmanager says of the second alert of each case, by its number."""
    posted = [case.posted(number) for number, case in enumerate(CASES)]
    # Alerts are taken up in their order: when the last pair is seen to be one, all are.
    last = Case("", NO_WORKERS, alert("QueueStalled", "critical", QUEUE), True).posted(len(CASES))
    alertmanager = Alertmanager(tmp_path_factory.mktemp("alertmanager"), CONFIG)
    try:
        alertmanager.post([{"labels": target} for _, target in [*posted, last]])
        alertmanager.post([{"labels": source} for source, _ in [*posted, last]])
        wait_until(lambda: any(one["status"]["inhibitedBy"] for one in alertmanager.alerts(f'case="{len(CASES)}"')))
        found = {frozenset(one["labels"].items()): one["status"] for one in alertmanager.alerts()}
    finally:
        alertmanager.stop()
    return {case.name: found[frozenset(target.items())] for case, (_, target) in zip(CASES, posted, strict=True)}


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_inhibition(states: dict[str, Any], case: Case) -> None:
    state = states[case.name]

    assert bool(state["inhibitedBy"]) == case.quiet
    assert state["state"] == ("suppressed" if case.quiet else "active")
