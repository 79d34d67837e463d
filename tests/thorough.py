"""How much the tests of great numbers do: what shows the same in a tenth of the time, or all that is promised.

`make test-matrix` sets TEST_THOROUGH.
"""

from __future__ import annotations

import os
from typing import Final

THOROUGH: Final = bool(os.environ.get("TEST_THOROUGH"))
