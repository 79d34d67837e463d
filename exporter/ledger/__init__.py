"""Job events become counters and histograms: one record per (queue, task), rendered as metric families."""

from exporter.ledger.ledger import Ledger
from exporter.ledger.samples import FAMILIES

__all__ = ["FAMILIES", "Ledger"]
