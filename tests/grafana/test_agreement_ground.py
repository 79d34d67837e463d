"""Colours about exporters, hosts and Redis mean what alerts mean: over made series one is there exactly while the
expression of the alert holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from scripts.rulebook import RULES, alerts
from tests.dashboards import dashboards, put_in
from tests.grafana.limits import thresholds_of
from tests.promtool import promtool

EVERY: Final = 30
"""Seconds between two scrapes."""
MINUTES: Final = tuple(range(1, 60))
"""When expressions are compared."""


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour of a panel: where a query is at its threshold, or `compared`, an alert's expression holds."""

    alert: str
    row: str
    title: str
    ref: str
    name: str = ""
    """Of the series or column that the threshold is of."""
    compared: str = ""
    severity: str = "warning"
    by: tuple[str, ...] = ()
    """What tells the things that panel and alert are about apart; nothing where the panel shows the worst."""

    @property
    def coloured(self) -> str:
        (panel,) = [
            panel
            for dashboard in dashboards()
            for panel in dashboard.panels
            if (panel.uid, panel.row, panel.title)
            in {(uid, self.row, self.title) for uid in ("tq-redis", "tq-exporter")}
            and any(query.ref == self.ref for query in panel.queries)
        ]
        (expr,) = [query.expr for query in panel.queries if query.ref == self.ref]
        (board,) = [dashboard for dashboard in dashboards() if dashboard.uid == panel.uid]
        values = board.everything() | {"__rate_interval": "1m", "__range": "1h"}
        return f"({put_in(expr, values)}) {self.compared or f'>= {self._threshold(panel)!r}'}"

    def _threshold(self, panel: Any) -> float:
        (found,) = [found for name, found in thresholds_of(panel) if name == self.name]
        return found[0].value

    @property
    def on(self) -> str:
        return f"on ({', '.join(self.by)})"

    @property
    def fires(self) -> str:
        """A colour is one: that of the critical alert, where there are two of the name."""
        found = {rule.labels["severity"]: rule.expr for rule in alerts() if rule.name == self.alert}
        worse = f" unless {self.on} ({found['critical']})" if self.severity == "warning" and "critical" in found else ""
        return f"(({found[self.severity]}){worse})"

    def disagreements(self) -> Iterator[str]:
        """Both have no series while they agree."""
        yield f"{self.coloured} unless {self.on} {self.fires}"
        yield f"{self.fires} unless {self.on} {self.coloured}"


