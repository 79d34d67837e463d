"""The rules as text: what a configuration needs, each feature's part of it, and names that rules can hardly hold."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from exporter import acl
from exporter.acl import Form, Version
from exporter.config import Broker, ConfigError, load
from exporter.model import Permissions
from exporter.systems.keys import key_bytes, pattern
from tests.canary import QUOTED, holds_canary
from tests.servers import RedisServer

URL = "redis://127.0.0.1:6379/0"
SECRET = "secret"
ODD = (
    "a b",
    "it's",
    'say "hi"',
    "back\\slash",
    "star*",
    "what?",
    "[set]",
    "tab\there",
    "naïve",
    "\udcff",
    "{}#%&",
)
"""Names with everything that patterns, rules, redis-cli or files take for something else."""


def zero(url: str = URL) -> tuple[Broker, ...]:
    return load(None, url).brokers


def configured(tmp_path: Path, text: str) -> tuple[Broker, ...]:
    file = tmp_path / "config.yml"
    file.write_text(text)
    return load(file).brokers


def line(text: str) -> str:
    (found,) = re.findall("^ACL SETUSER .*$", text, re.MULTILINE)
    return str(found)


def needing(*keys: str, channels: tuple[str, ...] = (), writes: tuple[str, ...] = ()) -> list[Permissions]:
    return [Permissions("toy", frozenset({"get"}), frozenset(keys), frozenset(channels), frozenset(writes))]


def without_inspect(tmp_path: Path) -> tuple[Broker, ...]:
    return configured(tmp_path, "brokers: [{name: default, url: redis://h, celery: {inspect: false}}]")


# -- what is printed --------------------------------------------------------------------------------------------


def test_one_line_says_all_and_comments_say_what_for() -> None:
    text = acl.text(zero(), Version.V7_0, Form.SETUSER)

    command = line(text)
    head, *comments = [comment for comment in text.splitlines() if comment != command]
    assert head == "# Redis 7.0 and later at 127.0.0.1:6379, broker default"
    assert command.startswith(f"ACL SETUSER exporter on {acl.PASSWORD} resetkeys resetchannels clearselectors -@all +c")
    written = "~*_kombu.binding.reply.celery.pidbox ~*taskqueue-exporter-*.reply.celery.pidbox*"
    assert f" %R~* {written} &" in command
    assert all(comment.startswith("#") for comment in comments)
    assert "#   redis_info" in comments
    assert "#     server: +info" in comments
    words = {word for comment in comments for word in comment.split() if word.startswith("+")}
    assert words == {word for word in command.split() if word.startswith("+")}


def test_the_same_is_printed_the_same() -> None:
    assert len({acl.text(zero(), version, Form.SETUSER) for version in Version for _ in range(3)}) == 2


def test_redis_6_2_has_no_patterns_for_reading_only_and_no_selectors(tmp_path: Path) -> None:
    brokers = without_inspect(tmp_path)
    commands = [line(acl.text(brokers, version, Form.SETUSER)) for version in (Version.V6_2, Version.V7_0)]

    assert commands[0] == commands[1].replace("%R~", "~").replace("clearselectors ", "")


def test_what_is_written_is_told_from_what_is_read_where_redis_can() -> None:
    needed = needing("a", "b", writes=("b", "c*"))

    assert acl.rules(needed, Version.V7_0) == [b"+get", b"%R~a", b"~b", b"~c*"]
    assert acl.rules(needed, Version.V6_2) == [b"+get", b"~a", b"~b", b"~c*"]
    assert acl.rules(needing("*", writes=("b",)), Version.V7_0) == [b"+get", b"%R~*", b"~b"]
    assert acl.rules(needing("*", writes=("b",)), Version.V6_2) == [b"+get", b"~*"]


def test_only_asking_workers_needs_more_than_to_read(tmp_path: Path) -> None:
    changing = {"publish", "sadd", "srem", "del", "lpush", "pexpire", "lpop"}
    never = {"keys", "monitor", "eval", "config|get", "auth", "set", "expire"}

    for brokers, needed in ((zero(), changing), (without_inspect(tmp_path), set())):
        command = line(acl.text(brokers, Version.V7_0, Form.SETUSER))
        allowed = {word.removeprefix("+") for word in command.split() if word.startswith("+")}
        assert allowed & (changing | never) == needed
        assert any(word.startswith("~") for word in command.split()) is bool(needed)


def test_what_is_off_needs_nothing(tmp_path: Path) -> None:
    brokers = configured(
        tmp_path,
        "brokers: [{name: a, url: redis://h, arq: {queues: [x], discover: false, feed: off}, celery: {enabled: false}, "
        "redis: {enabled: false}}]",
    )

    command = line(acl.text(brokers, Version.V7_0, Form.SETUSER))

    assert "%R~x" in command.split()
    assert "%R~*" not in command.split()
    for word in ("+scan", "+info", "+psubscribe", "+llen", "&"):
        assert word not in command


def test_a_database_must_be_selected() -> None:
    assert "+select" not in line(acl.text(zero(), Version.V7_0, Form.SETUSER)).split()
    other = line(acl.text(zero("redis://h/3"), Version.V7_0, Form.SETUSER)).split()
    assert {"+select", "&*/3.celeryev/*"} <= {*other}


def test_databases_of_one_server_share_a_user_as_an_acl_knows_none(tmp_path: Path) -> None:
    text = acl.text(
        configured(
            tmp_path, "brokers: [{name: a, url: redis://h}, {name: b, url: redis://h/3}, {name: c, url: redis://u@h/4}]"
        ),
        Version.V7_0,
        Form.SETUSER,
    )

    first, second = re.findall("^ACL SETUSER .*$", text, re.MULTILINE)
    assert first.startswith("ACL SETUSER exporter ")
    assert {"&*/0.celeryev/*", "&*/3.celeryev/*"} <= {*first.split()}
    assert second.startswith("ACL SETUSER u ")
    assert "# Redis 7.0 and later at h:6379, broker a, b\n" in text
    assert text.count("database 3") == text.count("database 4") == 1


def test_a_master_goes_by_its_name_and_its_sentinels(tmp_path: Path) -> None:
    text = """
