"""Settings: file, environment and flags become one frozen model.

Flags go before the environment, the environment before the file. Bad input is a ConfigError: one line that names the
file, the path in it, what was found and what is wanted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec

from exporter.brokers.address import Address, AddressError, parse_address
from exporter.catalogue import JOB_RUN, JOB_WAIT
from exporter.collectors import HOST_COLLECTORS, REDIS_COLLECTORS
from exporter.safe.documents import DocumentError, read_text, read_yaml, shown
from exporter.safe.limits import Limits
from exporter.safe.secrets import Secret, hide_urls
from exporter.safe.text import one_line
from exporter.systems import SYSTEMS
from exporter.systems.base import SystemOptions

DEFAULT_BROKER: Final = "default"
"""The name of the broker that zero configuration makes."""
REDIS_URL: Final = "TASKQUEUE_EXPORTER_REDIS_URL"
DEFAULT_BIRTH_HOLD: Final = 30.0
"""Seconds: two replicas of Prometheus with a scrape interval of 15 s have both seen the zeros by then."""
MAX_BUCKETS: Final = 60
_OWN_MESSAGE: Final = ": found "
"""In what a part of the schema says of itself, in our terms already; msgspec never says so."""


class ConfigError(Exception):
    """Bad input, told in one line that holds no secret."""


# -- the model --------------------------------------------------------------------------------------------------


class Histograms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Upper bounds of the histograms' buckets, in seconds, without +Inf."""

    wait_seconds: tuple[float, ...] = JOB_WAIT.buckets
    run_seconds: tuple[float, ...] = JOB_RUN.buckets

    def __post_init__(self) -> None:
        for name, bounds in (("wait_seconds", self.wait_seconds), ("run_seconds", self.run_seconds)):
            rising = all(low < high for low, high in pairwise((0.0, *bounds, math.inf)))
            if not rising or not 0 < len(bounds) <= MAX_BUCKETS:
                raise ValueError(f"{name}{_OWN_MESSAGE}{shown(list(bounds))}, wanted 1 to {MAX_BUCKETS} rising numbers")


@dataclass(frozen=True, slots=True)
class Broker:
    """One server and database, and what is read of it. Compared whole when the configuration is reloaded."""

    name: str
    address: Address
    systems: Mapping[str, SystemOptions]
    collectors: frozenset[str]


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a reload can change."""

    brokers: tuple[Broker, ...]
    host_collectors: frozenset[str]
    limits: Limits
    histograms: Histograms = field(default_factory=Histograms)
    birth_hold: float = DEFAULT_BIRTH_HOLD


def load(
    path: Path | None,
    redis_url: str | None = None,
    switches: Mapping[str, bool] | None = None,
    birth_hold: float = DEFAULT_BIRTH_HOLD,
) -> Config:
    """The configuration of a file, a Redis URL of environment or flag, the collectors switched on or off, and the
    seconds for which a new counter stands at 0.

    Raises ConfigError.
    """
    switches = switches or {}
    source = "" if path is None else one_line(hide_urls(str(path)))
    raw = {} if path is None else _read(path, source)
    document = _convert(raw, source)
    brokers = _brokers(document, source, switches)
    if redis_url is not None:
        if brokers:
            raise ConfigError(
                f"{source}: brokers: found {len(brokers)} beside {REDIS_URL} (or --redis.url), wanted one of the two"
            )
        brokers = (_default_broker(redis_url, switches),)
    elif "brokers" not in raw:
        where = f"{source}: brokers: " if source else ""
        raise ConfigError(f"{where}found no broker, wanted {REDIS_URL}=redis://... or `brokers:` in --config.file")
    hosts = {name: getattr(document, name).enabled for name in HOST_COLLECTORS} | dict(switches)
    return Config(
        brokers=brokers,
        host_collectors=frozenset(name for name in HOST_COLLECTORS if hosts[name]),
        limits=document.limits,
        histograms=document.histograms,
        birth_hold=birth_hold,
    )


# -- the file's schema, made of what is registered --------------------------------------------------------------


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A collector's section: on or off."""

    enabled: bool = True


_BrokerName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]


def _schema() -> type[msgspec.Struct]:
    strict: dict[str, Any] = {"frozen": True, "forbid_unknown_fields": True}
    systems = [(name, system.Options, system.Options()) for name, system in SYSTEMS.items()]
    collectors = [(collector.section, _Section, _Section()) for collector in REDIS_COLLECTORS.values()]
    broker = msgspec.defstruct(
        "Broker",
        [
            ("name", _BrokerName),
            ("url", str | None, None),
            ("url_file", str | None, None),
            ("password_file", str | None, None),
            *systems,
            *collectors,
        ],
        **strict,
    )
    hosts = [(name, _Section, _Section()) for name in HOST_COLLECTORS]
    brokers = ("brokers", tuple[broker, ...], ())  # type: ignore[valid-type]
    return msgspec.defstruct(
        "File", [brokers, ("limits", Limits, Limits()), ("histograms", Histograms, Histograms()), *hosts], **strict
    )


