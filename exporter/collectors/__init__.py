"""Everything on `/metrics` that is no queue: the Redis, the host. One module per collector, registered below."""

from __future__ import annotations

from exporter.collectors.base import HostCollector, RedisCollector
from exporter.collectors.cgroup import Cgroup
from exporter.collectors.filesystem import Filesystem
from exporter.collectors.host import Host
from exporter.collectors.processes import Processes
from exporter.collectors.redis_info import RedisInfo

REDIS_COLLECTORS: dict[str, type[RedisCollector]] = {}
"""Collectors that run once per broker, by name."""
HOST_COLLECTORS: dict[str, type[HostCollector]] = {}
"""Collectors that run once per exporter, by name."""


def register(collector: type[RedisCollector] | type[HostCollector]) -> None:
    """Makes a collector part of every exporter started after this. Raises ValueError if the name is taken."""
    if collector.name in {*REDIS_COLLECTORS, *HOST_COLLECTORS}:
        raise ValueError(f"a collector called {collector.name!r} is registered already")
    if issubclass(collector, HostCollector):
        HOST_COLLECTORS[collector.name] = collector
    else:
        REDIS_COLLECTORS[collector.name] = collector


register(RedisInfo)
register(Host)
register(Filesystem)
register(Cgroup)
register(Processes)
