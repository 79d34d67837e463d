"""Queue systems. One module or package each, registered below: that line is all a new system needs outside its own."""

from __future__ import annotations

from exporter.systems.arq import Arq
from exporter.systems.base import RedisSystem
from exporter.systems.celery import Celery

SYSTEMS: dict[str, type[RedisSystem]] = {}
"""Every queue system that can live in a Redis, by name."""


def register(system: type[RedisSystem]) -> None:
    """Makes a queue system part of every exporter started after this. Raises ValueError if the name is taken."""
    if system.name in SYSTEMS:
        raise ValueError(f"a queue system called {system.name!r} is registered already")
    SYSTEMS[system.name] = system


register(Arq)
register(Celery)
