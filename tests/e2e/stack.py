"""Services of docker-compose.yml as processes without containers, each in a root file system of its own.

What a container engine would do with the file is done by the kernel's own means: a mount namespace whose root is read
only and has the service's files, volumes and memory at the paths of the container, its user without any right, its host
name, its environment alone. All share one network namespace, in which every service is on the loopback. Mounts end with
the process that they were made for, and processes with the tests' own: nothing is left to be taken away.

Not done: limits of memory, CPU and processes, and the images of others, whose programs are those that this machine has
first on its PATH.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.alertmanager import EXECUTABLE as ALERTMANAGER
from tests.deploy import dockerfile
from tests.deploy.composed import Mount, Service
from tests.e2e.prometheus import PrometheusServer
from tests.namespaces import Namespace
from tests.servers import LOOPBACK, ROOT, Process, wait_until

DEADLINE: Final = 60.0
SHOWN_WITHIN: Final = 180.0
"""Seconds until all has data: two scrapes, rules of rules twice, and counters of which one more than 0 must be seen.
docs/deployment.md says it in minutes."""
PROMETHEUS_PORT: Final = 9090

NEEDS: Final = ("ip", "nft", "nsenter", "unshare", "chroot", "setpriv", "mount")
ENTRYPOINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "prom/prometheus": ("prometheus",),
    "prom/alertmanager": (Path(ALERTMANAGER).name,),
    "grafana/grafana": ("/run.sh",),
}
"""What the images of others start where the file does not say it, called as it is here."""
ABSENT: Final = {"grafana": "no distribution packages it"}
"""Services that cannot be started here, and why; what they would find is there all the same."""
BASE_PATH: Final = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Of the images that ours and others are from."""
ENVIRONMENT: Final = "/opt/taskqueue-exporter"
"""Where the virtual environment of our images is; here that of the tests."""
OWN_CODE: Final = {
    "taskqueue-exporter": ROOT / "exporter",
    "taskqueue-hooks": ROOT / "hooks" / "taskqueue_hooks",
}
"""By the distributions that are installed in the environment as links to a checkout."""
SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
KNOWN: Final = ("ld.so.cache", "nsswitch.conf", "alternatives")
"""What programs of this machine need below /etc."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a service runs."""

    entrypoint: tuple[str, ...]
    environment: Mapping[str, str]
    health: tuple[str, ...] | None
    workdir: str


def program(service: Service) -> Program:
    """By its image and what is said beside it. KeyError for an image that cannot run here."""
    asked = service.health
    if service.stage is None:
        entrypoint = service.entrypoint or ENTRYPOINTS[service.image.partition(":")[0]]
        path = ":".join([*(str(one.parent) for one in own_programs(entrypoint, asked or ())), BASE_PATH])
        return Program(entrypoint, {"PATH": path, **service.environment}, asked, "/")
    image = dockerfile.image(service.stage)
    # What the Dockerfile puts before the base's own path, which its reader does not know.
    path = image.env["PATH"].rstrip(":") + ":" + BASE_PATH
    environment = {**image.env, "PATH": path, **service.environment}
    return Program(service.entrypoint or image.entrypoint or (), environment, asked or image.healthcheck, image.workdir)


def own_programs(*commands: Sequence[str]) -> list[Path]:
    """Where this machine's PATH has the programs of commands first; without those where every system has some."""
    found = [Path(path) for argv in commands for path in [shutil.which(argv[0]) if argv else None] if path]
    return [one for one in found if str(one.parent) not in BASE_PATH.split(":")]