DISK: Final = ("job", "instance", "mountpoint")
COLOURS: Final = (
    Colour("RedisMemoryHigh", "Now", "Memory, of its limit", "A"),
    Colour("RedisMemoryHigh", "Now", "Servers", "C", "Of limit", by=("job", "broker", "server")),
    Colour("RedisEvicting", "Now", "Evictions", "A", "keys evicted", severity="critical"),
    Colour("RedisRejectedConnections", "Now", "Refused connections", "A"),
    Colour(
        "RedisReplicaLag", "Replication", "Silence between master and replica", "A", compared="> 30", by=("server",)
    ),
    Colour("ScrapeSlow", "Now", "Slowest scrapes", "A"),
    Colour("EventsLost", "Now", "Missed records", "A"),
    Colour("UndecodableRecords", "Now", "Missed records", "B"),
    Colour("CollectorFailing", "Now", "Collectors that fail", "A"),
    Colour("FeedDisconnected", "Now", "Feeds that are away", "A"),
    Colour("HostMemoryPressure", "Host", "Memory shortage, of the limit", "A", by=("job", "instance", "kind")),
    Colour("HostDiskFilling", "Disks and network", "File systems", "A", compared="== 2", severity="critical", by=DISK),
    Colour("HostDiskFilling", "Disks and network", "File systems", "A", compared="== 1", by=DISK),
)
SERVER: Final = 'job="tq",instance="{}:1",broker="main",server="{}"'
SERIES: Final = {
    # at the limit from the 10th minute on, above it from the 20th; one that has none; two exporters
    "taskqueue_redis_memory_used_bytes": {
        SERVER.format("a", "one"): "850x19 900x19 901x19 800x60",
        SERVER.format("b", "one"): "840x19 900x19 900x79",
        SERVER.format("a", "free"): "999x120",
    },
    "taskqueue_redis_memory_max_bytes": {
        SERVER.format("a", "one"): "1000x120",
        SERVER.format("b", "one"): "1000x120",
        SERVER.format("a", "free"): "0x120",
    },
    "taskqueue_redis_instance_info": {
        SERVER.format(exporter, server) + ',role="master",redis_version="7"': "1x120"
        for exporter, server in (("a", "one"), ("b", "one"), ("a", "free"))
    },
    # one key is evicted; later another server with a history takes the address over
    "taskqueue_redis_evicted_keys_total": {
        SERVER.format("a", "one"): "5x30 6x49 1000x40",
        SERVER.format("b", "one"): "_x30 6x49 1000x40",
    },
    "taskqueue_redis_rejected_connections_total": {SERVER.format("a", "one"): "0x30 3x49 1000x40"},
    "taskqueue_redis_start_time_seconds": {
        SERVER.format("a", "one"): "5000x80 100x40",
        SERVER.format("b", "one"): "5000x80 100x40",
    },
    "taskqueue_redis_uptime_in_seconds": {
        SERVER.format("a", "one"): "900x120",
        SERVER.format("b", "one"): "900x120",
    },
    "taskqueue_redis_connected_slave_lag_seconds": {
        SERVER.format("a", "one") + ',slave_ip="10.0.0.1",slave_port="1",slave_state="online"': "1x20 30x20 31x2 _x78"
    },
    "taskqueue_redis_master_last_io_seconds_ago": {
        SERVER.format("a", "two") + ',master_host="m",master_port="1"': "5x60 40x2 5x60"
    },
    # one that becomes slow, one that fails at once, one that is given up
    "up": {
        'job="tq",instance="a:1"': "1x120",
        'job="tq",instance="dead:1"': "1x10 0x110",
        'job="tq",instance="hangs:1"': "1x10 0x60 1x50",
    },
    "taskqueue_exporter_build_info": {
        'job="tq",instance="a:1",version="1",pythonversion="3"': "1x120",
        'job="tq",instance="dead:1",version="1",pythonversion="3"': "1x10 stale",
        'job="tq",instance="hangs:1",version="1",pythonversion="3"': "1x10 stale",
    },
    "scrape_duration_seconds": {
        'job="tq",instance="a:1"': "0.1x70 6x50",
        'job="tq",instance="dead:1"': "0.1x10 0.0005x110",
        'job="tq",instance="hangs:1"': "0.1x10 10x30 0.1x80",
        'job="other",instance="x:1"': "9x120",
    },
    # feeds, of two brokers: one is down for a while
    "taskqueue_broker_up": {
        'job="tq",instance="a:1",broker="main"': "1x120",
        'job="tq",instance="a:1",broker="down"': "1x40 0x20 1x60",
    },
    "taskqueue_collector_success": {
        'job="tq",instance="a:1",collector="arq",broker="main"': "1x80 0x40",
        'job="tq",instance="a:1",collector="arq",broker="down"': "1x40 0x20 1x60",
    },
    "taskqueue_feed_connected": {
        'job="tq",instance="a:1",system="arq",broker="main",feed="results"': "1x20 0x20 1x80",
        'job="tq",instance="a:1",system="arq",broker="down",feed="results"': "1x40 0x20 1x60",
    },
    "taskqueue_feed_gap_seconds_total": {
        'job="tq",instance="a:1",system="arq",broker="main",feed="results"': "0x20 0+30x20 600x20 600+5x60",
        'job="tq",instance="a:1",system="arq",broker="down",feed="results"': "0x40 0+30x20 600x60",
    },
    "taskqueue_feed_reconnects_total": {
        'job="tq",instance="a:1",system="arq",broker="main",feed="results"': "0x40 1x20 1+1x60",
        'job="tq",instance="a:1",system="arq",broker="down",feed="results"': "0x60 1x60",
    },
    "taskqueue_feed_lost_events_total": {
        'job="tq",instance="a:1",system="arq",broker="main",feed="results"': "0x41 1x80"
    },
    "taskqueue_feed_undecodable_total": {
        'job="tq",instance="a:1",system="arq",broker="main",feed="results",reason="malformed"': "0x60 2x60"
    },
    # hosts: stalled at the target, above it; available at the target, below it
    "taskqueue_host_pressure_memory_stalled_seconds_total": {
        'job="tq",instance="a:1"': "0+1x30 30+3x30 120+4x60",
        'job="tq",instance="b:1"': "0x120",
    },
    "taskqueue_host_memory_available_bytes": {
        'job="tq",instance="a:1"': "500x120",
        'job="tq",instance="b:1"': "500x30 50x30 49x20 stale _x5 200x40",
    },
    "taskqueue_host_memory_total_bytes": {
        'job="tq",instance="a:1"': "1000x120",
        'job="tq",instance="b:1"': "1000x120",
    },
}
FILE_SYSTEMS: Final = {
    "/full": ("60x20 4x100", "0"),
    "/small": ("_x20 4x100", "0"),
    "/at": ("5x120", "0"),
    "/well": ("60x120", "0"),
    "/read-only": ("0x120", "1"),
    "/fills": ("60-0.2x110", "0"),
    "/filled": ("30x20 30-0.2x100", "0"),
    "/tidied": ("30x60 20x60", "0"),
}
"""What is free of 100, and whether it is read-only."""


