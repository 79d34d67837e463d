"""Connections of both kinds, for what must be true of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from exporter.brokers.access import Access
from exporter.brokers.address import Address
from exporter.brokers.errors import BrokerError
from exporter.brokers.pulls import Pulls
from exporter.brokers.push import PushConnection
from exporter.brokers.turn import Turn

Reach = Callable[[Access], Awaitable[object]]
"""Connects, and gives the answer to ECHO x."""


async def pulled(access: Access) -> object:
    pulls = Pulls(access)
    try:
        return await pulls.one("ECHO", "x")
    finally:
        await pulls.close()


async def pushed(access: Access) -> object:
    connection = await PushConnection.open(access, Turn())
    try:
        return await connection.command("ECHO", "x")
    finally:
        await connection.close()


both_kinds = pytest.mark.parametrize("reach", [pulled, pushed])


async def problem(reach: Reach, to: Access | Address) -> str:
    """Why it is not reached, in the one line that is logged."""
    with pytest.raises(BrokerError) as caught:
        await reach(to if isinstance(to, Access) else Access(to))
    assert "\n" not in str(caught.value)
    return str(caught.value)
