"""What a configuration is, once it was read: frozen, and compared whole when it is reloaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import msgspec

from exporter.brokers.address import Address
from exporter.catalogue import JOB_RUN, JOB_WAIT
from exporter.collectors.base import CollectorOptions
from exporter.safe.documents import shown
from exporter.safe.limits import Limits
from exporter.systems.base import SystemOptions

DEFAULT_BIRTH_HOLD: Final = 30.0
"""Seconds: two replicas of Prometheus with a scrape interval of 15 s have both seen the zeros by then."""
MAX_BUCKETS: Final = 60


class ConfigError(Exception):
    """Bad input, told in one line that holds no secret."""


class Histograms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Upper bounds of the histograms' buckets, in seconds, without +Inf."""

    wait_seconds: tuple[float, ...] = JOB_WAIT.buckets
    run_seconds: tuple[float, ...] = JOB_RUN.buckets

    def __post_init__(self) -> None:
        for name, bounds in (("wait_seconds", self.wait_seconds), ("run_seconds", self.run_seconds)):
            rising = all(low < high for low, high in pairwise((0.0, *bounds, math.inf)))
            if not rising or not 0 < len(bounds) <= MAX_BUCKETS:
                raise ValueError(f"{name}: found {shown(list(bounds))}, wanted 1 to {MAX_BUCKETS} rising numbers")


@dataclass(frozen=True, slots=True)
class Broker:
    """One server and database, and what is read of it. Compared whole when the configuration is reloaded."""

    name: str
    address: Address
    systems: Mapping[str, SystemOptions]
    collectors: Mapping[str, CollectorOptions]
    probe: bool = False
    """Left out of /metrics, and given at /probe?broker=NAME alone."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a reload can change."""

    brokers: tuple[Broker, ...]
    host_collectors: Mapping[str, CollectorOptions]
    limits: Limits
    histograms: Histograms = field(default_factory=Histograms)
    birth_hold: float = DEFAULT_BIRTH_HOLD
