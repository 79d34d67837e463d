"""The options of `instrument`."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How a worker reports; TypeError or ValueError if it cannot."""

    name: str | None = None
    beat: float = 5.0
    buffer: int = 10_000
    stream_length: int = 20_000

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name)
        check_beat(self.beat)
        check_count("buffer", self.buffer)
        check_count("stream_length", self.stream_length)


def check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"instrument(): name must be a string, not {name!r}")
    if not name:
        raise ValueError("instrument(): name must not be empty")


def check_beat(beat: object) -> None:
    if isinstance(beat, bool) or not isinstance(beat, (int, float)):
        raise TypeError(f"instrument(): beat must be a number of seconds, not {beat!r}")
    if not (math.isfinite(beat) and beat > 0):
        raise ValueError(f"instrument(): beat must be more than 0 seconds, not {beat!r}")


def check_count(option: str, count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"instrument(): {option} must be a whole number, not {count!r}")
    if count < 1:
        raise ValueError(f"instrument(): {option} must be at least 1, not {count!r}")
