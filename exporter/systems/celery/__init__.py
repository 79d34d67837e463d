"""Celery on Redis, by what kombu's transport leaves there (kombu 5.4 to 5.7). Nothing of kombu itself is imported."""

from exporter.systems.celery.system import Celery

__all__ = ["Celery"]
