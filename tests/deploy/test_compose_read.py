"""What Compose makes of docker-compose.yml, old and new."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import composed
from tests.deploy.composed import PROFILES, Port, Service
from tests.deploy.composes import NEW, each_compose, run
from tests.servers import ROOT


def made(compose: tuple[str, ...], profile: str, env_file: Path, **environment: str) -> dict[str, Any]:
    """The services that Compose reads, whatever stands in a `.env` here. AssertionError with what it complains of."""
    done = run(*compose, "--env-file", str(env_file), "--profile", profile, "config", environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    services: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return services


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    """An empty `.env`."""
    path = tmp_path / "env"
    path.touch()
    return path


@each_compose
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    "environment",
    [{}, {name: str(at) for at, name in enumerate(sorted(composed.variables()), 8000)}],
    ids=["defaults", "set"],
)
def test_compose_reads_what_the_tests_read(
    compose: tuple[str, ...], profile: str, environment: dict[str, str], nothing: Path
) -> None:
    theirs = made(compose, profile, nothing, **environment)
    ours = composed.services(profile, environment)
    assert {name: of_compose(theirs[name]) for name in ours} == {name: of_reader(one) for name, one in ours.items()}


def of_reader(one: Service) -> dict[str, Any]:
    mounts = {(m.source.removeprefix("./"), m.target, m.read_only, m.labelled) for m in one.mounts if m.source}
    return {
        "image": one.image,
        "user": "{}:{}".format(*one.user),
        "command": list(one.command),
        "environment": dict(one.environment),
        "entrypoint": one.entrypoint,
        "depends_on": one.depends_on,
        "pull_policy": one.model.get("pull_policy"),
        "mounts": mounts,
        "ports": set(one.ports),
        "networks": one.networks,
        "health": ["CMD", *one.health] if one.health else None,
        "build": one.build and {**one.build, "context": str(ROOT)},
        "read_only": one.model["read_only"],
    }


def of_compose(read: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "image": read["image"],
        "user": read["user"],
        "command": read.get("command") or [],
        "environment": read.get("environment", {}),
        "entrypoint": tuple(read["entrypoint"]) if read.get("entrypoint") else None,
        "depends_on": {name: how["condition"] for name, how in read.get("depends_on", {}).items()},
        "pull_policy": read.get("pull_policy"),
        "mounts": {mount(given) for given in read.get("volumes", ())},
        "ports": {port(given) for given in read.get("ports", ())},
        "networks": {*read["networks"]},
        "health": read.get("healthcheck", {}).get("test"),
        "build": read.get("build") and {name: read["build"][name] for name in ("context", "target")},
        "read_only": read["read_only"],
    }


def mount(given: str | Mapping[str, Any]) -> tuple[str, str, bool, bool]:
    """The old one writes `source:target:ro,z`, the new one says it at length."""
    if isinstance(given, str):
        source, target, mode = given.split(":")
        read_only, labelled = "ro" in mode.split(","), "z" in mode.split(",")
    else:
        source, target, read_only = given["source"], given["target"], given.get("read_only", False)
        labelled = given.get("bind", {}).get("selinux") == "z"
    return source.removeprefix(f"{ROOT}/"), target, read_only, labelled


def port(given: str | Mapping[str, Any]) -> Port:
    if isinstance(given, str):
        address, published, target = given.removesuffix("/tcp").split(":")
        return Port(address, int(published), int(target))
    return Port(given["host_ip"], int(given["published"]), int(given["target"]))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_starts_its_services_alone(profile: str, nothing: Path) -> None:
    assert {*made(NEW, profile, nothing)} == {*composed.services(profile)}


def test_without_a_profile_nothing_is_started(nothing: Path) -> None:
    done = run(*NEW, "--env-file", str(nothing), "config", "--services")
    assert (done.returncode, done.stdout.split()) == (0, [])


def test_the_example_starts_the_sample_and_a_flag_goes_before_it() -> None:
    told = [*NEW, "--env-file", str(composed.EXAMPLE)]
    assert {*run(*told, "config", "--services").stdout.split()} == {*composed.services("sample")}
    watch = run(*told, "--profile", "watch", "config", "--services").stdout.split()
    assert {*watch} == {*composed.services("watch")}


@each_compose
@pytest.mark.parametrize(
    ("written", "password"),
    [("REDIS_URL=redis://:plain@there:6379/0", "plain"), ("REDIS_URL='redis://:a$b#c@there:6379/0'", "a$b#c")],
)
def test_a_password_comes_from_the_file_as_it_is(
    compose: tuple[str, ...], written: str, password: str, tmp_path: Path
) -> None:
    env_file = tmp_path / "env"
    env_file.write_text(f"{written}\n")
    found = made(compose, "watch", env_file)["exporter-watch"]["environment"]["TASKQUEUE_EXPORTER_REDIS_URL"]
    # What Compose would read as a variable, it writes as `$$`.
    assert found.replace("$$", "$") == f"redis://:{password}@there:6379/0"
