"""Rows of *Host and exporter* about what the exporters see and what they miss: scrapes, feeds, and they themselves."""

from __future__ import annotations

from typing import Final

from grafana.src import limits
from grafana.src.board import Row
from grafana.src.panels import Query, Says, as_limit, lines, mapping, restyled, states
from grafana.src.promql import BROKER, EXPORTER, of, own_increase, own_rate
from grafana.src.tables import COLOURED_TEXT, Column, Key, rows

NO_EXPORTER: Final = "No data: no exporter answers, or the recording rules are not loaded"
NO_FEED: Final = "No data: no exporter answers, or no feed is on (brokers[].arq.feed, arq.hook, celery.events)"

FEED: Final = (*EXPORTER, "system", "broker")
NAME: Final = "{{job}} {{instance}}"
"""What a series of an exporter or its host is called."""
FEED_NAME: Final = f"{NAME} {{{{system}}}} {{{{broker}}}} {{{{feed}}}}"
COLLECTOR_NAME: Final = f"{NAME} {{{{collector}}}} {{{{broker}}}}"
ANY_BROKER: Final = 'broker=~"|$broker"'
"""Collectors of the host have no broker: they are shown whichever is selected."""
KNOWN: Final = f"and on (job, instance) {of('instance:taskqueue_exporter_known:group', EXPORTER)}"
"""What any target has, of targets that are exporters."""

UP: Final = f"({of('up', EXPORTER)} {KNOWN})"
IS_UP: Final = f"({UP} == 1)"
SCRAPE_SECONDS: Final = of("scrape_duration_seconds", EXPORTER)
BROKERS: Final = of("taskqueue_broker_up", (*EXPORTER, "broker"))
ANSWERED: Final = of("broker:taskqueue_broker_up:max", BROKER)
"""To any exporter."""
CUT_OFF: Final = f"({BROKERS} == 0 and ignoring (instance, pod) {ANSWERED} == 1)"
COLLECTOR_SUCCESS: Final = of("taskqueue_collector_success", EXPORTER, ANY_BROKER)
CONNECTED: Final = of("taskqueue_feed_connected", FEED)
RELOADED: Final = of("taskqueue_exporter_config_last_reload_successful", EXPORTER)
RELOADED_AT: Final = of("taskqueue_exporter_config_last_reload_success_timestamp_seconds", EXPORTER)
UP_TEXTS: Final = {"1": ("up", limits.GOOD), "0": ("down", limits.WARNING)}
BROKER_TEXTS: Final = {"1": ("up", limits.GOOD), "0": ("down", limits.BAD), "2": ("cut off", limits.WARNING)}
YES: Final = {"1": ("yes", limits.GOOD), "0": ("no", limits.WARNING)}
EXPORTER_KEYS: Final = (Key("job", "Job", width=90), Key("instance", "Exporter", width=135))

