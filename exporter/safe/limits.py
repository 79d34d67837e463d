"""Caps on how many names of others become label values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, TypeAlias

import msgspec

from exporter.safe.text import label_text

Folded: TypeAlias = "Counter[str]"
"""How many names fell beyond a cap, by label."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Caps on what becomes a label, for each system of each broker."""

    task_queues: Annotated[int, msgspec.Meta(ge=1, le=20_000)] = 2000
    """Pairs of queue and task: one makes about 43 series."""
    # Beyond 10,000 the loop would wait too long for one observation, and more queues are not watched anyway.
    queues: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    workers: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    exceptions_per_task: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    label_bytes: Annotated[int, msgspec.Meta(ge=32, le=1024)] = 128


class Names:
    """The names of one kind (queues, workers) under one cap.

    A name that was let in stays in for as long as it keeps coming, so that series do not flap at the cap.
    """

    def __init__(self, cap: int, label_bytes: int) -> None:
        self._cap = cap
        self._label_bytes = label_bytes
        self._admitted: frozenset[str] = frozenset()
        self._texts: dict[str, str] = {}

    def text(self, raw: str) -> str:
        """`raw` as a label value, remembered: the same few names come at every scrape."""
        text = self._texts.get(raw)
        if text is None:
            if len(self._texts) >= 2 * self._cap:
                self._texts.clear()
            text = self._texts[raw] = label_text(raw, self._label_bytes)
        return text

    def admit(self, *tiers: Iterable[str]) -> frozenset[str]:
        """Which names are within the cap: tier by tier, and in each tier those let in before come first."""
        ranked: list[str] = []
        for tier in tiers:
            ranked.extend(sorted(tier, key=self._is_new))
        self._admitted = frozenset(ranked[: self._cap])
        return self._admitted

    def _is_new(self, name: str) -> bool:
        return name not in self._admitted
