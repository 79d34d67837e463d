"""Loopback ports."""

import socket

from exporter.demo.errors import DemoError

HOST = "127.0.0.1"


def claim_port(wanted: int) -> int:
    """Returns ``wanted`` if a server can listen on it, or a free port for 0; raises DemoError otherwise."""
    with socket.socket() as probe:
        # As servers do: a connection of the last run in TIME_WAIT must not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise DemoError(
                f"wanted port {wanted} on {HOST} for the exporter, found: {reason} (--port 0 chooses a free one)"
            ) from error
        port: int = probe.getsockname()[1]
        return port