def disks() -> Iterator[dict[str, str]]:
    for mountpoint, (free, readonly) in FILE_SYSTEMS.items():
        labels = f'job="tq",instance="a:1",device="d",fstype="ext4",mountpoint="{mountpoint}"'
        for suffix, values in (("avail_bytes", free), ("size_bytes", "100x120"), ("readonly", f"{readonly}x120")):
            yield {"series": f"taskqueue_host_filesystem_{suffix}{{{labels}}}", "values": values}


def made() -> list[dict[str, str]]:
    series = [
        {"series": f"{metric}{{{labels}}}", "values": values}
        for metric, found in SERIES.items()
        for labels, values in found.items()
    ]
    return [*series, *disks()]


def evaluated(directory: Path, tests: list[dict[str, Any]]) -> str:
    """What promtool says of expressions over the made series."""
    path = directory / "agreement.json"  # which is YAML
    files = [str(RULES / name) for name in ("targets.yml", "recording.yml")]
    case = {"interval": f"{EVERY}s", "input_series": made(), "promql_expr_test": tests}
    path.write_text(json.dumps({"rule_files": files, "evaluation_interval": f"{EVERY}s", "tests": [case]}))
    return promtool("test", "rules", path)


@pytest.mark.needs("promtool")
def test_a_colour_is_there_exactly_while_its_alert_holds(tmp_path: Path) -> None:
    evaluated(
        tmp_path,
        [
            {"expr": expr, "eval_time": f"{minute}m"}
            for colour in COLOURS
            for expr in colour.disagreements()
            for minute in MINUTES
        ],
    )


@pytest.mark.needs("promtool")
def test_each_alert_holds_at_a_time_and_at_another_not(tmp_path: Path) -> None:
    held = [f"count({colour.fires}) * 0 + 1 or vector(0)" for colour in COLOURS]
    least = [
        {"expr": f"min_over_time(({expr})[55m:1m])", "exp_samples": [{"labels": "{}", "value": 0}]} for expr in held
    ]
    most = [
        {"expr": f"max_over_time(({expr})[55m:1m])", "exp_samples": [{"labels": "{}", "value": 1}]} for expr in held
    ]
    evaluated(tmp_path, [test | {"eval_time": "59m"} for test in (*least, *most)])
