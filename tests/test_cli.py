"""The command line: flags, their environment twins, and errors of one line with exit code 2."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from exporter import __version__, cli
from exporter.acl import PASSWORD
from exporter.config import Config, ConfigError
from exporter.engine import known_collectors
from exporter.service import Load, WebOptions
from tests.canary import CANARY, QUOTED, holds_canary
from tests.servers import ROOT, exporter_environment, free_port

URL = ("--redis.url", "redis://127.0.0.1:1/0")
FREE = ("--web.listen-address", "127.0.0.1:0")


@dataclass(frozen=True, slots=True)
class Served:
    """What `serve` would have run."""

    config: Config
    port: int
    options: WebOptions


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str


class Cli:
    """The console script, in this process, up to the point where it would serve."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._served: list[Served] = []
        monkeypatch.setattr(cli, "run", self._run)
        monkeypatch.setattr("exporter.logs.configure", lambda *_: None)
        for name in os.environ:
            if name.startswith("TASKQUEUE_EXPORTER_"):
                monkeypatch.delenv(name)

    def _run(self, config: Config, load: Load, listener: socket.socket, options: WebOptions) -> None:
        assert load() == config  # a reload reads the same
        self._served.append(Served(config, listener.getsockname()[1], options))
        listener.close()

    def __call__(self, *arguments: str, **env: str) -> Ended:
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["taskqueue-exporter", *arguments])
            for name, value in env.items():
                patch.setenv(f"TASKQUEUE_EXPORTER_{name}", value)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        out, err = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, out, err)

    def served(self, *arguments: str, **env: str) -> Served:
        ended = self(*arguments, **env)
        assert (ended.code, ended.err) == (0, "")
        return self._served.pop()


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(monkeypatch, capsys)


def write(tmp_path: Path, text: str) -> str:
    file = tmp_path / "config.yml"
    file.write_text(text)
    return str(file)


# -- good input -------------------------------------------------------------------------------------------------


def test_serve_is_the_default_command(run_cli: Cli) -> None:
    served = run_cli.served(*URL, *FREE)

    assert [broker.name for broker in served.config.brokers] == ["default"]
    assert served.options == WebOptions("/metrics", 40)
    assert served.config == run_cli.served("serve", *URL, *FREE).config


def test_flags_have_environment_twins(run_cli: Cli, tmp_path: Path) -> None:
    port = free_port()
    served = run_cli.served(
        CONFIG_FILE=write(tmp_path, "limits: {queues: 3}"),
        REDIS_URL=f"redis://:{QUOTED}@127.0.0.1:1",
        WEB_LISTEN_ADDRESS=f"127.0.0.1:{port}",
        WEB_TELEMETRY_PATH="/m",
        WEB_MAX_REQUESTS="3",
        LOG_LEVEL="debug",
        LOG_FORMAT="json",
        COLLECTOR_ARQ="false",
        COLLECTOR_HOST="0",
    )

    assert served.config.limits.queues == 3
    password = served.config.brokers[0].address.password
    assert password is not None
    assert password.reveal() == CANARY
    assert served.port == port
    assert served.options == WebOptions("/m", 3)
    assert "arq" not in served.config.brokers[0].systems
    assert "celery" in served.config.brokers[0].systems
    assert "host" not in served.config.host_collectors


@pytest.mark.parametrize("command", ["serve", "acl"])
def test_every_flag_has_a_twin_of_its_name(command: str) -> None:
    for option in cli.cli.commands[command].params:
        if not isinstance(option, click.Option) or option.opts == ["--help"]:
            continue
        name = option.opts[0].removeprefix("--").translate(str.maketrans(".-", "__")).upper()
        assert option.envvar == f"TASKQUEUE_EXPORTER_{name}"


def test_flags_go_before_the_environment_and_that_before_the_file(run_cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path, "host: {enabled: false}\nbrokers: [{name: a, url: redis://h, arq: {enabled: false}}]")
    arguments = ("--config.file", file, *FREE)

    by_file = run_cli.served(*arguments)
    by_environment = run_cli.served(*arguments, COLLECTOR_ARQ="true", COLLECTOR_HOST="true")
    by_flag = run_cli.served(*arguments, "--no-collector.arq", COLLECTOR_ARQ="true", COLLECTOR_HOST="true")

    assert ["arq" in served.config.brokers[0].systems for served in (by_file, by_environment, by_flag)] == [0, 1, 0]
    assert ["host" in served.config.host_collectors for served in (by_file, by_environment, by_flag)] == [0, 1, 1]


