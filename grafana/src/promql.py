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


def kinds(exprs: Mapping[str, str]) -> str:
    """Several things in one query, told apart by the label `kind`: data where there is any of them."""
    return " or ".join(f'label_replace({expr}, "kind", "{kind}", "", "")' for kind, expr in exprs.items())
