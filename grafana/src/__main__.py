"""Writes all dashboards: `python -m grafana.src DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana.src.boards import BOARDS


def write(directory: Path) -> None:
    """Write each dashboard to a file called by its uid, and remove those that are made no longer."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {directory / f"{board.uid}.json": board for board in BOARDS}
    for path in set(directory.glob("*.json")) - files.keys():
        path.unlink()
    for path, board in files.items():
        path.write_text(board.json())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
