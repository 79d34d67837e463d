"""docker-compose.yml: what its services are set to, each setting by what it is for."""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from typing import Final

import pytest

from exporter.collectors import HOST_COLLECTORS, REDIS_COLLECTORS
from exporter.config import load
from scripts.rulebook import PROMETHEUS
from tests.deploy import composed
from tests.deploy.composed import PORTS, Service, service
from tests.servers import ROOT

IMAGES: Final = {
    "redis": "redis:8.2.10-alpine",
    "prometheus": "prom/prometheus:v3.13.5",
    "alertmanager": "prom/alertmanager:v0.34.2",
    "grafana": "grafana/grafana:12.4.12",
}
"""Versions that are known to exist. docs/deployment.md states their first two numbers."""
USERS: Final = {
    "redis": (999, 1000),
    "prometheus": (65534, 65534),
    "alertmanager": (65534, 65534),
    "grafana": (472, 472),
}
"""Whom the images' directories belong to."""
HEALTH_PATHS: Final = {"prometheus": "/-/healthy", "alertmanager": "/-/healthy", "grafana": "/api/health"}
NEEDED: Final = {"exporter": 200, "redis": 128, "prometheus": 512, "alertmanager": 64, "grafana": 512}
"""Megabytes of memory without which a service may not last; a worker or the workload 256."""
GRAFANA: Final[Mapping[str, Mapping[str, str]]] = {
    "whoever reaches it looks, as a viewer": {
        "AUTH_ANONYMOUS_ENABLED": "true",
        "AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
    },
    "there is no form to log in by": {"AUTH_DISABLE_LOGIN_FORM": "true"},
    "there is no admin with a known password": {"SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true"},
    "nothing is told or asked outside": {
        "ANALYTICS_REPORTING_ENABLED": "false",
        "ANALYTICS_CHECK_FOR_UPDATES": "false",
        "ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "NEWS_NEWS_FEED_ENABLED": "false",
        "SECURITY_DISABLE_GRAVATAR": "true",
        "SNAPSHOTS_EXTERNAL_ENABLED": "false",
        "PLUGINS_PREINSTALL_DISABLED": "true",
        "PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED": "true",
    },
    "links lead to where it is published": {"SERVER_ROOT_URL": "http://localhost:3000/"},
}
"""Variables without `GF_`, by what they are for."""
LINKS: Final = {"prometheus": "web.external-url", "alertmanager": "web.external-url", "grafana": ""}
"""By which flag a service is told where links lead; Grafana by a variable."""
EVERY: Final = [pytest.param(one, id=f"{profile}-{one.name}") for profile, one in composed.every()]
every_service = pytest.mark.parametrize("service", EVERY)


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_others_are_those_that_are_known(name: str) -> None:
    one = service("sample", name)
    assert (one.image, one.user) == (IMAGES[name], USERS[name])


@every_service
def test_it_has_the_memory_that_it_needs(service: Service) -> None:
    assert composed.megabytes(service.model["mem_limit"]) >= NEEDED.get(service.name.removesuffix("-watch"), 256)


@every_service
def test_it_is_asked_often_enough_and_has_time_to_start(service: Service) -> None:
    told = service.model.get("healthcheck")
    if told is None:  # the image's: test_image.py
        return
    assert composed.seconds(told["interval"]) <= 60
    assert composed.seconds(told["timeout"]) <= composed.seconds(told["interval"])
    assert 3 <= told["retries"] <= 5
    assert composed.seconds(told.get("start_period", "0s")) <= 60


@pytest.mark.parametrize("name", HEALTH_PATHS)
def test_it_is_asked_where_it_listens(name: str) -> None:
    url = f"http://127.0.0.1:{PORTS[name]}{HEALTH_PATHS[name]}"
    assert service("sample", name).health == ("wget", "-q", "-O", "/dev/null", url)


# -- Redis ------------------------------------------------------------------------------------------------------


def test_redis_refuses_jobs_before_it_is_killed_and_drops_none() -> None:
    redis = service("sample", "redis")
    assert redis.entrypoint == ("redis-server",)
    told = dict(zip(redis.command[::2], redis.command[1::2], strict=True))
    assert told == {
        "--save": "",
        "--appendonly": "no",
        "--maxmemory": told["--maxmemory"],
        "--maxmemory-policy": "noeviction",
        "--protected-mode": "no",
    }
    limit = composed.megabytes(redis.model["mem_limit"])
    assert 64 <= composed.megabytes(told["--maxmemory"]) <= limit * 0.75
    assert redis.health == ("redis-cli", "ping")


