"""docker-compose.yml: what it mounts, whom it lets do what, and whether its services find each other."""

from __future__ import annotations

import configparser
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml

from exporter import __version__
from exporter.config import load
from exporter.demo import roles
from exporter.demo.processes import Role
from scripts.rulebook import PROMETHEUS
from tests import dashboards
from tests.deploy import composed, dockerfile
from tests.deploy.composed import PROFILES, Service
from tests.servers import ROOT

GRAFANA: Final = ROOT / "grafana"
OWN: Final = ROOT / "deploy" / "compose"
TESTED: Final = {PROMETHEUS, dashboards.DIRECTORY, GRAFANA / "provisioning", GRAFANA / "grafana.ini", OWN}
"""What other tests test, and what this one and the stack's do."""
WATCHERS: Final = {"prometheus", "alertmanager", "grafana"}
PORTS: Final = {"redis": 6379, "prometheus": 9090, "alertmanager": 9093, "grafana": 3000, "exporter": 10177}
"""Where services listen unless told otherwise, as none is, but for the exporter by its image."""
PINNED: Final = re.compile(r"[a-z/-]+:v?\d+\.\d+\.\d+(-alpine)?")
EVERY: Final = [pytest.param(p, one, id=f"{p}-{one.name}") for p in PROFILES for one in composed.services(p).values()]
every_service = pytest.mark.parametrize(("profile", "service"), EVERY)
both_profiles = pytest.mark.parametrize("profile", PROFILES)


def service(profile: str, name: str) -> Service:
    return composed.services(profile)[name]


def seen(one: Service, path: str) -> Path:
    """The file of this repository that a service finds at a path; KeyError where none is mounted."""
    found = [mount for mount in one.mounts if mount.is_bind and PurePosixPath(path).is_relative_to(mount.target)]
    if not found:
        raise KeyError(path)
    nearest = max(found, key=lambda mount: len(mount.target))
    return ROOT / nearest.source / PurePosixPath(path).relative_to(nearest.target)


def flag(one: Service, name: str) -> str:
    """The value of a flag of its command."""
    (value,) = (word.removeprefix(f"--{name}=") for word in one.command if word.startswith(f"--{name}="))
    return value


# -- profiles ---------------------------------------------------------------------------------------------------


def test_old_and_new_compose_take_the_file() -> None:
    top = composed.model().keys()
    assert {key for key in top if not key.startswith("x-")} == {"services", "networks", "volumes"}


def test_every_service_is_in_a_profile() -> None:
    assert {
        name: one.get("profiles") for name, one in composed.model()["services"].items() if not one.get("profiles")
    } == {}
    assert {*composed.services("sample")} == {*WATCHERS, "exporter", "redis", "workload", *workers()}
    assert {*composed.services("watch")} == {*WATCHERS, "exporter-watch"}


def workers() -> set[str]:
    return {role.name for role in roles.worker_roles()}


@every_service
def test_a_profile_has_whom_its_services_depend_on(profile: str, service: Service) -> None:
    others = composed.services(profile)
    for name, how in service.model.get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert asked(others[name])


def test_the_sample_goes_by_no_variable_to_another_redis() -> None:
    elsewhere = {"REDIS_URL": "redis://:secret@elsewhere:6379/5"}
    assert composed.services("sample", elsewhere) == composed.services("sample")
    assert "elsewhere" in str(composed.services("watch", elsewhere))


def test_a_missing_url_is_left_to_the_exporter_to_refuse() -> None:
    assert service("watch", "exporter-watch").environment["TASKQUEUE_EXPORTER_REDIS_URL"] == ""


@pytest.mark.parametrize("role", roles.worker_roles(), ids=lambda role: role.name)
def test_workers_are_those_of_the_demo(role: Role) -> None:
    worker = service("sample", role.name)
    assert worker.stage == "sample"
    assert worker.command == ("python", *role.command[1:])
    assert worker.model["hostname"] == role.name


def test_the_workload_is_that_of_the_demo() -> None:
    workload = service("sample", "workload")
    assert workload.command == ("python", *roles.workload_role().command[1:])
    assert {*workload.model["depends_on"]} == {"exporter"}
    assert workload.model["init"]


