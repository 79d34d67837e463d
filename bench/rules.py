"""What Prometheus spends on the recording rules: two exporters that show 2,000 tasks each, the default limit.

Time runs five times as fast, so that a rate has as many samples as it has usually. What one evaluation takes does not
depend on that; how much of the time it is follows from the 30 seconds that usually pass between two.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.e2e.prometheus import PrometheusServer
from tests.rules.accelerated import accelerated
from tests.servers import LOOPBACK, wait_until

TASKS, QUEUES = 2000, 20
FACTOR = 5
SCRAPE_INTERVAL = 15 // FACTOR
USUAL_INTERVAL = 30
EVALUATIONS = 5
SETTLE = 300
"""Seconds, of the rules' time, until what they record lets those that read it work, too."""
DEADLINE = 600.0
OUTCOMES = ("succeeded", "failed", "aborted", "expired", "not_found", "rejected")
WAIT = (
    "0.1",
    "0.5",
    "1.0",
    "2.0",
    "5.0",
    "10.0",
    "30.0",
    "60.0",
    "120.0",
    "300.0",
    "900.0",
    "3600.0",
    "14400.0",
    "+Inf",
)
RUN = ("0.01", "0.05", "0.1", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "300.0", "900.0", "3600.0", "+Inf")


def main() -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        targets = [stack.enter_context(_exporter()) for _ in range(2)]
        prometheus = PrometheusServer(directory, _config(directory, targets))
        stack.callback(prometheus.stop)
        wait_until(lambda: (prometheus.value(_COMPLETE) or 0) == len(targets), DEADLINE, interval=1)
        time.sleep(SETTLE / FACTOR)
        _report(prometheus)


_COMPLETE = "count(instance:taskqueue_feed_complete:bool)"


def _report(prometheus: PrometheusServer) -> None:
    groups = []
    for _ in range(EVALUATIONS):
        groups.append(_recording(prometheus))
        time.sleep(USUAL_INTERVAL / FACTOR)
    took = statistics.median(group["evaluationTime"] for group in groups)
    series, recorded = prometheus.value("sum(scrape_samples_scraped)"), prometheus.value('count({__name__=~".+:.+"})')
    print(f"{TASKS} tasks in {QUEUES} queues, two exporters: {series:,.0f} series, {recorded:,.0f} recorded ones")
    print(f"an evaluation takes {took:.2f} s: {took / USUAL_INTERVAL:.1%} of one core")
    slowest = sorted(groups[-1]["rules"], key=lambda rule: -rule["evaluationTime"])
    for rule in slowest[:8]:
        print(f"  {rule['evaluationTime'] * 1e3:7.1f} ms  {rule['name']}")


def _recording(prometheus: PrometheusServer) -> dict[str, Any]:
    """The group as Prometheus tells of it."""
    with urllib.request.urlopen(f"{prometheus.url}/api/v1/rules", timeout=DEADLINE) as answer:  # noqa: S310  our own
        groups = json.load(answer)["data"]["groups"]
    return next(group for group in groups if group["name"] == "taskqueue_recording")


def _config(directory: Path, targets: list[str]) -> str:
    rules = [str(path) for path in accelerated(directory, FACTOR) if path.name in ("recording.yml", "targets.yml")]
    interval = f"{SCRAPE_INTERVAL}s"
    scrapes = [{"job_name": "taskqueue", "static_configs": [{"targets": targets}]}]
    limits = {"scrape_interval": interval, "scrape_timeout": interval}
    return json.dumps({"global": limits, "rule_files": rules, "scrape_configs": scrapes})


# -- what stands for an exporter --------------------------------------------------------------------------------


@contextmanager
def _exporter() -> Iterator[str]:
    """Answers scrapes with counters that all rise by one a second; gives its address."""
    template, started = "\n".join(_lines()) + "\n", time.time()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = template.replace("@", str(int(time.time() - started))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _lines() -> Iterator[str]:
    broker = 'system="celery",broker="main"'
    yield f"process_start_time_seconds {time.time()}"
    yield f'taskqueue_feed_gap_seconds_total{{{broker},feed="events"}} 0.1'
    for queue in range(QUEUES):
        for state in ("ready", "scheduled", "reserved", "running"):
            yield f'taskqueue_queue_jobs{{{broker},queue="q{queue}",state="{state}"}} 3'
    for task in range(TASKS):
        labels = f'{broker},queue="q{task % QUEUES}",task="shop.task_{task}"'
        yield f"taskqueue_jobs_enqueued_total{{{labels}}} @"
        yield f"taskqueue_jobs_retried_total{{{labels}}} @"
        yield f'taskqueue_job_exceptions_total{{{labels},exception="KeyError"}} @'
        yield from (f'taskqueue_jobs_finished_total{{{labels},outcome="{outcome}"}} @' for outcome in OUTCOMES)
        yield from (f'taskqueue_job_wait_seconds_bucket{{{labels},le="{bound}"}} @' for bound in WAIT)
        yield from (f'taskqueue_job_run_seconds_bucket{{{labels},le="{bound}"}} @' for bound in RUN)
