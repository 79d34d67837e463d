"""Every metric family in one table: name, type, HELP, labels. The contract that dashboards, rules and docs hold to.

Run as a module it prints the metrics reference (`docs/metrics.md`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Literal

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

Kind = Literal["gauge", "counter", "histogram"]


class LazySamples:
    """Samples that are made one after the other when they are walked over: 100,000 at once would stall the loop."""

    __slots__ = ("_make", "_size")

    def __init__(self, size: int, make: Callable[[], Iterator[Sample]]) -> None:
        self._size = size
        self._make = make

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Sample]:
        return self._make()


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family. `name` is the name users type: a counter's ends in `_total`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Of a histogram: the upper bounds, without +Inf, that hold unless the configuration says otherwise."""

    @property
    def metric_name(self) -> str:
        """The name of its metrics: without `_total`, as prometheus_client wants it."""
        return self.name.removesuffix("_total")

    def metric(self, values: Iterable[tuple[Sequence[str], float]] = ()) -> Metric:
        """A new metric of this family, with one sample for each pair of label values and number."""
        metric = Metric(self.metric_name, self.help, self.kind)
        metric.samples = [self.sample(labels, value) for labels, value in values]
        return metric

    def lazy_metric(self, size: int, make: Callable[[], Iterator[Sample]]) -> Metric:
        """A new metric of this family whose `size` samples are made anew whenever someone walks over them."""
        metric = self.metric()
        metric.samples = LazySamples(size, make)  # type: ignore[assignment]  # all that is done with them: walk, len
        return metric

    def sample(self, values: Sequence[str], value: float) -> Sample:
        """One sample; `values` stand in the order of `labels`."""
        return Sample(self.name, dict(zip(self.labels, values, strict=True)), value)


def joined(metric: Metric, parts: Sequence[Collection[Sample]]) -> Metric:
    """A metric of the family of `metric` with the samples of all `parts`, which are not copied."""
    whole = Metric(metric.name, metric.documentation, metric.type)
    size = sum(map(len, parts))
    whole.samples = LazySamples(size, lambda: chain.from_iterable(parts))  # type: ignore[assignment]  # see lazy_metric
    return whole


# The label sets of the design.
B: Final = ("system", "broker")
Q: Final = (*B, "queue")
T: Final = (*Q, "task")
W: Final = (*B, "worker")
F: Final = (*B, "feed")
_REDIS: Final = ("broker", "server")

# -- queues -----------------------------------------------------------------------------------------------------

