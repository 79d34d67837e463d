"""The results that stand in Redis: walked over in bounded pages, at the pace at which they are decoded."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection
from typing import Final

from exporter.brokers.pulls import Pulls
from exporter.model import Unreadable
from exporter.systems.celery.layout import RESULT, result_pattern, result_prefix
from exporter.systems.celery.results.metas import Result, read_result
from exporter.systems.keys import key_bytes, key_text, pages, read_string

PAGE: Final = 100
"""Results read in one go: 6.4 MB at most, below what `Pulls` reads at once."""
HEAD_BYTES: Final = 1 << 16
"""Read of each result in one go. A larger one is read alone."""
LARGEST: Final = 4 << 20
"""Bytes of a result; a larger one is not read."""
LONGEST_KEY: Final = 1024
SLICE_SECONDS: Final = 0.004
"""Of decoding between two rounds of the loop."""
_KNOWN_UNREADABLE: Final = 100_000
_PROBE: Final = "of-no-job"


class Results:
    """The results in one database (celery's `backends/base.py`, `BaseKeyValueStoreBackend`)."""

    def __init__(self, pulls: Pulls, accepted: Collection[str], prefix: str | None = None) -> None:
        """`accepted` are formats; `prefix` is the option `global_keyprefix`."""
        self.pattern = result_pattern(prefix)
        self.unreadable: Counter[Unreadable] = Counter()
        """Those that could not be read, by reason, since somebody took them. Each once, however often it is met."""
        self._probe = key_bytes(result_prefix(prefix) + _PROBE)
        self._pulls = pulls
        self._accepted = frozenset(accepted)
        self._seen: set[int] = set()

    async def try_out(self) -> None:
        """Returns if results could be read: an operator is to know before they are needed. Raises BrokerError."""
        await self._pulls.one("SCAN", 0, "COUNT", 1, "MATCH", self.pattern, "TYPE", "string")
        await self._pulls.one("GETRANGE", self._probe, 0, 0)

    async def walk(self) -> AsyncIterator[Result]:
        """Each result that tells how a job ended, some of them twice perhaps. Raises BrokerError."""
        async for keys in self._pulls.scan("MATCH", self.pattern, "TYPE", "string"):
            for page in pages(keys, PAGE):
                for result in await self._read_page(page):
                    yield result

    async def _read_page(self, keys: list[bytes]) -> list[Result]:
        for key in keys:
            if len(key) > LONGEST_KEY:
                self._note(key, Unreadable.BOUNDS)
        keys = [key for key in keys if len(key) <= LONGEST_KEY]
        heads = await self._pulls.many(("GETRANGE", key, 0, HEAD_BYTES - 1) for key in keys)
        found: list[Result] = []
        began = time.perf_counter()
        for key, head in zip(keys, heads, strict=True):
            value = read_string(head)
            if value is not None and len(value) == HEAD_BYTES:
                value = read_string(await self._pulls.one("GETRANGE", key, 0, LARGEST))
            self._decode(key, value, found)
            if time.perf_counter() - began > SLICE_SECONDS:
                await asyncio.sleep(0)
                began = time.perf_counter()
        return found

    def _decode(self, key: bytes, value: bytes | None, found: list[Result]) -> None:
        if not value:  # it has expired meanwhile, or is no string any more
            return
        if len(value) > LARGEST:
            self._note(key, Unreadable.BOUNDS)
            return
        result = read_result(key_text(key).rpartition(RESULT)[2], value, self._accepted)
        if isinstance(result, Unreadable):
            self._note(key, result)
        elif result is not None:
            found.append(result)

    def _note(self, key: bytes, reason: Unreadable) -> None:
        if len(self._seen) < _KNOWN_UNREADABLE and hash(key) not in self._seen:
            self._seen.add(hash(key))
            self.unreadable[reason] += 1
