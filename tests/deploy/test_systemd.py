"""deploy/systemd: the unit is good to systemd, says what the program understands, and its examples are good too."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
import yaml

from exporter.config import load
from tests.servers import (
    LOOPBACK,
    ROOT,
    Process,
    RedisServer,
    exporter_environment,
    free_port,
    parse_metrics,
    series,
    wait_until,
)

FILES = ROOT / "deploy" / "systemd"
UNIT = FILES / "taskqueue-exporter.service"
CONFIG = FILES / "exporter.yml"
DOCUMENT = ROOT / "docs" / "deployment.md"
SYSTEM_UNITS = Path("/usr/lib/systemd/system")
EXPOSURE = 15
"""Tenths, of 100: what `systemd-analyze security` may find at most. The document states it."""

WRITE_OR_EXECUTE = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN; both are kept by what is executed
    sys.exit(77)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    os.execv(sys.argv[1], sys.argv[1:])
sys.exit("memory that is writable and executable was given")
"""
"""Runs a command as MemoryDenyWriteExecute= does with Linux 6.3 and later; exit code 77 where the kernel is older."""


def values(key: str, text: str | None = None) -> list[str]:
    """What a unit, by default ours, says for a key, once for each line."""
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text() if text is None else text, re.MULTILINE)


def value(key: str) -> str:
    (only,) = values(key)
    return only


