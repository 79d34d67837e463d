"""How the feed gets to know of changes: told by the server where it can be had, else by looking again and again."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from exporter.brokers.access import Access
from exporter.brokers.errors import BrokerError, Refused
from exporter.brokers.push import Push, PushConnection
from exporter.brokers.turn import Turn
from exporter.safe.text import one_line
from exporter.systems.arq.layout import CRON, IN_PROGRESS, JOB, RESULT

INVALIDATED: Final = "__redis__:invalidate"
"""The channel on which a server names changed keys to a connection in RESP2."""


class FeedMode(enum.StrEnum):
    """The option `feed`. `auto` takes the first of the next three that the server allows."""

    AUTO = "auto"
    TRACKING = "tracking"  # CLIENT TRACKING in broadcast mode, the server's part of client-side caching
    KEYSPACE = "keyspace"  # keyspace notifications, if the server's configuration has them on
    SCAN = "scan"  # SCAN, every few seconds
    OFF = "off"


class Scope(enum.Enum):
    """Of which keys a server tells beside results. A server refuses prefixes of which one begins with another."""

    RESULTS = ()
    CRON = (JOB + CRON,)
    JOBS = (IN_PROGRESS, JOB)

    @property
    def prefixes(self) -> tuple[bytes, ...]:
        """All that is told of."""
        return (*self.value, RESULT)


@dataclass(frozen=True, slots=True)
class Line:
    """The connections of a feed: `data` reads, `sub` gets the pushes."""

    mode: FeedMode
    data: PushConnection
    sub: PushConnection | None
    scope: Scope
    """What is told of: less than was wanted where the server's configuration has it so."""
    removals: bool
    """Whether it is told when a key goes, or expires."""
    notified: str = ""
    """In the mode KEYSPACE: the classes of what the server notifies of."""
    refused: str = ""
    """Why it is not of a mode that tells more, if it isn't."""

    async def confirm(self) -> None:
        """Returns once both connections have answered: what was written before has been pushed to us by then."""
        await self.data.many([("PING",)])  # a refusal is an answer too
        await self.barrier()

    async def barrier(self) -> None:
        """Returns once every push for a write that `data` could already read has been handed on.

        The server puts a push into the output of `sub` no later than it sends replies to `data` that tell of the
        write (networking in `beforeSleep`), and answers in order.
        """
        if self.sub is not None:
            await self.sub.many([("PING",)])

    async def check(self) -> bool:
        """Makes sure that the server still pushes; whether it lets us look. Raises BrokerError when it does not push:
        a mode can end without a connection's being lost."""
        check = _CHECKS.get(self.mode)
        return check is not None and await check(self)

    def losses(self) -> list[Awaitable[object]]:
        """One for each connection; raises when that is lost. Without `data` the server would push nothing more, and
        `sub` would not notice."""
        return [connection.lost() for connection in (self.data, self.sub) if connection is not None]


@asynccontextmanager
async def connect(
    access: Access, turn: Turn, wanted: FeedMode, scope: Scope, on_push: Callable[[Push], None]
) -> AsyncIterator[Line]:
    """Connections of the wanted mode, armed: `on_push` gets what changes of `scope` from now on, see `pushed_keys`.

    Raises BrokerError when the broker cannot be reached, or refuses a mode that was asked for by name.
    """
    refused = []
    async with AsyncExitStack() as stack:
        data = await PushConnection.open(access, turn)
        stack.push_async_callback(data.close)
        for mode in _tried(wanted):
            # What overflows names keys too: it costs little to note them.
            sub = await PushConnection.open(access, turn, on_push, on_push)
            stack.push_async_callback(sub.close)
            try:
                line = await _ARMS[mode](sub, data, scope, access.db)
            except Refused as error:
                if wanted is not FeedMode.AUTO:
                    raise Refused(f"{mode} refused by the server: {error}") from None
                refused.append(f"{mode}: {error}")
                await sub.close()
            else:
                yield replace(line, refused="; ".join(refused))
                return
        yield Line(FeedMode.SCAN, data, None, Scope.RESULTS, removals=False, refused="; ".join(refused))


async def allows_other(line: Line, access: Access, turn: Turn) -> bool:
    """Whether the server does by now what it refused when `line` was made: rights are given without a word."""
    try:
        async with connect(access, turn, FeedMode.AUTO, line.scope, lambda push: None) as other:
            return other.refused != line.refused
    except BrokerError:
        return False


def pushed_keys(push: Push) -> list[bytes] | None:
    """The keys that a push names; None where it says that everything was flushed."""
    if push[0] == b"pmessage":
        # __keyspace@0__:arq:result:abc, set
        return [push[2].partition(b":")[2]] if push[3] in _CHANGES else []
    if push[2] is None:
        return None
    # Anyone may PUBLISH text to the channel.
    return push[2] if isinstance(push[2], list) else []


