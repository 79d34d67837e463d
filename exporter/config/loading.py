"""From file, environment and flags to one configuration: flags go before the environment, that before the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exporter.brokers.address import AddressError, parse_address
from exporter.collectors import HOST_COLLECTORS, REDIS_COLLECTORS
from exporter.collectors.base import Collector, CollectorOptions
from exporter.config import file, reaching
from exporter.config.model import DEFAULT_BIRTH_HOLD, Broker, Config, ConfigError
from exporter.safe.secrets import hide_urls
from exporter.safe.text import one_line
from exporter.systems import SYSTEMS

DEFAULT_BROKER: Final = "default"
"""The name of the broker that zero configuration makes."""
REDIS_URL: Final = "TASKQUEUE_EXPORTER_REDIS_URL"


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
    raw = {} if path is None else file.read(path, source)
    document = file.convert(raw, source)
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
    hosts = {name: getattr(document, name) for name in HOST_COLLECTORS}
    return Config(
        brokers=brokers,
        host_collectors=_switched_on(hosts, HOST_COLLECTORS, switches),
        limits=document.limits,
        histograms=document.histograms,
        birth_hold=birth_hold,
    )


def _brokers(document: Any, source: str, switches: Mapping[str, bool]) -> tuple[Broker, ...]:
    brokers: dict[str, Broker] = {}
    for index, entry in enumerate(document.brokers):
        where = f"{source}: brokers[{index}]"
        if entry.name in brokers:
            raise ConfigError(f"{where}.name: found {entry.name!r} a second time, wanted a name of its own")
        systems = {name: getattr(entry, name) for name in SYSTEMS}
        sections = {name: getattr(entry, collector.section) for name, collector in REDIS_COLLECTORS.items()}
        brokers[entry.name] = Broker(
            name=entry.name,
            address=reaching.address(entry, where),
            systems={name: options for name, options in systems.items() if switches.get(name, options.enabled)},
            collectors=_switched_on(sections, REDIS_COLLECTORS, switches),
            probe=entry.probe,
        )
    return tuple(brokers.values())


def _default_broker(url: str, switches: Mapping[str, bool]) -> Broker:
    try:
        address = parse_address(url)
    except AddressError as error:
        raise ConfigError(f"{REDIS_URL} (or --redis.url): {error}") from None
    sections = {name: collector.Options() for name, collector in REDIS_COLLECTORS.items()}
    return Broker(
        name=DEFAULT_BROKER,
        address=address,
        systems={name: system.Options() for name, system in SYSTEMS.items() if switches.get(name, True)},
        collectors=_switched_on(sections, REDIS_COLLECTORS, switches),
    )


def _switched_on(
    sections: Mapping[str, CollectorOptions], collectors: Mapping[str, type[Collector]], switches: Mapping[str, bool]
) -> dict[str, CollectorOptions]:
    """The sections of the collectors that are to run: as a flag says, else the section, else the collector."""
    on: dict[str, CollectorOptions] = {}
    for name, section in sections.items():
        enabled = switches.get(name, section.enabled)
        if enabled or (enabled is None and collectors[name].enabled_by_default(section)):
            on[name] = section
    return on