brokers:
  - {name: a, url: redis://myMaster/1, sentinel: {addresses: [s1, s2]}}
  - {name: b, url: redis://myMaster, sentinel: {addresses: [s1, s2]}}
  - {name: c, url: redis://myMaster, sentinel: {addresses: [s3]}}
"""
    printed = acl.text(configured(tmp_path, text), Version.V7_0, Form.SETUSER)
    heads = re.findall("^# Redis .* at (.*)$", printed, re.MULTILINE)
    # many masters are called alike: they are one server where the same sentinels know them
    assert heads == ["myMaster by Sentinel s1:26379, s2:26379, broker a, b", "myMaster by Sentinel s3:26379, broker c"]
    assert printed.count(" +role ") == 2
    assert " +role " not in acl.text(zero(), Version.V7_0, Form.SETUSER)


def test_no_password_is_shown() -> None:
    brokers = zero(f"redis://me:{QUOTED}@h")

    for form in Form:
        text = acl.text(brokers, Version.V7_0, form)
        assert not holds_canary(text)
        assert f" on {acl.PASSWORD} " in text
        assert not holds_canary("".join(acl.notes(brokers)))


def test_a_file_has_one_line_for_a_user_and_no_comments() -> None:
    command = line(acl.text(zero(), Version.V7_0, Form.SETUSER))

    assert (
        acl.text(zero(), Version.V7_0, Form.ACLFILE, "me") == command.replace("ACL SETUSER exporter", "user me") + "\n"
    )


def test_a_file_is_of_one_server(tmp_path: Path) -> None:
    brokers = configured(tmp_path, "brokers: [{name: a, url: redis://h}, {name: b, url: redis://other}]")

    with pytest.raises(ConfigError, match="--format: found aclfile for several servers, wanted --broker"):
        acl.text(brokers, Version.V7_0, Form.ACLFILE)


@pytest.mark.parametrize("name", [" ", "two words", "line\nbreak", "nul\0"])
def test_a_user_whom_no_rule_can_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--user: found .*, wanted a name without spaces"):
        acl.text(zero(), Version.V7_0, Form.SETUSER, name)


# -- names ------------------------------------------------------------------------------------------------------


def test_all_keys_hold_every_other_as_a_server_refuses_more() -> None:
    assert acl.rules(needing("*", "a", "b*"), Version.V6_2) == [b"+get", b"~*"]


def sdssplit(text: str) -> list[bytes]:
    """The words of a line as redis-cli reads it (sds.c, sdssplitargs), for words without single quotes outside."""
    words = re.findall(r'"(?:\\.|[^"\\])*"|[^\s"]+', text)
    return [
        re.sub(
            rb"\\x([0-9a-f]{2})|\\(.)",
            lambda m: bytes.fromhex(m[1].decode()) if m[1] else m[2],
            word[1:-1].encode("utf-8", "surrogateescape"),
        )
        if word.startswith('"')
        else word.encode("utf-8", "surrogateescape")
        for word in words
    ]


@given(st.binary(min_size=1, max_size=30))
def test_a_quoted_word_is_one_printable_word_and_read_as_it_was(word: bytes) -> None:
    quoted = acl.quoted(word)

    assert quoted.isprintable()
    assert sdssplit(quoted) == [word]


@pytest.mark.needs("redis-cli")
def test_odd_names_are_allowed_and_no_others(redis_server: RedisServer) -> None:
    # given a user for names with characters of every trade, made by redis-cli
    client = redis_server.client()
    words = " ".join(map(acl.quoted, acl.rules(needing(*map(pattern, ODD)), Version.V7_0)))
    command = f"ACL SETUSER odd on nopass resetkeys -@all {words}"
    done = subprocess.run(
        ["redis-cli", "-p", str(redis_server.port)], input=command, capture_output=True, text=True, check=True
    )
    assert done.stdout == "OK\n", done.stdout
    reader = redis.Redis(port=redis_server.port, username="odd", password="x", lib_name=None, lib_version=None)
    # then it reads those
    for name in ODD:
        client.set(key_bytes(name), name.encode("utf-8", "replace"))
        assert reader.get(key_bytes(name)) is not None
    # and what their special characters would match, it does not
    for name in ("start", "whatX", "s", "backslash", "back\\\\slash", "its"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            reader.get(name)
    reader.close()


def test_a_server_loads_the_line_for_its_file(redis_server: RedisServer, tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    names = ", ".join(f"'{name}'" for name in ("a b", "[x]*", 'q"', "naïve"))
    brokers = configured(
        tmp_path,
        f"brokers: [{{name: a, url: redis://me@h/3, arq: {{queues: [{names}], discover: false}}, "
        "celery: {queues: [celery], discover: false}}]",
    )
    text = acl.text(brokers, Version.V7_0, Form.ACLFILE).replace(acl.PASSWORD, f">{SECRET}")
    path.write_text("user default on nopass ~* &* +@all\n" + text)

    server = type(redis_server)(tmp_path, aclfile=str(path))
    try:
        me = server.client().acl_getuser("me")
    finally:
        server.stop()

    assert isinstance(me, dict)
    assert {"%R~a?b", r"%R~\[x\]\*", '%R~q"', "%R~naïve", "%R~celery"} <= {*me["keys"]}