_CHANGES: Final = frozenset({b"set", b"del", b"expired", b"evicted"})
"""The notifications that say that a key came or went."""


async def _track(sub: PushConnection, data: PushConnection, scope: Scope, db: int) -> Line:
    client = await sub.command("CLIENT", "ID")
    await sub.expect(b"subscribe", "SUBSCRIBE", INVALIDATED)
    prefixes = [word for prefix in scope.prefixes for word in ("PREFIX", prefix)]
    await data.expect(b"OK", "CLIENT", "TRACKING", "ON", "REDIRECT", client, "BCAST", *prefixes)
    return Line(FeedMode.TRACKING, data, sub, scope, removals=True)


async def _still_tracks(line: Line) -> bool:
    try:
        told = await line.data.command("CLIENT", "TRACKINGINFO")
    except Refused:  # denied, or a server before 6.2
        return False
    flags = told[1] if isinstance(told, list) and len(told) > 1 else None
    if not isinstance(flags, list) or not {b"on", b"bcast"} <= set(flags) or b"broken_redirect" in flags:
        raise BrokerError(one_line(f"tracking has ended: CLIENT TRACKINGINFO says {str(flags)[:80]}"))
    return True


async def _notify(sub: PushConnection, data: PushConnection, scope: Scope, db: int) -> Line:
    flags = await _check_setting(data)
    removals = "A" in flags or {"g", "x", "e"} <= set(flags)  # g: DEL and others of any type, x: expired, e: evicted
    told = scope if removals else Scope.RESULTS
    for prefix in told.prefixes:
        await sub.expect(b"psubscribe", "PSUBSCRIBE", _notifications(db, prefix))
    return Line(FeedMode.KEYSPACE, data, sub, told, removals, notified=flags)


async def _still_notifies(line: Line) -> bool:
    try:
        notified = await _check_setting(line.data)
    except Refused as error:
        raise BrokerError(f"keyspace notifications have ended: {error}") from None
    if notified != line.notified:
        raise BrokerError(f"keyspace notifications were {line.notified!r} and are {one_line(notified, 20)!r} now")
    return True


async def _check_setting(data: PushConnection) -> str:
    """The classes of what the server notifies of. Raises Refused where keys that are set are not among them."""
    setting = await data.command("CONFIG", "GET", "notify-keyspace-events")
    value = setting[1] if isinstance(setting, list) and len(setting) == 2 else None
    flags = value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
    if "K" not in flags or not {"A", "$"} & set(flags):  # by the key, for strings; `A` stands for all types
        raise Refused(f"notify-keyspace-events is {flags[:20]!r}, wanted K and one of A and $")
    return flags


_ARMS: Final[dict[FeedMode, Callable[[PushConnection, PushConnection, Scope, int], Awaitable[Line]]]] = {
    FeedMode.TRACKING: _track,
    FeedMode.KEYSPACE: _notify,
}
"""In the order in which they are tried."""

_CHECKS: Final[dict[FeedMode, Callable[[Line], Awaitable[bool]]]] = {
    FeedMode.TRACKING: _still_tracks,
    FeedMode.KEYSPACE: _still_notifies,
}

_COMMANDS: Final = {
    FeedMode.TRACKING: ("client|id", "subscribe", "client|tracking", "client|trackinginfo"),
    FeedMode.KEYSPACE: ("config|get", "psubscribe"),
}


def commands(wanted: FeedMode) -> frozenset[str]:
    """The commands that a mode needs, beside those of any connection."""
    return frozenset({"scan", "getrange", *_COMMANDS.get(_granted(wanted), ())})


def channels(wanted: FeedMode, db: int, scopes: Collection[Scope] = (Scope.RESULTS,)) -> frozenset[str]:
    """The channels that a mode listens to, as patterns."""
    prefixes = {prefix for scope in scopes for prefix in scope.prefixes}
    patterns = {
        FeedMode.TRACKING: {INVALIDATED},
        FeedMode.KEYSPACE: {_notifications(db, prefix) for prefix in prefixes},
    }
    return frozenset(patterns.get(_granted(wanted), ()))


def _granted(wanted: FeedMode) -> FeedMode:
    """The mode whose rights are asked for. For `auto` that is the first: CONFIG GET, which the second needs, shows
    passwords too, so whoever cannot have the first shall grant that with his eyes open, by `feed: keyspace`."""
    return FeedMode.TRACKING if wanted is FeedMode.AUTO else wanted


def _tried(wanted: FeedMode) -> list[FeedMode]:
    return [mode for mode in _ARMS if wanted in (mode, FeedMode.AUTO)]


def _notifications(db: int, prefix: bytes) -> str:
    return f"__keyspace@{db}__:{prefix.decode()}*"