QUEUE_JOBS = Family(
    "taskqueue_queue_jobs",
    "gauge",
    "Jobs in the queue by state: ready (due, no worker has it), scheduled (due later), reserved (handed to a worker, "
    "not started), running, paused. A state is absent where the broker cannot know it. ARQ: ZCOUNT of the queue by the "
    "exporter's clock (by so much as it is behind, jobs count as scheduled for longer, even running ones), running by "
    "its in-progress keys, without those that cron jobs leave behind; neither of ready and running where more than "
    "5,000 run. Celery: ready is LLEN over all priority lists (a job with an ETA stands there until a worker takes "
    "it); of the messages in unacked, scheduled are those whose ETA is to come, running those whose job runs, reserved "
    "the others; running also counts the jobs that were acknowledged early, by the workers' events or answers. Not "
    "scheduled and reserved where unacked holds more than 20,000 messages, some of them are not read yet or do not "
    "tell their queue; not running and, while any is held that is due, not reserved where it is not known what runs. "
    "A job that is delivered again while it runs counts in both states.",
    (*Q, "state"),
)
QUEUE_PRIORITY_JOBS = Family(
    "taskqueue_queue_priority_jobs",
    "gauge",
    "Ready jobs by priority. Celery on Redis: the lowest number is consumed first.",
    (*Q, "priority"),
)
QUEUE_KEPT_RESULTS = Family(
    "taskqueue_queue_kept_results",
    "gauge",
    "Finished jobs whose results are still kept, by state (completed, failed), where the system keeps them. ARQ: "
    "absent where more than 250,000 stand in a database, or nothing tells which of them go.",
    (*Q, "state"),
)
QUEUE_OLDEST_READY = Family(
    "taskqueue_queue_oldest_ready_timestamp_seconds",
    "gauge",
    "When the oldest ready job became due; absent if none is ready or if it cannot be known. ARQ: the job's score, "
    "which a deferred job loses that is aborted. Celery: messages carry no send time. Of the first 10 messages of "
    "each list it is that which is due for longest, by its task-sent (task_send_sent_event) or its ETA; where neither "
    "tells, the scrape at which the list's head was first seen, given only where the scrape before saw that list "
    "empty, or the search before did not find the queue (right to one such interval, never too old). A job that its "
    "task gave back stands at the end: it counts while it is the last there, and once it comes to the head.",
    Q,
)
QUEUE_OLDEST_RUNNING = Family(
    "taskqueue_queue_oldest_running_timestamp_seconds",
    "gauge",
    "Since when the longest-running job of the queue runs: its start where that is known, else the first scrape that "
    "saw it running. Absent if none runs. Celery: by task-started or by the workers' answers, by the worker's clock "
    "(by the exporter's where that is more than 5 s off). ARQ: a job tried again at once runs on; the jobs of a lost "
    "worker run until their in-progress keys lapse (the longest job_timeout and 10 s after their start).",
    Q,
)
QUEUE_LAST_PROGRESS = Family(
    "taskqueue_queue_last_progress_timestamp_seconds",
    "gauge",
    "Last evidence that a job left `ready`: the queue's head changed, its depth fell, it was empty, or (ARQ) one of "
    "its jobs was seen to end. Starts at the first scrape.",
    Q,
)
QUEUE_PAUSED = Family(
    "taskqueue_queue_paused", "gauge", "1 while the queue is paused, 0 else; only where the system can pause.", Q
)
QUEUE_WORKERS = Family(
    "taskqueue_queue_workers",
    "gauge",
    "Live workers that consume the queue; absent unless it can be determined. ARQ: the workers with the hook, as "
    "others do not register; absent where none has it, or where others work while none of these lives. Celery: by "
    "what every live worker answers (option inspect); absent until all have. A worker serves several queues: never sum "
    "over queue.",
    Q,
)
QUEUE_SLOTS = Family(
    "taskqueue_queue_slots",
    "gauge",
    "Jobs that the live workers of the queue can run at once; absent unless it can be determined (ARQ: "
    "those of the workers with the hook; Celery: on the terms of taskqueue_queue_workers). Never sum over queue.",
    Q,
)
QUEUE_BUSY_SLOTS = Family(
    "taskqueue_queue_busy_slots",
    "gauge",
    "Slots of the queue's live workers that run a job now; absent unless it can be determined (ARQ: those of the "
    "workers with the hook). Never sum over queue.",
    Q,
)
QUEUE_PROGRESS_JOBS = Family(
    "taskqueue_queue_progress_jobs",
    "gauge",
    "Running jobs of the queue that report their progress (ARQ: by the hook's progress(), as of their worker's last "
    "beat).",
    Q,
)
QUEUE_OLDEST_PROGRESS = Family(
    "taskqueue_queue_oldest_progress_timestamp_seconds",
    "gauge",
    "Of the running jobs that report their progress, when the one that is silent for longest did so last; absent where "
    "none does.",
    Q,
)
QUEUE_EXPIRED_JOBS = Family(
    "taskqueue_queue_expired_jobs",
    "gauge",
    "Due jobs that do not run and whose definition has expired: a worker that takes one ends it as expired. They count "
    "as ready, too. ARQ: looked for among the first due jobs of the queue (a page of 100, more where running jobs fill "
    "it): exact where all due jobs stand there, else at least so many.",
    Q,
)
QUEUE_HEALTH = Family(
    "taskqueue_queue_health_timestamp_seconds",
    "gauge",
    "When a worker of the queue last wrote its health record, as far as it was seen to: it lived then. Its age and its "
    "absence prove nothing: a worker writes once in health_check_interval (an hour by default), each that stops takes "
    "away the record of all, and one written before the exporter came has no known time. ARQ: the key "
    "<queue>:health-check, whose time is right to the second where the clocks of worker and exporter agree; a key of "
    "another name is not read.",
    Q,
)
QUEUE_REPORTED_JOBS = Family(
    "taskqueue_queue_reported_jobs_total",
    "counter",
    "What the worker says in its health record of the time since it started: attempts by outcome succeeded, failed "
    "(timed out, aborted, expired, ... too), retried. Only where one worker seems to own the record, as all of a queue "
    "write to one key: given after 3 writes in a row at the interval, while no counter falls and no more jobs are seen "
    "to run or end than it tells of; gone at the first write that breaks this, and with the record. Workers that write "
    "within one scrape of each other show only by the jobs that end. ARQ; needs at least two scrapes in a "
    "health_check_interval.",
    (*Q, "outcome"),
)
QUEUE_REPORTED_RUNNING = Family(
    "taskqueue_queue_reported_running_jobs",
    "gauge",
    "Jobs that ran when the queue's only worker wrote its health record, by that record; given on the same terms as "
    "the jobs it reports.",
    Q,
)
UNACKED_JOBS = Family(
    "taskqueue_unacked_jobs",
    "gauge",
    "Messages delivered to workers and not acknowledged: running, prefetched, or held until their ETA. Celery on "
    "Redis: HLEN unacked, which all queues of a database share.",
    B,
)
OLDEST_UNACKED = Family(
    "taskqueue_oldest_unacked_timestamp_seconds",
    "gauge",
    "When the oldest unacknowledged message was delivered (the lowest score of unacked_index); absent if none is. "
    "Past the visibility timeout it is delivered again. It is not refreshed: a job that waits in a worker for its ETA, "
    "or runs and is acknowledged late, gets as old as any.",
    B,
)
VISIBILITY_TIMEOUT = Family(
    "taskqueue_unacked_visibility_timeout_seconds",
    "gauge",
    "Seconds after its delivery at which an unacknowledged message is delivered again, as the exporter's option "
    "visibility_timeout says (Celery's own setting stands nowhere in Redis).",
    B,
)
ABORT_REQUESTS = Family(
    "taskqueue_abort_requests",
    "gauge",
    "Requests to abort a job that no worker has taken. All queues of a database share them. ARQ: ZCARD arq:abort; "
    "workers take them only with allow_abort_jobs, and those for jobs that are not there stay for ever (arq issue "
    "485): then it only grows.",
    B,
)

