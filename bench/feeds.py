"""What following costs: 500,000 Celery events and 50,000 ARQ results, written in advance and sent flat out.

Redis has its default limits, under which it cuts a subscriber that falls behind. Server, sender and exporter share the
machine. There is no peer beside it: what PyPI has as `celery-exporter` (1.5.1) could not be built.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.e2e import flood
from tests.e2e.truth import SHOWN_AT_ONCE, Job, connected, total
from tests.servers import Exporter, RedisServer, wait_until

EVENTS, RESULTS = 500_000, 50_000
RUNS = 3
DEADLINE = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent, and how its arrival shows."""

    system: str
    feed: str
    records: int
    jobs: int
    write: Callable[[Path, Sequence[Job]], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: seconds, bytes; `uncounted` are jobs, `lost` records of the feed."""

    sent_in: float
    counted_in: float
    cpu: float
    rss: int
    peak: int
    uncounted: float
    lost: float
    reconnects: float


LOADS = (
    Load("celery", "events", EVENTS, EVENTS // flood.EVENTS_PER_TASK, flood.write_celery),
    Load("arq", "results", RESULTS, RESULTS, flood.write_arq),
)


def main() -> None:
    for load in LOADS:
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "load"
            load.write(file, flood.lives(load.jobs))
            runs = [_run(load, file) for _ in range(RUNS)]
        _report(load, runs)


def _run(load: Load, file: Path) -> Measured:
    """One run with a server and an exporter of its own."""
    with tempfile.TemporaryDirectory() as name:
        server = RedisServer(Path(name))
        exporter = None
        try:
            exporter = Exporter(Path(name), redis_url=server.url(), env=SHOWN_AT_ONCE)
            return _measure(load, file, server, exporter)
        finally:
            if exporter is not None:
                exporter.stop()
            server.stop()


def _measure(load: Load, file: Path, server: RedisServer, exporter: Exporter) -> Measured:
    wait_until(lambda: connected(exporter.metrics(), load.feed), DEADLINE)
    rss, cpu, began = _memory(exporter, "VmRSS"), _cpu(exporter), time.monotonic()
    sender = flood.start(file, server.port)
    try:
        with suppress(AssertionError):  # what is not counted by then is told
            wait_until(lambda: _finished(load, exporter) >= load.jobs, DEADLINE, interval=0.25)
        counted_in = time.monotonic() - began
        assert sender.wait(DEADLINE) == 0, sender.log
    finally:
        sender.stop()
    metrics = exporter.metrics()
    return Measured(
        sent_in=json.loads(sender.log.splitlines()[-1])["seconds"],
        counted_in=counted_in,
        cpu=_cpu(exporter) - cpu,
        rss=_memory(exporter, "VmRSS"),
        peak=_memory(exporter, "VmHWM") - rss,
        uncounted=load.jobs - _finished(load, exporter),
        lost=total(metrics, "taskqueue_feed_lost_events_total", feed=load.feed),
        reconnects=total(metrics, "taskqueue_feed_reconnects_total", feed=load.feed),
    )


def _report(load: Load, runs: Sequence[Measured]) -> None:
    def median(of: Callable[[Measured], float]) -> float:
        return statistics.median(of(run) for run in runs)

    print(
        f"{load.system:6} {load.records} records, sent at {median(lambda run: load.records / run.sent_in):,.0f}/s: "
        f"lost {sum(run.lost for run in runs):g}, jobs not counted {sum(run.uncounted for run in runs):g}, "
        f"reconnects {sum(run.reconnects for run in runs):g}"
    )
    print(
        f"{load.system:6} CPU {median(lambda run: run.cpu / load.records * 100_000):.2f} s per 100,000 records, "
        f"all counted after {median(lambda run: run.counted_in):.1f} s "
        f"({median(lambda run: load.records / run.counted_in):,.0f}/s), "
        f"RSS {median(lambda run: run.rss) / 1e6:.0f} MB, peak of RSS {median(lambda run: run.peak) / 1e6:.0f} MB above"
        " the start"
    )


def _finished(load: Load, exporter: Exporter) -> float:
    return total(exporter.metrics(), "taskqueue_jobs_finished_total", system=load.system)


def _cpu(exporter: Exporter) -> float:
    times = psutil.Process(exporter.pid).cpu_times()
    return float(times.user + times.system)


def _memory(exporter: Exporter, field: str) -> int:
    """Bytes, by a field of Linux's /proc/PID/status."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{exporter.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
