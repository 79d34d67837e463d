"""The running exporter: engine, web server, signals and reload, in one event loop."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from exporter import __version__
from exporter.config import Config, ConfigError
from exporter.engine import Engine
from exporter.safe.secrets import hide_urls
from exporter.safe.text import one_line
from exporter.web.app import create_app
from exporter.web.server import create_server

log = structlog.get_logger("exporter.service")

Load = Callable[[], Config]
"""Reads the configuration again. Raises ConfigError."""


@dataclass(frozen=True, slots=True)
class WebOptions:
    """The `--web.` flags that the application needs."""

    telemetry_path: str
    max_requests: int


def run(config: Config, load: Load, listener: socket.socket, options: WebOptions) -> None:
    """Serves `config` until SIGTERM or SIGINT, and what `load` gives after a reload."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload, it must not end us
    _runner()(_serve(config, load, listener, options))


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    if sys.platform == "win32":
        return asyncio.run
    import uvloop  # not there on Windows

    return uvloop.run


async def _serve(config: Config, load: Load, listener: socket.socket, options: WebOptions) -> None:
    engine = Engine(config)
    reloader = Reloader(engine, load)
    app = create_app(engine, reloader.reload, telemetry_path=options.telemetry_path, max_requests=options.max_requests)
    await engine.start()
    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.on_signal)
    # What lives by now lives for ever: a full collection need not walk over it again.
    gc.freeze()
    host, port = listener.getsockname()[:2]
    log.info("listening", address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}", version=__version__)
    try:
        await create_server(app, engine.hurry).serve(sockets=[listener])
    finally:
        await engine.close()
    log.info("stopped")


class Reloader:
    """Reloads one at a time; a bad configuration changes nothing but the metric that says so."""

    def __init__(self, engine: Engine, load: Load) -> None:
        self._engine = engine
        self._load = load
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def reload(self) -> None:
        """Raises ConfigError where the new configuration is bad, or cannot be put to work for whatever reason."""
        async with self._lock:
            try:
                config = self._load()
                await self._engine.reload(config)
            except Exception as error:
                self._engine.refused()
                refused = error if isinstance(error, ConfigError) else ConfigError(hide_urls(one_line(repr(error))))
                log.error("configuration refused, the one before stays", error=str(refused))
                log.debug("reload raised", exc_info=error)
                raise refused from None
            log.info("configuration loaded", brokers=",".join(broker.name for broker in config.brokers))

    def on_signal(self) -> None:
        """What SIGHUP does."""
        task = asyncio.create_task(self._quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self) -> None:
        try:
            await self.reload()
        except ConfigError:
            return  # logged and counted already
