"""What the hook's records take to be read beside the feed's own connection: sorted sets, hashes, ends of streams.

Over the pulls, whose replies are bounded: one that is too long says so, and costs no feed its connection. Whatever is
read in one go is read by halves then, so that of a thousand records only the one is missing that is too long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from exporter.brokers.errors import Command, Refused, Reply, ReplyTooLarge
from exporter.brokers.pulls import Pulls
from exporter.model import Unreadable
from exporter.safe.text import one_line
from exporter.systems.arq.hook.records import (
    RUNNING_BYTES,
    WORKER_FIELDS,
    Progress,
    WorkerRecord,
    read_progress,
    read_worker,
)
from exporter.systems.arq.layout import HOOKED_EVENTS, HOOKED_WORKER
from exporter.systems.keys import key_bytes, key_text, pages

PAGE: Final = 50
"""Hashes read in one go."""
LONGEST_NAME: Final = 2048
"""Bytes of a worker's id or a queue's name."""
ENTRIES: Final = 256
"""Of a stream, read in one go."""
LISTS_BYTES: Final = 4 << 20
"""Of lists of running jobs, read in one go."""
_FEW: Final = 8

Position: TypeAlias = tuple[int, int]
"""The id of an entry: milliseconds of the server's clock, and a number within them."""
START: Final[Position] = (0, 0)
_LAST_PART: Final = 2**64 - 1
Fields: TypeAlias = list[bytes]
EntryReply: TypeAlias = tuple[bytes, Fields]

# As bytes, redis-py knows them not, and leaves their replies as they are.
XREAD: Final = b"XREAD"
XINFO: Final = b"XINFO"


def stream_key(queue: str) -> bytes:
    """Where the stream of a queue lies."""
    return HOOKED_EVENTS + key_bytes(queue)


def as_position(entry_id: bytes) -> Position:
    """The position behind an entry."""
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number)


def as_id(position: Position) -> str:
    return f"{position[0]}-{position[1]}"


# -- sorted sets ------------------------------------------------------------------------------------------------


async def read_index(pulls: Pulls, key: bytes, most: int) -> Mapping[str, float]:
    """The members of a sorted set with their scores: of more than `most` those with the highest."""
    try:
        pairs = await _range(pulls, key, -most, -1)
    except Refused as error:
        raise Refused(one_line(f"{key.decode()}: {error}")) from None
    return {key_text(member): float(score) for member, score in pairs if len(member) <= LONGEST_NAME}


async def _range(pulls: Pulls, key: bytes, first: int, last: int) -> list[tuple[bytes, bytes]]:
    try:
        reply = await pulls.one("ZRANGE", key, first, last, "WITHSCORES")
    except ReplyTooLarge:
        if first == last:
            return []
        middle = (first + last) // 2
        return [*await _range(pulls, key, first, middle), *await _range(pulls, key, middle + 1, last)]
    return list(zip(reply[::2], reply[1::2], strict=True))


# -- workers ----------------------------------------------------------------------------------------------------

Found: TypeAlias = dict[str, WorkerRecord | Unreadable | None]


async def read_workers(pulls: Pulls, ids: Iterable[str]) -> tuple[Found, dict[str, int]]:
    """The records of workers, and of how many bytes their lists of running jobs are."""
    found: Found = {}
    lengths: dict[str, int] = {}
    for page in pages(ids, PAGE):
        await _by_halves(page, lambda part: _read_some(pulls, part, found, lengths), found)
    return found, lengths


async def _by_halves(ids: Sequence[str], read: Callable[[Sequence[str]], Awaitable[None]], found: Found) -> None:
    try:
        await read(ids)
    except ReplyTooLarge:
        if len(ids) == 1:
            found[ids[0]] = Unreadable.BOUNDS
            return
        middle = len(ids) // 2
        await _by_halves(ids[:middle], read, found)
        await _by_halves(ids[middle:], read, found)


async def _read_some(pulls: Pulls, ids: Sequence[str], found: Found, lengths: dict[str, int]) -> None:
    asked: list[Command] = []
    for worker in ids:
        key = HOOKED_WORKER + key_bytes(worker)
        asked += [("HMGET", key, *WORKER_FIELDS), ("HSTRLEN", key, "running")]
    replies = await pulls.many(asked)
    for worker, values, length in zip(ids, replies[::2], replies[1::2], strict=True):
        odd = _is_odd("workers", values, length)
        found[worker] = Unreadable.MALFORMED if odd else read_worker(values)
        lengths[worker] = 0 if odd else length


