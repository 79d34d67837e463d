"""docker-compose.yml: its services, who builds what they run, and what they may."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import pytest

from exporter import __version__
from exporter.demo import roles
from exporter.demo.processes import Role
from tests.deploy import composed, dockerfile
from tests.deploy.composed import PROFILES, Service

WATCHERS: Final = {"prometheus", "alertmanager", "grafana"}
PINNED: Final = re.compile(r"[a-z/-]+:v?\d+\.\d+\.\d+(-alpine)?")
EVERY: Final = [pytest.param(profile, one, id=f"{profile}-{one.name}") for profile, one in composed.every()]
every_service = pytest.mark.parametrize(("profile", "service"), EVERY)
both_profiles = pytest.mark.parametrize("profile", PROFILES)


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


@both_profiles
def test_one_service_builds_an_image_and_the_others_wait_for_it(profile: str) -> None:
    services = composed.services(profile)
    for one in services.values():
        if one.stage is None:
            assert one.build is None
        elif (first := builder(services, one)) == one:
            assert one.build == {"context": ".", "target": one.stage}
            assert one.stage in dockerfile.stages()
            assert "pull_policy" not in one.model
        else:
            assert one.model["pull_policy"] == "never"
            assert one.depends_on[first.name] == "service_started"
    assert composed.FILE.parent / "Dockerfile" == dockerfile.DOCKERFILE


def builder(services: Mapping[str, Service], one: Service) -> Service:
    """Who builds the image of a service. ValueError unless it is one."""
    (found,) = (other for other in services.values() if other.image == one.image and other.build)
    return found


@every_service
def test_a_profile_has_whom_its_services_depend_on(profile: str, service: Service) -> None:
    others = composed.services(profile)
    for name, what in service.depends_on.items():
        assert name in others
        assert what == "service_healthy" or (what, name) == ("service_started", builder(others, service).name)


def test_the_sample_goes_by_no_variable_to_another_redis() -> None:
    elsewhere = {"REDIS_URL": "redis://:secret@elsewhere:6379/5"}
    assert composed.services("sample", elsewhere) == composed.services("sample")
    assert "elsewhere" in str(composed.services("watch", elsewhere))


def test_a_missing_url_is_left_to_the_exporter_to_refuse() -> None:
    assert composed.service("watch", "exporter-watch").environment["TASKQUEUE_EXPORTER_REDIS_URL"] == ""


@pytest.mark.parametrize("role", roles.worker_roles(), ids=lambda role: role.name)
def test_workers_are_those_of_the_demo(role: Role) -> None:
    worker = composed.service("sample", role.name)
    assert worker.stage == "sample"
    assert worker.command == ("python", *role.command[1:])
    assert worker.model["hostname"] == role.name


def test_the_workload_is_that_of_the_demo() -> None:
    workload = composed.service("sample", "workload")
    assert workload.command == ("python", *roles.workload_role().command[1:])
    assert workload.depends_on["exporter"] == "service_healthy"
    assert workload.model["init"]


@pytest.mark.parametrize("name", sorted(workers()))
def test_a_worker_is_asked_for_itself(name: str) -> None:
    worker = composed.service("sample", name)
    if "arq" in worker.command:
        assert worker.health == ("python", "-m", "arq", "--check", worker.command[-1])
    else:
        node = worker.command[worker.command.index("-n") + 1].replace("%h", worker.model["hostname"])
        *start, patience = worker.health or ()
        app = worker.command[worker.command.index("-A") + 1]
        assert start == ["python", "-m", "celery", "-A", app, "inspect", "ping", "-d", node, "-t"]
        assert float(patience) < composed.seconds(worker.model["healthcheck"]["timeout"])


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
    assert 32 <= model["pids_limit"] <= 256
    assert 15 <= composed.seconds(model["stop_grace_period"]) <= 60
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
        assert port.published == port.target == composed.PORTS[service.name.removesuffix("-watch")]


def test_every_published_port_can_be_changed() -> None:
    published = re.findall(r'ports: \["(.+)"\]', composed.text())
    assert len(published) == len(WATCHERS) + 1
    assert [text for text in published if not re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z]+_PORT:-\d+\}:\d+", text)] == []


def test_only_who_works_with_it_reaches_the_samples_redis() -> None:
    assert composed.model()["networks"]["brokers"] == {"internal": True}
    inside = {one.name for one in composed.services("sample").values() if "brokers" in one.networks}
    assert inside == {"redis", "exporter", "workload", *workers()}
    assert "brokers" not in composed.service("watch", "exporter-watch").networks


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
