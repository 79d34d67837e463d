"""The Redis ACL that a configuration needs: what each feature asks for, and the rules of a user that may do no more.

Nothing here connects to a broker. What is needed is told by those who need it, see `permissions()` of the systems, of
the collectors and of the connections.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from exporter.brokers.access import Access
from exporter.brokers.address import Address
from exporter.brokers.pulls import Pulls
from exporter.collectors import REDIS_COLLECTORS
from exporter.config import Broker, ConfigError
from exporter.model import Permissions
from exporter.safe.text import one_line
from exporter.systems import SYSTEMS
from exporter.systems.keys import key_bytes

BROKER: Final = "broker"
"""What the connections themselves need goes by the name that the log gives the PING."""
DEFAULT_USER: Final = "exporter"
EVERYBODY: Final = "default"
"""Redis's own user, whom all are that give no name: to narrow its rights stops applications, so it is never printed."""
PASSWORD: Final = "#SHA256-OF-PASSWORD"  # noqa: S105
"""A placeholder, as no configured password is ever shown. A server refuses it: it takes 64 digits (acl.c)."""


class Version(enum.StrEnum):
    """The Redis whose rules are written."""

    V7_0 = "7.0"  # and later: key patterns for reading only
    V6_2 = "6.2"


class Form(enum.StrEnum):
    """Where the rules are to go."""

    SETUSER = "setuser"  # a command for redis-cli
    ACLFILE = "aclfile"  # a line of the file that the server's `aclfile` names


@dataclass(frozen=True, slots=True)
class Need:
    """What one feature of a collector asks for."""

    collector: str
    permissions: Permissions


def needs(broker: Broker) -> list[Need]:
    """What everything that is enabled for a broker asks for."""
    pulls = Pulls(Access(broker.address))
    asking = [
        (BROKER, pulls.permissions()),
        *((name, SYSTEMS[name](pulls, options).permissions()) for name, options in broker.systems.items()),
        *(
            (name, REDIS_COLLECTORS[name](broker.name, pulls, options).permissions())
            for name, options in broker.collectors.items()
        ),
    ]
    return [Need(collector, one) for collector, several in asking for one in several]


def text(brokers: Iterable[Broker], version: Version, form: Form, user: str | None = None) -> str:
    """The rules for all that is read of `brokers`: one user for each server, as an ACL knows no databases.

    `user` stands for the users of the URLs. Raises ConfigError where there is no writing it so.
    """
    users = _users(brokers, user)
    if form is Form.ACLFILE and len({server for server, _ in users}) > 1:
        raise ConfigError(f"--format: found {form} for several servers, wanted --broker to name a broker of one")
    parts = [
        _for_file(name, together, version)
        if form is Form.ACLFILE
        else _for_client(server, name, together, version, user)
        for (server, name), together in users.items()
    ]
    return "\n".join(parts)


def notes(brokers: Iterable[Broker], user: str | None = None, version: Version = Version.V7_0) -> list[str]:
    """What to know before the rules are used, as lines of comments; for a file, which has no place for them."""
    several = [_notes(name, together, version, user) for (_, name), together in _users(brokers, user).items()]
    return list(dict.fromkeys(note for one in several for note in one))


def rules(needed: Collection[Permissions], version: Version) -> list[bytes]:
    """The rules that allow all of `needed`, each kind in the order of the alphabet."""
    commands = {command for one in needed for command in one.commands}
    written = {pattern for one in needed for pattern in one.writes}
    keys = {pattern for one in needed for pattern in one.keys} - written
    channels = {pattern for one in needed for pattern in one.channels}
    return [
        *(b"+" + command.encode() for command in sorted(commands)),
        *_key_rules(keys, written, version),
        *(b"&" + pattern for pattern in _patterns(channels)),
    ]


def _key_rules(keys: Collection[str], written: Collection[str], version: Version) -> list[bytes]:
    """Rules for the `keys` that are read and for those that are `written`; Redis 6.2 knows no difference."""
    if version is Version.V6_2:
        return [b"~" + pattern for pattern in _patterns({*keys, *written})]
    return [
        *(b"%R~" + pattern for pattern in _patterns(keys)),
        *(b"~" + pattern for pattern in _patterns(written)),
    ]


