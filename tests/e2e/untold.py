"""What the dashboards cannot show of the demo, and why. Whatever else has no data is a fault; so is data of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.grafana_answers import Shown, named


@dataclass(frozen=True, slots=True)
class Untold:
    """A query, as `tests.grafana_answers.named` calls it, that has no data.

    `always` is False where that depends on the machine.
    """

    query: str
    why: str
    always: bool = True


NOBODY: Final = (
    *(
        Untold(f"tq-redis: Now: Alerts: {column}", "no alert fires about a Redis that is well")
        for column in ("Severity", "Since")
    ),
    *(
        Untold(f"tq-exporter: Now: Alerts: {column}", "nor about an exporter; about the machine one may", always=False)
        for column in ("Severity", "Since")
    ),
    Untold("tq-exporter: Container of the exporter: Of its limits", "the container may have none", always=False),
)
"""Of the demo as a whole; at most for five reasons."""

NO_ENQUEUEING: Final = "ARQ tells nobody of a job that is put into a queue, or begins"
OF_ARQ: Final = (
    Untold("tq-overview: Queues: Queues: In", NO_ENQUEUEING),
    Untold("tq-overview: Trends: Enqueued and finished: {{system}} enqueued", NO_ENQUEUEING),
)
"""Of an installation that has ARQ alone."""

OF_CELERY: Final[tuple[Untold, ...]] = ()
"""Of one that has Celery alone: all, but for what the row of ARQ shows."""

PARTS: Final = {
    "ALERTS": "what does not fire",
    'maxmemory_policy!~"noeviction': "the demo's Redis evicts nothing",
    "taskqueue_cgroup_": "the container may have no limits, and its kernel not each controller",
    "taskqueue_queue_paused": "no queue of the demo can be paused",
    "taskqueue_redis_client_output_buffer_limit_disconnections_total": "Redis tells of it since 7.4",
    "taskqueue_redis_client_query_buffer_limit_disconnections_total": "Redis tells of it since 7.4",
    "taskqueue_redis_master_": "the demo's exporter watches the master, not its replica",
    "taskqueue_redis_rdb_last_bgsave_duration_seconds": "the demo's Redis saves nothing",
    "taskqueue_redis_slowlog_last_id": "no command of the demo is slow",
    "taskqueue_redis_last_slow_execution_duration_seconds": "no command of the demo is slow",
    "taskqueue_host_pressure_": "the kernel may not count it",
    "taskqueue_target:period_seconds": "no task of the demo has a period",
}
"""What parts of queries read, by metrics or the beginnings of their names, that the demo lacks or the machine may: such
parts need not have data, while another has."""

OF_SYSTEM: Final = {"arq": OF_ARQ, "celery": OF_CELERY}
ROWS: Final = {"ARQ": "arq", "Celery": "celery"}
"""Headlines over what one system alone has."""


def surprises(shown: Iterable[Shown], systems: Sequence[str]) -> list[str]:
    """Queries that have no data and should, or have some and should not, where these systems are looked at."""
    known = NOBODY + (OF_SYSTEM[systems[0]] if len(systems) == 1 else ())
    return sorted(text for one in shown for text in _of_panel(one, systems, known))


def silent(shown: Iterable[Shown]) -> list[str]:
    """Parts of queries that have no data and should."""
    return sorted(
        f"{named(one.panel, ref)}: {part}"
        for one in shown
        for ref, parts in one.silent.items()
        for part in parts
        if not any(metric in part for metric in PARTS)
    )


def _of_panel(shown: Shown, systems: Sequence[str], known: Iterable[Untold]) -> Iterator[str]:
    queries = {named(shown.panel, ref) for ref in shown.answers}
    if ROWS.get(shown.panel.row, systems[0]) in systems:
        may_lack = {one.query for one in known}
        must_lack = queries & {one.query for one in known if one.always}
    else:
        may_lack = must_lack = queries
    yield from (f"no data: {query}" for query in shown.empty if query not in may_lack)
    yield from (f"data: {query}" for query in must_lack.difference(shown.empty))