async def read_lists(pulls: Pulls, lengths: Mapping[str, int]) -> dict[str, Progress | None]:
    """What the running jobs of workers tell, whose lists are so long; None where that cannot be read."""
    found: dict[str, Progress | None] = {}
    part: list[str] = []
    size = 0
    for worker, length in lengths.items():
        if length <= len(b"[]"):
            found[worker] = Progress()
        elif length > RUNNING_BYTES:
            found[worker] = None
        else:
            part.append(worker)
            size += length
        if size > LISTS_BYTES:
            found |= await _read_lists(pulls, part)
            part, size = [], 0
    return found | await _read_lists(pulls, part)


async def _read_lists(pulls: Pulls, ids: Collection[str]) -> dict[str, Progress | None]:
    asked: list[Command] = [("HMGET", HOOKED_WORKER + key_bytes(worker), "running") for worker in ids]
    try:
        replies = await pulls.many(asked)
    except ReplyTooLarge:  # they have grown since
        return dict.fromkeys(ids)
    return {
        worker: None if _is_odd("workers", reply) else read_progress(reply[0])
        for worker, reply in zip(ids, replies, strict=True)
    }


def _is_odd(what: str, *replies: Reply) -> bool:
    """Whether a key is of another type. Raises Refused where it may not be read."""
    for reply in replies:
        if isinstance(reply, Exception):
            if not str(reply).startswith("WRONGTYPE"):
                raise Refused(one_line(f"{what} cannot be read: {reply}"))
            return True
    return False


# -- streams ----------------------------------------------------------------------------------------------------


class NoStream(Exception):
    """Another type of value stands where a stream should."""


LastId: TypeAlias = Position | NoStream | ReplyTooLarge


async def read_last_ids(pulls: Pulls, queues: Collection[str]) -> dict[str, LastId]:
    """The last id that the stream of each queue gave; START where there is none. An exception where it isn't known:
    the reply holds whole entries, the first and the last."""
    found: dict[str, LastId] = {}
    for page in pages(queues, PAGE):
        try:
            replies = await pulls.many([(XINFO, "STREAM", stream_key(queue)) for queue in page])
        except ReplyTooLarge:
            replies = [await _one_info(pulls, queue) for queue in page]
        found |= {queue: _last_id(reply) for queue, reply in zip(page, replies, strict=True)}
    return found


async def _one_info(pulls: Pulls, queue: str) -> Reply:
    try:
        return (await pulls.many([(XINFO, "STREAM", stream_key(queue))]))[0]
    except ReplyTooLarge as error:
        return error


def _last_id(reply: Reply) -> LastId:
    if isinstance(reply, ReplyTooLarge):
        return reply
    if isinstance(reply, Exception):
        if "no such key" in str(reply):
            return START
        return NoStream() if _is_odd("streams", reply) else START
    told: dict[bytes, Any] = dict(zip(reply[::2], reply[1::2], strict=False))
    return as_position(told[b"last-generated-id"])


async def read_through(pulls: Pulls, queue: str, position: Position) -> AsyncIterator[list[EntryReply] | Position]:
    """All entries of a stream behind a position, by the page. In place of one that is longer than any reply may be
    comes the position behind it."""
    key, count = stream_key(queue), ENTRIES
    while True:
        try:
            reply = await pulls.one(XREAD, "COUNT", count, "STREAMS", key, as_id(position))
        except ReplyTooLarge:
            if count > 1:
                count = max(1, count // _FEW)
                continue
            position = await _behind_next(pulls, key, position)
            yield position
            continue
        if not reply:
            return
        entries = reply[0][1]
        yield entries
        position = as_position(entries[-1][0])


async def _behind_next(pulls: Pulls, key: bytes, position: Position) -> Position:
    """The position behind the next entry, of which nothing can be read, its id neither: that is the lowest from which
    on another comes next, or none."""

    async def is_behind(milliseconds: int, number: int) -> bool:
        try:
            await pulls.one(XREAD, "COUNT", 1, "STREAMS", key, as_id((milliseconds, number)))
        except ReplyTooLarge:
            return False
        return True

    first = position[0]
    milliseconds = await _lowest(first, lambda part: is_behind(part, _LAST_PART))
    return milliseconds, await _lowest(
        position[1] if milliseconds == first else 0, lambda n: is_behind(milliseconds, n)
    )


async def _lowest(start: int, fits: Callable[[int], Awaitable[bool]]) -> int:
    """The lowest number from `start` on that fits: by steps that double, and then by halves."""
    low, step, high = start, 1, start
    while high < _LAST_PART and not await fits(high):
        low, high, step = high + 1, min(high + step, _LAST_PART), 2 * step
    while low < high:
        middle = (low + high) // 2
        if await fits(middle):
            high = middle
        else:
            low = middle + 1
    return high
