"""Network namespaces for tests: a loopback of its own, on which established connections can be black-holed.

Needs Linux, the commands `ip`, `nft` and `nsenter`, and the right to make namespaces (root, as a rule). A test
that uses the fixture `namespace` is marked with `needs_namespace`. A pytest plugin: see `conftest.py`.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import pytest

needs_namespace = pytest.mark.needs("ip", "nft", "nsenter")
_TABLE: Final = "blackhole"
_NUMBERS: Final = itertools.count()

T = TypeVar("T")


class NotPermitted(Exception):
    """This machine lets us make no namespace; the message says what it said."""


class Namespace:
    """One network namespace with its loopback up, and no way out of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def path(self) -> str:
        """The file that stands for it."""
        return f"/var/run/netns/{self.name}"

    def command(self, *argv: str) -> list[str]:
        """`argv` so that it runs inside; as the same process, so that signals reach it."""
        return ["nsenter", f"--net={self.path}", "--", *argv]

    def run(self, *argv: str) -> str:
        """Runs a command inside to its end; what it wrote. CalledProcessError if it failed."""
        return _run(*self.command(*argv))

    def inside(self, work: Callable[[], T]) -> T:
        """Calls `work` in a thread that is inside: sockets that it makes and processes that it starts stay inside.

        So `inside(start_redis)` is a server there, and `inside(exporter.metrics)` scrapes an exporter there.
        """
        results: list[T] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                _set_namespace(self.path)
                results.append(work())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=enter, name=f"in-{self.name}")
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def black_hole(self, port: int) -> None:
        """From now on nothing passes on connections with `port` that are established; new ones can still be begun.

        A segment with data, or a lone ACK with the longer header of a loss, is dropped in both directions; the short
        ones of a handshake (60 bytes, with time stamps 52) pass. Nobody is told: that is what makes it a black hole.
        """
        drop = r"tcp flags & (syn|ack) == ack meta length > 60 drop"
        self.run("nft", "add", "table", "inet", _TABLE)
        self.run("nft", "add", "chain", "inet", _TABLE, "in", "{ type filter hook input priority 0; }")
        for end in ("dport", "sport"):
            self.run("nft", "add", "rule", "inet", _TABLE, "in", f"tcp {end} {port} {drop}")

    def heal(self) -> None:
        """Takes the black hole away."""
        self.run("nft", "delete", "table", "inet", _TABLE)


@contextmanager
def network_namespace() -> Iterator[Namespace]:
    """A new namespace, removed afterwards. Whoever starts processes inside stops them first.

    Raises NotPermitted where the machine allows none.
    """
    namespace = Namespace(f"tqe-{os.getpid()}-{next(_NUMBERS)}")
    try:
        _run("ip", "netns", "add", namespace.name)
    except subprocess.CalledProcessError as error:
        raise NotPermitted(error.stdout.strip()) from None
    try:
        try:
            namespace.run("ip", "link", "set", "lo", "up")
            namespace.run("nft", "list", "ruleset")
        except subprocess.CalledProcessError as error:
            raise NotPermitted(error.stdout.strip()) from None
        yield namespace
    finally:
        _run("ip", "netns", "delete", namespace.name)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A network namespace. Where none may be made, the test fails with CI=true and is skipped elsewhere."""
    try:
        with network_namespace() as made:
            yield made
    except NotPermitted as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no network namespace can be made: {error}", pytrace=False)
        pytest.skip(f"no network namespace can be made: {error}")


def _run(*argv: str) -> str:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True, timeout=30)
    return done.stdout


def _set_namespace(path: str) -> None:
    """setns(2) for the calling thread alone; `os.setns` is there from Python 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(descriptor, 0x40000000) != 0:  # CLONE_NEWNET
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
