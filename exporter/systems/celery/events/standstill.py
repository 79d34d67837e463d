"""Whether this process stood still for a while: stopped, suspended with its machine, or starved.

What a connection had received before is read afterwards, so that it seems to have been heard on just now.
"""

from __future__ import annotations

import math
from typing import Final

LONG: Final = 5.0
"""Seconds between two looks at the clocks, beyond which nobody looked."""
SOON: Final = 2.0
"""Seconds after a standstill, beyond which a connection that is heard on outlived it, and with it all that was sent."""


class Standstill:
    """Looks at the clocks: at Unix time, too, as the monotonic one may stand still with the machine."""

    def __init__(self, now: float, tick: float) -> None:
        self._now, self._tick = now, tick
        self._seconds = 0.0
        self._ended = -math.inf

    def look(self, now: float, tick: float) -> None:
        """To be called often."""
        passed = max(now - self._now, tick - self._tick)
        if passed > LONG:
            self._seconds, self._ended = passed, tick
        self._now, self._tick = now, tick

    def silent(self, seconds: float, now: float, tick: float) -> float:
        """For how many seconds a connection may have been lost that is found to be so now, and on which something was
        heard so many seconds ago."""
        self.look(now, tick)
        if tick - seconds > self._ended + SOON:
            return seconds
        return max(seconds, self._seconds + tick - self._ended)
