"""Keys and replication of a Redis: for the dashboard of Redis."""

from __future__ import annotations

from typing import Final

from grafana.src import limits, links
from grafana.src.board import Row
from grafana.src.limits import above, target
from grafana.src.panels import Query, Says, limited, lines, states
from grafana.src.promql import SERVER, of, rate, seen
from grafana.src.redis.memory import AWAY, NAME, NO_SERVER, PLACE
from grafana.src.tables import Column, rows

KEYS: Final = Row(
    "Keys",
    [
        lines(
            "Keys",
            Says(
                "Keys of each database, of those that have any and the broker's own.",
                "follows the backlog and the results that are kept.",
                "If it only rises while queues are empty, results are kept for ever, or others use the same server.",
            ),
            "short",
            Query(seen("taskqueue_redis_db_keys", SERVER), f"{NAME} {{{{db}}}}"),
            empty=NO_SERVER,
        ),
        lines(
            "Keys that will expire",
            Says(
                "Keys of each database that have an expiry: results, and the definitions of ARQ's jobs.",
                "follows the jobs of the last hours.",
                "ARQ's job that waits for longer than its definition lives is lost: see JobsExpired.",
            ),
            "short",
            Query(seen("taskqueue_redis_db_keys_expiring", SERVER), f"{NAME} {{{{db}}}}"),
            empty=NO_SERVER,
        ),
        lines(
            "Keys expired",
            Says(
                "Keys whose time was over, per second.",
                "follows the jobs, as late as their results are kept.",
                "None at all for days while results are made: they are kept for ever, and fill the memory.",
            ),
            "ops",
            Query(rate("taskqueue_redis_expired_keys_total", SERVER), NAME),
            empty=NO_SERVER,
        ),
        lines(
            "Mean time to live",
            Says(
                "How long keys with an expiry have still to live, on average, by the server's estimate.",
                "below the time for which results are kept.",
                "Days where you keep results for an hour: see who sets what (result_expires, keep_result).",
            ),
            "s",
            Query(seen("taskqueue_redis_db_avg_ttl_seconds", SERVER), f"{NAME} {{{{db}}}}"),
            empty=f"{AWAY}, no key has an expiry, or Redis has no estimate yet",
        ),
    ],
    closed=True,
)


def _role() -> str:
    """2 for a master, else whether the link of the replica is up."""
    master = seen("taskqueue_redis_instance_info", SERVER, 'role="master"')
    return " or ".join(
        f"{factor}max by (job, broker, server) ({expr})"
        for factor, expr in (("2 * ", master), ("", seen("taskqueue_redis_master_link_up", SERVER)))
    )


def _silent() -> str:
    """As RedisReplicaLag has it: a replica that is given up is not told of any more, so the highest of 5 minutes."""
    of_replicas = of("taskqueue_redis_connected_slave_lag_seconds", SERVER)
    of_master = of("taskqueue_redis_master_last_io_seconds_ago", SERVER)
    return (
        f"max without (instance, pod, slave_state) (max_over_time({of_replicas}[5m]))"
        f" or max without (instance, pod) (max_over_time({of_master}[5m]))"
    )


REPLICATION: Final = Row(
    "Replication",
    [
        states(
            "Role and link",
            Says(
                "Whether each server is a master, or a replica, and whether a replica's link to its master is up.",
                "what it always is. A change is a failover.",
                "A lost link: what is enqueued now is lost if the master fails. See RedisReplicaLag.",
            ),
            Query(_role(), NAME),
            {
                "2": ("master", limits.NEUTRAL),
                "1": ("replica", limits.GOOD),
                "0": ("replica without a link", limits.WARNING),
            },
            empty=NO_SERVER,
        ),
        lines(
            "Replicas",
            Says(
                "Replicas that are connected to each server.",
                "as many as you run; 0 where you run none.",
                "Fewer: a replica is down, or cut off. If the master fails now there is less to fall back on.",
            ),
            "short",
            Query(seen("taskqueue_redis_connected_slaves", SERVER), NAME),
            empty=NO_SERVER,
        ),
        limited(
            lines(
                "Silence between master and replica",
                Says(
                    "For how long a replica has told its master nothing, or a replica that is a broker of its own has "
                    "heard nothing of its master: the longest of the last 5 minutes.",
                    "1 s at a master, up to 10 s at a replica: so often masters ping (repl-ping-replica-period). "
                    "Above the dashed line RedisReplicaLag warns, as it does of a lost link.",
                    "Look at the network between the two, and at the log of the replica.",
                ),
                "s",
                Query(_silent(), f"{NAME} {{{{slave_ip}}}} {{{{slave_port}}}} {{{{master_host}}}}"),
                empty=f"{AWAY}, or no replica is connected and no server is one",
                size=(24, 8),
            ),
            above(warning=target("replica_lag_seconds")),
        ).links([links.out("Runbook: RedisReplicaLag", links.runbook("RedisReplicaLag"))]),
        rows(
            "Resynchronisation",
            Says(
                "Since the server started: copies of all data that replicas were sent, replicas that could go on "
                "from the backlog after they were cut off, and those that could not; and how much the backlog holds "
                "and can hold.",
                "as many copies of all data as there are replicas, hardly more.",
                "Many copies, or many that could not go on: the backlog (repl-backlog-size) is too small for how long "
                "links break.",
            ),
            PLACE,
            [
                Column("Full copies", seen("taskqueue_redis_replica_resyncs_full", SERVER), "short", width=100),
                Column("Went on", seen("taskqueue_redis_replica_partial_resync_accepted", SERVER), "short", width=90),
                Column("Could not", seen("taskqueue_redis_replica_partial_resync_denied", SERVER), "short", width=90),
                Column("Backlog holds", seen("taskqueue_redis_repl_backlog_history_bytes", SERVER), "bytes", width=110),
                Column("of", seen("taskqueue_redis_replication_backlog_bytes", SERVER), "bytes", width=90),
            ],
            sort="Full copies",
            empty=NO_SERVER,
        ),
    ],
    closed=True,
)
