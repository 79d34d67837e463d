"""Who works: which workers live, how many of their slots are used, and for which queue."""

from __future__ import annotations

from typing import Final

from grafana.src import limits, queues
from grafana.src.board import Row
from grafana.src.limits import GOOD, WARNING
from grafana.src.panels import Query, Says, as_limit, bars, limited, lines, mapping, states
from grafana.src.promql import QUEUE, SYSTEM, of, seen
from grafana.src.queues import BY_QUEUE, NO_WORKERS
from grafana.src.tables import COLOURED_TEXT, GAUGE, Column, Key, rows

STATES: Final = {"1": ("alive", GOOD), "0": ("lost", WARNING)}
UP: Final = of("worker:taskqueue_worker_up:max", SYSTEM)
SLOTS: Final = f"({seen('taskqueue_worker_slots', SYSTEM)} and {UP} == 1)"
"""ARQ's are still told once their worker is lost."""
BUSY: Final = f"({seen('taskqueue_worker_busy_slots', SYSTEM)} and {UP} == 1)"
PAUSED: Final = mapping({"0": ("no", GOOD), "1": ("paused", WARNING)})
NOT_BY_QUEUE: Final = "Not known: no exporter answers, or it takes ARQ's hook, or brokers[].celery.inspect"


def _of_worker(metric: str) -> str:
    return seen(f"taskqueue_worker_{metric}", SYSTEM)


ROW: Final = Row(
    "Workers",
    [
        states(
            "Worker states",
            Says(
                "Each worker: alive, or lost as its heartbeats stopped without a goodbye. One that said goodbye has "
                "no bar any more; one that is lost keeps it for an hour unless configured otherwise "
                "(forget_workers_after).",
                "alive, with gaps at deployments.",
                "Lost: was its process killed (out of memory?), does it hang, or is it cut off from Redis? "
                "WorkerHeartbeatLost warns.",
            ),
            Query(UP, "{{broker}} {{worker}}"),
            STATES,
            size=(24, 7),
            empty=NO_WORKERS,
        ),
        rows(
            "Workers now",
            Says(
                "Each worker: whether it lives, when its last heartbeat came, jobs it can run and runs, jobs that it "
                "holds and has not started (Celery: when it last answered), and tasks that it knows.",
                "alive, heartbeats seconds old, the same number of tasks in all workers of a kind.",
                "Fewer tasks than others: it runs an older version. All slots busy for long: see what runs on One "
                "task.",
            ),
            (*queues.KEYS[:3], Key("worker", "Worker")),
            [
                Column("State", UP, "none", cell=COLOURED_TEXT, width=80, mappings=(mapping(STATES),)),
                Column("Heartbeat", f"time() - {_of_worker('last_heartbeat_timestamp_seconds')}", "s", width=100),
                Column("Slots", SLOTS, width=80),
                Column(
                    "Busy",
                    f"{BUSY} / ({SLOTS} > 0)",
                    "percentunit",
                    cell=GAUGE,
                    thresholds=limits.none(),  # of a queue, not of a worker, WorkersSaturated tells
                    least=0,
                    most=1,
                    decimals=0,
                    width=150,
                ),
                Column("Tasks", _of_worker("registered_tasks"), width=80),
            ],
            size=(24, 6),
            sort="Heartbeat",
            empty=NO_WORKERS,
        ),
        as_limit(
            lines(
                "Slots busy, of all",
                Says(
                    "Jobs that live workers run now, by worker; the dashed line is how many all of them can run at "
                    "once.",
                    "below the line, but in bursts.",
                    "At the line while jobs wait: add workers or slots. Far below it while jobs wait: workers of other "
                    "queues are idle, see the table of queues.",
                ),
                "short",
                Query(BUSY, "{{broker}} {{worker}}"),
                Query(f"sum({SLOTS})", "all slots"),
                stacked=True,
                empty=NO_WORKERS,
            ),
            "all slots",
        ),
        limited(
            lines(
                "Busy slots by queue",
                Says(
                    "Share of the slots of each queue's live workers that run a job. Workers of several queues count "
                    "in each.",
                    "has room above it on average.",
                    "Above 95 % for long while jobs wait (WorkersSaturated): more slots, or shorter jobs.",
                ),
                "percentunit",
                Query(queues.BUSY_RATIO, BY_QUEUE),
                empty=NOT_BY_QUEUE,
            ),
            queues.BUSY_LIMITS,
        ),
        rows(
            "Workers by queue",
            Says(
                "Live workers that consume each queue, and their slots. A worker of several queues stands at each: "
                "do not add them up. ARQ: those with the hook.",
                "at least one worker for every queue that has jobs.",
                "0 workers and something ready is QueueNoWorkers: were they stopped, do they crash, do they consume "
                "other queues?",
            ),
            queues.KEYS,
            [
                Column("Workers", of("queue:taskqueue_queue_workers:max", QUEUE), width=80),
                Column("Slots", of("queue:taskqueue_queue_slots:max", QUEUE), width=80),
                Column("Busy", of("queue:taskqueue_queue_busy_slots:max", QUEUE), width=80),
                # A queue of a system that cannot pause is not paused.
                Column(
                    "Paused",
                    f"{seen('taskqueue_queue_paused', QUEUE)} or 0 * {queues.READY}",
                    cell=COLOURED_TEXT,
                    width=80,
                    mappings=(PAUSED,),
                ),
            ],
            size=(16, 8),
            sort="Workers",
            ascending=True,
            empty=NOT_BY_QUEUE,
        ),
        bars(
            "Workers by version",
            Says(
                "Live workers by the version of ARQ or Celery that they run.",
                "one version of each, two while it is rolled out.",
                "Versions that stay mixed: a deployment stopped half way.",
            ),
            "short",
            Query(
                f"count by (system, version) ({_of_worker('info')} and ignoring (version) {UP} == 1)",
                "{{system}} {{version}}",
            ),
            empty=NO_WORKERS,
        ),
    ],
)
