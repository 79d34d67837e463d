"""What a metric family is, and the label sets that most of them share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Literal

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

Kind = Literal["gauge", "counter", "histogram", "summary"]


class LazySamples:
    """Samples that are made one after the other when they are walked over: 100,000 at once would stall the loop."""

    __slots__ = ("_make", "_size")

    def __init__(self, size: int, make: Callable[[], Iterator[Sample]]) -> None:
        self._size = size
        self._make = make

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Sample]:
        return self._make()


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family. `name` is the name users type: a counter's ends in `_total`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Of a histogram: the upper bounds, without +Inf, that hold unless the configuration says otherwise."""

    @property
    def metric_name(self) -> str:
        """The name of its metrics: without `_total`, as prometheus_client wants it."""
        return self.name.removesuffix("_total")

    def metric(self, values: Iterable[tuple[Sequence[str], float]] = ()) -> Metric:
        """A new metric of this family, with one sample for each pair of label values and number."""
        metric = Metric(self.metric_name, self.help, self.kind)
        metric.samples = [self.sample(labels, value) for labels, value in values]
        return metric

    def lazy_metric(self, size: int, make: Callable[[], Iterator[Sample]]) -> Metric:
        """A new metric of this family whose `size` samples are made anew whenever someone walks over them."""
        metric = self.metric()
        metric.samples = LazySamples(size, make)  # type: ignore[assignment]  # all that is done with them: walk, len
        return metric

    def sample(self, values: Sequence[str], value: float) -> Sample:
        """One sample; `values` stand in the order of `labels`."""
        return Sample(self.name, dict(zip(self.labels, values, strict=True)), value)


def joined(metric: Metric, parts: Sequence[Collection[Sample]]) -> Metric:
    """A metric of the family of `metric` with the samples of all `parts`, which are not copied."""
    whole = Metric(metric.name, metric.documentation, metric.type)
    size = sum(map(len, parts))
    whole.samples = LazySamples(size, lambda: chain.from_iterable(parts))  # type: ignore[assignment]  # see lazy_metric
    return whole


# The label sets of the design.
B: Final = ("system", "broker")
Q: Final = (*B, "queue")
T: Final = (*Q, "task")
W: Final = (*B, "worker")
F: Final = (*B, "feed")
R: Final = ("broker", "server")
