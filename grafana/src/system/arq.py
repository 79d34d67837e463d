"""What only ARQ has."""

from __future__ import annotations

from typing import Final

from grafana.src import links
from grafana.src.board import Row
from grafana.src.limits import GOOD, WARNING, over
from grafana.src.panels import OUTCOME_COLOURS, Query, Says, by_colour, limited, lines, mapping
from grafana.src.promql import QUEUE, SYSTEM, increase, of, seen
from grafana.src.queues import BY_QUEUE, KEYS
from grafana.src.tables import COLOURED_TEXT, Column, Key, rows

ARQ: Final = 'system="arq"'
NONE: Final = "No data: no exporter or broker answers, or there is no ARQ here"
AWAY: Final = "No data: no exporter or broker answers"
"""What other causes follow."""
CONNECTED: Final = mapping({"1": ("yes", GOOD), "0": ("no", WARNING)})
MODES: Final = seen("taskqueue_feed_info", SYSTEM, ARQ)
REPORTED: Final = ("succeeded", "failed", "retried")
UNRUN: Final = of(
    "queue_outcome:taskqueue_jobs_finished:rate5m", QUEUE, ARQ, 'outcome=~"expired|not_found|undecodable"'
)
REPORTING: Final = seen("taskqueue_queue_progress_jobs", QUEUE, ARQ)
OLDEST_PROGRESS: Final = of("taskqueue_queue_oldest_progress_timestamp_seconds", QUEUE, ARQ)
SILENT_FOR: Final = f"time() - min without (instance, pod) (last_over_time({OLDEST_PROGRESS}[2m])) and {REPORTING} > 0"
CRON: Final = Key(
    "task",
    "Task",
    links.to(
        links.ONE_TASK,
        {name: links.cell(name.capitalize()) for name in ("job", "system", "broker", "task")},
        keep=(),
    ),
    "This task in depth",
)
"""A task's last end is that in all of its queues."""
SYSTEM_KEY: Final = Key("system", "System", hidden=True)
"""Its tables need not show it; their links take it along."""
QUEUES: Final = (KEYS[0], SYSTEM_KEY, *KEYS[2:])


def _by_mode(expr: str) -> str:
    """What is known of a feed, with the mode of the feed."""
    return f"{MODES} * ignoring (mode) group_left () {expr}"


def _last(outcomes: str) -> str:
    ended = seen("taskqueue_task_last_finished_timestamp_seconds", SYSTEM, ARQ, 'task=~"cron:.+"', outcomes)
    return f"1000 * max without (outcome) ({ended})"


def _reported(outcome: str) -> str:
    return increase("taskqueue_queue_reported_jobs_total", QUEUE, ARQ, f'outcome="{outcome}"')


