"""What the built images do when they are run as they are to be run. Not collected: scripts/image-check calls it.

Everything runs as the image says, with a root that cannot be written and no tmpfs, without capabilities and without a
shell that could be started. CHECKED_IMAGE, CHECKED_SAMPLE and CHECKED_BASE name the images.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from exporter import __version__
from exporter.demo.queues import REDIS_URL_VARIABLE
from tests.deploy import dockerfile
from tests.servers import LOOPBACK, ROOT, RedisServer, free_port, parse_metrics, series, wait_until

IMAGE = os.environ.get("CHECKED_IMAGE", "")
SAMPLE = os.environ.get("CHECKED_SAMPLE", "")
BASE = os.environ.get("CHECKED_BASE", "")
USER = 65532
ADDRESS = "TASKQUEUE_EXPORTER_WEB_LISTEN_ADDRESS"
URL = "TASKQUEUE_EXPORTER_REDIS_URL"
HARDENED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")
SHELLS = {"/usr/bin/dash", "/usr/bin/bash"}
NO_SHELL = tuple(f"--volume=/dev/null:{shell}:ro" for shell in sorted(SHELLS))
OF_THE_ENGINE = {"/dev/mqueue", "/dev/shm"}
"""Where every container can write, whatever its root is like."""
HEALTHCHECK = dockerfile.image("exporter").healthcheck or ()

Run = Callable[..., "Container"]


def podman(*arguments: str, input_: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["podman", *arguments], capture_output=True, text=True, input=input_, timeout=120)


def inspected(kind: str, name: str) -> dict[str, Any]:
    """What podman tells of an image or a container."""
    (found,) = json.loads(podman(kind, "inspect", name).stdout)
    return dict(found)


class Container:
    """A container that runs in the background, hardened; removed by `remove`."""

    def __init__(self, image: str, *command: str, options: tuple[str, ...] = (), env: Mapping[str, str]) -> None:
        variables = [f"--env={name}={value}" for name, value in env.items()]
        started = podman("run", "--detach", *HARDENED, *NO_SHELL, *options, *variables, image, *command)
        assert started.returncode == 0, started.stderr
        self.name = started.stdout.split()[-1]

    @property
    def state(self) -> dict[str, Any]:
        return dict(inspected("container", self.name)["State"])

    @property
    def logs(self) -> str:
        ended = podman("logs", self.name)
        return ended.stdout + ended.stderr

    def proc(self, file: str) -> str:
        """A file below /proc of its first process, as this machine sees it."""
        return Path(f"/proc/{self.state['Pid']}/{file}").read_text()

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in it."""
        return podman("exec", *(f"--env={name}={value}" for name, value in env.items()), self.name, *command)

    def python(self, code: str) -> list[str]:
        """The lines that a program prints in it."""
        ended = self.run("python", "-c", code)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.splitlines()

    def wait_until_healthy(self) -> None:
        wait_until(lambda: self.run(*HEALTHCHECK).returncode == 0, deadline=30, interval=0.2)

    def remove(self) -> None:
        podman("rm", "--force", "--time=0", self.name)


@pytest.fixture
def run() -> Iterator[Run]:
    """Start containers: `run(IMAGE, "arguments", options=("--network=none",), env={})`."""
    with ExitStack() as stack:

        def start(*arguments: str, options: tuple[str, ...] = ("--network=none",), **env: str) -> Container:
            container = Container(*arguments, options=options, env=env)
            stack.callback(container.remove)
            return container

        yield start


@pytest.fixture
def exporter(run: Run) -> Container:
    """The exporter as the image has it but for the Redis, where nothing answers."""
    container = run(IMAGE, **{URL: "redis://127.0.0.1:1/0"})
    container.wait_until_healthy()
    return container


def test_it_runs_as_nobody_and_may_nothing(exporter: Container) -> None:
    status = dict(re.findall(r"^(\w+):\s+(.*)$", exporter.proc("status"), re.MULTILINE))

    assert status["Uid"].split() == status["Gid"].split() == [str(USER)] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"


WRITABLE = """
import os
for folder, folders, files in os.walk("/"):
    if folder in ("/proc", "/sys"):
        folders.clear()
        continue
    for path in [folder, *(os.path.join(folder, name) for name in files)]:
        if not os.path.islink(path) and os.access(path, os.W_OK):
            print(path)
"""


def test_it_can_write_nowhere_and_leaves_nothing_where_it_could(exporter: Container) -> None:
    root = next(line.split() for line in exporter.proc("mounts").splitlines() if line.split()[1] == "/")
    folders = {path for path in exporter.python(WRITABLE) if not re.fullmatch(r"/dev/(?!shm|mqueue)[\w/]+", path)}

    assert "ro" in root[3].split(",")
    assert folders - SHELLS == OF_THE_ENGINE
    assert exporter.python("import os; print(*os.listdir('/dev/shm'))") == [""]


