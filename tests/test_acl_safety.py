"""What the printed rules must not do to others, and what has to be known before they are used."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from exporter import acl
from exporter.acl import Form, Version
from exporter.config import ConfigError
from tests.servers import RedisServer
from tests.test_acl import SECRET, configured, line, zero


def run(client: redis.Redis, text: str) -> None:
    """Runs the one command of a text, with a password in place of the placeholder."""
    client.execute_command(*line(text).replace(acl.PASSWORD, f">{SECRET}").split())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("url", ["redis://default:pw@h/1", "redis://%64efault@h/1", "redis://h/1?username=default"])
def test_the_user_whom_all_are_is_never_named(url: str) -> None:
    text = acl.text(zero(url), Version.V7_0, Form.SETUSER)

    assert line(text).startswith("ACL SETUSER exporter on ")
    note = "# The user default is left alone, as all clients without a name are that one. Put exporter into the URL."
    assert note in text.splitlines()
    assert note in acl.notes(zero(url))
    assert acl.text(zero(url), Version.V7_0, Form.ACLFILE).startswith("user exporter on ")
    assert note not in acl.notes(zero(url), "me")
    assert not any("user default" in note for note in acl.notes(zero("redis://h/1")))
    with pytest.raises(
        ConfigError, match="--user: found 'default', whom all clients without a name are, wanted a user"
    ):
        acl.text(zero(url), Version.V7_0, Form.SETUSER, "default")


def test_applications_without_a_name_go_on(redis_server: RedisServer) -> None:
    client = redis_server.client()
    before = client.acl_getuser("default")

    run(client, acl.text(zero("redis://default:pw@h"), Version.V7_0, Form.SETUSER))

    assert client.acl_users() == ["default", "exporter"]
    assert client.acl_getuser("default") == before


@pytest.mark.parametrize(("url", "user"), [("redis://shop:pw@h", None), ("redis://h", "shop"), ("redis://a@h", "shop")])
def test_that_a_user_loses_its_rights_is_told(url: str, user: str | None) -> None:
    note = "# This replaces all that shop may do now. If an application is that user, too, name another with --user."

    assert note in acl.text(zero(url), Version.V7_0, Form.SETUSER, user).splitlines()
    assert note in acl.notes(zero(url), user)
    assert not any("replaces" in note for note in acl.notes(zero("redis://default@h")))


def test_nothing_is_left_of_what_the_user_was_allowed(redis_server: RedisServer) -> None:
    # given a user that may do anything, in each of the ways there are
    client = redis_server.client()
    client.execute_command("ACL", "SETUSER", "exporter", "nopass", "+@all", "~*", "&*", "(+@all ~* &*)")  # type: ignore[no-untyped-call]
    # when
    run(client, acl.text(zero(), Version.V7_0, Form.SETUSER))
    # then
    reader = redis.Redis(port=redis_server.port, username="exporter", password=SECRET)
    assert reader.ping()
    for command in ("FLUSHALL", "SET a b", "PUBLISH a b", "GET a"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            reader.execute_command(*command.split())  # type: ignore[no-untyped-call]
    reader.close()
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis(port=redis_server.port, username="exporter", password="another").ping()


def test_a_server_refuses_the_line_as_it_is_printed(redis_server: RedisServer) -> None:
    text = acl.text(zero(), Version.V7_0, Form.SETUSER)
    client = redis_server.client()

    with pytest.raises(redis.exceptions.ResponseError, match="password hash must be exactly 64"):
        client.execute_command(*line(text).split())  # type: ignore[no-untyped-call]

    assert client.acl_users() == ["default"]
    for notes in (acl.notes(zero()), text.splitlines()):
        assert any(f"# In place of {acl.PASSWORD}, which Redis refuses, put > " in note for note in notes)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("", "every string, every list, every set, every sorted set, every hash, every stream of database 0"),
        (", celery: {enabled: false}", "every string, every sorted set, every hash, every stream of database 0"),
        (", arq: {enabled: false}", "every string, every list, every set, every sorted set, every hash of database 0"),
        (", arq: {enabled: false}, celery: {enabled: false}", None),
        (", arq: {queues: [q], discover: false}, celery: {queues: [q], discover: false}", None),
    ],
)
def test_what_can_be_read_beside_queues_is_told(tmp_path: Path, section: str, told: str | None) -> None:
    notes = acl.notes(configured(tmp_path, f"brokers: [{{name: a, url: redis://h{section}}}]"))

    wanted = [f"# While `discover` is on, exporter can read {told}, queue or not."] if told else []
    assert [note for note in notes if "can read" in note] == wanted


OURS = "*_kombu.binding.reply.celery.pidbox, *taskqueue-exporter-*.reply.celery.pidbox*"
PUBLISHES = (
    "# While `inspect` is on, exporter can publish on */0.celery.pidbox, and so on every channel that it listens to."
)
NO_MORE = "# With `inspect: false` it can neither publish nor write."


def test_what_can_be_written_is_told_and_how_to_do_without(tmp_path: Path) -> None:
    told = [PUBLISHES, f"# It can write the keys {OURS}.", NO_MORE]

    assert acl.notes(zero())[-3:] == told
    assert {*told} <= {*acl.text(zero(), Version.V7_0, Form.SETUSER).splitlines()}
    off = configured(tmp_path, "brokers: [{name: a, url: redis://h, celery: {inspect: false}}]")
    assert not any("write" in note or "publish" in note for note in acl.notes(off))


def test_that_redis_6_2_lets_it_change_what_it_reads_is_told() -> None:
    told = "# It can CHANGE AND DELETE every key that it can read: Redis 6.2 has no rights for reading only."

    assert acl.notes(zero(), None, Version.V6_2)[-3:] == [PUBLISHES, told, NO_MORE]
    assert told in acl.text(zero(), Version.V6_2, Form.SETUSER).splitlines()


def test_a_user_that_asks_workers_cannot_touch_what_is_not_its_own(redis_server: RedisServer) -> None:
    # given a queue, and the answers that others wait for
    client = redis_server.client()
    client.lpush("celery", "job")
    client.lpush("1234.reply.celery.pidbox", "answer")
    run(client, acl.text(zero(), Version.V7_0, Form.SETUSER))
    user = redis.Redis(port=redis_server.port, username="exporter", password=SECRET)
    # then it can take or spoil neither, nor publish to an application
    for command in (
        *("LPOP celery", "DEL celery", "LPUSH celery x", "PEXPIRE celery 1", "SADD celery x"),
        *("LPOP 1234.reply.celery.pidbox", "SREM _kombu.binding.celery x", "PUBLISH news y"),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            user.execute_command(*command.split())  # type: ignore[no-untyped-call]
    # and with its own list, and on the channel of questions, it may
    for command in ("LPUSH taskqueue-exporter-1.reply.celery.pidbox x", "PUBLISH /0.celery.pidbox y"):
        user.execute_command(*command.split())  # type: ignore[no-untyped-call]
    user.close()


def test_a_user_who_may_select_reads_all_databases() -> None:
    assert any(" of all databases, " in note for note in acl.notes(zero("redis://h/3")))


@pytest.mark.parametrize(
    ("feed", "told"),
    [("auto", "SCAN and CLIENT TRACKING"), ("scan", "SCAN"), ("off", None)],
)
def test_that_names_of_keys_show_is_told(tmp_path: Path, feed: str, told: str | None) -> None:
    off = "celery: {enabled: false}"
    arq = f"arq: {{queues: [q], discover: false, feed: {feed}}}"
    notes = acl.notes(configured(tmp_path, f"brokers: [{{name: a, url: redis://h, {arq}, {off}}}]"))

    wanted = [f"# exporter can see the names of all keys, whatever the patterns: by {told}."] if told else []
    assert [note for note in notes if "the names of" in note] == wanted
