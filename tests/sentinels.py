"""Redis Sentinel for tests: sentinels, and the master and its replica that they watch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import redis

from tests.servers import LOOPBACK, Process, RedisServer, StartRedis, start_on_a_free_port, wait_until


class SentinelServer:
    """A `redis-server --sentinel`, at work when it is there. It watches what `monitor()` names, with a quorum of 1.

    `options` are more lines of its file, which it rewrites itself: `requirepass="secret"`.
    """

    START_DEADLINE = 10.0

    def __init__(self, directory: Path, **options: str) -> None:
        self._directory = directory
        self._options = {name.replace("_", "-"): value for name, value in options.items()}
        self._process: Process
        self.port = 0
        start_on_a_free_port(self._start_anew)

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._process.log

    def command(self, *command: str | int) -> object:
        """The reply to a command, on a connection of its own."""
        with redis.Redis(port=self.port, password=self._options.get("requirepass"), socket_timeout=10) as client:
            return client.execute_command(*command)

    def monitor(self, master: str, server: RedisServer, replicas: int = 0) -> None:
        """Watches a master; returns when it knows as many replicas of it."""
        with suppress(redis.ResponseError):  # Redis 7.0 and later: it looks at the servers more often than every 10 s
            self.command("SENTINEL", "DEBUG", "info-period", 200)
        self.command("SENTINEL", "MONITOR", master, LOOPBACK, server.port, 1)
        self.command("SENTINEL", "SET", master, "down-after-milliseconds", 60_000)  # nothing happens unasked
        wait_until(lambda: int(self.state(master)["num-slaves"]) >= replicas, 30)

    def state(self, master: str) -> dict[str, str]:
        """What SENTINEL MASTER says."""
        reply = cast(list[bytes], self.command("SENTINEL", "MASTER", master))
        words = [word.decode() for word in reply]
        return dict(zip(words[::2], words[1::2], strict=True))

    def master(self, name: str) -> int:
        """The port of the master as it gives it out."""
        return int(cast(list[bytes], self.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name))[1])

    def failover(self, name: str) -> None:
        """Makes a replica the master; returns when it gives that out. The old one goes on as a master for seconds."""
        before = self.master(name)

        def accepted() -> bool:
            try:
                return self.command("SENTINEL", "FAILOVER", name) is not None
            except redis.ResponseError:  # it has not heard of the replica yet, or of the end of the failover before
                return False

        wait_until(accepted, 30)
        wait_until(lambda: self.master(name) != before, 30)

    def pause(self) -> None:
        """Stop it with SIGSTOP. Returns once it stands still."""
        self._process.pause()

    def resume(self) -> None:
        """Let it go on after `pause()`."""
        self._process.resume()

    def stop(self) -> None:
        """End it; its port refuses connections afterwards."""
        self._process.stop()

    def restart(self) -> None:
        """Start it again on the same port; it knows from its file what it watched."""
        self.stop()
        self._start()

    def _start_anew(self, port: int) -> None:
        self.port = port
        lines = {"port": str(port), "bind": LOOPBACK, "dir": str(self._directory), **self._options}
        text = "".join(f"{name} {value}\n" for name, value in lines.items())
        (self._directory / "sentinel.conf").write_text(text)
        self._start()

    def _start(self) -> None:
        command = ["redis-server", str(self._directory / "sentinel.conf"), "--sentinel"]
        self._process = Process(command, self._directory / "sentinel.log", cwd=self._directory)
        try:
            self._process.wait_until_ready(self._answers, self.START_DEADLINE)
        except BaseException:
            self._process.stop()
            raise

    def _answers(self) -> bool:
        try:
            return self.command("SENTINEL", "MASTERS") is not None
        except redis.ConnectionError:  # not listening yet
            return False


def replicated(start: StartRedis, **options: str) -> tuple[RedisServer, RedisServer]:
    """A master and its replica, which has a copy of it and gets what is written."""
    options = {"repl_diskless_sync_delay": "0", **options}  # 5 s, for others to come
    master = start(**options)
    replica = start(replicaof=f"{LOOPBACK} {master.port}", **options)
    wait_until(lambda: caught_up(master, replica))
    return master, replica


def role(server: RedisServer) -> str:
    """What ROLE says: `master` or `slave`."""
    return cast(list[bytes], server.client().role())[0].decode()


def caught_up(master: RedisServer, replica: RedisServer) -> bool:
    """Whether a replica has all that was written to its master so far."""
    ours = cast(dict[str, object], master.client().info("replication"))
    theirs = cast(dict[str, object], replica.client().info("replication"))
    return theirs["master_link_status"] == "up" and theirs["slave_repl_offset"] == ours["master_repl_offset"]


StartSentinel = Callable[..., SentinelServer]
"""The fixture `start_sentinel`: options of the server as in `SentinelServer`."""