class Container:
    """One service, ready to be started; `hosts` are the names of all others."""

    def __init__(self, service: Service, namespace: Namespace, directory: Path, hosts: Iterable[str]) -> None:
        self.service, self.program = service, program(service)
        self.name = str(service.model.get("hostname", service.name))
        self._namespace, self._directory, self._hosts = namespace, directory, sorted(hosts)
        self._root = directory / f"root-{service.name}"
        self._root.mkdir()

    @property
    def argv(self) -> list[str]:
        return [*self.program.entrypoint, *self.service.command]

    def start(self) -> Process:
        """Its process, whose log is a file of its name; whoever starts it stops it."""
        log = self._directory / f"{self.service.name}.log"
        return Process(self._inside(self.argv), log, cwd=self._directory)

    def run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs something as `docker exec` does; volumes are empty."""
        return subprocess.run(self._inside(argv), capture_output=True, text=True, check=False, timeout=60)

    def _inside(self, argv: Sequence[str]) -> list[str]:
        script = "\n".join(["set -eu", *self._steps(), shlex.join(["exec", *self._as_its_user(argv)])])
        alone = ["unshare", "--mount", "--uts", "--propagation", "private", "--", "sh", "-c", script]
        return ["setpriv", "--pdeathsig=KILL", "--", *self._namespace.command(*alone)]

    def _as_its_user(self, argv: Sequence[str]) -> Iterator[str]:
        user, group = self.service.user
        yield from ("chroot", str(self._root), "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups")
        # The signal again, as the kernel forgets it where the user changes.
        yield from ("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--pdeathsig=KILL", "--")
        yield from ("env", "-i", f"--chdir={self.program.workdir}", "HOME=/", f"HOSTNAME={self.name}")
        yield from (f"{name}={value}" for name, value in self.program.environment.items())
        yield from argv

    def _steps(self) -> Iterator[str]:
        """Commands that make its root."""
        root = self._root
        yield f"echo {shlex.quote(self.name)} > /proc/sys/kernel/hostname"
        yield _command("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", root)
        yield from self._system()
        for mount in sorted(self.service.mounts, key=lambda one: one.target.count("/")):
            yield from self._mount(mount)
        # After memory, which would cover what lies below the same directory: a checkout in /tmp.
        yield from self._programs() if self.service.stage is None else self._our_code()
        yield _command("mount", "-o", "remount,ro,mode=755", root)

    def _system(self) -> Iterator[str]:
        """What stands for the image: programs, and an /etc with little in it."""
        for path in SYSTEM:
            if Path(path).is_symlink():
                yield _command("cp", "-P", path, f"{self._root}{path}")
            elif Path(path).is_dir():
                yield from self._bind(path, path)
        yield _command("mkdir", "-p", f"{self._root}/etc")
        for name in KNOWN:
            if Path("/etc", name).exists():
                yield _command("cp", "-a", f"/etc/{name}", f"{self._root}/etc/{name}")
        names = " ".join(["localhost", self.name, *self._hosts])
        yield f"echo {LOOPBACK} {names} > {shlex.quote(str(self._root / 'etc/hosts'))}"
        for path in ("/proc", "/sys", "/dev"):
            yield _command("mkdir", f"{self._root}{path}")
            yield _command("mount", "--rbind", path, f"{self._root}{path}")
        yield _command("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", f"{self._root}/dev/shm")

    def _programs(self) -> Iterator[str]:
        """Programs from elsewhere than where systems have theirs, and what they are links to."""
        found = own_programs(self.program.entrypoint, self.program.health or ())
        for directory in sorted({each for path in found for each in (path.parent, path.resolve().parent)}):
            yield from self._bind(directory, directory)

    def _our_code(self) -> Iterator[str]:
        """The environment of the tests, also where the image has it, and this checkout where that looks for our code,
        also where the environment was made for another one."""
        if sys.base_prefix != "/usr":
            yield from self._bind(sys.base_prefix, sys.base_prefix)
        environment = Path(sys.prefix).resolve()
        for path in sorted({str(environment), sys.prefix, ENVIRONMENT}):
            yield from self._bind(environment, path)
        for name, source in OWN_CODE.items():
            told = json.loads(distribution(name).read_text("direct_url.json") or "")
            yield from self._bind(source, Path(urlsplit(told["url"]).path) / source.name)

    def _mount(self, mount: Mount) -> Iterator[str]:
        if mount.is_bind:
            yield from self._bind(ROOT / mount.source, mount.target, mount.read_only)
            return
        # A volume is made with the owner that its directory has in the image.
        user, group = self.service.user
        options = f"mode=755,uid={user},gid={group}" if mount.source else "mode=1777"
        yield _command("mkdir", "-p", f"{self._root}{mount.target}")
        yield _command("mount", "-t", "tmpfs", "-o", options, "tmpfs", f"{self._root}{mount.target}")

    def _bind(self, source: Path | str, target: Path | str, read_only: bool = True) -> Iterator[str]:
        inside = f"{self._root}{target}"
        if Path(source).is_file():
            yield _command("mkdir", "-p", os.path.dirname(inside))
            yield _command("touch", inside)
        else:
            yield _command("mkdir", "-p", inside)
        yield _command("mount", "--bind", source, inside)
        if read_only:
            yield _command("mount", "-o", "remount,bind,ro", inside)


def _command(*argv: object) -> str:
    return shlex.join(map(str, argv))


class StackPrometheus(PrometheusServer):
    """The Prometheus of a stack, asked where the stack is. The stack starts and stops it."""

    def __init__(self, namespace: Namespace, process: Process) -> None:
        """Returns once it is ready."""
        self._namespace, self._process, self._port = namespace, process, PROMETHEUS_PORT
        process.wait_until_ready(self._ready, DEADLINE)

    def request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        return self._namespace.inside(partial(super().request, method, path, body))

    def api(self, path: str) -> Any:
        """`data` of an answer; AssertionError on an error."""
        status, body = self.request("GET", f"/api/v1/{path}")
        answer = json.loads(body)
        assert status == 200, answer
        return answer["data"]


class Stack:
    """The services of a profile, started one after another; one thing to stop."""

    def __init__(self, namespace: Namespace, directory: Path, services: Mapping[str, Service]) -> None:
        self.namespace, self._directory = namespace, directory
        hosts = {name for one in services.values() for network in one.networks for name in one.names(network)}
        self.containers = {one.name: Container(one, namespace, directory, hosts) for one in services.values()}
        self.running: dict[str, Process] = {}

    def start(self, *names: str) -> None:
        """Starts services, each once those that it depends on are well, as Compose does."""
        for name in names:
            for other, what in self.containers[name].service.depends_on.items():
                if what == "service_healthy":
                    wait_until(partial(self.is_well, other), DEADLINE, 0.2)
                else:
                    assert (what, self.running[other].running) == ("service_started", True)
            self.running[name] = self.containers[name].start()

    def is_well(self, name: str) -> bool:
        """Whether the service's own health check says so. AssertionError if it ended."""
        assert self.running[name].running, f"{name}: {self.running[name].log}"
        return self.asked(name).returncode == 0

    def asked(self, name: str) -> subprocess.CompletedProcess[str]:
        """What the service's health check says."""
        container = self.containers[name]
        assert container.program.health is not None, name
        return container.run(container.program.health)

    def stop(self, *names: str) -> dict[str, int]:
        """Stops services, the youngest first, all where none is named; their exit codes."""
        return {name: self.running.pop(name).stop() for name in (names or [*reversed(self.running)])}

    def get(self, port: int, path: str) -> tuple[int, bytes]:
        """What a port answers to GET."""
        return self.namespace.inside(partial(_get, port, path))


def _get(port: int, path: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(LOOPBACK, port, timeout=DEADLINE)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
