"""The search for ARQ's queues in a database."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from exporter.brokers.errors import BrokerError, ReplyTooLarge
from exporter.brokers.pulls import Pulls
from exporter.safe.text import one_line
from exporter.systems.arq.layout import ABORTS, DEFAULT_QUEUE, JOB
from exporter.systems.arq.queues import health
from exporter.systems.base import Discovery
from exporter.systems.keys import key_text

# Members at each end of a sorted set that are looked up to tell a queue: the jobs of the oldest may have expired.
_PROBED_MEMBERS: Final = 5
# Sorted sets probed in one go: those of other programs may have members of any size.
_PROBED_KEYS: Final = 50


async def search(pulls: Pulls) -> Collection[str]:
    """Queues by their health keys, and by sorted sets whose members are jobs: also those no worker ever touched.

    Raises BrokerError.
    """
    found: set[bytes] = set()
    async for keys in pulls.scan("MATCH", "*" + health.SUFFIX.decode(), "TYPE", "string"):
        texts = await pulls.many(("GETRANGE", key, 0, 100) for key in keys)
        found.update(
            key.removesuffix(health.SUFFIX)
            for key, text in zip(keys, texts, strict=True)
            if isinstance(text, bytes) and health.MARK in text
        )
    async for keys in pulls.scan("TYPE", "zset"):
        found.update({DEFAULT_QUEUE}.intersection(keys))
        new = [key for key in keys if key != ABORTS and key not in found]
        for start in range(0, len(new), _PROBED_KEYS):
            found.update(await _queues_among(pulls, new[start : start + _PROBED_KEYS]))
        if len(found) > Discovery.KNOWN_QUEUES:
            break
    return [key_text(key) for key in found]


async def _queues_among(pulls: Pulls, keys: list[bytes]) -> list[bytes]:
    """Those of the sorted sets whose members are jobs. Raises BrokerError where that cannot be looked up."""
    try:
        return await _probed(pulls, keys)
    except ReplyTooLarge:
        if len(keys) == 1:
            return []  # job ids are short: it is another program's
        half = len(keys) // 2
        return [*await _queues_among(pulls, keys[:half]), *await _queues_among(pulls, keys[half:])]


async def _probed(pulls: Pulls, keys: list[bytes]) -> list[bytes]:
    ends = await pulls.many(
        command
        for key in keys
        for command in (("ZRANGE", key, 0, _PROBED_MEMBERS - 1), ("ZRANGE", key, -_PROBED_MEMBERS, -1))
    )
    members: dict[bytes, list[bytes]] = {}
    for key, first, last in zip(keys, ends[::2], ends[1::2], strict=True):
        if isinstance(first, list) and isinstance(last, list) and first:  # else gone, or not ours to read
            members[key] = first + last
    known = await pulls.many(("EXISTS", *(JOB + job_id for job_id in ids)) for ids in members.values())
    if error := next((count for count in known if isinstance(count, Exception)), None):
        raise BrokerError(one_line(str(error)))
    return [key for key, count in zip(members, known, strict=True) if count]
