"""Configuration: what a file may say, and what goes before what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.brokers.address import Address, Sentinel, Tls
from exporter.collectors import filesystem, host
from exporter.config import Config, load
from exporter.safe.limits import Limits
from exporter.safe.secrets import Secret, SecretFile, SecretUrlFile
from tests.canary import CANARY, QUOTED, holds_canary

GOOD = """
brokers:
  - name: main
    url: redis://exporter@redis:6379/3
    arq: {queues: ["arq:queue"], discover: false}
    celery: {enabled: false}
    redis: {enabled: false}
host: {enabled: false}
limits: {queues: 5, workers: 6, label_bytes: 64}
"""


@pytest.fixture(autouse=True)
def on_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on by default must not depend on where the tests run."""
    for module in (host, filesystem):
        monkeypatch.setattr(module, "in_container", lambda: False)


def loaded(tmp_path: Path, text: str | bytes, **arguments: Any) -> Config:
    file = tmp_path / "config.yml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(file, **arguments)


# -- what it may say --------------------------------------------------------------------------------------------


def test_everything_that_a_file_may_say(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD)

    (broker,) = config.brokers
    assert (broker.name, str(broker.address), broker.address.username) == ("main", "redis://redis:6379/3", "exporter")
    assert {name: (o.queues, o.discover) for name, o in broker.systems.items()} == {"arq": (("arq:queue",), False)}
    assert not broker.collectors
    assert "filesystem" in config.host_collectors
    assert "host" not in config.host_collectors
    assert config.limits == Limits(queues=5, workers=6, label_bytes=64)


def test_a_url_alone_watches_everything() -> None:
    config = load(None, "redis://h")

    (broker,) = config.brokers
    assert broker.name == "default"
    assert set(broker.systems) >= {"arq", "celery"}
    assert broker.collectors.keys() >= {"redis_info"}
    assert config.host_collectors.keys() >= {"host", "filesystem"}


def test_inside_a_container_the_host_is_off_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (host, filesystem):
        monkeypatch.setattr(module, "in_container", lambda: True)

    def shown(config: Config) -> set[str]:
        return config.host_collectors.keys() & {"host", "filesystem"}

    assert shown(load(None, "redis://h")) == set()
    assert shown(load(None, "redis://h", {"filesystem": True})) == {"filesystem"}
    assert shown(loaded(tmp_path, "brokers: []\nhost: {enabled: true}")) == {"host"}


def test_a_url_goes_with_a_file_without_brokers(tmp_path: Path) -> None:
    config = loaded(tmp_path, "limits: {queues: 7}", redis_url="redis://h")

    assert [broker.name for broker in config.brokers] == ["default"]
    assert config.limits.queues == 7


def test_switches_go_before_the_file(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD, switches={"celery": True, "redis_info": True, "arq": False, "host": True})

    (broker,) = config.brokers
    assert set(broker.systems) == {"celery"}
    assert broker.collectors.keys() == {"redis_info"}
    assert "host" in config.host_collectors


def test_a_file_may_watch_no_broker(tmp_path: Path) -> None:
    assert loaded(tmp_path, "brokers: []").brokers == ()


def test_the_same_file_gives_equal_brokers(tmp_path: Path) -> None:
    assert loaded(tmp_path, GOOD).brokers == loaded(tmp_path, GOOD).brokers
    assert loaded(tmp_path, GOOD).brokers != loaded(tmp_path, GOOD.replace("/3", "/4")).brokers


def test_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://h:7/1\n")
    (tmp_path / "password").write_text(CANARY + "\n")
    text = f"brokers: [{{name: a, url_file: '{tmp_path}/url', password_file: '{tmp_path}/password'}}]"

    address = loaded(tmp_path, text).brokers[0].address

    assert str(address) == "redis://h:7/1"
    assert address.password is not None
    assert address.password.reveal() == CANARY


