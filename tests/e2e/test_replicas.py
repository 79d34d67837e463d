"""Two real exporters on one Redis, real Celery workers, a real Prometheus: what the rules record is what jobs recorded.

One exporter is killed and started anew twice, the other stands still for a while. Time runs faster for the rules.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.apps import START_DEADLINE, worker
from tests.e2e.prometheus import PrometheusServer
from tests.e2e.truth import Job, read, unended
from tests.e2e.truth_celery import QUEUES, TASKS, Sender, sender, worker_command
from tests.e2e.truth_record import Recorder
from tests.rules.accelerated import accelerated
from tests.servers import (
    EXPORTER_PYTHON,
    LOOPBACK,
    ROOT,
    Exporter,
    Process,
    RedisServer,
    exporter_environment,
    free_port,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.needs("prometheus")]

FACTOR = 20.0
"""Rules are evaluated every 1.5 seconds and look back for 15.75; scrapes are half as far apart, as usual."""
SCRAPE_INTERVAL = 15 / FACTOR
INTERVAL = 30 / FACTOR
WINDOW = 315 / FACTOR
TOLERANCE = 0.02
ENOUGH = 200
"""Events from which on a sum is compared. Of fewer, the one or two that are between two scrapes when the rules go over
from one replica to the other are more than the tolerance."""
DEADLINE = 60.0
HOLD = "TASKQUEUE_EXPORTER_BIRTH_HOLD"
SEND_EVERY = 0.05
BEHIND = 12
"""Jobs that always wait for one slow worker, so that each of its jobs is late; it gets as many as it can do."""
SLOW, EACH = QUEUES[1], 6
LATE = 2.0
AWAY = 3 * SCRAPE_INTERVAL
CONFIG = f"""
global: {{{{scrape_interval: {SCRAPE_INTERVAL * 1000:.0f}ms, scrape_timeout: {SCRAPE_INTERVAL * 1000:.0f}ms}}}}
rule_files: {{rules}}
scrape_configs:
  - job_name: taskqueue
    static_configs: [{{{{targets: {{targets}}}}}}]
