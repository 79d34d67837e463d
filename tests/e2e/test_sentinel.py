"""Sentinel makes another server the master while the old one goes on as if nothing had happened."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from exporter import acl
from exporter.config import load
from tests.e2e.pushing import NeverFalls, arq_result, celery_job, feed, finished, publish, writing_results
from tests.e2e.reading import Metrics, broker_up, families_of, feeds_connected, jobs, success
from tests.sentinels import StartSentinel, caught_up, replicated, role
from tests.servers import Exporter, RedisServer, StartExporter, StartRedis, free_port, wait_until

MASTER = "myMaster"
PASSWORD = "s3cret/@:"
SOON = 8.0
"""Seconds. A poll, a connect, a feed's pause before it comes back, and what a slow machine adds."""
ONLY_IN_THE_OLD = 10
"""Jobs."""


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    return file


def config(password_file: Path, *sentinels: str) -> str:
    """A configuration of the broker `default`, which these sentinels know."""
    return f"""
brokers:
  - name: default
    url: redis://exporter@{MASTER}/0
    password_file: {password_file}
    sentinel: {{addresses: {json.dumps(sentinels)}, password_file: {password_file}}}
    arq: {{queues: ["arq:queue"]}}
    celery: {{queues: [celery]}}
"""


def stage(start_redis: StartRedis, text: str, tmp_path: Path) -> tuple[RedisServer, RedisServer]:
    """A master and its replica. Both know the user of the configuration, who may do what is printed for him."""
    file = tmp_path / "config.yml"
    file.write_text(text)
    rules = acl.text(load(file).brokers, acl.Version.V7_0, acl.Form.ACLFILE)
    words = rules.replace(acl.PASSWORD, f">{PASSWORD}").split()[1:]
    servers = replicated(start_redis)
    for server in servers:
        server.client().execute_command("ACL", "SETUSER", *words)  # type: ignore[no-untyped-call]
    return servers


def keep_master(server: RedisServer) -> None:
    """Lets nobody make a replica of it: in nature it goes on as a master for some 6 s."""
    server.client().execute_command("ACL", "SETUSER", "default", "-slaveof", "-replicaof")  # type: ignore[no-untyped-call]


def make_replica(server: RedisServer, of: RedisServer) -> None:
    client = server.client()
    client.execute_command("ACL", "SETUSER", "default", "+@all")  # type: ignore[no-untyped-call]
    client.execute_command("REPLICAOF", "127.0.0.1", of.port)  # type: ignore[no-untyped-call]
    wait_until(lambda: caught_up(of, server))


def enqueue(server: RedisServer, name: str, count: int) -> None:
    """So many more jobs in a queue of each system."""
    client = server.client()
    client.zadd("arq:queue", {f"{name}{number}": 1_000 + number for number in range(count)})
    client.rpush("celery", *["task"] * count)


def end_jobs(server: RedisServer, name: str, count: int) -> None:
    """So many jobs of each system end."""
    client = server.client()
    for number in range(count):
        client.set(f"arq:result:{name}{number}", arq_result(f"{name}{number}"), px=3_600_000)
        publish(client, celery_job(f"{name}{number}", "work"))


def depths(metrics: Metrics) -> tuple[float | None, float | None]:
    """The jobs that are ready, of ARQ and of Celery."""
    return jobs(metrics, "arq", "arq:queue").get("ready"), jobs(metrics, "celery", "celery").get("ready")


def ended(metrics: Metrics) -> tuple[float, float]:
    return finished(metrics, "arq"), finished(metrics, "celery")


def servers(metrics: Metrics) -> set[str]:
    """The values of the label `server`."""
    return {dict(labels)["server"] for _, labels in metrics if "server" in dict(labels)}


class Watch:
    """Scrapes, and holds that no counter falls: those of jobs and feeds never, those of a server for that server."""

    def __init__(self, exporter: Exporter) -> None:
        self._never_falls = NeverFalls(exporter)
        self._of_servers: Metrics = {}

    def scrape(self) -> Metrics:
        metrics = self._never_falls.scrape()
        of_servers = {k: v for k, v in metrics.items() if "server" in dict(k[1]) and k[0].endswith("_total")}
        fallen = {k: (self._of_servers[k], v) for k, v in of_servers.items() if v < self._of_servers.get(k, 0.0)}
        assert not fallen, fallen
        self._of_servers |= of_servers
        assert len(servers(metrics)) <= 1
        return metrics

    def until_ready(self, count: int) -> None:
        """Returns once so many jobs of each system are ready; before, the broker may be away. Then they stay."""
        wait_until(lambda: depths(self.scrape()) == (count, count), SOON)
        for _ in range(5):
            assert depths(self.scrape()) == (count, count)

    def until_ended(self, arq: int, celery: int) -> None:
        wait_until(lambda: ended(self.scrape()) == (arq, celery), SOON)

    def until_connected(self) -> None:
        wait_until(lambda: all(feeds_connected(self.scrape()).values()), SOON)

    def until_searched(self) -> None:
        """Returns once the search for queues that a failover ended was repeated."""
        wait_until(lambda: {success(self.scrape(), name) for name in ("arq", "celery")} == {1.0}, SOON)

    def gaps(self) -> tuple[float, float]:
        """Seconds, by connected feeds."""
        metrics = self.scrape()
        assert set(feeds_connected(metrics).values()) == {1.0}
        return feed(metrics, "gap_seconds_total"), feed(metrics, "gap_seconds_total", "celery")

    def until_no_gap(self) -> None:
        wait_until(lambda: self.gaps() == self.gaps(), SOON)