SCRAPES: Final = Row(
    "Scrapes",
    [
        states(
            "Exporters",
            Says(
                "Whether Prometheus could scrape each exporter.",
                "up all the time. ExporterDown warns after 2 minutes, ExportersAllDown is critical after 1.",
                "Gaps at the same times as restarts are harmless; else see the error at /targets of Prometheus.",
            ),
            Query(UP, NAME),
            UP_TEXTS,
            size=(12, 6),
            empty=NO_EXPORTER,
        ),
        states(
            "Brokers, as each exporter sees them",
            Says(
                "Whether the broker answered PING within the scrape, for each exporter. Cut off: it answered another.",
                "up all the time. BrokerDown is critical after 1 minute in which it answered no exporter.",
                "Down: look at the server. Cut off: look at that exporter's network, user and password.",
            ),
            Query(f"2 + {CUT_OFF} or {BROKERS}", f"{NAME} {{{{broker}}}}"),
            BROKER_TEXTS,
            size=(12, 6),
            empty=NO_EXPORTER,
        ),
        states(
            "Collectors",
            Says(
                "Whether each collector gave everything that it should within the scrape.",
                "complete, but for single scrapes. CollectorFailing warns where less than half are, over 15 minutes.",
                "The exporter's log says why (`collector failed`): a missing permission, a mount that hangs, or too "
                "little time. docs/troubleshooting.md has a table of problems.",
            ),
            Query(COLLECTOR_SUCCESS, COLLECTOR_NAME),
            {"1": ("complete", limits.GOOD), "0": ("incomplete", limits.WARNING)},
            size=(12, 9),
            empty=NO_EXPORTER,
        ),
        lines(
            "Time of collectors",
            Says(
                "How long each collector ran. They run side by side: the slowest counts, not the sum.",
                "milliseconds; steady.",
                "One that is near the scrape's time is what makes it slow. redis_info, arq and celery wait for the "
                "broker, filesystem for mounts.",
            ),
            "s",
            Query(of("taskqueue_collector_duration_seconds", EXPORTER, ANY_BROKER), COLLECTOR_NAME),
            size=(12, 9),
            empty=NO_EXPORTER,
        ),
        as_limit(
            lines(
                "Time of scrapes",
                Says(
                    "How long a scrape took, or a try that failed, as Prometheus measured it; with the target of "
                    "ScrapeSlow, which compares the mean of 10 minutes with it.",
                    "far below the target.",
                    "See which collector is slow, and the exporter's CPU. Raise scrape_timeout only when it is known "
                    "why.",
                ),
                "s",
                Query(f"{SCRAPE_SECONDS} {KNOWN}", NAME),
                Query("max(taskqueue_target:scrape_seconds)", "target"),
                size=(24, 7),
                empty=NO_EXPORTER,
            ),
            "target",
        ),
    ],
)


def _feed(title: str, expr: str, unit: str = "short", *, width: int = 70) -> Column:
    """A column of the table of feeds, whose rows are told apart by mode, too: only the info metric has it."""
    info = of("taskqueue_feed_info", FEED)
    moded = f"{expr} * on (job, instance, system, broker, feed) group_left (mode) {info}"
    return Column(title, moded, unit, 0, width=width)


