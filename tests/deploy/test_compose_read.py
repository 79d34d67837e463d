"""What Compose makes of docker-compose.yml, old and new, and what docs/deployment.md says of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.deploy import composed
from tests.deploy.composed import PROFILES, Port, Service
from tests.servers import ROOT

OLD: Final = ("docker-compose",)
"""1.29 as Debian has it."""
NEW: Final = ("docker", "compose")
"""Compose 2, a plugin that not every machine has. It shows the services of the profile alone."""
DOCUMENT: Final = ROOT / "docs" / "deployment.md"


def run(*argv: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    ours = composed.variables().keys() | composed.OWN_VARIABLES
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        argv, cwd=ROOT, env=inherited | dict(environment or {}), capture_output=True, text=True, check=False, timeout=60
    )


@cache
def has_new() -> bool:
    return shutil.which("docker") is not None and run(*NEW, "version").returncode == 0


needs_old = pytest.mark.needs(OLD[0])
needs_new = pytest.mark.skipif(not has_new(), reason="no Compose 2 here")
each_compose = pytest.mark.parametrize(
    "compose",
    [pytest.param(OLD, marks=needs_old, id="1.29"), pytest.param(NEW, marks=needs_new, id="2")],
)


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
    mounts = {(m.source.removeprefix("./"), m.target, m.read_only) for m in one.mounts if m.source}
    return {
        "image": one.image,
        "user": "{}:{}".format(*one.user),
        "command": list(one.command),
        "environment": dict(one.environment),
        "mounts": mounts,
        "ports": set(one.ports),
        "networks": one.networks,
        "health": ["CMD", *one.health] if one.health else None,
        "stage": one.stage,
        "read_only": one.model["read_only"],
    }


def of_compose(read: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "image": read["image"],
        "user": read["user"],
        "command": read.get("command") or [],
        "environment": read.get("environment", {}),
        "mounts": {mount(given) for given in read.get("volumes", ())},
        "ports": {port(given) for given in read.get("ports", ())},
        "networks": {*read["networks"]},
        "health": read.get("healthcheck", {}).get("test"),
        "stage": read.get("build", {}).get("target"),
        "read_only": read["read_only"],
    }


def mount(given: str | Mapping[str, Any]) -> tuple[str, str, bool]:
    """The old one writes `source:target:ro`, the new one says it at length."""
    if isinstance(given, str):
        source, target, mode = given.split(":")
        read_only = mode == "ro"
    else:
        source, target, read_only = given["source"], given["target"], given.get("read_only", False)
    return source.removeprefix(f"{ROOT}/"), target, read_only


def port(given: str | Mapping[str, Any]) -> Port:
    if isinstance(given, str):
        address, published, target = given.removesuffix("/tcp").split(":")
        return Port(address, int(published), int(target))
    return Port(given["host_ip"], int(given["published"]), int(given["target"]))


@needs_new
@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_starts_its_services_alone(profile: str, nothing: Path) -> None:
    assert {*made(NEW, profile, nothing)} == {*composed.services(profile)}


@needs_new
def test_without_a_profile_nothing_is_started(nothing: Path) -> None:
    done = run(*NEW, "--env-file", str(nothing), "config", "--services")
    assert (done.returncode, done.stdout.split()) == (0, [])


@needs_new
def test_the_example_starts_the_sample_and_a_flag_goes_before_it() -> None:
    told = [*NEW, "--env-file", str(composed.EXAMPLE)]
    assert {*run(*told, "config", "--services").stdout.split()} == {*composed.services("sample")}
    watch = run(*told, "--profile", "watch", "config", "--services").stdout.split()
    assert {*watch} == {*composed.services("watch")}


@needs_old
@pytest.mark.parametrize(
    ("written", "password"),
    [("REDIS_URL=redis://:plain@there:6379/0", "plain"), ("REDIS_URL='redis://:a$b@there:6379/0'", "a$b")],
)
def test_a_password_comes_from_the_file_as_it_is(written: str, password: str, tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    env_file.write_text(f"{written}\n")
    found = made(OLD, "watch", env_file)["exporter-watch"]["environment"]["TASKQUEUE_EXPORTER_REDIS_URL"]
    assert found.replace("$$", "$") == f"redis://:{password}@there:6379/0"


# -- docs/deployment.md -----------------------------------------------------------------------------------------


def commands() -> list[str]:
    """The lines of its examples that run Compose."""
    blocks = re.findall(r"^```console\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in lines if "docker compose" in line]


@needs_old
def test_every_command_of_the_document_is_one_of_compose() -> None:
    assert len(commands()) >= 5
    assert {line: wrong(line) for line in commands() if wrong(line)} == {}


def wrong(line: str) -> str:
    """What is wrong with a command; nothing if that is nothing."""
    before, _, after = line.partition("docker compose ")
    unknown = {*re.findall(r"(\w+)=", before)} - composed.variables().keys()
    profile = re.match(r"--profile (\w+) ", after)
    if unknown or (profile and profile[1] not in PROFILES):
        return f"unknown: {unknown or profile}"
    command, *words = after.removeprefix(profile[0] if profile else "").split("  ")[0].split()
    told = run(*OLD, command, "--help")
    flags = {*re.findall(r"(?<![\w-])--?[a-z][\w-]*", told.stdout)}
    services = {*composed.services("sample"), *composed.services("watch")}
    strange = [word for word in words if word not in (flags if word.startswith("-") else services)]
    return f"unknown: {strange}" if told.returncode or strange else ""


def test_the_document_says_which_ports_and_services_there_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| `?([A-Z_]*)`? *\|$", DOCUMENT.read_text(), re.MULTILINE)
    told = {variable: name for name, variable in rows if variable.endswith("_PORT")}
    services = {
        variable: variable.removesuffix("_PORT").lower() for variable in composed.variables() if "PORT" in variable
    }
    assert told == services