def test_a_failover_and_back_with_the_old_master_still_answering(
    start_redis: StartRedis,
    start_sentinel: StartSentinel,
    start_exporter: StartExporter,
    password_file: Path,
    tmp_path: Path,
) -> None:
    # given a master with jobs, its replica, and an exporter that has counted what ended
    sentinel = start_sentinel(requirepass=PASSWORD)
    text = config(password_file, sentinel.address)
    first, second = stage(start_redis, text, tmp_path)
    sentinel.monitor(MASTER, first, replicas=1)
    enqueue(first, "a", 5)
    exporter = start_exporter("--birth-hold", "0", config=text)
    watch = Watch(exporter)
    watch.until_connected()
    end_jobs(first, "a", 30)
    watch.until_ready(5)
    watch.until_ended(30, 30)
    assert servers(watch.scrape()) == {f"127.0.0.1:{first.port}"}
    # when the replica becomes the master, and the old one takes writes as before
    wait_until(lambda: caught_up(first, second))
    keep_master(first)
    sentinel.failover(MASTER)
    enqueue(first, "b", ONLY_IN_THE_OLD)
    enqueue(second, "c", 2)
    for number in range(10):  # by workers that know of the new one, perhaps before we do
        second.client().set(f"arq:result:c{number}", arq_result(f"c{number}"), px=3_600_000)
    # then all is of the new one, soon, and what stands on both is counted once
    watch.until_ready(5 + 2)
    assert role(first) == "master"
    watch.until_connected()
    assert_known_to_be_missed(watch, first)
    watch.until_ended(40, 30)
    end_jobs(second, "d", 10)
    watch.until_ended(50, 40)
    watch.until_searched()
    assert_sound(watch.scrape(), second)
    assert f"the master is now at 127.0.0.1:{second.port}" in exporter.log
    # and when the old one has become its replica, and is made the master again, the same
    make_replica(first, second)
    watch.until_no_gap()
    keep_master(second)
    sentinel.failover(MASTER)
    enqueue(second, "e", ONLY_IN_THE_OLD)
    enqueue(first, "f", 1)
    watch.until_ready(5 + 2 + 1)
    watch.until_connected()
    end_jobs(first, "g", 10)
    watch.until_ended(60, 50)
    watch.until_searched()
    assert_sound(watch.scrape(), first)
    # and nothing was refused, nor a password shown
    for server in (first, second):
        assert server.client().acl_log() == []
    shown = exporter.log + exporter.get("/").text + exporter.get("/metrics").text
    assert PASSWORD not in shown
    assert f"redis://{MASTER}/0 by Sentinel" in exporter.get("/").text


def assert_known_to_be_missed(watch: Watch, old: RedisServer) -> None:
    """Jobs end where the feeds were; none of them is counted, and the gaps have the time."""
    with writing_results(old.client()):
        end_jobs(old, "unseen", 10)
        before, began = watch.gaps(), time.monotonic()
        wait_until(lambda: time.monotonic() - began > 1)
        took = time.monotonic() - began
        risen = [after - gap for after, gap in zip(watch.gaps(), before, strict=True)]
    assert min(risen) >= took, (risen, took)


def assert_sound(metrics: Metrics, master: RedisServer) -> None:
    assert servers(metrics) == {f"127.0.0.1:{master.port}"}
    assert broker_up(metrics) == 1
    assert [success(metrics, name) for name in ("arq", "celery", "redis_info")] == [1, 1, 1]
    assert feed(metrics, "lost_events_total", "celery") == 0
    assert feed(metrics, "lost_events_total") <= 2 * ONLY_IN_THE_OLD  # these are lost, if they were seen


def test_sentinels_that_come_late_go_and_know_no_such_master(
    start_redis: StartRedis,
    start_sentinel: StartSentinel,
    start_exporter: StartExporter,
    password_file: Path,
    tmp_path: Path,
) -> None:
    # given sentinels of which none is there, or one that watches nothing
    sentinel = start_sentinel(requirepass=PASSWORD)
    text = config(password_file, sentinel.address, f"127.0.0.1:{free_port()}")
    first, _ = stage(start_redis, text, tmp_path)
    sentinel.stop()
    exporter = start_exporter(config=text)
    assert broker_up(exporter.metrics()) == 0
    sentinel.restart()
    wait_until(lambda: f"{sentinel.address}: it knows no master named '{MASTER}'" in scraped_log(exporter), SOON)
    metrics = exporter.metrics()
    assert broker_up(metrics) == 0
    assert not {name for name in families_of(metrics, "default") if name.startswith("taskqueue_redis_")}
    # when one knows the master, then it is up
    sentinel.monitor(MASTER, first, replicas=1)
    wait_until(lambda: broker_up(exporter.metrics()) == 1, SOON)
    enqueue(first, "a", 3)
    watch = Watch(exporter)
    watch.until_connected()
    watch.until_ready(3)
    # and when all are gone, it goes on, with new connections where it needs them
    sentinel.stop()
    wait_until(lambda: exporter.log.count("sentinel of no use") > 3, SOON)
    enqueue(first, "b", 1)
    first.client().client_kill_filter(_type="normal", skipme=True)  # feeds, too
    metrics = exporter.metrics()
    assert broker_up(metrics) == 1
    assert depths(metrics) == (4, 4)
    wait_until(lambda: set(feeds_connected(exporter.metrics()).values()) == {1.0}, SOON)


def scraped_log(exporter: Exporter) -> str:
    """What it has logged after one more scrape."""
    exporter.metrics()
    return exporter.log
