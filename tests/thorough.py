"""How much the tests of great numbers and of many combinations do: what shows the same in a part of the time, or all.

`make test-matrix` sets TEST_THOROUGH.
"""

from __future__ import annotations

import os
from typing import Final

THOROUGH: Final = bool(os.environ.get("TEST_THOROUGH"))
