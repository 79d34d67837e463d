"""Fixtures of the tests that hold what the exporter says against what jobs recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.truth_record import RECORD


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which workers that start from now on, and the test itself, record what happens to jobs."""
    path = tmp_path / "record"
    path.touch()
    monkeypatch.setenv(RECORD, str(path))
    return path
