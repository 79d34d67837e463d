"""Feeds about themselves: whether the numbers of the jobs can be trusted."""

from __future__ import annotations

from exporter.catalogue.family import F, Family

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
    "Seconds in which the feed was not connected, or was while jobs may have ended at a master that Sentinel had left; "
    "rises during the gap. What happened then may be missing (ARQ: results that still stand afterwards are counted).",
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
