"""Who we are to a server: passwords that are wrong, rotated and unreadable, and how often they are offered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from exporter.brokers.credentials import HOLD, Credentials
from exporter.brokers.errors import BrokerError, Refused
from exporter.safe.secrets import Secret, SecretError, SecretFile
from tests.canary import CANARY, holds_canary

WRONG = "WRONGPASS invalid username-password pair or user is disabled."
UNASKED = (
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration "
    "is correct?"
)


class Server:
    """One that takes some passwords, and remembers what it was offered."""

    def __init__(self, *passwords: str, says: str = WRONG) -> None:
        self.passwords = set(passwords)
        self.says = says
        self.offered: list[tuple[object, ...]] = []

    async def ask(self, *command: object) -> object:
        assert command[0] == "AUTH"
        self.offered.append(command[1:])
        await asyncio.sleep(0)  # others come meanwhile
        return b"OK" if command[-1] in self.passwords else Exception(self.says)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "password"


def put(path: Path, text: str) -> None:
    path.write_text(text)


async def refusal(credentials: Credentials, server: Server) -> str:
    """Of a connection that was made."""
    with pytest.raises(Refused) as caught:
        await credentials.let_in(server.ask)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def held(credentials: Credentials) -> str | None:
    """Why no connection is to be made."""
    try:
        credentials.check()
    except Refused as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("username", "password", "offered"),
    [(None, None, []), (None, "pw", [("pw",)]), ("anna", "pw", [("anna", "pw")]), ("otto", None, [("otto", "")])],
)
async def test_what_is_offered(username: str | None, password: str | None, offered: list[tuple[str, ...]]) -> None:
    server = Server("pw", "")
    await Credentials(username, Secret(password) if password else None).let_in(server.ask)
    assert server.offered == offered


async def test_a_refused_password_is_not_offered_again_for_a_while(clock: Clock) -> None:
    server = Server("right")
    credentials = Credentials(None, Secret("wrong"), clock)
    # when it is refused
    told = await refusal(credentials, server)
    # then others learn it without a word to the server, in the same line, which is logged once
    assert held(credentials) == told
    assert await refusal(credentials, server) == told
    clock.now += HOLD - 0.1
    assert held(credentials) == told
    assert len(server.offered) == 1
    # and after a while one of them tries
    clock.now += 0.1
    assert held(credentials) is None
    assert await refusal(credentials, server) == told
    assert held(credentials) == told
    assert len(server.offered) == 2
    # until it is right
    server.passwords.add("wrong")
    clock.now += HOLD
    await credentials.let_in(server.ask)
    assert held(credentials) is None


async def test_many_that_come_at_once_are_one_failure(clock: Clock) -> None:
    server = Server("right")
    credentials = Credentials(None, Secret("wrong"), clock)
    refusals = await asyncio.gather(*(refusal(credentials, server) for _ in range(20)))
    assert len(set(refusals)) == 1
    assert len(server.offered) == 1


async def test_many_that_come_at_once_are_all_let_in(clock: Clock) -> None:
    server = Server("right")
    credentials = Credentials(None, Secret("right"), clock)
    await asyncio.gather(*(credentials.let_in(server.ask) for _ in range(20)))
    assert len(server.offered) == 20


async def test_one_that_gives_up_does_not_keep_the_others_out(clock: Clock) -> None:
    server = Server("right")
    credentials = Credentials(None, Secret("right"), clock)

    async def hang(*command: object) -> object:
        await asyncio.Event().wait()
        return None

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await credentials.let_in(hang)
    await credentials.let_in(server.ask)


async def test_a_password_that_was_replaced_in_its_file_is_offered_at_once(clock: Clock, path: Path) -> None:
    server = Server("new")
    put(path, "old\n")
    credentials = Credentials("anna", SecretFile(str(path)), clock)
    # given one that was refused
    assert "or when password_file changes" in await refusal(credentials, server)
    assert held(credentials)
    # when the file is replaced
    put(path, "new\n")
    # then the wait is over
    assert held(credentials) is None
    await credentials.let_in(server.ask)
    assert server.offered == [("anna", "old"), ("anna", "new")]


async def test_a_password_that_is_replaced_while_it_is_refused_is_offered_on_the_same_connection(path: Path) -> None:
    put(path, "old")
    server = Server("new")

    async def ask(*command: object) -> object:
        reply = await server.ask(*command)
        put(path, "new")
        return reply

    await Credentials(None, SecretFile(str(path))).let_in(ask)
    assert server.offered == [("old",), ("new",)]


async def test_a_file_that_is_gone_is_told_and_no_hold(clock: Clock, path: Path) -> None:
    credentials = Credentials(None, SecretFile(str(path)), clock)
    with pytest.raises(BrokerError, match=r"^password_file: found no file that can be read \(No such file"):
        await credentials.let_in(Server().ask)
    put(path, "right")
    await credentials.let_in(Server("right").ask)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (WRONG, "WRONGPASS: the server refuses the user or the password (invalid username-password pair or user is"),
        (WRONG.removeprefix("WRONGPASS "), "WRONGPASS: the server refuses the user or the password (invalid username"),
        ("ERR invalid password", "WRONGPASS: the server refuses the user or the password (ERR invalid password)"),
        (UNASKED, "ERR: a password is configured, and the server has none for it (AUTH <password> called without"),
        (UNASKED.removeprefix("ERR "), "ERR: a password is configured, and the server has none for it (AUTH <pass"),
        ("ERR Client sent AUTH, but no password is set", "ERR: a password is configured, and the server has none"),
        ("ERR Authentication failed", "ERR: the server refuses AUTH (Authentication failed)"),
    ],
)
async def test_how_a_refusal_is_told(says: str, told: str, clock: Clock) -> None:
    credentials = Credentials(None, Secret("pw"), clock)
    refused = await refusal(credentials, Server(says=says))
    assert refused.startswith(told)
    assert refused.endswith("; tried again every 10 s")
    assert held(credentials) == refused


@pytest.mark.parametrize("says", ["ERR max number of clients reached", "LOADING Redis is loading the dataset"])
async def test_what_is_no_refusal_of_the_password_is_not_held_against_it(says: str) -> None:
    credentials = Credentials(None, Secret("pw"))
    assert await refusal(credentials, Server(says=says)) == says
    assert held(credentials) is None


@pytest.mark.parametrize("says", ["NOAUTH Authentication required.", "Authentication required."])
def test_a_server_that_wants_a_password_where_there_is_none(says: str, clock: Clock) -> None:
    credentials = Credentials(None, None, clock)
    credentials.look_at(b"OK")
    credentials.look_at(Exception("NOPERM this user has no permissions"))
    with pytest.raises(Refused, match=r"^NOAUTH: the server wants a password, and none is configured"):
        credentials.look_at(Exception(says))
    assert held(credentials)
    clock.now += HOLD
    assert held(credentials) is None


async def test_another_server_may_take_what_one_refused(clock: Clock) -> None:
    credentials = Credentials(None, Secret("pw"), clock)
    await refusal(credentials, Server())
    credentials.forget()
    await credentials.let_in(Server("pw").ask)


@pytest.mark.parametrize(
    "says",
    [
        f"ERR unknown command 'AUTH', with args beginning with: 'anna' '{CANARY}'",
        f"ERR unknown command 'AUTH', with args beginning with: 'anna' '{CANARY[:-3]}",  # Redis cuts them
        f"ERR something about {CANARY}",
        f"found {CANARY}",
    ],
)
async def test_a_password_that_the_server_repeats_is_not_shown(says: str) -> None:
    credentials = Credentials("anna", Secret(CANARY))
    assert not holds_canary(await refusal(credentials, Server(says=says)))
    assert not holds_canary(repr(credentials._hold))
    assert not holds_canary(credentials.without_secret(says))


async def test_a_file_is_read_as_it_is_now_and_equal_by_its_path(path: Path) -> None:
    secret = SecretFile(str(path))
    for text in ("one", "two\n", " three \r\n"):
        put(path, text)
        assert secret.reveal() == text.strip()
    assert secret == SecretFile(str(path))
    assert secret != SecretFile(f"{path}2")
    assert str(path) not in repr(secret)  # someone may have put the password itself there


@pytest.mark.parametrize("content", [b"", b"\n\n", b"two\nlines", b"\xff\xfe", b"x" * 70_000])
def test_a_file_that_holds_no_password(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for where in (str(path), f"{path}.none", f"{path.parent}", "a\0b"):
        with pytest.raises(SecretError, match=r"^url_file: found .*, wanted one line$") as caught:
            SecretFile(where, "url_file").reveal()
        assert where not in str(caught.value)