def test_a_password_file_stands_for_the_one_of_the_url(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("right")
    text = f"brokers: [{{name: a, url: 'redis://:wrong@h', password_file: '{tmp_path}/password'}}]"

    password = loaded(tmp_path, text).brokers[0].address.password

    assert password is not None
    assert password.reveal() == "right"


def test_no_password_in_a_repr(tmp_path: Path) -> None:
    config = loaded(tmp_path, f"brokers: [{{name: a, url: 'redis://:{QUOTED}@h'}}]")

    assert not holds_canary(repr(config) + str(config))


# -- how a broker is reached ------------------------------------------------------------------------------------


def addressed(tmp_path: Path, keys: str) -> Address:
    """The address of a broker with these keys; PASSWORD and URL are files."""
    (tmp_path / "password").write_text(f"{CANARY}\n")
    (tmp_path / "url").write_text(f"redis://anna:{QUOTED}@h:7/1\n")
    keys = keys.replace("PASSWORD", str(tmp_path / "password")).replace("URL", str(tmp_path / "url"))
    return loaded(tmp_path, f"brokers: [{{name: a, {keys}}}]").brokers[0].address


def test_a_password_file_is_read_when_it_is_needed(tmp_path: Path) -> None:
    address = addressed(tmp_path, "url: redis://:other@h, password_file: PASSWORD")
    assert isinstance(address.password, SecretFile)
    assert address.password.reveal() == CANARY

    (tmp_path / "password").write_text("new")

    assert address.password.reveal() == "new"
    assert not holds_canary(repr(address))


@pytest.mark.parametrize("keys", ["url: redis://h, password_file: PASSWORD", "url_file: URL"])
def test_a_rotated_password_leaves_the_broker_as_it_was(keys: str, tmp_path: Path) -> None:
    before = addressed(tmp_path, keys)
    text = (tmp_path / "config.yml").read_text()
    (tmp_path / "password").write_text("new")
    (tmp_path / "url").write_text("redis://anna:new@h:7/1")

    after = loaded(tmp_path, text).brokers[0].address

    assert after == before
    assert before.password is not None
    assert before.password.reveal() == "new"


def test_of_a_url_in_a_file_the_password_alone_may_change(tmp_path: Path) -> None:
    before = addressed(tmp_path, "url_file: URL")
    assert before.password == SecretUrlFile(str(tmp_path / "url"))
    (tmp_path / "url").write_text("redis://berta:new@h:7/1")

    assert loaded(tmp_path, (tmp_path / "config.yml").read_text()).brokers[0].address != before


def test_a_url_without_a_password_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "bare").write_text("redis://h")
    assert addressed(tmp_path, f"url_file: {tmp_path}/bare").password is None
    mine = addressed(tmp_path, f"url_file: {tmp_path}/bare, password_file: PASSWORD").password
    assert mine == SecretFile(str(tmp_path / "password"))
    theirs = addressed(tmp_path, "url_file: URL, password_file: PASSWORD").password
    assert theirs == mine


def test_a_password_in_the_url_itself_stays_one(tmp_path: Path) -> None:
    assert addressed(tmp_path, f"url: 'redis://:{QUOTED}@h'").password == Secret(CANARY)


def test_tls(tmp_path: Path) -> None:
    assert addressed(tmp_path, "url: rediss://h").tls == Tls()
    assert addressed(tmp_path, "url: redis://h").tls is None
    tls = addressed(tmp_path, "url: rediss://h, tls: {server_name: redis.internal, insecure_skip_verify: true}").tls
    assert tls == Tls(server_name="redis.internal", insecure_skip_verify=True)


def test_sentinels(tmp_path: Path) -> None:
    address = addressed(
        tmp_path,
        "url: rediss://exporter@myMaster-1.a/2, password_file: PASSWORD, "
        'sentinel: {addresses: ["S1:26380", s2, "[::1]:26381", "[::2]"], username: watcher, password_file: PASSWORD}',
    )
    secret = SecretFile(str(tmp_path / "password"))
    places = (("s1", 26380), ("s2", 26379), ("::1", 26381), ("::2", 26379))
    known = tuple(Address("redis", host, port, 0, "watcher", secret) for host, port in places)
    # the name of a master as it is written, unlike that of a host
    assert address.sentinel == Sentinel("myMaster-1.a", known)
    assert (address.scheme, address.db, address.username, address.password) == ("rediss", 2, "exporter", secret)
    assert str(address) == "rediss://myMaster-1.a/2 by Sentinel"


def test_tls_to_sentinels_is_apart_from_that_to_the_master(tmp_path: Path) -> None:
    plain = addressed(tmp_path, "url: rediss://m, sentinel: {addresses: [s]}")
    spoken = addressed(tmp_path, "url: redis://m, sentinel: {addresses: [s], tls: {server_name: x}}")
    assert plain.sentinel is not None
    assert spoken.sentinel is not None
    (one,), (other,) = plain.sentinel.addresses, spoken.sentinel.addresses
    assert (plain.tls, one.scheme, one.tls) == (Tls(), "redis", None)
    assert (spoken.tls, other.scheme, other.tls) == (None, "rediss", Tls(server_name="x"))


def test_a_broker_of_the_page_probe(tmp_path: Path) -> None:
    text = "brokers: [{name: a, url: redis://h, probe: true}, {name: b, url: redis://h}]"
    assert [broker.probe for broker in loaded(tmp_path, text).brokers] == [True, False]