ROW: Final = Row(
    "ARQ",
    [
        rows(
            "How outcomes are seen",
            Says(
                "How the exporter gets to know what happens to jobs. tracking and keyspace: as it happens. scan: by "
                "a search now and then, which sees no jobs that keep no result. stream: the records of workers that "
                "have the hook.",
                "tracking or keyspace, and stream; connected, the last record seconds old while jobs end.",
                "scan: switch notifications on in Redis (notify-keyspace-events K$gxe), or use the hook. Not "
                "connected: FeedDisconnected; what ends meanwhile may be missing.",
            ),
            (*QUEUES[:3], Key("feed", "Feed", width=90), Key("mode", "Mode")),
            [
                Column(
                    "Connected",
                    _by_mode(seen("taskqueue_feed_connected", SYSTEM, ARQ)),
                    "none",
                    cell=COLOURED_TEXT,
                    width=100,
                    mappings=(CONNECTED,),
                ),
                Column(
                    "Last record",
                    f"1000 * {_by_mode(seen('taskqueue_feed_last_event_timestamp_seconds', SYSTEM, ARQ))}",
                    "dateTimeFromNow",
                    width=140,
                ),
            ],
            size=(12, 6),
            empty=f"{AWAY}, brokers[].arq.feed is off, or there is no ARQ here",
        ),
        rows(
            "Cron tasks",
            Says(
                "When each cron job last came to an end, and to a good one. What keeps no result, as cron jobs by "
                "default, counts as good: without the hook nobody knows how it ended. Those with a name of their own "
                "are not here.",
                "no longer ago than its period.",
                "Older: does a worker with this cron job run? A good end much older than the last: it fails, click it.",
            ),
            (*QUEUES[:3], CRON),
            [
                Column("Last end", _last('outcome=~".+"'), "dateTimeFromNow", width=140),
                Column("Last good end", _last('outcome=~"succeeded|unknown"'), "dateTimeFromNow", width=140),
            ],
            size=(12, 6),
            sort="Last end",
            ascending=True,
            empty=f"{AWAY}, or no cron job has ended since the exporter came",
        ),
        rows(
            "Health records",
            Says(
                "What a worker wrote into the health record of its queue: when, the jobs that it ran then, and "
                "attempts by outcome in the time shown here, as one exporter saw it. All workers of a queue write to "
                "one record: numbers are given only while it seems to be one worker's. It writes once in "
                "health_check_interval, an hour unless you set it.",
                "written within that interval. An old or missing record proves nothing: any worker that stops takes "
                "it away.",
                "Trust backlog, progress and the hook rather than this record.",
            ),
            QUEUES,
            [
                Column(
                    "Written",
                    f"1000 * {seen('taskqueue_queue_health_timestamp_seconds', QUEUE, ARQ)}",
                    "dateTimeFromNow",
                    width=140,
                ),
                Column("Running", seen("taskqueue_queue_reported_running_jobs", QUEUE, ARQ), width=80),
                *(Column(outcome.capitalize(), _reported(outcome), decimals=0, width=95) for outcome in REPORTED),
            ],
            size=(14, 6),
            empty=f"{AWAY}, or no record was written since the exporter came",
        ),
        rows(
            "Progress",
            Says(
                "Running jobs that tell how far they are by the hook's progress(), and for how long the one of them "
                "that is silent for longest has told nothing, as of their workers' last beats.",
                "silent for no longer than the steps of your jobs take.",
                "Silent for long: the job hangs. See which runs on One task, and the log of its worker.",
            ),
            QUEUES,
            [
                Column("Jobs", REPORTING, width=90),
                Column("Silent for", SILENT_FOR, "s", width=120),
            ],
            size=(10, 6),
            sort="Silent for",
            empty=f"{AWAY}, no worker has the hook (taskqueue-hooks), or no job runs that tells",
        ),
        by_colour(
            lines(
                "Ended without a run",
                Says(
                    "Jobs that ended, per second, without having run: expired (their definition was gone when their "
                    "turn came), not_found (the worker knows no such function), undecodable (it could not read them).",
                    "0 of each.",
                    "JobsExpired, FunctionNotFound and JobsUndecodable warn at the first one: see their runbooks.",
                ),
                "ops",
                Query(f"sum by (outcome) ({UNRUN})", "{{outcome}}"),
                empty=f"{AWAY}, the recording rules are not loaded, or no job has ended",
            ),
            {name: OUTCOME_COLOURS[name] for name in ("expired", "not_found", "undecodable")},
        ),
        limited(
            lines(
                "Expired jobs that wait",
                Says(
                    "Due jobs whose definition has expired: no worker can run them any more, the one that takes them "
                    "ends them as expired. They count as ready, too. At least so many: only the first due jobs are "
                    "looked at.",
                    "0.",
                    "They waited for too long: add workers, or a longer expires_extra_ms. JobsExpired warns.",
                ),
                "short",
                Query(seen("taskqueue_queue_expired_jobs", QUEUE, ARQ), BY_QUEUE),
                empty=NONE,
            ),
            over(warning=1),
        ),
        by_colour(
            lines(
                "Kept results",
                Says(
                    "Results of jobs that still stand in Redis, by what they say: completed, failed.",
                    "as many as jobs end within keep_result (an hour unless you set it).",
                    "If it only rises: keep_result is long, or keep_result_forever is set. They take memory.",
                ),
                "short",
                Query(f"sum by (state) ({seen('taskqueue_queue_kept_results', QUEUE, ARQ)})", "{{state}}"),
                stacked=True,
                empty=f"{AWAY}, brokers[].arq.feed is off, or there are more than 250,000",
            ),
            {"completed": OUTCOME_COLOURS["succeeded"], "failed": OUTCOME_COLOURS["failed"]},
        ),
        lines(
            "Abort requests",
            Says(
                "Requests to abort a job that no worker has taken; all queues of a database share them.",
                "0, or a few for a moment.",
                "If they only rise, workers lack allow_abort_jobs, or jobs are aborted that have ended "
                "(AbortRequestsPiling): each worker that allows aborts reads all of them at every poll.",
            ),
            "short",
            Query(of("broker:taskqueue_abort_requests:max", SYSTEM, ARQ), "{{broker}}"),
            empty=NONE,
        ),
    ],
    closed=True,
)
