"""Task queues / Host and exporter: can the numbers be trusted; is the machine well?

The rows below the first are in modules of their own.
"""

from __future__ import annotations

from typing import Final

from grafana.src import alerts, limits, links
from grafana.src.board import Board, Row
from grafana.src.exporter import disks, groups, host, itself, trust
from grafana.src.exporter.trust import (
    ANSWERED,
    BROKERS,
    COLLECTOR_SUCCESS,
    CONNECTED,
    CUT_OFF,
    FEED,
    IS_UP,
    KNOWN,
    NO_EXPORTER,
    NO_FEED,
    RELOADED,
    SCRAPE_SECONDS,
    UP,
)
from grafana.src.limits import above, over, target, under
from grafana.src.panels import Query, Says, number
from grafana.src.promql import EXPORTER, feeds_away, of

VARIABLES: Final = (*EXPORTER, "system", "broker")
SIZE: Final = (6, 4)
TRUST: Final = alerts.in_files("alerts-trust.yml", "alerts-ground.yml")


def _count(which: str, among: str) -> str:
    """How many series, 0 where there are none of those but others."""
    return f"count({which}) or 0 * count({among})"


def _missed(metric: str) -> str:
    """What the exporter that missed most has missed: another replica may have seen it."""
    return f"max(sum by (job, instance) (increase({of(metric, FEED)}[15m])))"


FAILING: Final = (
    f"avg_over_time({COLLECTOR_SUCCESS}[15m]) < 0.5"
    f" unless ignoring (instance, pod, collector) min_over_time({ANSWERED}[15m]) == 0"
)
"""As CollectorFailing has it."""
TOOK: Final = f"avg_over_time({SCRAPE_SECONDS}[10m])"
SLOWEST: Final = f"{TOOK} and {IS_UP} or {TOOK} > scalar(taskqueue_target:scrape_seconds) {KNOWN}"
"""A try that fails at once is no fast scrape; one that takes until it is given up is a slow one."""

NOW: Final = Row(
    "Now",
    [
        alerts.firing(VARIABLES[1:], SIZE, TRUST),
        number(
            "Exporters",
            Says(
                "Exporters that Prometheus could scrape last, and those that it could not. A target that once "
                "answered as an exporter counts for as long as it is configured.",
                "as many up as you run, and none down.",
                "Is its process there? Prometheus shows the error of its last scrape at /targets. While another "
                "replica is up, queue and job panels and alerts go on by that one.",
            ),
            "short",
            Query(f"sum({UP})", "up"),
            Query(_count(f"{UP} == 0", UP), "down"),
            size=SIZE,
            empty=NO_EXPORTER,
        )
        .override_by_name("up", limits.override(under(bad=1)))
        .override_by_name("down", limits.override(over(warning=1))),
        number(
            "Brokers",
            Says(
                "Brokers that answered no exporter (down), and brokers that answered another exporter but not this "
                "one, counted once for each such exporter (cut off).",
                "0 and 0.",
                "Down: look at the server first, BrokerDown has the steps. Cut off: that exporter's network, user or "
                "password; its log names the error.",
            ),
            "short",
            Query(_count(f"{ANSWERED} == 0", ANSWERED), "down"),
            Query(_count(CUT_OFF, BROKERS), "cut off"),
            size=SIZE,
            empty=NO_EXPORTER,
        )
        .override_by_name("down", limits.override(over(bad=1)))
        .override_by_name("cut off", limits.override(over(warning=1))),
        number(
            "Collectors that fail",
            Says(
                "Collectors of which less than half of the runs within 15 minutes gave all that they should, in any "
                "exporter. What they give is absent or incomplete.",
                "0. CollectorFailing warns if it stays. Those of a broker that was down do not count.",
                "See which under Scrapes. The exporter's log says why (`collector failed`).",
            ),
            "short",
            Query(_count(FAILING, COLLECTOR_SUCCESS), "collectors"),
            thresholds=over(warning=1),
            size=SIZE,
            empty=NO_EXPORTER,
        ),
        number(
            "Feeds that are away",
            Says(
                "Feeds that missed more than half of the last 5 minutes, or came and went, in any exporter. While one "
                "is away, that exporter does not hear how jobs end.",
                "0. FeedDisconnected warns if it stays. Those of a broker that was down do not count.",
                "See which under Feeds. The exporter's log says why (`feed not connected`).",
            ),
            "short",
            Query(_count(feeds_away(FEED), CONNECTED), "feeds"),
            thresholds=over(warning=1),
            size=SIZE,
            empty=NO_FEED,
        ),
        number(
            "Missed records",
            Says(
                "Records of jobs and workers that were lost, or came and could not be decoded, in the last 15 minutes, "
                "by the exporter that missed most. So far its counters of jobs are too low.",
                "0 and 0. EventsLost and UndecodableRecords warn of any.",
                "Lost: was there a gap, and has the exporter CPU enough? Undecodable: mostly a serializer that is not "
                "configured. Earlier ones, and reasons, are under Feeds.",
            ),
            "short",
            Query(_missed("taskqueue_feed_lost_events_total"), "lost"),
            Query(_missed("taskqueue_feed_undecodable_total"), "undecodable"),
            thresholds=above(warning=0),
            size=SIZE,
            empty=NO_FEED,
        ),
        number(
            "Slowest scrapes",
            Says(
                "How long a scrape took on average over 10 minutes, at the exporter where it took longest. Of one that "
                "is down only a try that took too long counts.",
                "far below a second. From 5 s on ScrapeSlow warns; Prometheus gives up after scrape_timeout (10 s "
                "unless configured otherwise), and before that slow collectors are left out.",
                "See under Scrapes which collector takes long.",
            ),
            "s",
            Query(f"max({SLOWEST})", "slowest"),
            thresholds=above(warning=target("scrape_seconds")),
            size=SIZE,
            empty=NO_EXPORTER,
        ),
        number(
            "Configuration",
            Says(
                "Exporters that refused the configuration that they were last given and work on with the one before. "
                "When each last took one over is in the table of exporters.",
                "0. ConfigReloadFailed warns of any.",
                "`taskqueue-exporter check-config FILE` says what is wrong, as does the exporter's log. Mend it "
                "before the exporter restarts: it would not start with that file.",
            ),
            "short",
            Query(_count(f"{RELOADED} == 0", RELOADED), "refused"),
            thresholds=over(warning=1),
            size=SIZE,
            empty=NO_EXPORTER,
        ),
        alerts.table_of(VARIABLES[1:], (24, 6), TRUST),
    ],
)

BOARD: Final = Board(
    links.EXPORTER,
    "Host and exporter",
    "Can the numbers be trusted; is the machine well?",
    VARIABLES,
    [NOW, *trust.ROWS, itself.ROW, host.ROW, *disks.ROWS, *groups.ROWS],
)