FEEDS: Final = Row(
    "Feeds",
    [
        restyled(
            rows(
                "Feeds",
                Says(
                    "Each feed now, and what it missed in the time shown. Mode is how it sees what happens: tracking "
                    "or keyspace (Redis names changed keys), scan (a search now and then, which sees no ARQ jobs that "
                    "keep no result), pubsub (Celery's events), stream (ARQ's hook). Forgotten: jobs dropped from the "
                    "feed's bounded memory before they ended; their queue, task or wait may be unknown.",
                    "connected; zeros to the right. After a restart of Redis a few seconds of gap.",
                    "Not connected, or a gap: the exporter's log has `feed not connected`. Lost without a gap: its "
                    "CPU. Mode scan though tracking is wanted: its user may not use it, `taskqueue-exporter acl` "
                    "prints what it needs.",
                ),
                (
                    *EXPORTER_KEYS,
                    Key("system", "System", width=75),
                    Key("broker", "Broker", width=80),
                    Key("feed", "Feed", width=70),
                    Key("mode", "Mode", width=80),
                ),
                [
                    _feed("Connected", CONNECTED, "none", width=90),
                    _feed(
                        "Last record",
                        f"1000 * {of('taskqueue_feed_last_event_timestamp_seconds', FEED)}",
                        "dateTimeFromNow",
                        width=150,
                    ),
                    _feed("Gap", own_increase("taskqueue_feed_gap_seconds_total", FEED), "s"),
                    _feed("Reconnects", own_increase("taskqueue_feed_reconnects_total", FEED), width=95),
                    _feed("Lost", own_increase("taskqueue_feed_lost_events_total", FEED)),
                    _feed(
                        "Undecodable",
                        f"sum without (reason) ({own_increase('taskqueue_feed_undecodable_total', FEED)})",
                        width=115,
                    ),
                    _feed("Forgotten", own_increase("taskqueue_feed_forgotten_jobs_total", FEED), width=90),
                ],
                size=(24, 7),
                empty=NO_FEED,
            ),
            "Connected",
            mappings=[mapping(YES)],
            custom_cellOptions=COLOURED_TEXT,
        ),
        states(
            "Connected",
            Says(
                "Whether each feed saw what happens to jobs as it happened.",
                "connected all the time, but for moments when Redis restarts or fails over.",
                "Comes and goes: look at client-output-buffer-limit (pubsub) and the log of Redis. Away for good: a "
                "missing permission, a changed password.",
            ),
            Query(CONNECTED, FEED_NAME),
            {"1": ("connected", limits.GOOD), "0": ("away", limits.WARNING)},
            empty=NO_FEED,
        ),
        lines(
            "Share of the time that was missed",
            Says(
                "Part of the time in which a feed was not connected, or was while jobs may have ended at a master "
                "that Sentinel had left.",
                "0. FeedDisconnected warns of more than 50 % over 5 minutes, or of more than 10 % over 15 minutes "
                "with 3 reconnects.",
                "What ended then may be missing from the counters of this exporter. ARQ: results that still stand "
                "are counted afterwards. Celery: those whose results stand in the same database.",
            ),
            "percentunit",
            Query(own_rate("taskqueue_feed_gap_seconds_total", FEED), FEED_NAME),
            empty=NO_FEED,
        ),
        lines(
            "Records",
            Says(
                "Records of jobs and of workers that came in per second, readable or not.",
                "follows the work. Workers' records keep coming while nothing is done: heartbeats.",
                "No job records while jobs run: Celery's workers need -E, ARQ's jobs must keep their results or have "
                "the hook. EventsMissing has the steps.",
            ),
            "ops",
            Query(own_rate("taskqueue_feed_events_total", FEED), f"{FEED_NAME} {{{{kind}}}}"),
            empty=NO_FEED,
        ),
        lines(
            "Time since the last record",
            Says(
                "How long ago the last record came in; absent before the first.",
                "seconds for Celery's events and ARQ's hook, whose workers send heartbeats. ARQ's results: as long as "
                "no job ends.",
                "Rises though workers run: do they send events to this database? Compare with Connected.",
            ),
            "s",
            Query(f"time() - {of('taskqueue_feed_last_event_timestamp_seconds', FEED)}", FEED_NAME),
            empty="Not known: no exporter answers, no feed is on, or no record has come in yet",
        ),
        lines(
            "Lost records and forgotten jobs",
            Says(
                "Records known to be lost, and jobs dropped from the feed's bounded memory before they ended, per "
                "second. Of a gap of Celery's events the number is an estimate.",
                "0. EventsLost warns of any loss within 15 minutes.",
                "Lost after a gap: find what cut the feed off. Without a gap: give the exporter CPU, or look at the "
                "workers' own logs (taskqueue_hooks).",
            ),
            "ops",
            Query(own_rate("taskqueue_feed_lost_events_total", FEED), f"{FEED_NAME} lost"),
            Query(own_rate("taskqueue_feed_forgotten_jobs_total", FEED), f"{FEED_NAME} forgotten"),
            empty=NO_FEED,
        ),
        lines(
            "Undecodable records",
            Says(
                "Records that could not be read, per second by reason: encoding (a format that is not read), "
                "malformed (something else on that key or channel), bounds (too long, too deep, too many operations).",
                "0. UndecodableRecords warns of any within 15 minutes.",
                "encoding: celery.accept_content and arq.serializer in the exporter's configuration. malformed: does "
                "another application write to this database?",
            ),
            "ops",
            Query(own_rate("taskqueue_feed_undecodable_total", FEED), f"{FEED_NAME} {{{{reason}}}}"),
            empty=NO_FEED,
        ),
    ],
)

ROWS: Final = (SCRAPES, FEEDS)
