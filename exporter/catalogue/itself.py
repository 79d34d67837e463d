"""The exporter about itself: brokers, collectors, configuration."""

from __future__ import annotations

from exporter.catalogue.family import Family

BROKER_UP = Family(
    "taskqueue_broker_up",
    "gauge",
    "1 if the broker answered PING within the deadline of this scrape, 0 else, and where it answered with an error.",
    ("broker",),
)
COLLECTOR_SUCCESS = Family(
    "taskqueue_collector_success",
    "gauge",
    "1 if the collector gave everything it should within the deadline of this scrape, 0 else (the log says why).",
    ("collector", "broker"),
)
COLLECTOR_DURATION = Family(
    "taskqueue_collector_duration_seconds",
    "gauge",
    "How long the collector ran; so far, if it still runs. Collectors run side by side: durations do not add up.",
    ("collector", "broker"),
)

BUILD_INFO = Family(
    "taskqueue_exporter_build_info",
    "gauge",
    "Always 1; version of the exporter and of Python.",
    ("version", "pythonversion"),
)
SERIES = Family("taskqueue_exporter_series", "gauge", "Series in this answer before this one.")
SERIES_FOLDED = Family(
    "taskqueue_exporter_series_folded_total",
    "counter",
    "Label values beyond a limit of the configuration, counted each time one is folded into __other__ or left out.",
    ("label",),
)
RELOAD_SUCCESSFUL = Family(
    "taskqueue_exporter_config_last_reload_successful",
    "gauge",
    "1 if the last load of the configuration succeeded, 0 if it was refused and the one before stayed.",
)
RELOAD_TIMESTAMP = Family(
    "taskqueue_exporter_config_last_reload_success_timestamp_seconds",
    "gauge",
    "When the configuration in use was loaded.",
)
