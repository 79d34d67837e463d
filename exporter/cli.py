"""The command line. `serve` is the default command; every flag has an environment twin."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from exporter import __version__, logs
from exporter.acl import DEFAULT_USER, Form, Version
from exporter.acl import notes as acl_notes
from exporter.acl import text as acl_text
from exporter.config import DEFAULT_BIRTH_HOLD, REDIS_URL, Config, ConfigError, load
from exporter.engine import known_collectors
from exporter.safe.secrets import hide_urls
from exporter.safe.text import one_line
from exporter.service import WebOptions, run
from exporter.web.app import OTHER_PATHS
from exporter.web.server import bind

PROGRAM: Final = "taskqueue-exporter"
PREFIX: Final = "TASKQUEUE_EXPORTER"
DEFAULT_PORT: Final = 10177

F = TypeVar("F", bound=Callable[..., Any])


def flag(name: str, **options: Any) -> Callable[[F], F]:
    """A flag `--a.b-c` with its environment twin TASKQUEUE_EXPORTER_A_B_C."""
    variable = name.removeprefix("--").partition("/")[0].translate(str.maketrans(".-", "__"))
    return click.option(
        name, variable, envvar=f"{PREFIX}_{variable.upper()}", show_envvar=True, show_default=True, **options
    )


def collector_flags(command: F) -> F:
    """`--collector.NAME` and `--no-collector.NAME` for everything that is registered."""
    for name in reversed(list(known_collectors())):
        text = f"Collect {name}, whatever the configuration file says."
        command = flag(f"--collector.{name}/--no-collector.{name}", default=None, is_flag=True, help=text)(command)
    return command


class DefaultGroup(click.Group):
    """A group whose command is `serve` where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in {"--help", "-h", "--version"}):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


@click.group(cls=DefaultGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def cli() -> None:
    """Prometheus exporter for background job queues, the Redis they live in and the host.

    Without a command it serves: see `taskqueue-exporter serve --help`.
    """


def configuration_flags(command: F) -> F:
    """What says which brokers there are."""
    command = flag(
        "--redis.url",
        help="Watch this Redis as the broker `default`, without a configuration file. A URL with a password is taken "
        "from the environment only.",
    )(command)
    return flag("--config.file", type=click.Path(path_type=Path), help="Configuration file (YAML).")(command)


@cli.command()
@configuration_flags
@flag("--web.listen-address", default=f"127.0.0.1:{DEFAULT_PORT}", help="host:port; `:port` is every interface.")
@flag("--web.telemetry-path", default="/metrics", help="Path of the metrics.")
@flag("--web.max-requests", type=click.IntRange(min=1), default=40, help="Scrapes at a time; beyond, 503.")
@flag(
    "--birth-hold",
    type=click.FloatRange(0, 3600),
    default=DEFAULT_BIRTH_HOLD,
    help="Seconds for which a counter that is new stands at 0 after it was first scraped, so that increase() sees its "
    "first jobs; 0 shows them at once.",
)
@flag("--log.level", type=click.Choice(logs.LEVELS), default="info")
@flag("--log.format", type=click.Choice(logs.FORMATS), default="logfmt")
@collector_flags
@click.pass_context
def serve(ctx: click.Context, /, **options: Any) -> None:
    """Serve metrics until stopped (the default command)."""
    logs.configure(options["log_level"], options["log_format"])
    _check_path(options["web_telemetry_path"])
    read = _reader(ctx, options)
    config = read()  # before the port is taken, and before a connection is made
    listener = bind(options["web_listen_address"])
    run(config, read, listener, WebOptions(options["web_telemetry_path"], options["web_max_requests"]))


@cli.command("check-config")
@click.argument("file", type=click.Path(path_type=Path))
def check_config(file: Path) -> None:
    """Check a configuration file: exit code 0 if it is good, else one line and exit code 2."""
    config = load(file)
    names = ", ".join(broker.name for broker in config.brokers) or "none"
    click.echo(f"{one_line(str(file), 1000)}: good; brokers: {names}")


@cli.command("acl")
@configuration_flags
@flag("--broker", help="Only for this broker of the file.")
@flag("--user", help=f"The user's name, not `default`.  [default: that of the URL, or {DEFAULT_USER}]")
@flag("--redis-version", type=click.Choice([*map(str, Version)]), default="7.0", help="7.0 stands for later ones too.")
@flag(
    "--format",
    type=click.Choice([*map(str, Form)]),
    default="setuser",
    help="A command for redis-cli with what needs what as comments, or a line for the server's ACL file.",
)
@collector_flags
@click.pass_context
def acl(ctx: click.Context, /, **options: Any) -> None:
    """Print the least Redis ACL that the configuration needs. Connects to nothing.

    Read the comments before you use it; beside a line for a file they go to standard error.
    """
    brokers = _reader(ctx, options)().brokers
    if options["broker"] is not None:
        brokers = tuple(broker for broker in brokers if broker.name == options["broker"])
        if not brokers:
            raise ConfigError(f"--broker: found {one_line(options['broker'])!r}, wanted the name of a broker")
    form, version = Form(options["format"]), Version(options["redis_version"])
    click.echo(acl_text(brokers, version, form, options["user"]), nl=False)
    if form is Form.ACLFILE:
        click.echo("\n".join(acl_notes(brokers, options["user"], version)), err=True)


@cli.command()
@click.option("--duration", type=click.FloatRange(min=1), help="Seconds after which the demo ends by itself.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True)
def demo(duration: float | None, port: int) -> None:
    """Run the exporter beside a Redis, ARQ and Celery workers and a workload of its own."""
    from exporter import demo as live_demo  # needs the extra `demo`

    sys.exit(live_demo.run(duration, port))


def _reader(ctx: click.Context, options: dict[str, Any]) -> Callable[[], Config]:
    """Reads the configuration that the flags name."""
    _check_secret(ctx, options["redis_url"])
    switches = {name: options[f"collector_{name}"] for name in known_collectors()}
    given = {name: on for name, on in switches.items() if on is not None}
    hold = options.get("birth_hold", DEFAULT_BIRTH_HOLD)
    return partial(load, options["config_file"], options["redis_url"], given, hold)


def _check_path(path: str) -> None:
    if not re.fullmatch(r"/|(/[A-Za-z0-9._~-]+)+/?", path) or path.startswith("/-/") or path in OTHER_PATHS:
        others = ", ".join(OTHER_PATHS)
        raise ConfigError(
            f"--web.telemetry-path: found {one_line(path)!r}, wanted /PATH that is not below /-/ and none of {others}"
        )


def _check_secret(ctx: click.Context, url: str | None) -> None:
    """A password on the command line can be read by every user of the machine."""
    on_command_line = ctx.get_parameter_source("redis_url") is click.core.ParameterSource.COMMANDLINE
    if url and on_command_line and load(None, url).brokers[0].address.password is not None:
        raise ConfigError(f"--redis.url: found a password in it, wanted it in {REDIS_URL} or in a file")


def main() -> None:
    """The console script. Bad input is one line on standard error and exit code 2."""
    try:
        code = cli.main(prog_name=PROGRAM, standalone_mode=False)
    except ConfigError as error:
        _fail(str(error))
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        _fail(hide_urls(error.format_message()))  # it quotes what was typed
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    print(f"{PROGRAM}: error: {one_line(message, 1000)}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
