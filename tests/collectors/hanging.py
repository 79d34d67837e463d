"""A statvfs that hangs for some mounts, and a prober that asks it."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter

from exporter.collectors.mounts import Mount
from exporter.collectors.prober import Prober

PATIENCE = 0.3
STAGGER = 0.01


def mount(name: str, number: str = "") -> Mount:
    return Mount(number or name, "0", "/dev/x", name, "nfs", False)


class Hanging:
    """A statvfs that hangs for the paths named, until they are let go."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.slow: set[str] = set()
        self._gates: dict[str, threading.Event] = {}

    def hang(self, *paths: str) -> None:
        self._gates |= {path: threading.Event() for path in paths}

    def release(self, *paths: str) -> None:
        for path in paths or list(self._gates):
            self._gates.pop(path).set()

    def __call__(self, path: bytes) -> os.statvfs_result:
        name = path.decode()
        self.calls[name] += 1
        if gate := self._gates.get(name):
            gate.wait(60)
        if name in self.slow:
            time.sleep(STAGGER)  # what a server far away takes, and not what a test waits for
        return os.statvfs("/")


def prober(hanging: Hanging, threads: int = 4, rest: float = 5) -> Prober:
    return Prober(hanging, PATIENCE, STAGGER, threads, rest)


def answered(prober: Prober, *names: str) -> set[str]:
    return well(prober, [mount(name) for name in names])


def well(prober: Prober, mounts: list[Mount]) -> set[str]:
    """Those that answered with numbers."""
    answers = prober.look(mounts)
    return {mount.mountpoint for mount, answer in answers.items() if isinstance(answer, os.statvfs_result)}


def unasked(prober: Prober, *names: str) -> set[str]:
    return set(names) - {mount.mountpoint for mount in prober.look([mount(name) for name in names])}
