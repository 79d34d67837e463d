"""What tests read of an exporter's answer."""

from __future__ import annotations

from tests.servers import Series, series

Metrics = dict[Series, float]


def queue(metrics: Metrics, family: str, system: str, name: str, broker: str = "default", **more: str) -> float | None:
    """The value of `taskqueue_queue_<family>` of one queue; None where it is absent."""
    return metrics.get(series(f"taskqueue_queue_{family}", system=system, broker=broker, queue=name, **more))


def jobs(metrics: Metrics, system: str, name: str, broker: str = "default") -> dict[str, float]:
    """The jobs of one queue by state."""
    wanted = {("system", system), ("broker", broker), ("queue", name)}
    found = {key: value for key, value in metrics.items() if key[0] == "taskqueue_queue_jobs" and wanted <= key[1]}
    return {dict(labels)["state"]: value for (_, labels), value in found.items()}


def oldest(metrics: Metrics, system: str, name: str, broker: str = "default") -> float | None:
    """When the oldest ready job of one queue became due."""
    return queue(metrics, "oldest_ready_timestamp_seconds", system, name, broker)


def progress(metrics: Metrics, system: str, name: str) -> float:
    """The last evidence that a job left `ready`."""
    value = queue(metrics, "last_progress_timestamp_seconds", system, name)
    assert value is not None
    return value


def unacked(metrics: Metrics, broker: str = "default") -> float | None:
    """Celery's unacknowledged messages."""
    return metrics.get(series("taskqueue_unacked_jobs", system="celery", broker=broker))


def broker_up(metrics: Metrics, broker: str = "default") -> float | None:
    """Whether the broker answered."""
    return metrics.get(series("taskqueue_broker_up", broker=broker))


def success(metrics: Metrics, collector: str, broker: str = "default") -> float | None:
    """Whether one collector of a broker got everything."""
    return metrics.get(series("taskqueue_collector_success", collector=collector, broker=broker))


def families_of(metrics: Metrics, broker: str) -> set[str]:
    """The names of the families that have a series of this broker, but for what is counted: that stays for ever."""
    found = {name for name, labels in metrics if ("broker", broker) in labels}
    return {name for name in found if not name.startswith(("taskqueue_feed_", "taskqueue_job"))}


def feeds_connected(metrics: Metrics, broker: str = "default") -> dict[str, float]:
    """Whether each feed of a broker is connected, by name."""
    found = {key: value for key, value in metrics.items() if key[0] == "taskqueue_feed_connected"}
    labels = {key: dict(key[1]) for key in found}
    return {labels[key]["feed"]: value for key, value in found.items() if labels[key]["broker"] == broker}
