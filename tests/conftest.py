"""Fixtures that start real servers, and what happens to a test whose server is not installed.

With CI=true it fails. Elsewhere it is skipped, and one line at the end says which tests were left out for want of what.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.sentinels import SentinelServer, StartSentinel
from tests.servers import Exporter, RedisServer, StartExporter, StartRedis

pytest_plugins = ["tests.toys", "tests.namespaces"]

FIXTURE_NEEDS = {"start_redis": "redis-server", "start_sentinel": "redis-server"}
"""What a fixture needs on the PATH; a test that uses it, even indirectly, needs no marker."""

LEFT_OUT = pytest.StashKey[dict[str, list[str]]]()
"""Per missing command the files of the tests left out, one entry per test."""
LOG_SHOWN = 4000
"""Characters of an exporter's log."""


# A shared machine is slow at times: how long an example takes is no finding of these tests.
settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes many seconds; runs once per change, not on every Python")
    config.addinivalue_line("markers", "needs(*commands): cannot run without these commands on the PATH")
    config.stash[LEFT_OUT] = {}
    config.pluginmanager.register(OfOtherProcesses())
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end_as_interrupted)


def end_as_interrupted(*_: object) -> None:
    """SIGTERM ends the tests as Ctrl-C does, so that fixtures stop what they started; a second one does nothing."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    raise KeyboardInterrupt


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    # In this hook rather than in a fixture: it runs before fixtures of any scope are set up.
    for command in sorted(needed_commands(item)):
        if shutil.which(command) is None:
            leave_out(item, command)


def needed_commands(item: pytest.Item) -> set[str]:
    """Commands that a test cannot do without: by its markers and by the fixtures it uses."""
    marked = {command for marker in item.iter_markers("needs") for command in marker.args}
    return marked | {FIXTURE_NEEDS[name] for name in getattr(item, "fixturenames", ()) if name in FIXTURE_NEEDS}


def leave_out(item: pytest.Item, command: str) -> None:
    """Fail under CI, else skip and remember it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{command} is not installed", pytrace=False)
    item.config.stash[LEFT_OUT].setdefault(command, []).append(item.location[0])
    pytest.skip(f"{command} is not installed")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # one of several processes that share the tests (pytest-xdist)
        session.config.workeroutput["left_out"] = session.config.stash[LEFT_OUT]


class OfOtherProcesses:
    """Gathers what was left out in processes that share the tests."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for command, files in node.workeroutput.get("left_out", {}).items():
            node.config.stash[LEFT_OUT].setdefault(command, []).extend(files)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = config.stash[LEFT_OUT]
    if left_out:
        terminalreporter.write_line("; ".join(left_out_text(*item) for item in sorted(left_out.items())))


def left_out_text(command: str, files: list[str]) -> str:
    """`left out for want of redis-server: 3 in tests/test_a.py, 1 in tests/test_b.py`."""
    where = ", ".join(f"{count} in {file}" for file, count in sorted(Counter(files).items()))
    return f"left out for want of {command}: {where}"


def forget_connections() -> None:
    """kombu keeps connections by URL as long as the process lives, and then declares no queue at the next server that
    gets the same port."""
    if kombu := sys.modules.get("kombu.pools"):
        kombu.reset()


@pytest.fixture
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartRedis]:
    """Start Redis servers, each with the options given (`start_redis(maxmemory="10mb")`)."""
    with ExitStack() as stack:

        def start(**options: str) -> RedisServer:
            server = RedisServer(tmp_path_factory.mktemp("redis"), **options)
            stack.callback(server.stop)
            stack.callback(forget_connections)
            return server

        yield start


@pytest.fixture
def redis_server(start_redis: StartRedis) -> RedisServer:
    """An empty Redis."""
    return start_redis()


@pytest.fixture
def start_sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartSentinel]:
    """Start sentinels, which watch nothing yet."""
    with ExitStack() as stack:

        def start(**options: str) -> SentinelServer:
            server = SentinelServer(tmp_path_factory.mktemp("sentinel"), **options)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def start_exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartExporter]:
    """Start exporters: `start_exporter(redis_url=…)`, `start_exporter(config="brokers: …")`; see `Exporter`."""
    with ExitStack() as stack:

        def start(*arguments: str, **settings: Any) -> Exporter:
            exporter = Exporter(tmp_path_factory.mktemp("exporter"), *arguments, **settings)
            stack.callback(lambda: print(exporter.log[-LOG_SHOWN:]))  # pytest shows it where the test has failed
            stack.callback(exporter.stop)
            return exporter

        yield start
