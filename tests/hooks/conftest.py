from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from taskqueue_hooks import _guard
from tests.hooks.stage import Stage, make_stage
from tests.servers import RedisServer


@pytest.fixture
async def stage(redis_server: RedisServer) -> AsyncIterator[Stage]:
    """An empty Redis with a queue; workers that a test made are closed."""
    made = await make_stage(redis_server)
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def nothing_told() -> Iterator[None]:
    """Each test hears the warnings that are logged only once."""
    _guard._told.clear()
    yield
    _guard._told.clear()


@pytest.fixture
def all_is_well(caplog: pytest.LogCaptureFixture, nothing_told: None) -> Iterator[None]:
    """The hook logs nothing."""
    yield
    assert [record.getMessage() for record in caplog.records if record.name == "taskqueue_hooks"] == []
