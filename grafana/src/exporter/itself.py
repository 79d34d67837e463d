"""The row of *Host and exporter* about the exporters' own processes and answers."""

from __future__ import annotations

from typing import Final

from grafana.src.board import Row
from grafana.src.exporter.trust import EXPORTER_KEYS, KNOWN, NAME, NO_EXPORTER, RELOADED, RELOADED_AT, YES
from grafana.src.panels import Query, Says, lines, mapping, restyled
from grafana.src.promql import EXPORTER, of, own_increase, own_rate
from grafana.src.tables import COLOURED_TEXT, Column, Key, rows

FOLDED: Final = "taskqueue_exporter_series_folded_total"
SERIES: Final = of("taskqueue_exporter_series", EXPORTER)
NO_PROCESS: Final = "Not known: no exporter answers, the recording rules are not loaded, or it is not on Linux"
CPU: Final = f"{own_rate('process_cpu_seconds_total', EXPORTER)} {KNOWN}"
RESIDENT: Final = f"{of('process_resident_memory_bytes', EXPORTER)} {KNOWN}"
DESCRIPTORS: Final = f"{of('process_open_fds', EXPORTER)} / ({of('process_max_fds', EXPORTER)} > 0) {KNOWN}"


def _of_version(expr: str) -> str:
    """With labels that only the info metric has: they tell the rows apart."""
    info = of("taskqueue_exporter_build_info", EXPORTER)
    return f"({expr}) * on (job, instance) group_left (version, pythonversion) {info}"


def _column(title: str, expr: str, unit: str = "short", decimals: int | None = None) -> Column:
    return Column(title, _of_version(expr), unit, decimals, width=130 if unit == "dateTimeFromNow" else 85)


ROW: Final = Row(
    "Exporter",
    [
        restyled(
            rows(
                "Exporters",
                Says(
                    "Each exporter that answers: its version, since when it runs and its configuration is in use, "
                    "whether it took over the last one it was given, and what it costs. Folded: label values beyond "
                    "a limit of the configuration, in the time shown, each time one came.",
                    "the same version and configuration everywhere; nothing folded.",
                    "Started a moment ago, again and again: its log, or the OOM killer. Not accepted: "
                    "`taskqueue-exporter check-config FILE`.",
                ),
                (*EXPORTER_KEYS, Key("version", "Version", width=75), Key("pythonversion", "Python", width=75)),
                [
                    _column("Started", f"1000 * {of('process_start_time_seconds', EXPORTER)}", "dateTimeFromNow"),
                    _column("Configured", f"1000 * {RELOADED_AT}", "dateTimeFromNow"),
                    _column("Accepted", RELOADED, "none"),
                    _column("Series", SERIES),
                    _column("Folded", f"sum without (label) ({own_increase(FOLDED, EXPORTER)})", decimals=0),
                    _column("CPU", CPU, "percentunit", 1),
                    _column("Memory", RESIDENT, "bytes"),
                ],
                size=(24, 5),
                empty=NO_EXPORTER,
            ),
            "Accepted",
            mappings=[mapping(YES)],
            custom_cellOptions=COLOURED_TEXT,
        ),
        lines(
            "Series",
            Says(
                "Series in each answer to Prometheus.",
                "grows with queues, tasks and workers, then stays. A pair of task and queue costs about 43.",
                "Grows without end: do names of queues, tasks or workers hold ids or dates? See Folded.",
            ),
            "short",
            Query(SERIES, NAME),
            empty=NO_EXPORTER,
        ),
        lines(
            "Folded label values",
            Says(
                "Label values beyond a limit of the configuration, per second, each time one came. They are counted "
                "as `__other__`; workers and times beyond it are left out. Sums stay right.",
                "0. SeriesFolded tells of any within an hour.",
                "Take ids out of the names, else raise `limits` in the exporter's configuration.",
            ),
            "ops",
            Query(own_rate(FOLDED, EXPORTER), f"{NAME} {{{{label}}}}"),
            empty=NO_EXPORTER,
        ),
        lines(
            "CPU",
            Says(
                "CPU that the exporter's process uses. 100 % is all that one process can use.",
                "a few percent; follows the number of jobs.",
                "Near 100 %: records are lost and scrapes become slow. Raise the container's limit, or split the "
                "brokers among several exporters.",
            ),
            "percentunit",
            Query(CPU, NAME),
            size=(8, 8),
            empty=NO_PROCESS,
        ),
        lines(
            "Memory",
            Says(
                "Resident memory of the exporter's process.",
                "grows with series and with jobs that are under way, then stays.",
                "Grows while series and jobs do not: keep the log and the version, and report it. Lower `limits` "
                "meanwhile.",
            ),
            "bytes",
            Query(RESIDENT, NAME),
            size=(8, 8),
            empty=NO_PROCESS,
        ),
        lines(
            "Open file descriptors",
            Says(
                "Files and connections that the exporter has open, as a share of its limit.",
                "a few percent; some connections for each broker, one for each scrape.",
                "Near 100 % it can open no connection. Who holds so many: hanging scrapes, or too low a limit "
                "(`ulimit -n`)?",
            ),
            "percentunit",
            Query(DESCRIPTORS, NAME),
            size=(8, 8),
            empty=NO_PROCESS,
        ),
    ],
)
