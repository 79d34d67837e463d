"""Configuration: what a file may say, and what goes before what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exporter.config import Config, load
from exporter.safe.limits import Limits
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
    assert set(config.host_collectors) == {"filesystem"}
    assert config.limits == Limits(queues=5, workers=6, label_bytes=64)


def test_a_url_alone_watches_everything() -> None:
    config = load(None, "redis://h")

    (broker,) = config.brokers
    assert broker.name == "default"
    assert set(broker.systems) >= {"arq", "celery"}
    assert broker.collectors.keys() >= {"redis_info"}
    assert config.host_collectors.keys() >= {"host", "filesystem"}


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