# -- workers ----------------------------------------------------------------------------------------------------

WORKERS = Family(
    "taskqueue_workers",
    "gauge",
    "Live workers of the system; absent unless it can be determined (ARQ: the workers with the hook, as others do not "
    "register; absent where none has it. Celery: by heartbeats; by answers of those that send none, or while none is "
    "heard).",
    B,
)
WORKER_UP = Family("taskqueue_worker_up", "gauge", "1 while the worker is alive, 0 once its heartbeat is lost.", W)
WORKER_LAST_HEARTBEAT = Family(
    "taskqueue_worker_last_heartbeat_timestamp_seconds", "gauge", "When the worker's last heartbeat arrived.", W
)
WORKER_SLOTS = Family("taskqueue_worker_slots", "gauge", "Jobs that the worker can run at once, at most.", W)
WORKER_BUSY_SLOTS = Family("taskqueue_worker_busy_slots", "gauge", "Jobs that the worker runs now.", W)
WORKER_RESERVED_JOBS = Family(
    "taskqueue_worker_reserved_jobs",
    "gauge",
    "Jobs handed to the worker that it has not started (Celery: when it last answered).",
    W,
)
WORKER_REGISTERED_TASKS = Family("taskqueue_worker_registered_tasks", "gauge", "Tasks that the worker knows.", W)
WORKER_INFO = Family("taskqueue_worker_info", "gauge", "Always 1; the worker's software version.", (*W, "version"))