"""

PLANS = (
    *[["succeed"]] * 6,
    ["fail ValueError"],
    ["fail KeyError"],
    ["retry 0.2", "succeed"],
    ["retry 0.2", "fail Refused"],
)
"""What becomes of ten jobs."""
WORKERS = (
    worker_command("steady", "--queues", QUEUES[0], concurrency=16),
    worker_command("slow", "--queues", SLOW, concurrency=1),
)


class Replica:
    """One exporter, which can be killed and started anew on the same port."""

    def __init__(self, directory: Path, url: str) -> None:
        self._port = free_port()
        self._directory, self._environment = directory, exporter_environment({HOLD: str(30 / FACTOR)}, url)
        self._process = self._start()

    @property
    def target(self) -> str:
        return f"{LOOPBACK}:{self._port}"

    def restart(self) -> None:
        """Kill it, and start it at once."""
        self._process.signal(signal.SIGKILL)
        self._process.wait()
        self._process = self._start()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """It answers no scrape, and reads nothing."""
        self._process.pause()
        try:
            yield
        finally:
            self._process.resume()

    def stop(self) -> None:
        self._process.stop()

    def _start(self) -> Process:
        command = [EXPORTER_PYTHON, "-m", "exporter.cli", "serve", "--web.listen-address", self.target]
        process = Process(command, self._directory / "exporter.log", cwd=ROOT, env=self._environment)
        try:
            process.wait_until_ready(self._healthy, Exporter.START_DEADLINE)
        except BaseException:
            process.stop()
            raise
        return process

    def _healthy(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self._port), timeout=1.0):
                return True
        except OSError:
            return False


@pytest.fixture
def replicas(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    with ExitStack() as stack:
        started = []
        for _ in range(2):
            started += [Replica(tmp_path_factory.mktemp("exporter"), redis_server.url())]
            stack.callback(started[-1].stop)
        yield started


@pytest.fixture
def prometheus(replicas: list[Replica], tmp_path: Path) -> Iterator[PrometheusServer]:
    rules = accelerated(tmp_path, FACTOR, {"wait_seconds": LATE})
    files = [str(path) for path in rules if path.name in ("recording.yml", "targets.yml")]
    config = CONFIG.format(rules=files, targets=[replica.target for replica in replicas])
    server = PrometheusServer(tmp_path, config)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def load(tasks: Sender) -> Iterator[None]:
    """Jobs of all kinds, at a steady pace, from another thread."""
    done = threading.Event()

    def send() -> None:
        for _ in range(BEHIND):
            send_slow(tasks)
        number = 0
        while not done.is_set():
            send_one(tasks, number)
            number += 1
            done.wait(SEND_EVERY)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def send_one(tasks: Sender, number: int) -> None:
    tasks.send(TASKS[number % len(TASKS)], QUEUES[0], PLANS[number % len(PLANS)])
    if number % EACH == 0:
        send_slow(tasks)


def send_slow(tasks: Sender) -> None:
    tasks.send(TASKS[0], SLOW, ["succeed"])


def complete(prometheus: PrometheusServer) -> float:
    """How many replicas have seen all of a window."""
    return prometheus.value('count(instance:taskqueue_feed_complete:bool{system="celery"})') or 0.0


def at_rest(prometheus: PrometheusServer) -> bool:
    """Both replicas are well, and no job ended within the window."""
    busy = prometheus.value('sum(queue_outcome:taskqueue_jobs_finished:rate5m{system="celery"})')
    return complete(prometheus) == 2 and busy == 0


def wait(condition: Callable[[PrometheusServer], object], prometheus: PrometheusServer) -> None:
    wait_until(lambda: condition(prometheus), DEADLINE, interval=0.2)


def both_complete(prometheus: PrometheusServer) -> bool:
    return complete(prometheus) == 2


def one_complete(prometheus: PrometheusServer) -> bool:
    """The rules know what happened to the other."""
    return complete(prometheus) == 1


def enough(record: Path, before: Collection[str]) -> bool:
    """So many jobs were retried that their number can be compared; of the others there are more."""
    return sum(job.retried for job_id, job in read(record).items() if job_id not in before) >= ENOUGH


def recorded(prometheus: PrometheusServer, rate: str, since: float, until: float) -> float:
    """How many events the recorded rates tell of."""
    seconds = f"[{round((until - since) * 1000)}ms]"
    return INTERVAL * (prometheus.value(f"sum(sum_over_time({rate}{seconds}))", until) or 0.0)


SLOW_LATE = f'queue:taskqueue_job_wait_late:rate5m{{queue="{SLOW}"}}'
SLOW_OBSERVED = f'queue:taskqueue_job_wait_observed:rate5m{{queue="{SLOW}"}}'
"""An exporter that starts does not know since when those wait that were sent before. Nearly all of this queue are
late, so that their share is not touched by it; among the jobs of both queues it would be."""
RATES: dict[str, Callable[[Job], float]] = {
    'queue_outcome:taskqueue_jobs_finished:rate5m{outcome="succeeded"}': lambda job: job.how == "succeeded",
    'queue_outcome:taskqueue_jobs_finished:rate5m{outcome="failed"}': lambda job: job.how != "succeeded",
    "queue:taskqueue_jobs_enqueued:rate5m": lambda job: 1,
    "queue:taskqueue_jobs_retried:rate5m": lambda job: job.retried,
    "queue_task:taskqueue_jobs_retried:rate5m": lambda job: job.retried,
    "queue_task_exception:taskqueue_job_exceptions:rate5m": lambda job: job.how != "succeeded",
    "queue:taskqueue_job_wait_observed:rate5m": lambda job: job.wait is not None,
    SLOW_OBSERVED: lambda job: job.enqueued.queue == SLOW,
    SLOW_LATE: lambda job: job.enqueued.queue == SLOW and (job.wait or 0.0) > LATE,
    'queue_le:taskqueue_job_run_seconds_bucket:rate5m{le="+Inf"}': lambda job: job.run is not None,
    "queue:taskqueue_jobs_valid:rate5m": lambda job: 1,
    "queue:taskqueue_jobs_bad:rate5m": lambda job: job.how != "succeeded",
}
"""Recorded rates, and what a job adds to them."""
SUMS = RATES.keys() - {SLOW_LATE, SLOW_OBSERVED}
"""The rates of which there are always enough events."""
SHARES = (
    ("queue:taskqueue_jobs_bad:rate5m", "queue:taskqueue_jobs_valid:rate5m"),
    ("queue:taskqueue_jobs_retried:rate5m", "queue:taskqueue_jobs_valid:rate5m"),
    (SLOW_LATE, SLOW_OBSERVED),
)


def test_recorded_rates_are_true_while_exporters_restart_and_scrapes_are_missed(
    redis_server: RedisServer,
    replicas: list[Replica],
    prometheus: PrometheusServer,
    record: Path,
    tmp_path: Path,
) -> None:
    url, (first, second) = redis_server.url(), replicas
    with ExitStack() as stack:
        for command in WORKERS:
            stack.enter_context(worker(tmp_path, url, *command))
        tasks = stack.enter_context(sender(url, Recorder(record)))
        # given series that both replicas know
        for number in range(len(PLANS) * 2):
            send_one(tasks, number)
        wait_until(lambda: read(record) and not unended(record), START_DEADLINE)
        wait_until(lambda: prometheus.value('count(taskqueue_queue_jobs{queue="celery",state="ready"})') == 2, DEADLINE)
        wait(at_rest, prometheus)
        before, since = set(read(record)), time.time()
        # when
        with load(tasks):
            first.restart()
            wait(one_complete, prometheus)
            wait(both_complete, prometheus)
            with second.standing_still():
                time.sleep(AWAY)  # so long that scrapes of it fail
            wait(one_complete, prometheus)
            wait(both_complete, prometheus)
            first.restart()
            wait_until(lambda: enough(record, before), DEADLINE, interval=1.0)
        wait_until(lambda: not unended(record), DEADLINE)
        wait(at_rest, prometheus)
    until = time.time()
    # then
    jobs = [job for job_id, job in read(record).items() if job_id not in before]
    found = {rate: recorded(prometheus, rate, since, until) for rate in RATES}
    true = {rate: float(sum(adds(job) for job in jobs)) for rate, adds in RATES.items()}
    assert all(true.values()), true
    off = {rate: found[rate] / true[rate] - 1 for rate in RATES}
    print({rate: f"{found[rate]:.1f} of {true[rate]:g}, {off[rate]:+.2%}" for rate in RATES})
    judged = {rate for rate in RATES if true[rate] >= ENOUGH}
    assert judged >= SUMS, true
    assert not {rate: (found[rate], true[rate]) for rate in judged if abs(off[rate]) > TOLERANCE}
    for part, whole in SHARES:
        share, true_share = found[part] / found[whole], true[part] / true[whole]
        print(f"{part} of {whole} is {share:.4f}, {share / true_share - 1:+.2%}")
        assert abs(share / true_share - 1) <= TOLERANCE, f"{part} of {whole} is {share:.4f}, not {true_share:.4f}"
    assert restarts_seen(prometheus, first, since - INTERVAL, until) == 2


def restarts_seen(prometheus: PrometheusServer, replica: Replica, since: float, until: float) -> float | None:
    """How often Prometheus saw another process there."""
    seconds = f"[{round((until - since) * 1000)}ms]"
    return prometheus.value(f'changes(process_start_time_seconds{{instance="{replica.target}"}}{seconds})', until)