# -- the two forms ----------------------------------------------------------------------------------------------

_BLANK: Final = {
    Version.V7_0: (b"resetkeys", b"resetchannels", b"clearselectors", b"-@all"),
    Version.V6_2: (b"resetkeys", b"resetchannels", b"-@all"),
}
"""What the user was allowed before goes, but for passwords: they may be in use."""


def _for_client(server: str, name: str, brokers: list[Broker], version: Version, user: str | None) -> str:
    """A command, and what it is made of as comments."""
    united = _united(need for broker in brokers for need in needs(broker))
    names = ", ".join(broker.name for broker in brokers)
    allowed = rules([need.permissions for need in united], version)
    words = ("on", PASSWORD, *map(quoted, (*_BLANK[version], *allowed)))
    lines = [
        f"# Redis {version}{' and later' if version is Version.V7_0 else ''} at {one_line(server)}, broker {names}",
        *_notes(name, brokers, version, user),
        f"ACL SETUSER {quoted(key_bytes(name))} {' '.join(words)}",
        "# What needs what. Without what only one of these needs, only that one is lost. (Every command may go to the",
        "# keys of all.)",
        *_table(united, version),
    ]
    return "".join(f"{line}\n" for line in lines)


def _for_file(user: str, brokers: list[Broker], version: Version) -> str:
    """A line; there is no place for comments in an ACL file."""
    needed = [need.permissions for broker in brokers for need in needs(broker)]
    words = (key_bytes(user), b"on", PASSWORD.encode(), *_BLANK[version], *rules(needed, version))
    return f"user {' '.join(map(_bare, words))}\n"


def _table(needed: Iterable[Need], version: Version) -> Iterator[str]:
    """Lines of comments: the features of each collector and their rules."""
    for collector, several in groupby(needed, key=lambda need: need.collector):
        yield f"#   {collector}"
        for need in several:
            words = " ".join(map(quoted, rules([need.permissions], version)))
            yield f"#     {one_line(need.permissions.feature)}: {words}"


def _united(needed: Iterable[Need]) -> list[Need]:
    """One for each feature, though several databases of a server ask for it."""
    united: dict[tuple[str, str], Need] = {}
    for need in needed:
        one = need.permissions
        where = (need.collector, one.feature)
        if where in united:
            other = united[where].permissions
            one = Permissions(
                one.feature,
                one.commands | other.commands,
                one.keys | other.keys,
                one.channels | other.channels,
                one.writes | other.writes,
            )
        united[where] = Need(need.collector, one)
    order = list(dict.fromkeys(collector for collector, _ in united))
    return sorted(united.values(), key=lambda need: order.index(need.collector))


# -- what to know of them ---------------------------------------------------------------------------------------

_READING: Final = {
    "string": {"getrange", "mget"},
    "list": {"lindex", "lrange"},
    "set": {"sscan"},
    "sorted set": {"zrange", "zrangebyscore"},
    "hash": {"hkeys", "hmget"},
    "stream": {"xread"},
}
"""By the type of a key the commands that show what is in it."""
_NAMING: Final = {"scan": "SCAN", "client|tracking": "CLIENT TRACKING"}
"""The commands that name keys, whatever may be read."""


def _notes(name: str, brokers: Collection[Broker], version: Version, user: str | None) -> list[str]:
    """Lines of comments on the rules of one user. `user` is who was asked for, if any was."""
    users = {broker.address.username for broker in brokers}
    lines = [
        f"In place of {PASSWORD}, which Redis refuses, put > and a password, or # and its SHA-256 (64 hex digits)."
    ]
    if not user and EVERYBODY in users:
        lines.append(
            f"The user {EVERYBODY} is left alone, as all clients without a name are that one. Put {name} into the URL."
        )
    if user or name in users:
        lines.append(
            f"This replaces all that {name} may do now. If an application is that user, too, name another with --user."
        )
    needed = [need.permissions for broker in brokers for need in needs(broker)]
    return [f"# {line}" for line in (*lines, *_reach(name, needed, version))]


