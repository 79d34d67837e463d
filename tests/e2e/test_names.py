"""Brokers reached by name, where the name server is silent about some of them."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path

import pytest

from tests.e2e.reading import broker_up, feeds_connected
from tests.namespaces import Namespace, needs_namespace
from tests.servers import EXPORTER_PYTHON, LOOPBACK, Exporter, StartExporter, StartRedis, wait_until

DEADLINE = 15.0
"""Of feeds that come."""


class NameServer:
    """Knows `good.test`, which is the loopback, and is silent about all else."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 53))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while (received := self._socket.recvfrom(512))[0]:
            query, sender = received
            if b"\x04good\x04test" in query:
                self._socket.sendto(self._answer(query), sender)

    def _answer(self, query: bytes) -> bytes:
        """RFC 1035, 4.1: the header, the question as it came, and an address where one of IPv4 was asked for."""
        question = query[12 : query.index(b"\0", 12) + 5]
        known = question[-4:] == b"\0\1\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(LOOPBACK)
        return query[:2] + b"\x85\x80\0\1\0" + bytes([known]) + b"\0\0\0\0" + question + answer * known


@needs_namespace
@pytest.mark.needs("unshare", "mount")
def test_a_name_that_does_not_resolve_is_a_trouble_of_its_own_broker(
    namespace: Namespace, start_redis: StartRedis, start_exporter: StartExporter, tmp_path: Path
) -> None:
    # given a name server that is silent about one name, by which there are more brokers than uvloop has threads for it
    (tmp_path / "resolv.conf").write_text(f"nameserver {LOOPBACK}\noptions timeout:5 attempts:2\n")
    names = namespace.inside(NameServer)
    try:
        port = namespace.inside(start_redis).port
        mount = f'mount --bind {tmp_path / "resolv.conf"} /etc/resolv.conf && exec "$@"'
        sick = [f"- {{name: sick{db}, url: 'redis://bad.test:{port}/{db}?socket_timeout=1'}}" for db in range(5)]
        config = "\n".join(["brokers:", *sick, f"- {{name: default, url: 'redis://good.test:{port}/0'}}"])
        command = ("unshare", "--mount", "sh", "-c", mount, "sh", EXPORTER_PYTHON, "-m", "exporter.cli")
        exporter = namespace.inside(lambda: start_exporter(config=config, command=command))
        # when it has been asked for the sick ones more than once
        for _ in range(3):
            metrics = namespace.inside(exporter.metrics)
            assert broker_up(metrics) == 1
            assert [broker_up(metrics, f"sick{db}") for db in range(5)] == [0] * 5
        # then the sound one is followed, and each reason is told once
        wait_until(lambda: set(feeds_connected(namespace.inside(exporter.metrics)).values()) == {1}, DEADLINE)
        assert set(told(exporter, "collector=broker")) == {f"sick{db}" for db in range(5)}
        assert len(told(exporter, "collector=broker")) == 5
        assert told(exporter, "broker=default") == []
        assert "never retrieved" not in exporter.log
        exporter.stop()
    finally:
        names.stop()


def told(exporter: Exporter, text: str) -> list[str]:
    """The brokers of which a line with `text` tells that the address cannot be found."""
    lines = [line for line in exporter.log.splitlines() if "cannot find the address of bad.test" in line]
    return [found for line in lines if text in line for found in re.findall(r"broker=(\S+)", line)]