# -- Prometheus and Alertmanager --------------------------------------------------------------------------------


def test_prometheus_keeps_what_the_document_says() -> None:
    (days, size), *_ = re.findall(r"Prometheus keeps (\d+) days, at most (\d+) GB", composed.document())
    prometheus = service("sample", "prometheus")
    assert prometheus.flag("storage.tsdb.retention.time") == f"{days}d"
    assert prometheus.flag("storage.tsdb.retention.size") == f"{size}GB"


def test_prometheus_is_told_to_reload_as_the_document_says() -> None:
    assert "--web.enable-lifecycle" in service("sample", "prometheus").command


def test_alertmanager_looks_for_no_others() -> None:
    assert service("sample", "alertmanager").flag("cluster.listen-address") == ""


def test_alertmanager_remembers_for_longer_than_it_repeats() -> None:
    text = (PROMETHEUS / "alertmanager.yml").read_text()
    hours = [
        int(number) * {"h": 1, "d": 24}[unit] for number, unit in re.findall(r"repeat_interval: (\d+)([hd])", text)
    ]
    assert max(hours) < int(service("sample", "alertmanager").flag("data.retention").removesuffix("h"))


def test_a_redis_of_this_machine_can_be_named() -> None:
    assert service("watch", "exporter-watch").model["extra_hosts"] == ["host.docker.internal:host-gateway"]


@pytest.mark.parametrize("name", LINKS)
def test_links_lead_to_where_it_is_published(name: str) -> None:
    variables = {variable: str(at) for at, variable in enumerate(sorted(composed.variables()), 8000)}
    one = composed.services("sample", variables)[name]
    link = one.flag(LINKS[name]) if LINKS[name] else one.environment["GF_SERVER_ROOT_URL"]
    assert link.removesuffix("/") == f"http://localhost:{one.ports[0].published}"
    assert one.ports[0].published == int(variables[f"{name.upper()}_PORT"])


# -- Grafana ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", GRAFANA)
def test_grafana_is_set_so_that(reason: str) -> None:
    told = service("sample", "grafana").environment
    assert {name: told.get(f"GF_{name}") for name in GRAFANA[reason]} == GRAFANA[reason]


def test_grafana_is_set_to_nothing_without_a_reason() -> None:
    reasons = {f"GF_{name}" for settings in GRAFANA.values() for name in settings}
    assert service("sample", "grafana").environment.keys() == reasons


def test_nothing_is_set_for_grafana_in_two_places() -> None:
    ini = configparser.ConfigParser()
    ini.read_string((ROOT / "grafana" / "grafana.ini").read_text())
    in_file = {f"GF_{section}_{key}".upper().replace(".", "_") for section in ini.sections() for key in ini[section]}
    assert in_file
    assert in_file.isdisjoint(service("sample", "grafana").environment)


# -- the exporter -----------------------------------------------------------------------------------------------


def test_the_exporter_sees_of_the_machine_what_the_document_says_in_both_profiles() -> None:
    sample = load(ROOT / "deploy" / "compose" / "exporter.yml")
    on = {name for name, options in sample.host_collectors.items() if options is not None}
    prefix = "TASKQUEUE_EXPORTER_COLLECTOR_"
    given = service("watch", "exporter-watch").environment
    switches = {name.removeprefix(prefix).lower(): value for name, value in given.items() if name.startswith(prefix)}

    assert switches == {"host": "true", "cgroup": "true"}
    assert switches.keys() < {*HOST_COLLECTORS, *REDIS_COLLECTORS}
    assert switches.keys() <= on
    assert "filesystem" not in on
    assert (
        "sees the host's CPU, memory and disks, as containers do, its own container, but no file" in composed.document()
    )


def test_the_samples_redis_tells_how_long_its_commands_take() -> None:
    (broker,) = load(ROOT / "deploy" / "compose" / "exporter.yml").brokers
    assert "latency_percentiles=True" in repr(broker)
