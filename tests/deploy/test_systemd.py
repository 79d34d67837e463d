"""deploy/systemd: the unit says what it should, and so does the document. How it runs: test_systemd_run.py."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import exporter
from exporter.collectors.prober import THREADS
from tests.deploy.unit import CONFIG, DOCUMENT, UNIT, commands, section, value, values
from tests.servers import ROOT

SYSTEM_UNITS = Path("/usr/lib/systemd/system")
EXPOSURE = 15
"""Tenths, of 100: what `systemd-analyze security` may find at most. The document states it."""

WHEEL = f"dist/*exporter-{exporter.__version__}-*.whl"
UNIT_PLACE = "/etc/systemd/system/"

PROMISED = {
    "Wants": "network-online.target",
    "After": "network-online.target",
    "Type": "exec",
    "Environment": "PYTHONDONTWRITEBYTECODE=1",
    "Restart": "on-failure",
    "RestartSec": "5",
    "RestartPreventExitStatus": "2",
    "TimeoutStopSec": "15",
    "MemoryMax": "1G",
    "TasksMax": "256",
    "DynamicUser": "yes",
    "UMask": "0077",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "PrivateUsers": "yes",
    "KeyringMode": "private",
    "RemoveIPC": "yes",
    "ProtectProc": "default",
    "ProcSubset": "all",
    "ProtectSystem": "strict",
    "ProtectHome": "read-only",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "DevicePolicy": "closed",
    "PrivateIPC": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service\n~@privileged @resources",
    "SystemCallErrorNumber": "EPERM",
    "WantedBy": "multi-user.target",
}
"""What the unit says; lines of one key below each other. Why each: the document, the unit."""

OF_OTHER_TESTS = {"Description", "ExecStart", "ExecReload", "LoadCredential"}


def test_the_unit_says_what_it_should_and_nothing_else() -> None:
    said: dict[str, list[str]] = {}
    for key, what in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        said.setdefault(key, []).append(what)

    assert {key: "\n".join(lines) for key, lines in said.items() if key not in OF_OTHER_TESTS} == PROMISED
    assert said.keys() >= OF_OTHER_TESTS


def test_the_document_says_what_the_unit_says() -> None:
    text = " ".join(section("systemd").split())

    assert f"| `MemoryMax={value('MemoryMax')}`, `TasksMax={value('TasksMax')}` |" in text
    assert f"up to {THREADS + 1} while [mounts hang]" in text
    assert int(value("TasksMax")) > THREADS + 1
    assert f"an exposure of {EXPOSURE / 10} of 10" in text
    assert f"by a restart after {value('RestartSec')} s, but for exit code {value('RestartPreventExitStatus')}:" in text
    for key in ("ProtectProc", "ProcSubset", "ProtectSystem", "ProtectHome"):
        assert f"`{key}={value(key)}`" in text
    for group in " ".join(values("SystemCallFilter")).replace("~", "").split():
        assert f"`{group}`" in text
    for key in re.findall(r"`([A-Z]\w+)`", "".join(re.findall(r"^\| (`.*?) \|", section("systemd"), re.MULTILINE))):
        assert values(key), key


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
    install, begin = commands("systemd")
    _, _, secret = value("LoadCredential").partition(":")
    program, *arguments = shlex.split(value("ExecStart"))
    pip = f"{Path(program).with_name('pip')} install"

    assert install[:4] == [
        "umask 022",
        f"/usr/bin/python3 -m venv {Path(program).parent.parent}",
        f"{pip} --require-hashes -r requirements/exporter.txt",
        f"{pip} --no-deps --force-reinstall {WHEEL}",
    ]
    for path in (secret, arguments[arguments.index("--config.file") + 1]):
        assert [line for line in install if line.startswith("install ") and line.endswith(f" {path}")], path
    assert f"install -m 644 {UNIT.relative_to(ROOT)} {UNIT_PLACE}" in install
    assert install[-1] == f"setpriv --reuid 65534 --regid 65534 --clear-groups {program} --version"
    assert begin == [
        "systemctl daemon-reload",
        f"systemctl enable --now {UNIT.stem}",
        "curl --retry 5 --retry-connrefused http://127.0.0.1:10177/metrics",
    ]


def test_what_the_document_upgrades_is_what_it_installed() -> None:
    (install, _), (upgrade,) = commands("systemd"), commands("Upgrading")

    assert upgrade[:3] == [install[0], *install[2:4]]
    assert upgrade[-1] == f"systemctl restart {UNIT.stem}"
