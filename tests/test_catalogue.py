"""The catalogue: names by the conventions, a reference that is current, and no row that is dead."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from exporter import catalogue, feeds, gauges, ledger
from exporter.catalogue import FAMILIES, Family
from exporter.catalogue.reference import reference
from exporter.collectors import HOST_COLLECTORS, REDIS_COLLECTORS
from exporter.collectors.redis_info import RedisInfo
from exporter.config import load
from exporter.engine import Engine
from exporter.exposition import TEXT, Renderer
from exporter.systems import SYSTEMS
from tests.servers import ROOT, RedisServer
from tests.test_third_system import Toy, sample_names

ALL = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
# Prometheus sets the first two itself; the others mean something else on every site (writing_exporters).
FORBIDDEN_LABELS = {"job", "instance", "type", "service", "cluster", "env", "zone", "le", "quantile"}
OWN_SUFFIXES = ("_count", "_sum", "_bucket", "_created")
OTHER_UNITS = re.compile(r"_(milliseconds?|ms|minutes|hours|days|kilobytes|kib|megabytes|mib|bits|percent|kbytes)(_|$)")


@ALL
def test_name(family: Family) -> None:
    assert re.fullmatch(r"taskqueue_[a-z0-9]+(_[a-z0-9]+)*", family.name)
    assert (family.kind == "counter") == family.name.endswith("_total")
    assert not family.name.endswith(OWN_SUFFIXES)
    assert not OTHER_UNITS.search(family.name)
    assert family.name.endswith("_info") <= (family.kind == "gauge")


@ALL
def test_help(family: Family) -> None:
    assert re.fullmatch(r"[A-Z0-9].*\S\.", family.help)
    assert family.help.isprintable()
    assert family.name not in family.help
    if family.name.endswith("_info"):
        assert family.help.startswith("Always 1; ")


@ALL
def test_labels(family: Family) -> None:
    own = {"quantile"} if family.kind == "summary" else set()
    assert not (FORBIDDEN_LABELS - own).intersection(family.labels)
    assert len(set(family.labels)) == len(family.labels)
    assert all(re.fullmatch(r"[a-z][a-z_]*", label) for label in family.labels)
    if "queue" in family.labels or "worker" in family.labels:
        assert family.labels[:2] == ("system", "broker")
    if family.name.startswith("taskqueue_redis_"):
        assert family.labels[:2] == ("broker", "server")


def test_no_two_families_are_one_to_openmetrics() -> None:
    names = [family.metric().name for family in FAMILIES.values()]

    assert len(set(names)) == len(names)


def test_a_sample_needs_every_label() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        catalogue.QUEUE_JOBS.sample(("arq", "main"), 1)


def test_every_family_of_the_module_is_in_the_table() -> None:
    used = {
        *gauges.FAMILIES,
        *ledger.FAMILIES,
        *feeds.FAMILIES,
        *(family for collector in REDIS_COLLECTORS.values() for family in collector.families),
        *(family for collector in HOST_COLLECTORS.values() for family in collector.families),
    }

    assert used <= set(FAMILIES.values())


def test_the_reference_is_current() -> None:
    written = (ROOT / "docs" / "metrics.md").read_text().splitlines()

    assert written == list(reference()), "run `make docs`"


# -- on /metrics ------------------------------------------------------------------------------------------------


async def exposed(tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> list[Metric]:
    """A scrape of everything there is: a toy that fills every gauge, a real Redis, this host."""
    monkeypatch.setitem(SYSTEMS, "toy", Toy)
    server.client().set("key", "value", ex=1000)
    file = tmp_path / "config.yml"
    (tmp_path / "pid").write_text(str(os.getpid()))
    group = f"processes: {{groups: [{{name: tests, pid_file: '{tmp_path / 'pid'}'}}]}}"
    percentiles = "redis: {latency_percentiles: true}"  # the only summary
    file.write_text(f"brokers: [{{name: main, url: '{server.url()}', {percentiles}}}]\n{group}")
    switches = {"host": True, "filesystem": True, "cgroup": True}  # on by default or not
    engine = Engine(load(file, switches=switches))
    await engine.start()
    try:
        return (await engine.scrape(10)).families
    finally:
        await engine.close()


async def test_no_row_is_dead_and_nothing_is_missing(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    families = await exposed(tmp_path, redis_server, monkeypatch)

    names = {sample.name for family in families for sample in family.samples}
    names = {name for name in names if not name.startswith("process_")}
    of_redis = {family.name for family in RedisInfo.families}  # some need a replica: see collectors/test_redis_info.py
    expected = {name for family in expected_here() for name in sample_names(FAMILIES[family])}
    assert names - of_redis == expected - of_redis
    assert "taskqueue_redis_latency_percentiles_seconds" in names


def expected_here() -> set[str]:
    """Every family, but for devices that this machine may lack."""
    here: set[str] = set(FAMILIES)
    probes = [collector() for collector in HOST_COLLECTORS.values()]
    for probe in probes:
        filled = {family.name: bool(family.samples) for family in probe.collect()}
        here -= {
            family.name
            for family in probe.families
            if ("device" in family.labels or "_pressure_" in family.name or probe.name == "cgroup")  # or older kernels
            and not filled.get(family.metric().name)
        }
    return here


async def test_families_stand_in_the_order_of_the_catalogue_with_its_help(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    families = await exposed(tmp_path, redis_server, monkeypatch)

    known = {family.metric().name: family for family in FAMILIES.values()}
    for metric in families:
        if not metric.name.startswith("process_"):
            family = known[metric.name]
            assert (metric.documentation, metric.type) == (family.help, family.kind)
            labels = {(*family.labels, "le") if s.name.endswith("_bucket") else family.labels for s in metric.samples}
            assert {tuple(sample.labels) for sample in metric.samples} == labels


@pytest.mark.needs("promtool")
async def test_promtool_finds_nothing_to_say(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    families = await exposed(tmp_path, redis_server, monkeypatch)
    text = b"".join(Renderer().render(families, TEXT))

    assert lint(text) == (0, "")


def lint(text: bytes) -> tuple[int, str]:
    """Exit code and output of promtool."""
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


@pytest.mark.needs("promtool")
def test_promtool_would_say_something() -> None:
    assert lint(b"# TYPE x counter\nx 1\n")[0] != 0
