"""Traffic, commands and clients of a Redis: for the dashboard of Redis."""

from __future__ import annotations

from typing import Final

from grafana.src import limits
from grafana.src.board import Row
from grafana.src.panels import Query, Says, lines, mapping
from grafana.src.promql import SERVER, kinds, rate, seen
from grafana.src.redis.memory import AWAY, NAME, NO_SERVER, PLACE, or_none
from grafana.src.tables import Column, Key, rows

NO_COMMANDS: Final = f"{AWAY}, or brokers[].redis.command_stats is off"
NO_LOG: Final = f"{AWAY}, brokers[].redis.slowlog is off, or the exporter's user may not run SLOWLOG"
EMPTY: Final = mapping({"-1": ("none logged", limits.GOOD)})


def _rate(metric: str) -> str:
    return rate(f"taskqueue_redis_{metric}_total", SERVER)


def _hits() -> str:
    hits, misses = _rate("keyspace_hits"), _rate("keyspace_misses")
    return f"{hits} / ({hits} + {misses} > 0)"


TRAFFIC: Final = Row(
    "Traffic",
    [
        lines(
            "Commands",
            Says(
                "Commands that each server did, per second.",
                "follows the jobs; idle workers and exporters make a floor.",
                "A jump without more jobs: see which commands, below.",
            ),
            "ops",
            Query(_rate("commands_processed"), NAME),
            empty=NO_SERVER,
        ),
        lines(
            "Network",
            Says(
                "Bytes that each server read from its clients, and wrote to them, per second.",
                "follows the jobs.",
                "Much more out than in: someone reads large values, as all results, again and again.",
            ),
            "Bps",
            Query(_rate("net_input_bytes"), f"{NAME} in"),
            Query(_rate("net_output_bytes"), f"{NAME} out"),
            empty=NO_SERVER,
        ),
        lines(
            "CPU",
            Says(
                "CPUs that each server uses: all of its threads, the one that runs all commands, and the children that "
                "save.",
                "the thread of commands far below 1: it cannot use more than one CPU.",
                "Near 1 all commands wait for each other: see which take the time, below.",
            ),
            "short",
            Query(f"{_rate('cpu_sys_seconds')} + {_rate('cpu_user_seconds')}", f"{NAME} all"),
            Query(
                f"{_rate('cpu_sys_main_thread_seconds')} + {_rate('cpu_user_main_thread_seconds')}",
                f"{NAME} commands",
            ),
            Query(f"{_rate('cpu_sys_children_seconds')} + {_rate('cpu_user_children_seconds')}", f"{NAME} saving"),
            empty=NO_SERVER,
        ),
        lines(
            "Look-ups that found a key",
            Says(
                "Share of the look-ups of keys that found one.",
                "what it always is. Queues ask for much that may not be there, as results that are not yet: no "
                "share is bad in itself.",
                "A fall without a deployment: are keys gone? See evicted keys, and keys by database.",
            ),
            "percentunit",
            Query(_hits(), NAME),
            empty=f"{AWAY}, brokers[].redis.enabled is off, or no key was looked up",
        ),
    ],
)

