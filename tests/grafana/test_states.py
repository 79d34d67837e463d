"""The numbers at the head of the dashboards, of made series: each shows what is wrong, and 0 while nothing is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.dashboards import dashboards, put_in
from tests.promtool import promtool

MINUTES: Final = 30
"""After which is looked."""
SELECTED: Final = {"__rate_interval": "1m", "__range": "15m"}

A: Final = 'job="tq",instance="a:1"'
B: Final = 'job="tq",instance="b:1"'
MAIN: Final = 'job="tq",broker="main"'
CELERY: Final = 'job="tq",system="celery",broker="main"'
SERVER: Final = f'{A},broker="main",server="1"'
KNOWN: Final = {f"instance:taskqueue_exporter_known:group{{{at}}}": "1x60" for at in (A, B)}
BROKERS_UP: Final = {f"broker:taskqueue_broker_up:max{{{MAIN}}}": "1x60"}
QUEUE: Final = f'{CELERY},queue="mail"'
OTHER: Final = f'{CELERY},queue="reports"'
TASK: Final = f'{QUEUE},task="send"'
CAN_SAY: Final = {f'taskqueue_feed_connected{{{A},system="celery",broker="main",feed="events"}}': "1x60"}


@dataclass(frozen=True, slots=True)
class State:
    """A number of a panel: its legend, and what it shows of series, which are made every 30 s; None if nothing."""

    title: str
    legend: str
    series: Mapping[str, str]
    shows: float | None
    uid: str = "tq-overview"

    @property
    def expr(self) -> str:
        (board,) = (board for board in dashboards() if board.uid == self.uid)
        (expr,) = (
            target["expr"]
            for panel in board.panels
            for target in panel.model["targets"]
            if (panel.row, panel.title, target["legendFormat"]) == ("Now", self.title, self.legend)
        )
        return put_in(expr, board.everything() | SELECTED)

    def __str__(self) -> str:
        return f"{self.uid}: {self.title}: {self.legend}: {self.shows}"


def alert(name: str, severity: str, state: str = "firing", labels: str = QUEUE) -> dict[str, str]:
    return {f'ALERTS{{alertname="{name}",severity="{severity}",alertstate="{state}",{labels}}}': "1x60"}


def gauge(name: str, labels: str, values: str = "1x60") -> dict[str, str]:
    return {f"{name}{{{labels}}}": values}


def firing() -> list[State]:
    """Of each dashboard, about what it is about."""
    about = {
        "tq-overview": ("JobFailureBudgetFastBurn", "QueueWaitTooLong", QUEUE),
        "tq-system": ("JobFailureBudgetFastBurn", "QueueWaitTooLong", QUEUE),
        "tq-task": ("TaskMissed", "TaskFailing", TASK),
        "tq-redis": ("RedisEvicting", "RedisMemoryHigh", f'{MAIN},server="1"'),
        "tq-exporter": ("ExportersAllDown", "ScrapeSlow", A),
    }
    states = []
    for uid, (one, other, labels) in about.items():
        fires = KNOWN | alert("Watchdog", "critical", labels='job="tq"') | alert(one, "critical", labels=labels)
        fires |= alert(other, "warning", labels=labels) | alert(one, "warning", labels=labels)
        pending = alert(one, "critical", "pending", labels) | alert(other, "warning", "pending", labels)
        states += [
            State("Firing alerts", "critical", fires, 1, uid),
            State("Firing alerts", "warning", fires, 2, uid),
            State("Firing alerts", "critical", KNOWN | pending, 0, uid),
            State("Firing alerts", "warning", KNOWN | pending, 0, uid),
            State("Firing alerts", "critical", {}, None, uid),
        ]
    return states


def workers() -> list[State]:
    up = "worker:taskqueue_worker_up:max"
    two = gauge(up, f'{CELERY},worker="1"') | gauge(up, f'{CELERY},worker="2"')
    lost = two | gauge(up, f'{CELERY},worker="2"', "1x40 0x20") | gauge(up, f'{CELERY},worker="3"', "0x60")
    ready, consumers = "queue:taskqueue_queue_ready_jobs:max", "queue:taskqueue_queue_workers:max"
    since, target = (
        "queue:taskqueue_queue_last_progress_timestamp_seconds:min",
        "queue:taskqueue_target_unstaffed_seconds:effective",
    )
    waiting = gauge(ready, QUEUE, "5x60") | gauge(since, QUEUE, "60x60") | gauge(target, QUEUE, "180x60")
    return [
        state
        for uid in ("tq-overview", "tq-system")
        for state in (
            State("Workers", "queues without", waiting | gauge(consumers, QUEUE, "0x60"), 1, uid),
            State("Workers", "queues without", waiting | gauge(consumers, QUEUE), 0, uid),
            State("Workers", "queues without", waiting, None, uid),
            State("Workers", "lost", lost, 2, uid),
            State("Workers", "lost", two, 0, uid),
            State("Workers", "lost", {}, None, uid),
            State("Workers", "{{system}}", gauge("broker:taskqueue_workers:max", CELERY, "3x60"), 3, uid),
        )
    ]


def queues() -> list[State]:
    age, target = "queue:taskqueue_queue_oldest_ready_age_seconds:max", "queue:taskqueue_target_wait_seconds:effective"
    waits = gauge(age, QUEUE, "90x60") | gauge(age, OTHER, "120x60")
    targets = gauge(target, QUEUE, "60x60") | gauge(target, OTHER, "600x60")
    finished = "queue_outcome:taskqueue_jobs_finished:rate5m"
    ended = gauge(finished, f'{QUEUE},outcome="succeeded"', "3x60") | gauge(finished, f'{QUEUE},outcome="failed"')
    backlog = "queue:taskqueue_queue_backlog_jobs:sum"
    return [
        State("Oldest ready job", "oldest", waits, 120),
        State("Oldest, of its target", "of target", waits | targets, 1.5),
        State("Oldest, of its target", "of target", waits | targets, 1.5, "tq-system"),
        State("Backlog", "jobs", gauge(backlog, QUEUE, "5x60") | gauge(backlog, OTHER, "7x60"), 12),
        State("Finished", "jobs", ended | CAN_SAY, 4),
        State(
            "Time to drain",
            "slowest",
            gauge("queue:taskqueue_queue_drain_seconds:estimate", QUEUE, "30x60")
            | gauge("queue:taskqueue_queue_drain_seconds:estimate", OTHER, "90x60"),
            90,
            "tq-system",
        ),
    ]


def brokers() -> list[State]:
    up, seen = "broker:taskqueue_broker_up:max", "taskqueue_broker_up"
    down = BROKERS_UP | gauge(up, 'job="tq",broker="other"', "1x40 0x20")
    one_sees = gauge(seen, f'{A},broker="main"', "0x60") | gauge(seen, f'{B},broker="main"')
    none_sees = gauge(seen, f'{A},broker="main"', "0x60") | gauge(seen, f'{B},broker="main"', "0x60")
    return [
        State("Brokers up", "up", down, 0.5),
        State("Brokers up", "up", BROKERS_UP, 1),
        State("Brokers", "down", down, 1, "tq-exporter"),
        State("Brokers", "down", BROKERS_UP, 0, "tq-exporter"),
        State("Brokers", "cut off", BROKERS_UP | one_sees, 1, "tq-exporter"),
        State("Brokers", "cut off", gauge(up, MAIN, "0x60") | none_sees, 0, "tq-exporter"),
        State("Brokers", "{{broker}}", gauge(up, MAIN, "0x60"), 0, "tq-redis"),
    ]


def exporters() -> list[State]:
    both = KNOWN | gauge("up", A) | gauge("up", B)
    one = KNOWN | gauge("up", A) | gauge("up", B, "1x40 0x20") | gauge("up", 'job="another",instance="c:1"', "0x60")
    ran, reloaded = "taskqueue_collector_success", "taskqueue_exporter_config_last_reload_successful"
    collectors = gauge(ran, f'{A},collector="queues",broker="main"')
    failing = collectors | gauge(ran, f'{A},collector="redis",broker="main"', "1x30 0x30")
    at_times = collectors | gauge(ran, f'{A},collector="redis",broker="main"', "1x30 1 0 1 " + "1 1 0 " * 9)
    mostly = collectors | gauge(ran, f'{A},collector="redis",broker="main"', "1x30 0 1 0 " + "0 1 0 " * 9)
    refused = gauge(reloaded, A) | gauge(reloaded, B, "0x60")
    found = [
        ("Exporters", "up", one, 1),
        ("Exporters", "down", one, 1),
        ("Exporters", "up", both, 2),
        ("Exporters", "down", both, 0),
        ("Collectors that fail", "collectors", BROKERS_UP | failing, 1),
        ("Collectors that fail", "collectors", BROKERS_UP | mostly, 1),
        ("Collectors that fail", "collectors", BROKERS_UP | at_times, 0),
        ("Configuration", "refused", refused, 1),
        ("Configuration", "refused", gauge(reloaded, A) | gauge(reloaded, B), 0),
    ]
    return [State(*one, "tq-exporter") for one in found]


def feeds() -> list[State]:
    feed = f'{A},system="celery",broker="main",feed="events"'
    here = BROKERS_UP | gauge("taskqueue_feed_connected", feed) | gauge("taskqueue_feed_reconnects_total", feed, "0x60")
    here |= gauge("taskqueue_feed_gap_seconds_total", feed, "0x60")
    away = here | gauge("taskqueue_feed_connected", feed, "1x30 0x30")
    away |= gauge("taskqueue_feed_gap_seconds_total", feed, "0x30 30+30x30")
    lost, odd = "taskqueue_feed_lost_events_total", "taskqueue_feed_undecodable_total"
    found = [
        ("Feeds that are away", "feeds", away, 1),
        ("Feeds that are away", "feeds", here, 0),
        ("Missed records", "lost", gauge(lost, feed, "0x60"), 0),
        ("Missed records", "lost", gauge(lost, feed, "0+1x60"), 30),
        ("Missed records", "undecodable", gauge(odd, f'{feed},reason="json"', "0+1x60"), 30),
    ]
    return [State(*one, "tq-exporter") for one in found]


def servers() -> list[State]:
    saves = {
        f"taskqueue_redis_{kind}_status{{{SERVER}}}": "1x60"
        for kind in ("rdb_last_bgsave", "aof_last_write", "aof_last_bgrewrite")
    }
    info, most, used = (
        f"taskqueue_redis_{name}" for name in ("instance_info", "memory_max_bytes", "memory_used_bytes")
    )
    limited = gauge(most, SERVER, "100x60") | gauge(used, SERVER, "95x60")
    evicted, refused = (f"taskqueue_redis_{name}_total" for name in ("evicted_keys", "rejected_connections"))
    found = [
        *(("Failed saves", "failed", saves | {name: "0x60"}, 1) for name in saves),
        ("Failed saves", "failed", saves, 0),
        ("Failed saves", "failed", {}, None),
        ("Memory, of its limit", "fullest", limited, 0.95),
        ("Refused connections", "refused", gauge(refused, SERVER, "0+1x60"), 10),
        ("Refused connections", "refused", gauge(refused, SERVER, "7x60"), 0),
        ("Evictions", "keys evicted", gauge(evicted, SERVER, "0+1x60"), 10),
        ("Evictions", "keys evicted", gauge(evicted, SERVER, "7x60"), 0),
        ("Evictions", "servers that can", limited | gauge(info, f'{SERVER},maxmemory_policy="allkeys-lru"'), 1),
        ("Evictions", "servers that can", limited | gauge(info, f'{SERVER},maxmemory_policy="noeviction"'), 0),
    ]
    return [State(*one, "tq-redis") for one in found]


STATES: Final = [state for of in (firing, workers, queues, brokers, exporters, feeds, servers) for state in of()]


def test_numbers_show_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "states.yml").write_text(json.dumps({"rule_files": [], "tests": [_asked(state) for state in STATES]}))
    promtool("test", "rules", tmp_path / "states.yml")


def _asked(state: State) -> dict[str, Any]:
    # Whatever labels the one series has.
    expr = f"max(({state.expr}))"
    samples = [] if state.shows is None else [{"labels": "{}", "value": state.shows}]
    return {
        "name": str(state),
        "interval": "30s",
        "input_series": [{"series": series, "values": values} for series, values in state.series.items()],
        "promql_expr_test": [{"expr": f"round({expr}, 0.001)", "eval_time": f"{MINUTES}m", "exp_samples": samples}],
    }


def test_a_number_that_shows_something_else_is_found(tmp_path: Path) -> None:
    (state,) = (one for one in STATES if (one.title, one.legend, one.shows) == ("Brokers", "cut off", 1))
    wrong = State(state.title, state.legend, state.series, 0, state.uid)
    (tmp_path / "wrong.yml").write_text(json.dumps({"rule_files": [], "tests": [_asked(wrong)]}))
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", tmp_path / "wrong.yml")


def test_every_count_of_what_is_wrong_is_shown() -> None:
    """Or 0: queries that count, or else give 0, at the head of a dashboard."""
    counts = {
        (board.uid, panel.title, target["legendFormat"])
        for board in dashboards()
        for panel in board.panels
        for target in panel.model["targets"]
        if panel.row == "Now" and target["expr"].startswith("count(") and " or 0 * count(" in target["expr"]
    }
    assert counts <= {(state.uid, state.title, state.legend) for state in STATES}
