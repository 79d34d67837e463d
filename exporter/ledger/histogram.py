"""Histograms, and the jobs that are their exemplars."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.samples import Exemplar, Sample

from exporter.catalogue import Family
from exporter.safe.text import label_text

_SLOWEST_FOR: Final = 60.0
"""Seconds for which the slowest job is the exemplar of its histogram."""
_EXEMPLAR_LABEL: Final = "job_id"
_EXEMPLAR_ROOM: Final = 128 - len(_EXEMPLAR_LABEL)  # OpenMetrics 1.0: characters of all names and values of an exemplar


class Histogram:
    """Counts by upper bound, and the slowest job of late."""

    __slots__ = ("_bounds", "_counts", "_slowest", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._slowest: tuple[float, str, float] | None = None

    def observe(self, value: float, job_id: str, at: float) -> None:
        """One job that took `value` seconds and was seen `at`."""
        if not 0 <= value < math.inf:
            return
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value
        if self._slowest is None or value >= self._slowest[0] or at > self._slowest[2] + _SLOWEST_FOR:
            self._slowest = (value, job_id, at)

    def __len__(self) -> int:
        """How many lines it has: one for each bucket, count and sum."""
        return len(self._counts) + 2

    def samples(self, family: Family, labels: dict[str, str], *, held: bool) -> Iterator[Sample]:
        """The lines of this histogram as it is when the first is asked for; all zero where it is `held`."""
        bounds = [*self._bounds, math.inf]
        counts, whole = ([0] * len(bounds), 0.0) if held else (list(self._counts), self._sum)
        marked, slowest = (-1, None) if held or self._slowest is None else self._exemplar(*self._slowest)
        total = 0
        for place, (bound, count) in enumerate(zip(bounds, counts, strict=True)):
            total += count
            le = "+Inf" if bound == math.inf else str(float(bound))
            shown = slowest if place == marked else None
            yield Sample(f"{family.name}_bucket", {**labels, "le": le}, total, None, shown)
        yield Sample(f"{family.name}_count", labels, total)
        yield Sample(f"{family.name}_sum", labels, whole)

    def _exemplar(self, value: float, job_id: str, at: float) -> tuple[int, Exemplar | None]:
        return bisect_left(self._bounds, value), exemplar(job_id, value, at)


def exemplar(job_id: str, value: float, at: float) -> Exemplar | None:
    """The job as an exemplar; None where its id is too long to be one, or no clean text."""
    if len(job_id) > _EXEMPLAR_ROOM or label_text(job_id, 4 * _EXEMPLAR_ROOM) != job_id:
        return None
    return Exemplar({_EXEMPLAR_LABEL: job_id}, value, round(at, 3))
