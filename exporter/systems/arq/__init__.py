"""ARQ, by what it leaves in Redis (arq 0.23 to 0.28). Nothing of arq itself is imported."""

from exporter.systems.arq.system import Arq

__all__ = ["Arq"]
