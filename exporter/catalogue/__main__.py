"""Prints the metrics reference."""

from __future__ import annotations

import sys

from exporter.catalogue.reference import reference

sys.stdout.writelines(f"{line}\n" for line in reference())