# -- jobs: what the feeds count. Born at 0, increments shown once the zeros were scraped ------------------------

JOBS_ENQUEUED = Family(
    "taskqueue_jobs_enqueued_total",
    "counter",
    "Jobs put into the queue; only where it is seen when it happens (Celery: task-sent, if task_send_sent_event is on; "
    "ARQ: absent). A retry is no new job.",
    T,
)
JOBS_STARTED = Family(
    "taskqueue_jobs_started_total",
    "counter",
    "Attempts begun; only where that is seen when it happens (Celery: task-started; ARQ: absent).",
    T,
)
JOBS_RETRIED = Family(
    "taskqueue_jobs_retried_total",
    "counter",
    "Attempts that ended in a retry (ARQ without hook: counted when the job ends, if its result is kept).",
    T,
)
JOBS_FINISHED = Family(
    "taskqueue_jobs_finished_total",
    "counter",
    "Jobs that reached a final outcome: succeeded, failed (raised, timed out, ran out of tries), aborted (revoked, "
    "cancelled), expired, not_found (the worker knows no such task), rejected, undecodable, unknown (nobody kept how). "
    "ARQ without hook: jobs that keep no result (keep_result=0, cron jobs by default) are unknown, and are counted as "
    "far as the option unkept has them watched.",
    (*T, "outcome"),
)
JOB_EXCEPTIONS = Family(
    "taskqueue_job_exceptions_total",
    "counter",
    'Final failures by exception class; the sum equals jobs_finished_total{outcome="failed"}, but for classes so new '
    "that they still show 0. __unknown__ where the class is not kept (ARQ: by other serializers than pickle).",
    (*T, "exception"),
)
JOB_WAIT = Family(
    "taskqueue_job_wait_seconds",
    "histogram",
    "From when a job was due (ETA, countdown and deferral left out) to its first start; once per job, where due is "
    "known. Celery: where its task-sent was seen, or it has an ETA. ARQ without hook: jobs that ended at their first "
    "try and kept their result; due is the time put off to if the job was seen scheduled (it is, if put off by more "
    "than a second), else when it was enqueued.",
    T,
    (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 900, 3600, 14400),
)
JOB_RUN = Family(
    "taskqueue_job_run_seconds",
    "histogram",
    "How long the last attempt of a job ran; once per job that ran and ended. ARQ without hook: if its result is kept; "
    "of an aborted job, of which arq does not say whether it ran, from a second on.",
    T,
    (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
)
JOB_FAILED_RUN = Family(
    "taskqueue_job_failed_run_seconds_total",
    "counter",
    "Worker seconds spent on attempts that failed or were retried, as far as their run time is known (ARQ without "
    "hook: of retried jobs only the last attempt's).",
    T,
)
TASK_RUNNING = Family(
    "taskqueue_task_running_jobs",
    "gauge",
    "Jobs of the task that run now; only where a running job's task is known (Celery: from task-started on, on workers "
    "that are alive; absent while a worker's own number is another, as after a gap. ARQ: by the definitions of the "
    "running jobs, __unknown__ where one cannot be read or has expired; absent while it is not known what runs in one "
    "of the queues).",
    (*B, "task"),
)
TASK_LAST_FINISHED = Family(
    "taskqueue_task_last_finished_timestamp_seconds",
    "gauge",
    "When a job of the task last came to this outcome; results that stood when the exporter started included. ARQ: a "
    "job that keeps no result, as cron jobs by default, came to unknown.",
    (*B, "task", "outcome"),
)

# -- feeds: whether the numbers of the jobs can be trusted ------------------------------------------------------

FEED_CONNECTED = Family(
    "taskqueue_feed_connected", "gauge", "1 while what happens to jobs is seen when it happens, 0 else.", F
)
FEED_INFO = Family(
    "taskqueue_feed_info",
    "gauge",
    "Always 1; how the feed sees what happens: tracking (Redis names changed keys), keyspace (notifications), scan (a "
    "search now and then, which sees no ARQ jobs that keep no result), pubsub, stream (of records, by ARQ's hook).",
    (*F, "mode"),
)
FEED_EVENTS = Family(
    "taskqueue_feed_events_total",
    "counter",
    "Records that came in by kind (job, worker), readable or not.",
    (*F, "kind"),
)
FEED_LOST = Family(
    "taskqueue_feed_lost_events_total",
    "counter",
    "Records known to be lost: dropped here, as more came in than could be decoded; ARQ's hook: dropped by a worker "
    "that could not write them, or from a stream before they were read; Celery: an estimate of the starts of jobs in a "
    "gap, by what the heartbeats of workers say that they processed, less the jobs that were counted by their results; "
    "and starts that a worker did not tell of, though it told of the end.",
    F,
)
FEED_GAP = Family(
    "taskqueue_feed_gap_seconds_total",
    "counter",
    "Seconds in which the feed was not connected; rises during the gap. What happened then may be missing (ARQ: "
    "results that still stand afterwards are counted).",
    F,
)
FEED_RECONNECTS = Family(
    "taskqueue_feed_reconnects_total", "counter", "Times the feed was connected again after it was lost.", F
)
FEED_UNDECODABLE = Family(
    "taskqueue_feed_undecodable_total",
    "counter",
    "Records that could not be decoded by reason: malformed, encoding (a format that is not read), bounds (too long, "
    "too deep or too many operations).",
    (*F, "reason"),
)
FEED_FORGOTTEN = Family(
    "taskqueue_feed_forgotten_jobs_total",
    "counter",
    "Jobs forgotten before they ended, as the feed's memory is bounded: their queue, task or wait may be unknown.",
    F,
)
FEED_LAST_EVENT = Family(
    "taskqueue_feed_last_event_timestamp_seconds",
    "gauge",
    "When the feed's last record came in; absent before the first.",
    F,
)

# -- brokers and collectors -------------------------------------------------------------------------------------

BROKER_UP = Family(
    "taskqueue_broker_up",
    "gauge",
    "1 if the broker answered PING within the deadline of this scrape, 0 else.",
    ("broker",),
)
COLLECTOR_SUCCESS = Family(
    "taskqueue_collector_success",
    "gauge",
    "1 if the collector gave everything it should within the deadline of this scrape, 0 else (the log says why).",
    ("collector", "broker"),
)
COLLECTOR_DURATION = Family(
    "taskqueue_collector_duration_seconds",
    "gauge",
    "How long the collector ran; so far, if it still runs. Collectors run side by side: durations do not add up.",
    ("collector", "broker"),
)

# -- the exporter about itself ----------------------------------------------------------------------------------

BUILD_INFO = Family(
    "taskqueue_exporter_build_info",
    "gauge",
    "Always 1; version of the exporter and of Python.",
    ("version", "pythonversion"),
)
SERIES = Family("taskqueue_exporter_series", "gauge", "Series in this answer before this one.")
SERIES_FOLDED = Family(
    "taskqueue_exporter_series_folded_total",
    "counter",
    "Label values beyond a limit of the configuration, counted each time one is folded into __other__ or left out.",
    ("label",),
)
RELOAD_SUCCESSFUL = Family(
    "taskqueue_exporter_config_last_reload_successful",
    "gauge",
    "1 if the last load of the configuration succeeded, 0 if it was refused and the one before stayed.",
)
RELOAD_TIMESTAMP = Family(
    "taskqueue_exporter_config_last_reload_success_timestamp_seconds",
    "gauge",
    "When the configuration in use was loaded.",
)

# -- Redis: redis_exporter's suffixes, base units, our prefix ---------------------------------------------------

REDIS_INFO = Family(
    "taskqueue_redis_instance_info",
    "gauge",
    "Always 1; what the server is (INFO redis_version, redis_mode, role, maxmemory_policy, run_id). On a broker any "
    "maxmemory_policy but noeviction loses jobs without a sign.",
    (*_REDIS, "redis_version", "redis_mode", "role", "maxmemory_policy", "run_id"),
)


def _redis(suffix: str, kind: Kind, text: str, labels: tuple[str, ...] = ()) -> Family:
    return Family(f"taskqueue_redis_{suffix}", kind, text, (*_REDIS, *labels))


REDIS_UPTIME = _redis("uptime_in_seconds", "gauge", "Seconds since the server started (INFO uptime_in_seconds).")
REDIS_LOADING = _redis("loading_dump_file", "gauge", "1 while the server loads its data (INFO loading).")

REDIS_MEMORY_USED = _redis("memory_used_bytes", "gauge", "Bytes allocated for data (INFO used_memory).")
REDIS_MEMORY_RSS = _redis("memory_used_rss_bytes", "gauge", "Resident memory of the server (INFO used_memory_rss).")
REDIS_MEMORY_PEAK = _redis("memory_used_peak_bytes", "gauge", "Most bytes ever used (INFO used_memory_peak).")
REDIS_MEMORY_MAX = _redis("memory_max_bytes", "gauge", "Memory limit, 0 for none (INFO maxmemory).")
REDIS_FRAGMENTATION = _redis(
    "mem_fragmentation_ratio", "gauge", "Resident over used memory (INFO mem_fragmentation_ratio)."
)

REDIS_CLIENTS = _redis("connected_clients", "gauge", "Connected clients (INFO connected_clients).")
REDIS_CLIENTS_BLOCKED = _redis(
    "blocked_clients", "gauge", "Clients that wait in a blocking call, as Celery's BRPOP (INFO blocked_clients)."
)
REDIS_CLIENTS_MAX = _redis("max_clients", "gauge", "Most clients the server accepts (INFO maxclients).")
REDIS_CONNECTIONS = _redis(
    "connections_received_total", "counter", "Connections accepted (INFO total_connections_received)."
)
REDIS_CONNECTIONS_REJECTED = _redis(
    "rejected_connections_total", "counter", "Connections refused at the limit (INFO rejected_connections)."
)

REDIS_COMMANDS = _redis("commands_processed_total", "counter", "Commands done (INFO total_commands_processed).")
REDIS_NET_INPUT = _redis("net_input_bytes_total", "counter", "Bytes read (INFO total_net_input_bytes).")
REDIS_NET_OUTPUT = _redis("net_output_bytes_total", "counter", "Bytes written (INFO total_net_output_bytes).")
REDIS_HITS = _redis("keyspace_hits_total", "counter", "Look-ups that found a key (INFO keyspace_hits).")
REDIS_MISSES = _redis("keyspace_misses_total", "counter", "Look-ups that found none (INFO keyspace_misses).")
REDIS_EXPIRED = _redis("expired_keys_total", "counter", "Keys that expired (INFO expired_keys).")
REDIS_EVICTED = _redis(
    "evicted_keys_total", "counter", "Keys evicted for want of memory: lost jobs on a broker (INFO evicted_keys)."
)

REDIS_RDB_CHANGES = _redis(
    "rdb_changes_since_last_save", "gauge", "Changes not in the last dump (INFO rdb_changes_since_last_save)."
)
REDIS_RDB_SAVED = _redis(
    "rdb_last_save_timestamp_seconds", "gauge", "When the last dump succeeded (INFO rdb_last_save_time)."
)
REDIS_RDB_STATUS = _redis(
    "rdb_last_bgsave_status", "gauge", "1 if the last dump succeeded, 0 else (INFO rdb_last_bgsave_status)."
)
REDIS_AOF_ENABLED = _redis("aof_enabled", "gauge", "1 if the append-only file is on (INFO aof_enabled).")
REDIS_AOF_WRITE_STATUS = _redis(
    "aof_last_write_status", "gauge", "1 if the last append succeeded, 0 else (INFO aof_last_write_status)."
)
REDIS_AOF_REWRITE_STATUS = _redis(
    "aof_last_bgrewrite_status",
    "gauge",
    "1 if the last rewrite of the append-only file succeeded, 0 else (INFO aof_last_bgrewrite_status).",
)

REDIS_DB_KEYS = _redis("db_keys", "gauge", "Keys by database (INFO keyspace, keys).", ("db",))
REDIS_DB_EXPIRING = _redis(
    "db_keys_expiring", "gauge", "Keys with an expiry by database (INFO keyspace, expires).", ("db",)
)

# -- the host: node_exporter's units and labels, our prefix -----------------------------------------------------

HOST_CPU = Family(
    "taskqueue_host_cpu_seconds_total", "counter", "Seconds that each CPU spent in each mode.", ("cpu", "mode")
)
HOST_LOAD1 = Family("taskqueue_host_load1", "gauge", "Load average over 1 minute.")
HOST_LOAD5 = Family("taskqueue_host_load5", "gauge", "Load average over 5 minutes.")
HOST_LOAD15 = Family("taskqueue_host_load15", "gauge", "Load average over 15 minutes.")
HOST_BOOT_TIME = Family("taskqueue_host_boot_time_seconds", "gauge", "When the host booted.")
HOST_MEMORY_TOTAL = Family("taskqueue_host_memory_total_bytes", "gauge", "Physical memory.")
HOST_MEMORY_AVAILABLE = Family(
    "taskqueue_host_memory_available_bytes", "gauge", "Memory that can be had without swapping (MemAvailable)."
)
HOST_SWAP_TOTAL = Family("taskqueue_host_memory_swap_total_bytes", "gauge", "Swap space.")
HOST_SWAP_FREE = Family("taskqueue_host_memory_swap_free_bytes", "gauge", "Swap space not in use.")

_DEVICE: Final = ("device",)
HOST_DISK_READ = Family("taskqueue_host_disk_read_bytes_total", "counter", "Bytes read from the disk.", _DEVICE)
HOST_DISK_WRITTEN = Family("taskqueue_host_disk_written_bytes_total", "counter", "Bytes written to the disk.", _DEVICE)
HOST_DISK_READS = Family("taskqueue_host_disk_reads_completed_total", "counter", "Reads completed.", _DEVICE)
HOST_DISK_WRITES = Family("taskqueue_host_disk_writes_completed_total", "counter", "Writes completed.", _DEVICE)
HOST_DISK_IO_TIME = Family(
    "taskqueue_host_disk_io_time_seconds_total", "counter", "Seconds in which the disk had work.", _DEVICE
)
HOST_NET_RECEIVED = Family("taskqueue_host_network_receive_bytes_total", "counter", "Bytes received.", _DEVICE)
HOST_NET_SENT = Family("taskqueue_host_network_transmit_bytes_total", "counter", "Bytes sent.", _DEVICE)
HOST_NET_RECEIVE_ERRORS = Family(
    "taskqueue_host_network_receive_errs_total", "counter", "Errors while receiving.", _DEVICE
)
HOST_NET_SEND_ERRORS = Family("taskqueue_host_network_transmit_errs_total", "counter", "Errors while sending.", _DEVICE)

_FILESYSTEM: Final = ("device", "mountpoint", "fstype")
HOST_FILESYSTEM_SIZE = Family("taskqueue_host_filesystem_size_bytes", "gauge", "Size of the file system.", _FILESYSTEM)
HOST_FILESYSTEM_AVAIL = Family(
    "taskqueue_host_filesystem_avail_bytes", "gauge", "Bytes free to users other than root.", _FILESYSTEM
)


FAMILIES: Final[dict[str, Family]] = {
    family.name: family for family in list(globals().values()) if isinstance(family, Family)
}
"""Every family by name, in the order of this file, which is the order of `/metrics`."""


def reference() -> Iterator[str]:
    """The metrics reference, line by line, as Markdown."""
    yield "# Metrics"
    yield ""
    yield "Generated from `exporter/catalogue.py` by `make docs`; a test holds the two together."
    yield ""
    yield "| family | type | labels | meaning |"
    yield "|---|---|---|---|"
    for family in FAMILIES.values():
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield f"| `{family.name}` | {family.kind} | {labels} | {family.help.replace('|', '/')} |"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in reference())
