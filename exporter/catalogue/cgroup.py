"""The control group (cgroups(7)) that the exporter runs in: what its container may use, and uses."""

from __future__ import annotations
