"""All dashboards, the one that Grafana opens with first."""

from __future__ import annotations

from typing import Final

from grafana.src import exporter, overview, redis, system, task
from grafana.src.board import Board

BOARDS: Final[tuple[Board, ...]] = (overview.BOARD, system.BOARD, task.BOARD, redis.BOARD, exporter.BOARD)