def test_without_read_only_its_user_still_owns_and_can_write_nothing_of_the_image() -> None:
    checked = podman("run", "--rm", "--network=none", "--entrypoint=python", IMAGE, "-c", WRITABLE)
    allowed = re.compile(r"/(dev|tmp|var/tmp|run/lock|var/lock|usr/share/zoneinfo/\.\w+)\b.*")

    assert checked.returncode == 0, checked.stderr
    assert {path for path in checked.stdout.splitlines() if not allowed.fullmatch(path)} == set()


SETUID = """
import os
for folder, folders, files in os.walk("/"):
    if folder in ("/proc", "/sys"):
        folders.clear()
    for path in (os.path.join(folder, name) for name in files):
        if not os.path.islink(path) and os.stat(path).st_mode & 0o6000:
            print(path)
"""


@pytest.mark.parametrize("image", [IMAGE, SAMPLE])
def test_nothing_in_it_changes_who_runs_it(image: str) -> None:
    def found(image: str) -> list[str]:
        return podman("run", "--rm", "--user=0", "--entrypoint=python3", image, "-c", SETUID).stdout.split()

    assert found(BASE)  # the base has some, so the search can find one
    assert found(image) == []


def test_no_shell_is_needed(exporter: Container) -> None:
    assert exporter.run("sh", "-c", "true").returncode != 0  # there is none
    assert exporter.proc("comm").strip() == "taskqueue-expor"  # the kernel keeps 15 characters
    assert podman("top", exporter.name, "pid").stdout.split() == ["PID", "1"]


def test_its_health_check_says_yes_and_no(exporter: Container) -> None:
    assert podman("healthcheck", "run", exporter.name).returncode == 0

    elsewhere = exporter.run(*HEALTHCHECK, **{ADDRESS: ":1"})
    podman("kill", "--signal=STOP", exporter.name)
    stands_still = podman("healthcheck", "run", exporter.name)
    podman("kill", "--signal=CONT", exporter.name)

    assert elsewhere.returncode == 1
    assert re.fullmatch(r"taskqueue-exporter: unhealthy: .*refused\n", elsewhere.stderr)
    assert stands_still.returncode == 1


def test_it_tells_of_a_real_redis(run: Run, redis_server: RedisServer) -> None:
    address = f"{LOOPBACK}:{free_port()}"
    container = run(IMAGE, options=("--network=host",), **{URL: redis_server.url(), ADDRESS: address})
    container.wait_until_healthy()

    def metrics() -> dict[Any, float]:
        get = f"import urllib.request as r; print(r.urlopen('http://{address}/metrics').read().decode(), end='')"
        return parse_metrics("\n".join(container.python(get)) + "\n")

    wait_until(lambda: metrics().get(series("taskqueue_broker_up", broker="default")) == 1)


def test_it_stops_at_once_and_well(exporter: Container) -> None:
    start = time.monotonic()
    podman("stop", "--time=20", exporter.name)
    took = time.monotonic() - start

    assert exporter.state["ExitCode"] == 0, exporter.logs
    assert took < 3, f"{took:.1f} s"


def test_a_bad_configuration_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("brokers: nonsense\n")
    ended = podman("run", "--rm", *HARDENED, f"--volume={file}:/config.yml:ro", IMAGE, "--config.file=/config.yml")
    lines = [line for line in ended.stderr.splitlines() if "level=error" not in line]  # podman's own, without systemd

    assert ended.returncode == 2
    assert len(lines) == 1
    assert lines[0].startswith("taskqueue-exporter: error: /config.yml")


BYTECODE = """
from pathlib import Path
from importlib.util import cache_from_source
for path in Path("/opt/taskqueue-exporter/lib").rglob("*.py"):
    cached = Path(cache_from_source(path))
    print(path, cached.read_bytes()[4:8].hex() if cached.exists() else None)
"""
UNCHECKED = "01000000"
"""The flags of bytecode that is not compared with its source (PEP 552)."""


@pytest.mark.parametrize("image", [IMAGE, SAMPLE])
def test_all_modules_have_bytecode_that_stays_good_whatever_becomes_of_their_times(image: str) -> None:
    listed = podman("run", "--rm", "--entrypoint=python", image, "-c", BYTECODE).stdout.splitlines()
    modules = [line for line in listed if "/bin/" not in line]

    assert len(modules) > 500
    assert [line for line in modules if not line.endswith(UNCHECKED)] == []


def test_nothing_is_compiled_when_it_serves(run: Run) -> None:
    container = run(IMAGE, **{URL: "redis://127.0.0.1:1/0", "PYTHONVERBOSE": "1"})
    # Some modules are loaded once it listens: they are there when it has answered.
    wait_until(lambda: container.run(*HEALTHCHECK, PYTHONVERBOSE="").returncode == 0, deadline=30, interval=0.5)
    loaded = re.findall(r"^# code object from '?([^'\n]+)", container.logs, re.MULTILINE)

    assert len(loaded) > 200
    assert [path for path in loaded if not path.endswith(".pyc")] == []


