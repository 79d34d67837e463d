"""Reading docker-compose.yml: the services of a profile as Compose starts them, with their variables put in.

It understands what our own file uses; `test_compose.py` holds it against what Compose itself makes of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final

import yaml

from tests.servers import ROOT

FILE: Final = ROOT / "docker-compose.yml"
EXAMPLE: Final = ROOT / ".env.example"
DOCUMENT: Final = ROOT / "docs" / "deployment.md"
PROFILES: Final = ("sample", "watch")
STAGES: Final = {"taskqueue-exporter": "exporter", "taskqueue-exporter-sample": "sample"}
"""Of the Dockerfile, by the names that `scripts/image` gives their images."""
PORTS: Final = {"redis": 6379, "prometheus": 9090, "alertmanager": 9093, "grafana": 3000, "exporter": 10177}
"""Where services listen unless told otherwise, as none is, but for the exporter by its image."""
OWN_VARIABLES: Final = {"COMPOSE_PROFILES"}
"""Of Compose itself: in the environment and not in the file."""
VARIABLE: Final = re.compile(r"\$\{(\w+):-([^}]*)\}")
"""`${NAME:-default}`; other forms are not used."""


@dataclass(frozen=True, slots=True)
class Mount:
    """What lies at a path of a service: `source` is a path of this repository, a volume's name, or empty for memory."""

    source: str
    target: str
    read_only: bool
    labelled: bool = False
    """For SELinux."""

    @property
    def is_bind(self) -> bool:
        return self.source.startswith("./")


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a service, and where it listens on the machine."""

    address: str
    published: int
    target: int


@dataclass(frozen=True, slots=True)
class Service:
    """One service; `model` is all that the file says of it."""

    name: str
    model: Mapping[str, Any]

    @property
    def image(self) -> str:
        return str(self.model["image"])

    @property
    def stage(self) -> str | None:
        """The stage of the Dockerfile that its image is built from, here or by another; None for an image of others."""
        return STAGES.get(self.image.partition(":")[0])

    @property
    def build(self) -> Mapping[str, str] | None:
        """Context and target of the service that builds the image."""
        found: Mapping[str, str] | None = self.model.get("build")
        return found

    @property
    def entrypoint(self) -> tuple[str, ...] | None:
        """None where the image's own is left."""
        found: Sequence[str] | None = self.model.get("entrypoint")
        return None if found is None else tuple(found)

    @property
    def depends_on(self) -> Mapping[str, str]:
        """The services that it waits for, each with what it waits for."""
        return {name: how["condition"] for name, how in self.model.get("depends_on", {}).items()}

    @property
    def command(self) -> tuple[str, ...]:
        """What follows the image's entrypoint."""
        return tuple(self.model.get("command", ()))

    @property
    def environment(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.model.get("environment", {})
        return found

    @property
    def user(self) -> tuple[int, int]:
        """Numbers of user and group."""
        user, group = str(self.model["user"]).split(":")
        return int(user), int(group)

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """Files, volumes and memory."""
        given = [Mount(*_mount(text)) for text in self.model.get("volumes", ())]
        return (*given, *(Mount("", target, read_only=False) for target in self.model.get("tmpfs", ())))

    @property
    def ports(self) -> tuple[Port, ...]:
        split = [text.split(":") for text in self.model.get("ports", ())]
        return tuple(Port(address, int(published), int(target)) for address, published, target in split)

    @property
    def health(self) -> tuple[str, ...] | None:
        """The command that asks how it is; None where that is left to the image. AssertionError unless in exec form."""
        test = self.model.get("healthcheck", {}).get("test")
        if test is None:
            return None
        assert isinstance(test, list), test
        assert test[0] == "CMD", test
        return tuple(test[1:])

    @property
    def volumes(self) -> set[str]:
        """Where it keeps what it writes."""
        return {mount.target for mount in self.mounts if mount.source and not mount.is_bind}

    def seen(self, path: str) -> Path:
        """The file of this repository that it finds at a path; KeyError where none is mounted."""
        found = [mount for mount in self.mounts if mount.is_bind and PurePosixPath(path).is_relative_to(mount.target)]
        if not found:
            raise KeyError(path)
        nearest = max(found, key=lambda mount: len(mount.target))
        return ROOT / nearest.source / PurePosixPath(path).relative_to(nearest.target)

    def flag(self, name: str) -> str:
        """The value of a flag `--name=value` of its command. ValueError unless it is given once."""
        (value,) = (word.removeprefix(f"--{name}=") for word in self.command if word.startswith(f"--{name}="))
        return value

    def names(self, network: str) -> set[str]:
        """What others call it in a network; nothing where it is not in it."""
        networks = self.model["networks"]
        if network not in networks:
            return set()
        options = networks[network] if isinstance(networks, dict) else {}
        return {self.name, *(options or {}).get("aliases", ())}

    @property
    def networks(self) -> set[str]:
        return {*self.model["networks"]}

    @property
    def profiles(self) -> tuple[str, ...]:
        return tuple(self.model.get("profiles", ()))


def text() -> str:
    return FILE.read_text()


def document() -> str:
    """The section of docs/deployment.md, each paragraph on one line."""
    (found,) = re.findall(r"^## Docker Compose\n(.*?)^## ", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return re.sub(r"(?<=\S)\n *(?=[^\s|`-])", " ", found)


def model(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The whole file, with variables from `environment`, else their defaults."""
    read: dict[str, Any] = _put_in(_parsed(), environment or {})
    return read


def services(profile: str, environment: Mapping[str, str] | None = None) -> dict[str, Service]:
    """The services that a profile starts, by their names."""
    every = [Service(name, given) for name, given in model(environment)["services"].items()]
    return {one.name: one for one in every if profile in one.profiles}


def service(profile: str, name: str) -> Service:
    return services(profile)[name]


def every() -> list[tuple[str, Service]]:
    """Each service of each profile, with the profile."""
    return [(profile, one) for profile in PROFILES for one in services(profile).values()]


def seconds(duration: str) -> float:
    """Of `15s` or `5m`."""
    return float(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def megabytes(size: str) -> float:
    """Of `128m` or `128mb`."""
    return float(size.removesuffix("b").removesuffix("m"))


def variables() -> dict[str, set[str]]:
    """The variables of the file, each with the defaults that it has there."""
    found: dict[str, set[str]] = {}
    for name, default in VARIABLE.findall(_without_comments(text())):
        found.setdefault(name, set()).add(default)
    return found


def example() -> dict[str, str]:
    """What .env.example sets."""
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@cache
def _parsed() -> Any:
    return yaml.safe_load(text())


def _without_comments(yml: str) -> str:
    return re.sub(r"^\s*#.*$", "", yml, flags=re.MULTILINE)


def _mount(given: str) -> tuple[str, str, bool, bool]:
    source, target, *options = given.split(":")
    words = options[0].split(",") if options else []
    assert {*words} <= {"ro", "z"}, given
    return source, target, "ro" in words, "z" in words


def _put_in(value: Any, environment: Mapping[str, str]) -> Any:
    """A value with its variables replaced. One that is empty is as good as none."""
    if isinstance(value, str):
        return VARIABLE.sub(lambda found: environment.get(found[1]) or found[2], value)
    if isinstance(value, list):
        return [_put_in(each, environment) for each in value]
    if isinstance(value, dict):
        return {name: _put_in(each, environment) for name, each in value.items()}
    return value
