"""What the feeds count of jobs. Born at 0; increments are shown once the zeros were scraped."""

from __future__ import annotations

from exporter.catalogue.family import B, Family, T

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