COMMANDS: Final = Row(
    "Commands and latency",
    [
        lines(
            "Mean time of a command",
            Says(
                "Mean time that the commands of queues took in each server. Waiting for data is not counted, nor the "
                "network.",
                "far below a millisecond.",
                "See in the table which command is slow. KEYS and large ranges stop all others meanwhile.",
            ),
            "s",
            Query(
                f"sum without (cmd) ({_rate('commands_duration_seconds')})"
                f" / (sum without (cmd) ({_rate('commands')}) > 0)",
                NAME,
            ),
            empty=NO_COMMANDS,
        ),
        lines(
            "Percentiles since the start",
            Says(
                "Time per call by command and quantile, since the server started or CONFIG RESETSTAT. From Redis "
                "7.0 on.",
                "flat lines far below a millisecond.",
                "They move slowly: a rise tells that a command was slow for long. The slow log below tells of "
                "single ones.",
            ),
            "s",
            Query(seen("taskqueue_redis_latency_percentiles_seconds", SERVER), f"{NAME} {{{{cmd}}}} {{{{quantile}}}}"),
            empty=f"{AWAY}, or brokers[].redis.latency_percentiles is off",
        ),
        rows(
            "Commands of queues",
            Says(
                "Each command that queues use: calls per second, mean time, the share of the server's time that it "
                "takes, and calls that failed or were refused before they ran, per second.",
                "a short mean, no refusals. Some failures are part of a protocol, as of scripts that are not loaded "
                "yet.",
                "Sorted by share of time: the first one is what to make rarer or shorter. Refused ones: no right, "
                "or no memory. keys: someone lists all keys, which stops all.",
            ),
            [*PLACE, Key("cmd", "Command")],
            [
                Column("Calls", _rate("commands"), "ops", width=110),
                Column("Mean", f"{_rate('commands_duration_seconds')} / ({_rate('commands')} > 0)", "s", width=110),
                Column("Share of time", _rate("commands_duration_seconds"), "percentunit", decimals=2, width=130),
                Column("Failed", _rate("commands_failed_calls"), "ops", width=110),
                Column("Refused", _rate("commands_rejected_calls"), "ops", width=110),
            ],
            size=(24, 9),
            sort="Share of time",
            empty=NO_COMMANDS,
        ),
        lines(
            "Errors",
            Says(
                "Replies that were errors, per second, by their first word.",
                "none, or few that are part of a protocol: NOSCRIPT once for each script and server.",
                "OOM: memory is full. MISCONF: it cannot save. NOPERM, NOAUTH, WRONGPASS: rights. READONLY: a "
                "client writes to a replica. LOADING: it was restarted.",
            ),
            "ops",
            Query(_rate("error_replies"), f"{NAME} all"),
            Query(_rate("errors"), f"{NAME} {{{{err}}}}"),
            empty=f"{AWAY}, or the server does not tell (Redis before 6.2)",
        ),
        rows(
            "Slow log",
            Says(
                "The log of slow commands of each server: entries, number of the last one (it counts on from the "
                "start of the server), and how long that one ran.",
                "none logged, or few that are old.",
                "SLOWLOG GET on the server shows the commands; the exporter does not read them, as they may hold "
                "secrets.",
            ),
            PLACE,
            [
                Column("Entries", seen("taskqueue_redis_slowlog_length", SERVER), "short", width=90),
                Column(
                    "Last number",
                    or_none("taskqueue_redis_slowlog_last_id", "taskqueue_redis_slowlog_length"),
                    "none",
                    mappings=(EMPTY,),
                    width=110,
                ),
                Column(
                    "Last took",
                    or_none("taskqueue_redis_last_slow_execution_duration_seconds", "taskqueue_redis_slowlog_length"),
                    "s",
                    mappings=(EMPTY,),
                    width=110,
                ),
            ],
            sort="Entries",
            empty=NO_LOG,
            size=(12, 9),
        ),
    ],
)

CLIENTS: Final = Row(
    "Clients",
    [
        lines(
            "Clients",
            Says(
                "Clients of each server that are connected, and those of them that wait in a blocking call, as "
                "Celery's idle workers do.",
                "follows the number of workers and applications.",
                "If connected only rises, some application opens connections and does not close them: CLIENT LIST.",
            ),
            "short",
            Query(seen("taskqueue_redis_connected_clients", SERVER), f"{NAME} connected"),
            Query(seen("taskqueue_redis_blocked_clients", SERVER), f"{NAME} blocked"),
            empty=NO_SERVER,
        ),
        lines(
            "Clients, of the most that may be",
            Says(
                "Connected clients as a share of maxclients.",
                "far below 100 %, at which connections are refused.",
                "Raise maxclients, and the server's limit of open files, or find who holds so many.",
            ),
            "percentunit",
            Query(
                f"{seen('taskqueue_redis_connected_clients', SERVER)}"
                f" / ({seen('taskqueue_redis_max_clients', SERVER)} > 0)",
                NAME,
            ),
            empty=NO_SERVER,
        ),
        lines(
            "Connections",
            Says(
                "Connections that each server accepted, and refused at maxclients, per second.",
                "few: clients keep their connections. None refused.",
                "Many accepted: a client connects anew for each command. Refused: see RedisRejectedConnections.",
            ),
            "ops",
            Query(_rate("connections_received"), f"{NAME} accepted"),
            Query(_rate("rejected_connections"), f"{NAME} refused"),
            empty=NO_SERVER,
        ),
        lines(
            "Clients cut off",
            Says(
                "Clients that each server cut off, per second: for want of memory, as they read too slowly "
                "(output), or as they sent too long a command (query). Redis tells of the "
                "first from 7.0 on, servers newer than that of the others.",
                "none.",
                "A client that reads too slowly may be a worker that hangs, or the exporter's own feed: see "
                "EventsLost. A command too long: a job with huge arguments.",
            ),
            "ops",
            Query(
                kinds(
                    {
                        "memory": _rate("evicted_clients"),
                        "output": _rate("client_output_buffer_limit_disconnections"),
                        "query": _rate("client_query_buffer_limit_disconnections"),
                    }
                ),
                f"{NAME} {{{{kind}}}}",
            ),
            empty=f"{AWAY}, or the server does not tell (Redis before 7.0)",
        ),
    ],
    closed=True,
)