@pytest.mark.parametrize("name", sorted(workers()))
def test_a_worker_is_asked_for_itself(name: str) -> None:
    worker = service("sample", name)
    if "arq" in worker.command:
        assert worker.health == ("python", "-m", "arq", "--check", worker.command[-1])
    else:
        node = worker.command[worker.command.index("-n") + 1].replace("%h", worker.model["hostname"])
        assert worker.health is not None
        assert worker.health[worker.health.index("-d") + 1] == node


# -- what a service may -----------------------------------------------------------------------------------------


@every_service
def test_images_are_pinned(profile: str, service: Service) -> None:
    assert PINNED.fullmatch(service.image)
    assert service.image.endswith(f":{__version__}") == (service.stage is not None)


@every_service
def test_a_service_has_no_rights_and_limits(profile: str, service: Service) -> None:
    model = service.model
    assert min(service.user) > 0
    assert model["read_only"] is True
    assert model["cap_drop"] == ["ALL"]
    assert "cap_add" not in model
    assert "privileged" not in model
    assert model["security_opt"] == ["no-new-privileges:true"]
    assert model["restart"] == "unless-stopped"
    assert model["mem_limit"].endswith("m")
    assert 0 < model["cpus"] <= 1
    assert 0 < model["pids_limit"] <= 256
    assert model["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}


@every_service
def test_ours_run_as_their_images_say(profile: str, service: Service) -> None:
    if service.stage is not None:
        assert dockerfile.image(service.stage).user == "{}:{}".format(*service.user)


@every_service
def test_every_service_is_asked_how_it_is(profile: str, service: Service) -> None:
    words = asked(service)
    assert words
    assert not {"sh", "bash", "/bin/sh", "-c"} & {*words}


def asked(one: Service) -> tuple[str, ...]:
    """The command of its health check, or of its image's."""
    if one.health is not None:
        return one.health
    assert one.stage is not None, one.name
    return dockerfile.image(one.stage).healthcheck or ()


@every_service
def test_ports_are_open_on_this_machine_alone(profile: str, service: Service) -> None:
    for port in service.ports:
        assert port.address == "127.0.0.1"
        assert port.published == port.target == PORTS[service.name.removesuffix("-watch")]


def test_every_published_port_can_be_changed() -> None:
    published = re.findall(r'ports: \["(.+)"\]', composed.text())
    assert len(published) == len(WATCHERS) + 1
    assert [text for text in published if not re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z]+_PORT:-\d+\}:\d+", text)] == []


def test_only_who_works_with_it_reaches_the_samples_redis() -> None:
    assert composed.model()["networks"]["brokers"] == {"internal": True}
    inside = {one.name for one in composed.services("sample").values() if "brokers" in one.networks}
    assert inside == {"redis", "exporter", "workload", *workers()}
    assert "brokers" not in service("watch", "exporter-watch").networks


# -- variables --------------------------------------------------------------------------------------------------


def test_the_example_has_every_variable_and_no_others() -> None:
    example = composed.example()
    assert {
        name: {value} for name, value in example.items() if name not in composed.OWN_VARIABLES
    } == composed.variables()
    assert example["COMPOSE_PROFILES"] == "sample"


def test_no_variable_is_overlooked() -> None:
    code = re.sub(r"^\s*#.*$", "", composed.text(), flags=re.MULTILINE)
    assert code.count("$") == len(composed.VARIABLE.findall(code))


# -- files ------------------------------------------------------------------------------------------------------


@every_service
def test_what_is_mounted_is_there_and_tested_and_can_be_read(profile: str, service: Service) -> None:
    for mount in service.mounts:
        if not mount.is_bind:
            continue
        source = (ROOT / mount.source).resolve(strict=True)
        assert mount.read_only, mount
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
    path = PurePosixPath(flag(prometheus, "config.file"))
    config = yaml.safe_load(seen(prometheus, str(path)).read_text())
    assert config["rule_files"]
    assert [name for name in config["rule_files"] if not seen(prometheus, str(path.parent / name)).is_file()] == []
    assert flag(prometheus, "storage.tsdb.path") in volumes(prometheus)


