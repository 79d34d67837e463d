"""Queue systems. One module or package each, registered below: that line is all a new system needs outside its own."""

from __future__ import annotations

from exporter.systems.arq import Arq
from exporter.systems.base import RedisSystem
from exporter.systems.celery import Celery

SYSTEMS: dict[str, type[RedisSystem]] = {}
"""Every queue system that can live in a Redis, by name."""


def register(system: type[RedisSystem]) -> None:
    """Makes a queue system part of every exporter started after this."""
    SYSTEMS[system.name] = system


register(Arq)
register(Celery)
