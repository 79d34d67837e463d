"""The configuration file: its schema, made of what is registered, and how it is read.

Every error names the file, the path in it, what was found and what is wanted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from exporter.collectors import HOST_COLLECTORS, REDIS_COLLECTORS
from exporter.config.explain import explain, kind_of
from exporter.config.model import ConfigError, Histograms
from exporter.config.sections import SentinelOptions, TlsOptions
from exporter.safe.documents import DocumentError, read_text, read_yaml
from exporter.safe.limits import Limits
from exporter.systems import SYSTEMS


def read(path: Path, source: str) -> dict[str, Any]:
    """The mapping that a file holds; `source` is how it is called in errors. Raises ConfigError."""
    try:
        document = read_yaml(path)
    except DocumentError as error:
        raise ConfigError(f"{source}: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{source}: found {kind_of(document)}, wanted a mapping")
    return document


def convert(raw: dict[str, Any], source: str) -> Any:
    """The document of such a mapping, checked. Raises ConfigError."""
    schema = _schema()
    try:
        return msgspec.convert(raw, schema)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {explain(str(error), raw, schema)}") from None


def secret_file(path: str, where: str) -> str:
    """The one line of a file. Its name is not told: a secret may stand there by mistake."""
    try:
        lines = read_text(Path(path)).strip().splitlines()
    except DocumentError as error:
        raise ConfigError(f"{where}: {error}") from None
    if len(lines) != 1:
        raise ConfigError(f"{where}: found a file of {len(lines)} lines, wanted one line")
    return lines[0]


_BrokerName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]


def _schema() -> type[msgspec.Struct]:
    strict: dict[str, Any] = {"frozen": True, "forbid_unknown_fields": True}
    systems = [(name, system.Options, system.Options()) for name, system in SYSTEMS.items()]
    collectors = [
        (collector.section, collector.Options, collector.Options()) for collector in REDIS_COLLECTORS.values()
    ]
    broker = msgspec.defstruct(
        "Broker",
        [
            ("name", _BrokerName),
            ("url", str | None, None),
            ("url_file", str | None, None),
            ("password_file", str | None, None),
            ("tls", TlsOptions | None, None),
            ("sentinel", SentinelOptions | None, None),
            ("probe", bool, False),
            *systems,
            *collectors,
        ],
        **strict,
    )
    hosts = [(name, collector.Options, collector.Options()) for name, collector in HOST_COLLECTORS.items()]
    brokers = ("brokers", tuple[broker, ...], ())  # type: ignore[valid-type]
    return msgspec.defstruct(
        "File", [brokers, ("limits", Limits, Limits()), ("histograms", Histograms, Histograms()), *hosts], **strict
    )