def _brokers(document: Any, source: str, switches: Mapping[str, bool]) -> tuple[Broker, ...]:
    brokers: dict[str, Broker] = {}
    for index, entry in enumerate(document.brokers):
        where = f"{source}: brokers[{index}]"
        if entry.name in brokers:
            raise ConfigError(f"{where}.name: found {entry.name!r} a second time, wanted a name of its own")
        systems = {name: getattr(entry, name) for name in SYSTEMS}
        sections = {name: getattr(entry, collector.section) for name, collector in REDIS_COLLECTORS.items()}
        enabled = {name: section.enabled for name, section in (systems | sections).items()} | dict(switches)
        brokers[entry.name] = Broker(
            name=entry.name,
            address=_address(entry, where),
            systems={name: options for name, options in systems.items() if enabled[name]},
            collectors=frozenset(name for name in sections if enabled[name]),
        )
    return tuple(brokers.values())


def _default_broker(url: str, switches: Mapping[str, bool]) -> Broker:
    try:
        address = parse_address(url)
    except AddressError as error:
        raise ConfigError(f"{REDIS_URL} (or --redis.url): {error}") from None
    return Broker(
        name=DEFAULT_BROKER,
        address=address,
        systems={name: system.Options() for name, system in SYSTEMS.items() if switches.get(name, True)},
        collectors=frozenset(name for name in REDIS_COLLECTORS if switches.get(name, True)),
    )


def _address(entry: Any, where: str) -> Address:
    given = [key for key in ("url", "url_file") if getattr(entry, key) is not None]
    if len(given) != 1:
        raise ConfigError(f"{where}: found {' and '.join(given) or 'neither url nor url_file'}, wanted one of the two")
    key = given[0]
    url = entry.url if key == "url" else _secret_file(entry.url_file, f"{where}.url_file")
    password = None
    if entry.password_file is not None:
        password = Secret(_secret_file(entry.password_file, f"{where}.password_file"))
    try:
        return parse_address(url, password)
    except AddressError as error:
        raise ConfigError(f"{where}.{key}: {error}") from None


def _secret_file(path: str, where: str) -> str:
    """The one line of a file. Its name is not told: a secret may stand there by mistake."""
    try:
        lines = read_text(Path(path)).strip().splitlines()
    except DocumentError as error:
        raise ConfigError(f"{where}: {error}") from None
    if len(lines) != 1:
        raise ConfigError(f"{where}: found a file of {len(lines)} lines, wanted one line")
    return lines[0]


# -- reading and converting, with errors that say where ---------------------------------------------------------


def _read(path: Path, source: str) -> dict[str, Any]:
    try:
        document = read_yaml(path)
    except DocumentError as error:
        raise ConfigError(f"{source}: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{source}: found {_kind(document)}, wanted a mapping")
    return document


def _convert(raw: dict[str, Any], source: str) -> Any:
    schema = _schema()
    try:
        return msgspec.convert(raw, schema)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(str(error), raw, schema)}") from None


_MESSAGE: Final = re.compile(r"(?P<what>.*?)(?: - at `\$?(?P<at>[^`]*)`)?$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<key>.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(?P<key>.*)`", re.DOTALL)


def _explain(message: str, raw: Any, schema: Any) -> str:
    """msgspec's message in our terms: path, found, wanted."""
    match = _MESSAGE.match(message)
    what, at = (match["what"], match["at"] or "") if match else (message, "")
    steps = list(_steps(at))
    where = at.removeprefix(".")
    prefix = f"{where}: " if where else ""
    if unknown := _UNKNOWN.match(what):
        known = ", ".join(_known_keys(schema, steps))
        return f"{prefix}found the unknown key {shown(unknown['key'])}, wanted one of {known}"
    if missing := _MISSING.match(what):
        return f"{prefix}found no key {missing['key']!r}, wanted one"
    if _OWN_MESSAGE in what:
        return f"{where}.{what}"
    wanted = re.sub(r", got .*", "", what, flags=re.DOTALL).removeprefix("Expected ").replace("`", "")
    wanted = re.sub(r"^\w+", lambda word: _WANTED.get(word[0], word[0]), wanted.replace(" | null", ""))
    return f"{prefix}found {_found(raw, steps)}, wanted {wanted}"


def _steps(at: str) -> Iterator[str | int]:
    for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d*)\]", at):
        yield name or int(index or 0)


def _found(raw: Any, steps: list[str | int]) -> str:
    """The value at the path; of a secret only its kind."""
    value = raw
    try:
        for step in steps:
            value = value[step]
    except (KeyError, IndexError, TypeError):
        return "something else"
    if isinstance(value, dict | list) or any(str(step).startswith(("url", "password")) for step in steps):
        return _kind(value)
    return f"{shown(value)} ({_kind(value)})"


def _known_keys(schema: Any, steps: list[str | int]) -> tuple[str, ...]:
    """The keys that the schema knows at the path."""
    here = schema
    for step in steps:
        here = get_args(here)[0] if isinstance(step, int) else _field_type(here, step)
    return tuple(here.__struct_fields__)


def _field_type(struct: Any, name: str) -> Any:
    kind = next(field.type for field in msgspec.structs.fields(struct) if field.name == name)
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


_KINDS: Final = {
    dict: "a mapping",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "nothing",
}

_WANTED: Final = {
    "object": "a mapping",
    "array": "a list",
    "str": "a string",
    "bool": "a boolean",
    "int": "an integer",
    "float": "a number",
}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)