@pytest.mark.parametrize(("image", "stage"), [(IMAGE, "exporter"), (SAMPLE, "sample")])
def test_it_is_labelled_and_says_no_more_than_the_dockerfile(image: str, stage: str) -> None:
    wanted = dockerfile.image(stage)
    config = inspected("image", image)["Config"]
    labels = config["Labels"]
    names = {line.partition("=")[0] for line in config["Env"]}

    assert wanted.labels.keys() <= labels.keys()
    assert labels["org.opencontainers.image.version"] == __version__
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", labels["org.opencontainers.image.revision"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["org.opencontainers.image.created"])
    assert names - {"container"} == {*wanted.env, "PATH"}
    assert config["User"] == f"{USER}:{USER}"


FILES = """
import hashlib, os, sys
for root in ("/etc", "/usr/local", "/root", "/build", "/tools", "/wheels", "/wheels-hooks", "/own"):
    for folder, _, files in os.walk(root):
        for path in sorted(os.path.join(folder, name) for name in files):
            if os.path.isfile(path) and os.access(path, os.R_OK):
                print(path, hashlib.sha256(open(path, "rb").read()).hexdigest())
"""
BY_THE_ENGINE = r"/etc/(hosts|hostname|resolv\.conf|mtab|passwd|group)\b"


@pytest.mark.parametrize("image", [IMAGE, SAMPLE])
def test_nothing_of_the_machine_that_built_it_is_in_it(image: str) -> None:
    def files(image: str) -> set[str]:
        listed = podman("run", "--rm", "--user=0", "--entrypoint=python3", image, "-c", FILES).stdout.splitlines()
        return {line for line in listed if not re.match(BY_THE_ENGINE, line)}

    before, after = files(BASE), files(image)

    assert len(before) > 100
    assert sorted(after - before) == sorted(before - after) == []


def test_it_holds_the_pinned_versions_and_no_pip(exporter: Container) -> None:
    listing = "from importlib.metadata import distributions as all\nfor each in all(): print(each.name, each.version)"
    pins = re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / "requirements" / "exporter.txt").read_text(), re.MULTILINE)
    found = {tuple(line.lower().replace("_", "-").split()) for line in exporter.python(listing)}

    assert found == {*pins, ("taskqueue-exporter", __version__)} - {pin for pin in pins if pin[0] == "async-timeout"}


@pytest.mark.parametrize(
    ("worker", "asked"),
    [
        (
            ("arq", "exporter.demo.apps.arq_app.GENERAL"),
            ("arq", "--check", "exporter.demo.apps.arq_app.GENERAL"),
        ),
        (
            ("celery", "-A", "exporter.demo.apps.celery_app", "worker", "--concurrency=2", "--hostname=sample@test"),
            ("celery", "-A", "exporter.demo.apps.celery_app", "inspect", "ping", "--destination=sample@test"),
        ),
    ],
    ids=["arq", "celery"],
)
def test_the_sample_works(run: Run, redis_server: RedisServer, worker: tuple[str, ...], asked: tuple[str, ...]) -> None:
    container = run(
        SAMPLE, *worker, options=("--network=host", "--passwd=false"), **{REDIS_URL_VARIABLE: redis_server.url()}
    )

    wait_until(lambda: container.run(*asked).returncode == 0, deadline=40, interval=0.5)

    assert f"{USER}\t{USER}" in container.proc("status")
    assert container.run("celery", "-A", "exporter.demo.apps.celery_app", "report").returncode == 0


def test_the_size_is_as_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = inspected("image", BASE)["Size"]
    lines = []
    for image in (IMAGE, SAMPLE):
        folder = tmp_path / image.rpartition("/")[2].replace(":", "-")
        assert podman("push", "--quiet", "--compress", image, f"dir:{folder}").returncode == 0
        first, *others = json.loads((folder / "manifest.json").read_text())["layers"]
        whole, ours = inspected("image", image)["Size"] - base, sum(layer["size"] for layer in others)
        lines.append(
            f"{image}: {whole / 1e6:.0f} MB on top of {base / 1e6:.0f} MB; "
            f"{ours / 1e6:.0f} MB on top of {first['size'] / 1e6:.0f} MB compressed"
        )
    with capsys.disabled():
        print("", *lines, sep="\n")

    stated = re.findall(r"adds (\d+) MB \((\d+) MB compressed\)", (ROOT / "docs" / "deployment.md").read_text())
    measured = [re.findall(r"(\d+) MB on top of", line) for line in lines]
    assert len(stated) == len(measured)
    for said, found in zip(stated, measured, strict=True):
        assert [int(number) for number in found] == pytest.approx([int(number) for number in said], rel=0.1, abs=1)