def _reach(name: str, needed: Collection[Permissions], version: Version) -> Iterator[str]:
    """What can be seen and done beyond the queues: rules allow commands, and keys, and each command for all of the
    keys."""
    commands = {command for one in needed for command in one.commands}
    types = [kind for kind, reading in _READING.items() if reading & commands]
    if types and any("*" in one.keys for one in needed):
        where = "all databases" if "select" in commands else "database 0"
        yield f"While `discover` is on, {name} can read every {', every '.join(types)} of {where}, queue or not."
    if naming := " and ".join(words for right, words in _NAMING.items() if right in commands):
        yield f"{name} can see the names of all keys, whatever the patterns: by {naming}."
    for one in needed:
        if one.writes:
            yield from _writing(name, one, version)


def _writing(name: str, one: Permissions, version: Version) -> Iterator[str]:
    """What one feature changes, and how to do without."""
    keys, channels = (", ".join(quoted(word) for word in _patterns(words)) for words in (one.writes, one.channels))
    yield f"While `{one.feature}` is on, {name} can publish on {channels}, and so on every channel that it listens to."
    if version is Version.V7_0:
        yield f"It can write the keys {keys}."
    else:
        yield "It can CHANGE AND DELETE every key that it can read: Redis 6.2 has no rights for reading only."
    yield f"With `{one.feature}: false` it can neither publish nor write."


# -- words ------------------------------------------------------------------------------------------------------

# No rule can hold these (acl.c, ACLStringHasSpaces): `?` matches any byte.
_NOT_IN_RULES: Final = re.compile(rb"[\0\t\n\v\f\r ]")


def _patterns(patterns: Collection[str]) -> list[bytes]:
    """What stands in rules for `patterns`. After "all" a server refuses any other: it holds them already."""
    if "*" in patterns:
        return [b"*"]
    return sorted({_NOT_IN_RULES.sub(b"?", key_bytes(pattern)) for pattern in patterns})


def quoted(word: bytes) -> str:
    """A word as redis-cli reads it (sds.c, `sdssplitargs`): in quotes where it needs them."""
    characters = [_visible(character) for character in word.decode("utf-8", "surrogateescape")]
    if all(characters) and not set(word) & set(b"\"' "):
        return "".join(map(str, characters))
    return '"' + re.sub(rb"[\"\\]|[^!-~]", _escaped, word).decode() + '"'


def _escaped(match: re.Match[bytes]) -> bytes:
    byte = match[0]
    return b"\\" + byte if byte in b'"\\' else b"\\x%02x" % byte[0]


def _bare(word: bytes) -> str:
    """A word as an ACL file holds it, which knows no quotes: what would not be seen in it is matched by `?`."""
    return "".join(
        _visible(character) or "?" * len(key_bytes(character)) for character in word.decode("utf-8", "surrogateescape")
    )


def _visible(character: str) -> str | None:
    """The character, if it is one that is seen as itself."""
    return character if character.isprintable() and one_line(character) == character else None


def _users(brokers: Iterable[Broker], user: str | None) -> dict[tuple[str, str], list[Broker]]:
    """The brokers by server and by the name of the user that is to read them. Raises ConfigError."""
    if user == EVERYBODY:
        raise ConfigError(f"--user: found {user!r}, whom all clients without a name are, wanted a user of its own")
    users: dict[tuple[str, str], list[Broker]] = {}
    for broker in brokers:
        own = broker.address.username if broker.address.username != EVERYBODY else None
        users.setdefault((_server(broker.address), _checked(user or own or DEFAULT_USER)), []).append(broker)
    return users


def _server(address: Address) -> str:
    """The server in words. Of a master with the sentinels that know it: many are called `mymaster`."""
    if address.sentinel is None:
        return address.server
    return f"{address.server} by Sentinel {', '.join(one.server for one in address.sentinel.addresses)}"


def _checked(name: str) -> str:
    if not name or _NOT_IN_RULES.search(key_bytes(name)) or not all(map(_visible, name)):
        raise ConfigError(f"--user: found {one_line(name)!r}, wanted a name without spaces")
    return name
