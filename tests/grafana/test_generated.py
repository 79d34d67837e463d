"""The committed dashboards are what `make dashboards` writes."""

from __future__ import annotations

from pathlib import Path

from grafana.src.__main__ import write
from tests import dashboards


def test_making_them_anew_gives_the_committed_bytes(tmp_path: Path) -> None:
    write(tmp_path)
    assert dashboards.of_directory(tmp_path) == dashboards.of_directory(dashboards.DIRECTORY), "run `make dashboards`"


def test_a_dashboard_that_is_made_no_longer_is_removed(tmp_path: Path) -> None:
    # given a file of a dashboard that there is no module of, and one that is no dashboard
    (tmp_path / "tq-former.json").write_text("{}")
    (tmp_path / "README.md").write_text("kept")
    # when dashboards are written
    write(tmp_path)
    # then only that which they are not is gone
    assert not (tmp_path / "tq-former.json").exists()
    assert (tmp_path / "README.md").exists()
