"""Settings: file, environment and flags become one frozen model.

Bad input is a ConfigError: one line that names the file, the path in it, what was found and what is wanted.
"""

from __future__ import annotations

from exporter.config.loading import DEFAULT_BROKER, REDIS_URL, load
from exporter.config.model import DEFAULT_BIRTH_HOLD, MAX_BUCKETS, Broker, Config, ConfigError, Histograms

__all__ = [
    "DEFAULT_BIRTH_HOLD",
    "DEFAULT_BROKER",
    "MAX_BUCKETS",
    "REDIS_URL",
    "Broker",
    "Config",
    "ConfigError",
    "Histograms",
    "load",
]