@pytest.mark.parametrize("name", known_collectors())
def test_every_collector_has_a_switch(name: str, run_cli: Cli) -> None:
    def enabled(served: Served) -> bool:
        broker = served.config.brokers[0]
        return name in {*broker.systems, *broker.collectors, *served.config.host_collectors}

    assert not enabled(run_cli.served(*URL, *FREE, f"--no-collector.{name}"))
    assert enabled(run_cli.served(*URL, *FREE, f"--collector.{name}"))


def test_an_empty_variable_is_none(run_cli: Cli) -> None:
    assert run_cli.served(*URL, *FREE, CONFIG_FILE="", WEB_MAX_REQUESTS="").options.max_requests == 40


def test_version(run_cli: Cli) -> None:
    assert run_cli("--version") == Ended(0, f"taskqueue-exporter {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [("--help",), ("-h",), ("serve", "--help"), ("check-config", "--help"), ("acl", "-h")]
)
def test_help(arguments: tuple[str, ...], run_cli: Cli) -> None:
    ended = run_cli(*arguments)

    assert ended.code == 0
    assert ended.out.startswith("Usage: taskqueue-exporter")


def test_check_config_of_a_good_file(run_cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path, "brokers: [{name: a, url: redis://h}, {name: b, url: redis://h/1}]")

    assert run_cli("check-config", file) == Ended(0, f"{file}: good; brokers: a, b\n", "")


def test_acl_prints_the_rules_of_the_configuration(run_cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path, "brokers: [{name: a, url: redis://h}, {name: b, url: redis://me@other/1}]")

    every = run_cli("acl", "--config.file", file)
    one = run_cli("acl", "--config.file", file, "--broker", "b", "--user", "you", "--redis-version", "6.2")
    by_variables = run_cli("acl", CONFIG_FILE=file, BROKER="b", USER="you", REDIS_VERSION="6.2")
    line = run_cli("acl", *URL, "--format", "aclfile", "--no-collector.celery")

    assert (every.code, every.err) == (0, "")
    assert every.out.count("ACL SETUSER exporter on #SHA") == every.out.count("ACL SETUSER me on #SHA") == 1
    assert one.out.startswith("# Redis 6.2 at other:6379, broker b\n")
    assert one.out.count("\nACL SETUSER you on ") == 1
    assert one == by_variables
    assert line.out.startswith("user exporter on #SHA")
    assert "celery" not in line.out


def test_comments_on_a_line_for_a_file_go_elsewhere(run_cli: Cli) -> None:
    line = run_cli("acl", "--redis.url", "redis://me@h", "--format", "aclfile")

    assert (line.code, line.out.count("\n"), "#" in line.out.replace(PASSWORD, "")) == (0, 1, False)
    assert "# This replaces all that me may do now." in line.err
    assert all(note.startswith("# ") for note in line.err.splitlines())


