"""PromQL that looks at what the dashboard's variables select."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

JOB: Final = ("job",)
BROKER: Final = (*JOB, "broker")
SYSTEM: Final = (*JOB, "system", "broker")
QUEUE: Final = (*SYSTEM, "queue")
TASK: Final = (*QUEUE, "task")
SERVER: Final = (*BROKER, "server")
EXPORTER: Final = (*JOB, "instance")
"""Labels that variables of the same name select by. What belongs to a queue, a task or a Redis has no `instance`: it
is the same for all replicas of the exporter. What belongs to an exporter or its host has."""
RECORDED_EVERY: Final = 30
"""Seconds that a recorded rate stands for, the interval of `prometheus/rules/recording.yml`."""


def of(metric: str, scope: tuple[str, ...], *matchers: str) -> str:
    """The series of a metric that the variables of `scope`, and further matchers (`state="ready"`), select."""
    selected = [f'{label}=~"${label}"' for label in scope]
    return f"{metric}{{{', '.join([*matchers, *selected])}}}"


def seen(metric: str, scope: tuple[str, ...], *matchers: str) -> str:
    """A gauge that no rule records, one series for all replicas, as the recording rules make it."""
    return f"max without (instance, pod) (last_over_time({of(metric, scope, *matchers)}[2m]))"


def rate(metric: str, scope: tuple[str, ...], *matchers: str) -> str:
    """What a counter that no rule records rises by per second, in the replica that saw most of it: the counters of
    replicas count the same and must never be added up."""
    return f"max without (instance, pod) ({own_rate(metric, scope, *matchers)})"


def own_rate(metric: str, scope: tuple[str, ...], *matchers: str) -> str:
    """What a counter of each exporter, or of its host, rises by per second."""
    return f"rate({of(metric, scope, *matchers)}[$__rate_interval])"


def own_increase(metric: str, scope: tuple[str, ...], *matchers: str) -> str:
    """What a counter of each exporter, or of its host, rose by over all that the dashboard shows."""
    return f"increase({of(metric, scope, *matchers)}[$__range])"


def increase(metric: str, scope: tuple[str, ...], *matchers: str) -> str:
    """What a counter that no rule records rose by over all that the dashboard shows, in the replica that saw most."""
    return f"max without (instance, pod) ({own_increase(metric, scope, *matchers)})"


def recorded_increase(rate_of: str, scope: tuple[str, ...], *matchers: str) -> str:
    """What a counter whose rate is recorded rose by over all that the dashboard shows, of whichever replicas."""
    return f"sum_over_time({of(rate_of, scope, *matchers)}[$__range]) * {RECORDED_EVERY}"


def kinds(exprs: Mapping[str, str]) -> str:
    """Several things in one query, told apart by the label `kind`: data where there is any of them."""
    return " or ".join(f'label_replace({expr}, "kind", "{kind}", "", "")' for kind, expr in exprs.items())


def feeds_away(scope: tuple[str, ...], *matchers: str) -> str:
    """Feeds that FeedDisconnected tells of, each of one exporter: away, or coming and going."""
    gaps, reconnects = (of(f"taskqueue_feed_{name}_total", scope, *matchers) for name in ("gap_seconds", "reconnects"))
    down = f"min_over_time({of('broker:taskqueue_broker_up:max', BROKER)}[15m]) == 0"
    return (
        f"(rate({gaps}[5m]) > 0.5 or rate({gaps}[15m]) > 0.1 and increase({reconnects}[15m]) > 2.5)"
        f" unless ignoring (instance, pod, system, feed) {down}"
    )


def quantile(share: float, buckets: str, by: str = "le") -> str:
    """What a share of all that was observed stays below; nothing where nothing was."""
    return f"histogram_quantile({share:g}, sum by ({by}) ({buckets})) >= 0"
