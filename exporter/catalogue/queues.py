"""Queues and workers: what a scrape sees of them."""

from __future__ import annotations

from exporter.catalogue.family import B, Family, Q, W

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

# -- workers ---------------------------------------------------------------------------------------------------

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
