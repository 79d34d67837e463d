"""A /proc of files with processes that were made up, and what the system may refuse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.collectors.processes import look


def made_up_proc(
    directory: Path,
    *,
    comm: str = "worker",
    state: str = "S",
    cgroup: str = "0::/",
    cmd: str = "w",
    threads: int = 3,
    init: str = "0::/init.scope",
) -> Path:
    """Process 1 in the group `init`, and process 7 with 2.5 s of CPU time, 3 threads and 1024 pages."""
    for pid, name, of_state in ((1, "init", "S"), (7, comm, state)):
        folder = directory / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "fd").mkdir()
        fields = (
            f"{of_state} 1 7 7 0 -1 4194304 9 0 0 0 200 50 8 8 20 0 {threads} 0 1234 8192000 1024 18446744073709551615"
        )
        (folder / "stat").write_text(f"{pid} ({name}) {fields} 0 0\n")
        (folder / "cmdline").write_text("" if pid == 1 else f"{cmd}\0-x\0")
        (folder / "cgroup").write_text(f"{init if pid == 1 else cgroup}\n")
        (folder / "limits").write_text("Limit   Soft  Hard  Units\nMax open files   unlimited   unlimited   files\n")
    return directory / "proc"


class System:
    """The module `os` as /proc is read with it: what was opened, and what cannot be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[str] = []
        self.refused: dict[str, int] = {}
        """By the name of a file an error's number."""
        monkeypatch.setattr(look, "os", self)

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def open(self, path: str, flags: int) -> int:
        self.opened.append(path)
        if error := self.refused.get(Path(path).name):
            raise OSError(error, os.strerror(error), path)
        return os.open(path, flags)
