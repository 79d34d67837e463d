"""docker-compose.yml: what its services find where they look, files and each other."""

from __future__ import annotations

import configparser
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml

from exporter.config import load
from exporter.demo import roles
from scripts.rulebook import PROMETHEUS
from tests import dashboards
from tests.deploy import composed, dockerfile
from tests.deploy.composed import PROFILES, Service, service
from tests.servers import ROOT

GRAFANA: Final = ROOT / "grafana"
OWN: Final = ROOT / "deploy" / "compose"
TESTED: Final = {PROMETHEUS, dashboards.DIRECTORY, GRAFANA / "provisioning", GRAFANA / "grafana.ini", OWN}
"""What other tests test, and what this one and the stack's do."""
WRITABLE: Final = {
    "redis": {"/data"},
    "prometheus": {"/prometheus"},
    "alertmanager": {"/alertmanager"},
    "grafana": {"/var/lib/grafana", "/tmp"},
    "exporter": set[str](),
    "exporter-watch": set[str](),
}
"""Where services must be able to write; the others are the sample's, which may in /tmp."""
EVERY: Final = [pytest.param(one, id=f"{profile}-{one.name}") for profile, one in composed.every()]
every_service = pytest.mark.parametrize("service", EVERY)
both_profiles = pytest.mark.parametrize("profile", PROFILES)

# -- files ------------------------------------------------------------------------------------------------------


@every_service
def test_a_service_can_write_where_it_must_and_nowhere_else(service: Service) -> None:
    writable = {mount.target for mount in service.mounts if not mount.read_only}
    assert writable == WRITABLE.get(service.name, {"/tmp"})


@every_service
def test_what_is_mounted_is_there_and_tested_and_can_be_read(service: Service) -> None:
    for mount in service.mounts:
        if not mount.is_bind:
            continue
        source = (ROOT / mount.source).resolve(strict=True)
        assert mount.read_only, mount
        assert mount.labelled, mount
        assert source in TESTED or source.parent in TESTED, mount
        assert source.is_relative_to(ROOT)
        assert [path for path in [source, *source.rglob("*")] if not is_for_all(path)] == []


def is_for_all(path: Path) -> bool:
    """Whether any user may read it."""
    mode = path.stat().st_mode
    wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
    return mode & wanted == wanted


def test_volumes_are_those_that_are_used() -> None:
    used = {
        mount.source
        for profile in PROFILES
        for one in composed.services(profile).values()
        for mount in one.mounts
        if mount.source and not mount.is_bind
    }
    assert {*composed.model()["volumes"]} == used


@both_profiles
def test_prometheus_finds_its_files(profile: str) -> None:
    prometheus = service(profile, "prometheus")
    path = PurePosixPath(prometheus.flag("config.file"))
    config = yaml.safe_load(prometheus.seen(str(path)).read_text())
    assert config["rule_files"]
    assert [name for name in config["rule_files"] if not prometheus.seen(str(path.parent / name)).is_file()] == []
    assert prometheus.flag("storage.tsdb.path") in prometheus.volumes


@both_profiles
def test_alertmanager_finds_its_files(profile: str) -> None:
    alertmanager = service(profile, "alertmanager")
    path = PurePosixPath(alertmanager.flag("config.file"))
    source = alertmanager.seen(str(path))
    config = yaml.safe_load(source.read_text())
    assert [pattern for pattern in config["templates"] if not [*source.parent.glob(pattern)]] == []
    assert alertmanager.flag("storage.path") in alertmanager.volumes


@both_profiles
def test_grafana_finds_its_files(profile: str) -> None:
    grafana = service(profile, "grafana")
    told = configparser.ConfigParser()
    told.read_string((GRAFANA / "grafana.ini").read_text())
    home = told["dashboards"]["default_home_dashboard_path"]
    (provider,) = yaml.safe_load(grafana.seen("/etc/grafana/provisioning/dashboards/taskqueue.yml").read_text())[
        "providers"
    ]
    assert grafana.seen("/etc/grafana/grafana.ini") == GRAFANA / "grafana.ini"
    assert grafana.seen("/etc/grafana/provisioning/datasources/prometheus.yml").is_file()
    assert grafana.seen(home).is_file()
    assert [*grafana.seen(provider["options"]["path"]).glob("*.json")] == [*dashboards.DIRECTORY.glob("*.json")]
    assert "/var/lib/grafana" in grafana.volumes
    # The image's other directories of provisioning stay.
    assert {mount.target for mount in grafana.mounts} & {"/etc/grafana", "/etc/grafana/provisioning"} == set()


def test_the_exporter_of_the_sample_takes_its_file() -> None:
    exporter = service("sample", "exporter")
    path = exporter.seen(exporter.environment["TASKQUEUE_EXPORTER_CONFIG_FILE"])
    assert len(load(path).brokers) == 1
    (broker,) = yaml.safe_load(path.read_text())["brokers"]
    assert broker["url"] == service("sample", "workload").environment["TASKQUEUE_DEMO_REDIS_URL"]


# -- who finds whom ---------------------------------------------------------------------------------------------


@both_profiles
def test_everyone_finds_whom_he_is_sent_to(profile: str) -> None:
    services = composed.services(profile)
    sent = [*of_prometheus(), *of_grafana(), *(of_redis() if profile == "sample" else ())]
    assert len(sent) >= 4
    assert [one for one in sent if not reaches(services, *one)] == []


def of_prometheus() -> Iterator[tuple[str, str]]:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    for one in (*config["scrape_configs"], *config["alerting"]["alertmanagers"]):
        yield from (("prometheus", target) for given in one["static_configs"] for target in given["targets"])


def of_grafana() -> Iterator[tuple[str, str]]:
    read: dict[str, Any] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    yield from (("grafana", urlsplit(one["url"]).netloc) for one in read["datasources"])


def of_redis() -> Iterable[tuple[str, str]]:
    url = service("sample", "workload").environment["TASKQUEUE_DEMO_REDIS_URL"]
    workers = {role.name for role in roles.worker_roles()}
    return [(name, urlsplit(url).netloc) for name in ("exporter", "workload", *sorted(workers))]


def reaches(services: dict[str, Service], name: str, address: str) -> bool:
    """Whether a service finds exactly one by that name in a network of its own, which listens on that port."""
    host, _, port = address.partition(":")
    if host == "localhost":
        host = name
    found = {one.name for one in services.values() for net in services[name].networks if host in one.names(net)}
    return len(found) == 1 and composed.PORTS[host] == int(port)


def test_the_exporter_listens_where_it_is_looked_for() -> None:
    image = dockerfile.image("exporter")
    assert image.env["TASKQUEUE_EXPORTER_WEB_LISTEN_ADDRESS"] == f":{composed.PORTS['exporter']}"
    for profile, name in (("sample", "exporter"), ("watch", "exporter-watch")):
        assert "TASKQUEUE_EXPORTER_WEB_LISTEN_ADDRESS" not in service(profile, name).environment
