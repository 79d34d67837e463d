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
PASSWORD: Final = "PASSWORD"  # noqa: S105  a placeholder: no configured one is ever shown


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
    pulls = Pulls(broker.address)
    asking = [
        (BROKER, pulls.permissions()),
        *((name, SYSTEMS[name](pulls, options).permissions()) for name, options in broker.systems.items()),
        *(
            (name, collector(broker.name, pulls).permissions())
            for name, collector in REDIS_COLLECTORS.items()
            if name in broker.collectors
        ),
    ]
    return [Need(collector, one) for collector, several in asking for one in several]


def text(brokers: Iterable[Broker], version: Version, form: Form, user: str | None = None) -> str:
    """The rules for all that is read of `brokers`: one user for each server, as an ACL knows no databases.

    `user` stands for the users of the URLs. Raises ConfigError where there is no writing it so.
    """
    users: dict[tuple[str, str], list[Broker]] = {}
    for broker in brokers:
        name = _user(user or broker.address.username or DEFAULT_USER)
        users.setdefault((broker.address.server, name), []).append(broker)
    if form is Form.ACLFILE and len({server for server, _ in users}) > 1:
        raise ConfigError(f"--format: found {form} for several servers, wanted --broker to name a broker of one")
    parts = [
        _for_file(name, together, version) if form is Form.ACLFILE else _for_client(server, name, together, version)
        for (server, name), together in users.items()
    ]
    return "\n".join(parts)


def rules(needed: Collection[Permissions], version: Version) -> list[bytes]:
    """The rules that allow all of `needed`, each kind in the order of the alphabet."""
    commands = {command for one in needed for command in one.commands}
    keys = {pattern for one in needed for pattern in one.keys}
    channels = {pattern for one in needed for pattern in one.channels}
    reading = b"%R~" if version is Version.V7_0 else b"~"
    return [
        *(b"+" + command.encode() for command in sorted(commands)),
        *(reading + pattern for pattern in _patterns(keys)),
        *(b"&" + pattern for pattern in _patterns(channels)),
    ]


# -- the two forms ----------------------------------------------------------------------------------------------

# What the user was allowed before goes, but for passwords: they may be in use.
_BLANK: Final = (b"resetkeys", b"resetchannels", b"-@all")


def _for_client(server: str, user: str, brokers: list[Broker], version: Version) -> str:
    """A command, and what it is made of as comments."""
    united = _united(need for broker in brokers for need in needs(broker))
    names = ", ".join(broker.name for broker in brokers)
    words = ("on", f">{PASSWORD}", *map(quoted, (*_BLANK, *rules([need.permissions for need in united], version))))
    lines = [
        f"# Redis {version}{' and later' if version is Version.V7_0 else ''} at {one_line(server)}, broker {names}",
        f"ACL SETUSER {quoted(key_bytes(user))} {' '.join(words)}",
        "# What needs what. Without what only one of these needs, only that one is lost:",
        *_table(united, version),
    ]
    return "".join(f"{line}\n" for line in lines)


def _for_file(user: str, brokers: list[Broker], version: Version) -> str:
    """A line; there is no place for comments in an ACL file."""
    needed = [need.permissions for broker in brokers for need in needs(broker)]
    words = (key_bytes(user), b"on", f">{PASSWORD}".encode(), *_BLANK, *rules(needed, version))
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
                one.feature, one.commands | other.commands, one.keys | other.keys, one.channels | other.channels
            )
        united[where] = Need(need.collector, one)
    order = list(dict.fromkeys(collector for collector, _ in united))
    return sorted(united.values(), key=lambda need: order.index(need.collector))


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


def _user(name: str) -> str:
    if not name or _NOT_IN_RULES.search(key_bytes(name)) or not all(map(_visible, name)):
        raise ConfigError(f"--user: found {one_line(name)!r}, wanted a name without spaces")
    return name
