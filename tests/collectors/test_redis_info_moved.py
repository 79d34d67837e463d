"""A master that moves while it is asked: what one server counted never stands under the name of another."""

from __future__ import annotations

import pytest

from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.errors import BrokerError
from exporter.brokers.pulls import Pulls
from exporter.collectors.redis_info import RedisInfo
from tests.servers import RedisServer


class Moving(Access):
    """The way to a server that is called as the test says."""

    name: str | None = None
    then: str | None = None

    @property
    def server(self) -> str:
        return self.name or self.address.server

    async def introduce(self, *arguments: object) -> None:
        """Called once, between the question and its answer."""
        await super().introduce(*arguments)  # type: ignore[arg-type]
        self.name = self.then


@pytest.mark.parametrize(
    ("before", "after", "given"), [("a:1", "b:2", False), ("a:1", "a:1", True), (None, "a:1", True)]
)
async def test_no_families_of_a_server_that_is_another_by_then(
    before: str | None, after: str, given: bool, redis_server: RedisServer
) -> None:
    access = Moving(parse_address(redis_server.url()))
    access.name, access.then = before, after
    pulls = Pulls(access)
    try:
        collector = RedisInfo("main", pulls)
        if given:
            labels = {s.labels.get("server") for metric in await collector.collect() for s in metric.samples}
            assert labels == {after}
        else:
            with pytest.raises(BrokerError, match="the master moved meanwhile"):
                await collector.collect()
    finally:
        await pulls.close()
