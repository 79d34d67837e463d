"""Groups of processes on this machine: workers, an API."""

from __future__ import annotations