@both_profiles
def test_alertmanager_finds_its_files(profile: str) -> None:
    alertmanager = service(profile, "alertmanager")
    path = PurePosixPath(flag(alertmanager, "config.file"))
    source = seen(alertmanager, str(path))
    config = yaml.safe_load(source.read_text())
    assert [pattern for pattern in config["templates"] if not [*source.parent.glob(pattern)]] == []
    assert flag(alertmanager, "storage.path") in volumes(alertmanager)


def test_alertmanager_remembers_for_longer_than_it_repeats() -> None:
    text = (PROMETHEUS / "alertmanager.yml").read_text()
    hours = [
        int(number) * {"h": 1, "d": 24}[unit] for number, unit in re.findall(r"repeat_interval: (\d+)([hd])", text)
    ]
    assert max(hours) < int(flag(service("sample", "alertmanager"), "data.retention").removesuffix("h"))


@both_profiles
def test_grafana_finds_its_files(profile: str) -> None:
    grafana = service(profile, "grafana")
    home = ini()["dashboards"]["default_home_dashboard_path"]
    (provider,) = yaml.safe_load(seen(grafana, "/etc/grafana/provisioning/dashboards/taskqueue.yml").read_text())[
        "providers"
    ]
    assert seen(grafana, "/etc/grafana/grafana.ini") == GRAFANA / "grafana.ini"
    assert seen(grafana, home).is_file()
    assert [*seen(grafana, provider["options"]["path"]).glob("*.json")] == [*dashboards.DIRECTORY.glob("*.json")]
    assert "/var/lib/grafana" in volumes(grafana)


def ini() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string((GRAFANA / "grafana.ini").read_text())
    return parser


def test_nothing_is_set_for_grafana_in_two_places() -> None:
    in_file = {
        f"GF_{section}_{key}".upper().replace(".", "_") for section in ini().sections() for key in ini()[section]
    }
    assert in_file
    assert in_file.isdisjoint(service("sample", "grafana").environment)


def test_grafana_lets_look_and_no_more() -> None:
    told = service("sample", "grafana").environment
    assert told["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert told["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert not [name for name in told if "PASSWORD" in name]


def test_grafana_asks_and_tells_nobody_outside() -> None:
    told = service("sample", "grafana").environment
    off = {name.removeprefix("GF_") for name, value in told.items() if value == "false"}
    assert {
        f"ANALYTICS_{what}" for what in ("REPORTING_ENABLED", "CHECK_FOR_UPDATES", "CHECK_FOR_PLUGIN_UPDATES")
    } < off
    assert told["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


def test_a_redis_of_this_machine_can_be_named() -> None:
    assert service("watch", "exporter-watch").model["extra_hosts"] == ["host.docker.internal:host-gateway"]


def volumes(one: Service) -> set[str]:
    """Where it keeps what it writes."""
    return {mount.target for mount in one.mounts if mount.source and not mount.is_bind}


def test_the_exporter_of_the_sample_takes_its_file() -> None:
    exporter = service("sample", "exporter")
    path = seen(exporter, exporter.environment["TASKQUEUE_EXPORTER_CONFIG_FILE"])
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
    return [(name, urlsplit(url).netloc) for name in ("exporter", "workload", *sorted(workers()))]


def reaches(services: dict[str, Service], name: str, address: str) -> bool:
    """Whether a service finds exactly one by that name in a network of its own, which listens on that port."""
    host, _, port = address.partition(":")
    if host == "localhost":
        host = name
    found = {one.name for one in services.values() for net in services[name].networks if host in one.names(net)}
    return len(found) == 1 and PORTS[host] == int(port)


def test_the_exporter_listens_where_it_is_looked_for() -> None:
    image = dockerfile.image("exporter")
    assert image.env["TASKQUEUE_EXPORTER_WEB_LISTEN_ADDRESS"] == f":{PORTS['exporter']}"
    for profile, name in (("sample", "exporter"), ("watch", "exporter-watch")):
        assert "TASKQUEUE_EXPORTER_WEB_LISTEN_ADDRESS" not in service(profile, name).environment
