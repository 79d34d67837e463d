"""What docs/deployment.md and .env.example say of docker-compose.yml."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
import yaml

from exporter.config import ConfigError, load
from exporter.demo import roles
from tests.deploy import composed
from tests.deploy.composed import PROFILES, document, service
from tests.deploy.composes import OLD, each_compose, needs_old, run
from tests.e2e.stack import SHOWN_WITHIN
from tests.servers import ROOT

WORDS: Final = {"one": 1, "two": 2, "three": 3, "four": 4}
PORTS: Final = {name: port for name, port in composed.PORTS.items() if name != "redis"}


def blocks(language: str) -> list[str]:
    """Its examples in a language."""
    section = composed.DOCUMENT.read_text().partition("## Docker Compose\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The lines of its examples that run Compose."""
    lines = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
    return [line for line in lines if "docker compose" in line]


@needs_old
def test_every_command_is_one_of_compose() -> None:
    assert len(commands()) >= 5
    assert {line: wrong(line) for line in commands() if wrong(line)} == {}


def wrong(line: str) -> str:
    """What is wrong with a command; nothing if that is nothing."""
    before, _, after = line.partition("docker compose ")
    given = {*re.findall(r"(\w+)=", before)}
    profile = re.match(r"--profile (\w+) ", after)
    if given - composed.variables().keys() or (profile and profile[1] not in PROFILES):
        return f"unknown: {given} or {profile}"
    # The example's profile is the sample.
    of_profile = composed.services(profile[1] if profile else "sample")
    if "REDIS_URL" in given and "exporter-watch" not in of_profile:
        return "REDIS_URL is given to who does not use it"
    command, *words = after.removeprefix(profile[0] if profile else "").split("  ")[0].split()
    told = run(*OLD, command, "--help")
    flags = {*re.findall(r"(?<![\w-])--?[a-z][\w-]*", told.stdout)}
    strange = [word for word in words if word not in (flags if word.startswith("-") else of_profile)]
    return f"unknown: {strange}" if told.returncode or strange else ""


def test_it_says_which_ports_versions_and_services_there_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+\.\d+)?.*\| (\d+) \| `([A-Z_]+)` \|$", document(), re.MULTILINE)
    assert {(name, int(port), variable) for name, _, port, variable in rows} == {
        (name, port, f"{name.upper()}_PORT") for name, port in PORTS.items()
    }
    versions = {name: version for name, version, *_ in rows if version}
    versions["redis"] = re.findall(r"a Redis (\d+\.\d+)", document())[0]
    pinned = {one.name: re.findall(r":v?(\d+\.\d+)\.", one.image) for _, one in composed.every() if not one.stage}
    assert {name: [version] for name, version in versions.items()} == pinned


def test_its_addresses_are_where_services_are_published() -> None:
    section = document()
    assert re.findall(r"http://localhost:(\d+)([\w/-]*)", section) == [
        (str(PORTS["grafana"]), ""),
        (str(PORTS["prometheus"]), "/-/reload"),
    ]
    assert f"for `alertmanager.yml` port {PORTS['alertmanager']}" in section


def test_its_numbers_are_those_of_the_stack() -> None:
    section = document()
    ((arq, celery),) = re.findall(r"(\w+) ARQ and (\w+) Celery workers", section)
    systems = Counter(role.system for role in roles.worker_roles())
    assert {"arq": WORDS[arq], "celery": WORDS[celery]} == systems

    (minutes,) = re.findall(r"After (\w+) minutes all panels have data", section)
    assert WORDS[minutes] * 60 == SHOWN_WITHIN

    (seconds,) = re.findall(r"Dashboards follow within (\d+) s", section)
    path = "/etc/grafana/provisioning/dashboards/taskqueue.yml"
    (provider,) = yaml.safe_load(service("sample", "grafana").seen(path).read_text())["providers"]
    assert provider["updateIntervalSeconds"] == int(seconds)


@needs_old
def test_the_older_compose_is_the_one_that_is_tested() -> None:
    (stated,) = re.findall(r"docker-compose (\d+\.\d+) \(there", document())
    assert f"version {stated}." in run(*OLD, "version").stdout


def test_what_others_cannot_read_is_what_is_mounted() -> None:
    (paths,) = re.findall(r"`chmod -R go\+rX ([^`]*)`", document())
    sources = {mount.source.removeprefix("./") for _, one in composed.every() for mount in one.mounts if mount.is_bind}
    assert {source for source in sources if not source.startswith(tuple(paths.split()))} == set()


# -- a password in a file ---------------------------------------------------------------------------------------


def example(key: str) -> str:
    """The example whose top has a key."""
    (found,) = (block for block in blocks("yaml") if key in yaml.safe_load(block))
    return found


@each_compose
def test_an_override_mounts_the_file_that_it_names(compose: tuple[str, ...], tmp_path: Path) -> None:
    shutil.copy(composed.FILE, tmp_path)
    (tmp_path / "docker-compose.override.yml").write_text(example("services"))
    done = run(*compose, "--profile", "watch", "config", directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    merged = yaml.safe_load(done.stdout)["services"]["exporter-watch"]
    (volume,) = merged["volumes"]
    source, target = volume.split(":")[:2] if isinstance(volume, str) else (volume["source"], volume["target"])

    assert source == str(tmp_path / "watch")
    assert merged["environment"]["TASKQUEUE_EXPORTER_CONFIG_FILE"] == f"{target}/exporter.yml"
    assert merged["environment"]["TASKQUEUE_EXPORTER_REDIS_URL"] == ""
    assert merged["image"] == service("watch", "exporter-watch").image
    (broker,) = yaml.safe_load(example("brokers"))["brokers"]
    assert broker["password_file"].startswith(f"{target}/")


def test_its_file_is_taken_and_a_url_beside_it_refused(tmp_path: Path) -> None:
    (tmp_path / "redis-password").write_text("secret\n")
    file = tmp_path / "exporter.yml"
    file.write_text(example("brokers").replace("/run/secrets/taskqueue-exporter", str(tmp_path)))
    (broker,) = load(file).brokers
    assert broker.name == "default"
    with pytest.raises(ConfigError, match="wanted one of the two"):
        load(file, "redis://elsewhere:6379/0")


def test_its_files_become_the_exporters_alone() -> None:
    user, group = service("watch", "exporter-watch").user
    assert f"`chown -R {user}:{group} watch && chmod -R go= watch`" in document()


# -- .env.example -----------------------------------------------------------------------------------------------


def test_the_example_says_how_this_machine_is_called() -> None:
    (host,) = service("watch", "exporter-watch").model["extra_hosts"]
    name = host.partition(":")[0]
    assert f"A Redis on this machine is at\n# {name}." in composed.EXAMPLE.read_text()
    assert f"`redis://{name}:6379/0`" in document()


def test_the_example_says_where_links_of_notifications_lead() -> None:
    ((port, template),) = re.findall(
        r"Links in notifications lead to port (\d+) whatever is said here\n# \((\S+)\)", composed.EXAMPLE.read_text()
    )
    assert f"http://localhost:{port}{{{{" in (ROOT / template).read_text()
    assert int(port) == PORTS["grafana"]