# -- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "found no broker, wanted TASKQUEUE_EXPORTER_REDIS_URL=redis://..."),
        (("bogus",), "No such command 'bogus'"),
        (("serve", "extra"), "Got unexpected extra argument (extra)"),
        (("--bogus",), "No such option"),
        ((*URL, "--no-collector.bogus"), "No such option"),
        (("--config.file", "/no/such"), "/no/such: found no file that can be read (No such file or directory), wanted"),
        (("--config.file", "/tmp"), "/tmp: found no file that can be read (Is a directory), wanted one"),
        (("--config.file",), "Option '--config.file' requires an argument"),
        (("--redis.url", "h"), "TASKQUEUE_EXPORTER_REDIS_URL (or --redis.url): found no URL, wanted redis://"),
        (
            ("--redis.url", "redis://:pw@h"),
            "--redis.url: found a password in it, wanted it in TASKQUEUE_EXPO",
        ),
        (("--redis.url", "redis://h?password=pw"), "--redis.url: found a password in it, wanted it in TASKQUEUE_EXPO"),
        ((*URL, "--web.max-requests", "0"), "Invalid value for '--web.max-requests'"),
        ((*URL, "--web.max-requests", "many"), "Invalid value for '--web.max-requests'"),
        ((*URL, "--log.level", "loud"), "Invalid value for '--log.level'"),
        ((*URL, "--log.format", "xml"), "Invalid value for '--log.format'"),
        ((*URL, "--web.telemetry-path", "metrics"), "--web.telemetry-path: found 'metrics', wanted /PATH"),
        ((*URL, "--web.telemetry-path", "/-/healthy"), "--web.telemetry-path: found '/-/healthy', wanted /PATH"),
        ((*URL, "--web.telemetry-path", "/{x:y}"), "--web.telemetry-path: found '/{x:y}', wanted /PATH"),
        ((*URL, "--web.telemetry-path", "//evil.example"), "--web.telemetry-path: found '//evil.example', wanted /PA"),
        ((*URL, "--web.listen-address", "localhost"), "--web.listen-address: found 'localhost', wanted host:port"),
        ((*URL, "--web.listen-address", "h:99999"), "--web.listen-address: found 'h:99999', wanted host:port"),
        ((*URL, "--web.listen-address", "h:" + "9" * 5000), "--web.listen-address: found 'h:999999"),
        ((*URL, "--web.listen-address", "::1:80"), "--web.listen-address: found '::1:80', wanted host:port"),
        ((*URL, "--web.listen-address", f"{'a' * 70}.b:80"), "--web.listen-address: found 'aaaa"),
        ((*URL, "--web.listen-address", "203.0.113.7:80"), "--web.listen-address: found '203.0.113.7:80' (Cannot assi"),
        (("check-config",), "Missing argument 'FILE'"),
        (("check-config", "/no/such"), "/no/such: found no file that can be read"),
        (("acl",), "found no broker, wanted TASKQUEUE_EXPORTER_REDIS_URL=redis://..."),
        (("acl", "--redis.url", "redis://:pw@h"), "--redis.url: found a password in it, wanted it in TASKQUEUE_EXPO"),
        (("acl", *URL, "--redis-version", "5"), "Invalid value for '--redis-version'"),
        (("acl", *URL, "--broker", "main"), "--broker: found 'main', wanted the name of a broker"),
        (("acl", *URL, "--user", "two words"), "--user: found 'two words', wanted a name without spaces"),
        (
            ("acl", *URL, "--user", "default"),
            "--user: found 'default', whom all clients without a name are, wanted a us",
        ),
        (("demo", "--duration", "x"), "Invalid value for '--duration'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: tuple[str, ...], error: str, run_cli: Cli) -> None:
    ended = run_cli(*arguments)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("taskqueue-exporter: error: ")
    assert error in ended.err
    assert ended.err.count("\n") == 1
    assert ended.err.strip().isprintable()


@pytest.mark.parametrize(
    ("name", "text"),
    [("COLLECTOR_ARQ", "perhaps"), ("WEB_MAX_REQUESTS", "-1"), ("LOG_LEVEL", "LOUD"), ("REDIS_URL", "http://h")],
)
def test_a_bad_variable_is_told(name: str, text: str, run_cli: Cli) -> None:
    ended = run_cli(*FREE, **({"REDIS_URL": URL[1]} | {name: text}))

    assert ended.code == 2
    assert ended.err.count("\n") == 1


def test_a_port_in_use(run_cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run_cli(*URL, "--web.listen-address", address)

    assert ended.code == 2
    assert f"found '{address}' (Address already in use), wanted an address that is free" in ended.err


def test_a_bad_file_is_told_before_the_port_is_taken(run_cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path, "brokers: 7")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run_cli("--config.file", file, "--web.listen-address", address)

    assert ended == Ended(2, "", f"taskqueue-exporter: error: {file}: brokers: found 7 (an integer), wanted a list\n")


def test_check_config_tells_the_same_error(run_cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path, "brokers: 7")

    assert run_cli("check-config", file).err.endswith(f"{file}: brokers: found 7 (an integer), wanted a list\n")


@pytest.mark.parametrize("secret", [QUOTED, CANARY], ids=["quoted", "as it is"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("--redis.url", "redis://:{}@h"),
        ("--redis.url", "redis://:{}@h:port"),
        ("--redis.url", "redis//:{}@h"),
        ("redis://:{}@h",),
        ("serve", "redis://:{}@h"),
        ("--config.file", "redis://:{}@h"),
        ("check-config", "redis://:{}@h"),
        ("--web.max-requests", "redis://:{}@h"),
    ],
)
def test_no_error_shows_a_password(arguments: tuple[str, ...], secret: str, run_cli: Cli) -> None:
    ended = run_cli(*(argument.format(secret) for argument in arguments))

    assert ended.code == 2
    assert not holds_canary(ended.err + ended.out)


def test_the_console_script_ends_without_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "exporter.cli"], capture_output=True, text=True, cwd=ROOT, env=exporter_environment()
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("taskqueue-exporter: error: found no broker")
    assert done.stderr.count("\n") == 1


def test_config_error_is_the_only_error_of_bind() -> None:
    from exporter.web.server import bind

    with pytest.raises(ConfigError):
        bind("no such host:1")
