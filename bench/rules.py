"""What Prometheus spends on the recording rules: two exporters that show 2,000 tasks each, the default limit, or 100.

They answer the first scrapes with what happened in the seven minutes before, and then with nothing, so that Prometheus
does nothing but evaluate the rules while it is measured. They are the rules as they are, evaluated more often.
"""

from __future__ import annotations

import json
import re
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

from exporter import catalogue as c
from scripts.rulebook import RULES
from tests.e2e.prometheus import PrometheusServer
from tests.servers import LOOPBACK, wait_until

TASKS, QUEUES = (100, 2000), 20
SAMPLES, AT_ONCE, BETWEEN = 28, 4, 15
"""How many samples each series has, how many one scrape brings, and seconds from one to the next, as usual."""
SCRAPE_INTERVAL = 2
INTERVAL = 3
"""Seconds from one evaluation to the next."""
USUAL_INTERVAL = 30
EVALUATIONS = 3
DEADLINE = 120.0
OUTCOMES = ("succeeded", "failed", "aborted", "expired", "not_found", "rejected")


def main() -> None:
    for tasks in TASKS:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            exporters = [stack.enter_context(_exporter(tasks)) for _ in range(2)]
            prometheus = PrometheusServer(directory, _config(directory, exporters))
            stack.callback(prometheus.stop)
            wait_until(lambda: prometheus.value(_COMPLETE) == len(exporters), DEADLINE, interval=0.5)  # noqa: B023
            _report(tasks, prometheus)


_COMPLETE = "count(instance:taskqueue_feed_complete:bool)"


def _report(tasks: int, prometheus: PrometheusServer) -> None:
    groups = {group["lastEvaluation"]: group for group in (_recording(prometheus),)}
    first = set(groups)
    while len(groups) <= EVALUATIONS:  # the first may have run beside the last scrape
        time.sleep(0.5)
        groups |= {group["lastEvaluation"]: group for group in (_recording(prometheus),)}
    measured = [group for at, group in groups.items() if at not in first]
    took = statistics.median(group["evaluationTime"] for group in measured)
    series = prometheus.value('count({__name__=~"taskqueue_.+",instance!=""})')
    recorded = prometheus.value('count({__name__=~".+:.+"})')
    print(f"{tasks} tasks in {QUEUES} queues, two exporters: {series:,.0f} series, {recorded:,.0f} recorded ones")
    print(f"an evaluation takes {took:.2f} s: {took / USUAL_INTERVAL:.1%} of one core")
    for rule in sorted(measured[-1]["rules"], key=lambda rule: -rule["evaluationTime"])[:6]:
        print(f"  {rule['evaluationTime'] * 1e3:7.1f} ms  {rule['name']}")


def _recording(prometheus: PrometheusServer) -> dict[str, Any]:
    """The group as Prometheus tells of it."""
    with urllib.request.urlopen(f"{prometheus.url}/api/v1/rules", timeout=DEADLINE) as answer:  # noqa: S310  our own
        groups = json.load(answer)["data"]["groups"]
    return next(group for group in groups if group["name"] == "taskqueue_recording")


def _config(directory: Path, targets: list[str]) -> str:
    files = []
    for name in ("recording.yml", "targets.yml"):
        text = re.sub(r"interval: 30s", f"interval: {INTERVAL}s", (RULES / name).read_text())
        files.append(str(directory / name))
        Path(files[-1]).write_text(text)
    scrapes = [{"job_name": "taskqueue", "static_configs": [{"targets": targets}]}]
    limits = {"scrape_interval": f"{SCRAPE_INTERVAL}s", "scrape_timeout": f"{SCRAPE_INTERVAL}s"}
    return json.dumps({"global": limits, "rule_files": files, "scrape_configs": scrapes})


# -- what stands for an exporter --------------------------------------------------------------------------------


@contextmanager
def _exporter(tasks: int) -> Iterator[str]:
    """Tells of counters that all rise by one a second, a few samples of each at a time; gives its address."""
    template = "\n".join(f"{line} !" for line in _lines(tasks)) + "\n"
    begin = time.time() - SAMPLES * BETWEEN
    left = iter(range(SAMPLES))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = [_at(number) for number, _ in zip(left, range(AT_ONCE), strict=False)]
            body = "".join(parts).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    def _at(number: int) -> str:
        return template.replace("@", str(number * BETWEEN)).replace("!", str(int((begin + number * BETWEEN) * 1000)))

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _lines(tasks: int) -> Iterator[str]:
    broker = 'system="celery",broker="main"'
    yield f"process_start_time_seconds {time.time()}"
    yield f'taskqueue_feed_gap_seconds_total{{{broker},feed="events"}} 0.1'
    for queue in range(QUEUES):
        for state in ("ready", "scheduled", "reserved", "running"):
            yield f'taskqueue_queue_jobs{{{broker},queue="q{queue}",state="{state}"}} 3'
    for task in range(tasks):
        labels = f'{broker},queue="q{task % QUEUES}",task="shop.task_{task}"'
        yield f"taskqueue_jobs_enqueued_total{{{labels}}} @"
        yield f"taskqueue_jobs_retried_total{{{labels}}} @"
        yield f'taskqueue_job_exceptions_total{{{labels},exception="KeyError"}} @'
        yield from (f'taskqueue_jobs_finished_total{{{labels},outcome="{outcome}"}} @' for outcome in OUTCOMES)
        for family in (c.JOB_WAIT, c.JOB_RUN):
            bounds = [*map(float, family.buckets), "+Inf"]
            yield from (f'{family.name}_bucket{{{labels},le="{bound}"}} @' for bound in bounds)