def drop_ins() -> list[str]:
    """The examples of drop-ins in the document."""
    return re.findall(r"^```ini\n(\[Service\]\n.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def system_root(tmp_path: Path) -> Path:
    """A file system with what the unit names, and systemd's own targets."""
    units = tmp_path / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    shutil.copy(UNIT, units)
    targets = tmp_path / "usr" / "lib" / "systemd" / "system"
    targets.mkdir(parents=True)
    for target in SYSTEM_UNITS.glob("*.target"):
        shutil.copy(target, targets)
    for command in (value("ExecStart"), value("ExecReload")):
        program = tmp_path / command.split()[0].lstrip("/")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return tmp_path


def verify(root: Path, drop_in: str = "") -> str:
    """What `systemd-analyze verify` says of the unit: nothing where it is good."""
    place = root / "etc" / "systemd" / "system" / f"{UNIT.name}.d"
    place.mkdir(exist_ok=True)
    (place / "example.conf").write_text(drop_in)
    command = ["systemd-analyze", "verify", "--man=no", f"--root={root}", UNIT.name]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
    return done.stdout or ("" if done.returncode == 0 else f"ended with {done.returncode}")


@pytest.mark.needs("systemd-analyze")
def test_the_unit_is_good_to_systemd(system_root: Path) -> None:
    assert verify(system_root) == ""


@pytest.mark.needs("systemd-analyze")
def test_the_examples_of_drop_ins_are_good_to_systemd(system_root: Path) -> None:
    examples = drop_ins()

    assert examples
    for example in examples:
        assert verify(system_root, example) == "", example


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("mistake", ["ProtectHomes=yes", "PrivateDevices=ja", "ExecStartPre=/opt/no/such/program"])
def test_systemd_tells_a_mistake(system_root: Path, mistake: str) -> None:
    assert verify(system_root, f"[Service]\n{mistake}\n")


@pytest.mark.needs("systemd-analyze")
def test_the_unit_exposes_no_more_than_the_document_says() -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stdout.splitlines()[-1]
    assert f"--offline=true --threshold={EXPOSURE} " in DOCUMENT.read_text()


def test_the_configuration_reads_the_credential_of_the_unit() -> None:
    name, _, source = value("LoadCredential").partition(":")
    (broker,) = yaml.safe_load(CONFIG.read_text())["brokers"]

    assert broker["url_file"] == f"/run/credentials/{UNIT.name}/{name}"
    assert source.startswith("/etc/taskqueue-exporter/")


def test_what_the_document_installs_is_what_the_unit_names() -> None:
    document = DOCUMENT.read_text()
    _, _, secret = value("LoadCredential").partition(":")
    program, *arguments = shlex.split(value("ExecStart"))

    assert f"python3 -m venv {Path(program).parent.parent}\n" in document
    for path in (secret, arguments[arguments.index("--config.file") + 1]):
        assert re.search(rf"^\$ install .* {re.escape(path)}$", document, re.MULTILINE), path
    assert re.search(rf"^\$ install .* {re.escape(str(UNIT.relative_to(ROOT)))} ", document, re.MULTILINE)


def settings(config: str, url_file: Path, directory: Path) -> Path:
    """The shipped configuration, with the credential elsewhere."""
    (broker,) = yaml.safe_load(config)["brokers"]
    file = directory / "exporter.yml"
    file.write_text(config.replace(broker["url_file"], str(url_file)))
    return file


def test_the_configuration_is_good_also_with_its_examples(tmp_path: Path) -> None:
    secret = tmp_path / "redis-url"
    secret.write_text("redis://exporter:password@redis:6379/0\n")
    shown = re.sub(r"^# (?=processes:|  )", "", CONFIG.read_text(), flags=re.MULTILINE)

    assert [broker.name for broker in load(settings(CONFIG.read_text(), secret, tmp_path)).brokers] == ["main"]
    assert shown != CONFIG.read_text()
    assert yaml.safe_load(shown)["processes"]["groups"]
    load(settings(shown, secret, tmp_path))


def started(file: Path, port: int, log: Path, before: Sequence[str] = ()) -> Process:
    """What the unit starts, from here."""
    _, *arguments = shlex.split(value("ExecStart"))
    arguments[arguments.index("--config.file") + 1] = str(file)
    environment = dict(pair.split("=", 1) for pair in values("Environment"))
    environment["TASKQUEUE_EXPORTER_WEB_LISTEN_ADDRESS"] = f"{LOOPBACK}:{port}"
    command = [*before, sys.executable, "-m", "exporter.cli", *arguments]
    return Process(command, log, cwd=ROOT, env=exporter_environment(environment))


@pytest.fixture
def running(redis_server: RedisServer, tmp_path: Path) -> Iterator[tuple[Process, int, Path]]:
    """The unit's command, with the shipped configuration, as a process that may not write what it executes."""
    secret = tmp_path / "redis-url"
    secret.write_text(redis_server.url() + "\n")
    file = settings(CONFIG.read_text(), secret, tmp_path)
    port = free_port()
    process = started(file, port, tmp_path / "log", [sys.executable, "-c", WRITE_OR_EXECUTE])
    try:
        process.wait_until_ready(lambda: answers(port), 20)
        yield process, port, file
    finally:
        if process.stop() == 77:
            pytest.skip("the kernel has no PR_SET_MDWE")


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://{LOOPBACK}:{port}/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def sample(port: int, name: str, **labels: str) -> float:
    return parse_metrics(httpx.get(f"http://{LOOPBACK}:{port}/metrics").text)[series(name, **labels)]


def test_what_the_unit_starts_serves_and_reloads(running: tuple[Process, int, Path]) -> None:
    process, port, file = running
    assert sample(port, "taskqueue_broker_up", broker="main") == 1
    # when its configuration is made bad, and it is told as the unit tells it
    file.write_text("nonsense: 1\n")
    subprocess.run(shlex.split(value("ExecReload").replace("$MAINPID", str(process.pid))), check=True, timeout=10)
    # then it has looked, and goes on
    wait_until(lambda: sample(port, "taskqueue_exporter_config_last_reload_successful") == 0)
    assert sample(port, "taskqueue_broker_up", broker="main") == 1


def test_systemd_does_not_restart_what_is_badly_configured(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("nonsense: 1\n")

    code = started(file, free_port(), tmp_path / "log").wait()

    assert str(code) in value("RestartPreventExitStatus").split()
    assert value("Restart") == "on-failure"
