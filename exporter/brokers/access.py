"""The way into one broker, shared by all connections to it: where it is now, and whom we are there."""

from __future__ import annotations

from exporter.brokers.address import Address


class Access:
    """Of one broker; all its connections, pulled and pushed, are made through the same one."""

    def __init__(self, address: Address) -> None:
        self.address = address
        """As configured."""

    @property
    def server(self) -> str:
        """`host:port`, or the socket's path, of the server that connections go to now: the label `server`."""
        return self.address.server

    @property
    def db(self) -> int:
        """The number of the database."""
        return self.address.db
