"""Prometheus exporter for background job queues, the Redis they live in and the host."""

__version__ = "0.1.0"
