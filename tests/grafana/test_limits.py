"""A threshold of a dashboard is the number that an alert compares with, for all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from scripts.rulebook import Rule, alerts, targets
from tests.dashboards import panels
from tests.grafana.limits import Limit, Number, OfLimit, Plain, Share, Some, Table, complaints, numbers_of

WAIT: Final = (Share("QueueWaitTooLong", "wait_seconds"), Share("QueueWaitTooLong", "wait_seconds"))
FAST: Final = (OfLimit("JobFailureBudgetFastBurn", "failure_ratio"),)
SLOW: Final = (OfLimit("JobFailureBudgetSlowBurn", "failure_ratio"),)
LATE: Final = (OfLimit("JobWaitBudgetBurn", "late_ratio"),)
BUSY: Final = (Limit("WorkersSaturated", "busy_ratio"),)
MEMORY: Final = (Limit("RedisMemoryHigh", "redis_memory_ratio"),)
TASK_FAILS: Final = (Share("TaskFailing", "task_failure_ratio"),)
TASK_RETRIES: Final = (Share("RetryStorm", "retry_ratio"),)

THRESHOLDS: Final[Table] = {
    # every dashboard
    ("Firing alerts", "critical"): (Plain("none fires"),),
    ("Firing alerts", "warning"): (Plain("none fires"),),
    # queues
    ("Oldest, of its target", ""): WAIT,
    ("Queues", "Of target"): WAIT,
    ("Queues now", "Of target"): WAIT,
    ("Failures: pace of the budget", "Fast"): FAST,
    ("Failures: pace of the budget", "Slow"): SLOW,
    ("Failures: budget, of its limit", ""): SLOW,
    ("Waits: pace of the budget", "Fast"): LATE,
    ("Late starts: budget, of its limit", ""): LATE,
    ("Longest running job, of its limit", ""): (Share("JobsStuckRunning", "run_seconds"),),
    ("Oldest unacknowledged message, of the visibility timeout", ""): (
        Limit("UnackedNearVisibilityTimeout", "visibility_ratio"),
    ),
    ("Standstill, of its limit", ""): (Share("QueueStalled", "stalled_seconds"),),
    ("Expired jobs that wait", ""): (Some("JobsExpired"),),
    # workers
    ("Workers", "lost"): (Some("WorkerHeartbeatLost"),),
    ("Workers", "queues without"): (Some("QueueNoWorkers"),),
    ("Queues", "Busy slots"): BUSY,
    ("Busy slots by queue", ""): BUSY,
    # tasks
    ("Tasks", "Of limit"): TASK_FAILS,
    ("Failed", "of target"): TASK_FAILS,
    ("Retried", "of target"): TASK_RETRIES,
    ("By queue and broker", "Of failure target"): TASK_FAILS,
    ("By queue and broker", "Of retry target"): TASK_RETRIES,
    ("Period", "periods ago"): (Share("TaskMissed", "period_seconds"),),
    # Redis
    ("Brokers up", ""): (Some("BrokerDown"),),
    ("Brokers", ""): (Some("BrokerDown"),),
    ("Memory, of its limit", ""): MEMORY,
    ("Servers", "Of limit"): MEMORY,
    ("Evictions", "keys evicted"): (Some("RedisEvicting"),),
    ("Evictions", "servers that can"): (Some("RedisCanEvictJobs"),),
    ("Failed saves", ""): (Some("RedisPersistenceFailed"),),
    ("Refused connections", ""): (Some("RedisRejectedConnections"),),
    ("Silence between master and replica", ""): (Limit("RedisReplicaLag", "replica_lag_seconds"),),
    # exporters and their hosts
    ("Exporters", "up"): (Some("ExportersAllDown"),),
    ("Exporters", "down"): (Some("ExporterDown"),),
    ("Brokers", "down"): (Some("BrokerDown"),),
    ("Brokers", "cut off"): (Some("CollectorFailing"),),
    ("Collectors that fail", ""): (Some("CollectorFailing"),),
    ("Feeds that are away", ""): (Some("FeedDisconnected"),),
    ("Missed records", ""): (Some("EventsLost"),),
    ("Slowest scrapes", ""): (Limit("ScrapeSlow", "scrape_seconds"),),
    ("Configuration", ""): (Some("ConfigReloadFailed"),),
    ("Killed for want of memory", ""): (Plain("the kernel kills none"),),
    ("Memory shortage, of the limit", ""): (Share("HostMemoryPressure", "memory_stalled_ratio"),),
}


def test_every_threshold_is_that_of_an_alert() -> None:
    assert not list(complaints(panels(), THRESHOLDS, alerts(), targets()))


def test_what_an_alert_compares_with_is_read_from_its_expression() -> None:
    too_long = [alert for alert in alerts() if alert.name == "QueueWaitTooLong"]
    assert {*numbers_of(too_long)} >= {Number(1, "wait_seconds"), Number(5, "wait_seconds")}
    burn = numbers_of([alert for alert in alerts() if alert.name == "JobWaitBudgetBurn"])
    assert {*burn} == {Number(14.4, "late_ratio"), Number(1, "traffic_jobs"), Number(1)}


# -- that it can fail ---------------------------------------------------------------------------------------------


def changed(name: str, was: str, becomes: str) -> list[Rule]:
    """The alerts, one of them with another expression."""
    rules = [replace(rule, expr=rule.expr.replace(was, becomes)) if rule.name == name else rule for rule in alerts()]
    assert rules != [*alerts()]
    return rules


@pytest.mark.parametrize(("target", "value"), [("busy_ratio", "0.9"), ("redis_memory_ratio", "0.8")])
def test_a_target_that_changes_without_the_dashboards_is_found(target: str, value: str) -> None:
    assert list(complaints(panels(), THRESHOLDS, alerts(), targets() | {target: value}))


@pytest.mark.parametrize(
    ("alert", "was", "becomes"),
    [
        ("QueueWaitTooLong", "> 5 *", "> 10 *"),
        ("JobFailureBudgetFastBurn", "14.4 *", "10 *"),
        ("TaskMissed", "2 * taskqueue_target", "3 * taskqueue_target"),
        ("WorkersSaturated", "scalar(taskqueue_target:busy_ratio)", "0.9"),
    ],
)
def test_an_alert_that_changes_without_the_dashboards_is_found(alert: str, was: str, becomes: str) -> None:
    assert list(complaints(panels(), THRESHOLDS, changed(alert, was, becomes), targets()))


def test_a_severity_that_changes_without_the_dashboards_is_found() -> None:
    milder = [replace(alert, labels={"severity": "info"}) for alert in alerts()]
    assert list(complaints(panels(), THRESHOLDS, milder, targets()))


def test_a_threshold_of_which_the_table_says_nothing_is_found() -> None:
    key, *_ = THRESHOLDS
    less = {other: reasons for other, reasons in THRESHOLDS.items() if other != key}
    assert list(complaints(panels(), less, alerts(), targets()))


def test_a_line_of_the_table_that_no_panel_has_is_found() -> None:
    assert list(complaints(panels(), {**THRESHOLDS, ("Former", ""): FAST}, alerts(), targets()))
