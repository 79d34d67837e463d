"""Side by side with the distribution's prometheus-node-exporter: suffix, type, labels, and values within what moved."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.collectors.filesystem import Filesystem, FilesystemOptions
from exporter.collectors.host import Host, HostOptions
from exporter.config import load
from tests.e2e.node_families import (
    COLLECTORS,
    COLLECTORS_LEFT_OUT,
    LEFT_OUT,
    MOMENTARY,
    ON_SOME_MACHINES,
    OURS,
    RENAMED,
    THEIRS,
    TOLERANCES,
)
from tests.servers import LOOPBACK, ROOT, Exporter, Process, StartExporter, free_port

pytestmark = pytest.mark.needs("prometheus-node-exporter")
Labels = frozenset[tuple[str, str]]
LOOKS = 5
DOCUMENT = ROOT / "docs" / "host.md"


@dataclass
class Shown:
    """A family as it stands on a page."""

    kind: str
    values: dict[Labels, float] = field(default_factory=dict)

    @property
    def label_names(self) -> set[frozenset[str]]:
        return {frozenset(name for name, _ in labels) for labels in self.values}


def families(page: str, prefix: str) -> dict[str, Shown]:
    """Families by suffix, as samples have it: a counter's ends in `_total`."""
    found: dict[str, Shown] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name.startswith(prefix):
                shown = found.setdefault(sample.name.removeprefix(prefix), Shown(family.type))
                shown.values[frozenset(sample.labels.items())] = sample.value
    return found


class NodeExporter:
    """prometheus-node-exporter with our filters."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        host, mounts = HostOptions(), FilesystemOptions()
        flags = {
            "web.listen-address": f"{LOOPBACK}:{self.port}",
            "collector.diskstats.device-exclude": host.disk_exclude,
            "collector.netdev.device-exclude": host.network_exclude,
            "collector.filesystem.mount-points-exclude": mounts.mount_points_exclude,
            "collector.filesystem.fs-types-exclude": mounts.fs_types_exclude,
        }
        command = ["prometheus-node-exporter", *(f"--{name}={value}" for name, value in flags.items())]
        self._process = Process(command, directory / "node.log", cwd=directory)
        try:
            self._process.wait_until_ready(self._answers, 20)
        except BaseException:
            self._process.stop()
            raise

    def page(self, *collectors: str) -> str:
        """What it says of these collectors; of all that are on by default if none is named."""
        connection = HTTPConnection(LOOPBACK, self.port, timeout=30)
        try:
            connection.request("GET", "/metrics?" + urlencode([("collect[]", name) for name in collectors]))
            answer = connection.getresponse()
            assert answer.status == 200
            return answer.read().decode()
        finally:
            connection.close()

    def look(self) -> dict[str, Shown]:
        """Its families of the collectors that we have the like of."""
        return {
            name: shown
            for name, shown in families(self.page(*COLLECTORS), THEIRS).items()
            if not name.startswith(("scrape_collector_", "exporter_"))
        }

    def stop(self) -> None:
        self._process.stop()

    def _answers(self) -> bool:
        try:
            return bool(self.page("loadavg"))
        except (OSError, HTTPException):
            return False


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeExporter]:
    started = NodeExporter(tmp_path_factory.mktemp("node"))
    yield started
    started.stop()


@pytest.fixture
def exporter(start_exporter: StartExporter) -> Exporter:
    return start_exporter("--collector.host", "--collector.filesystem", config="brokers: []")


def look(exporter: Exporter) -> dict[str, Shown]:
    return families(exporter.get("/metrics").text, OURS)


def theirs_of(ours: str) -> str:
    return RENAMED.get(ours, ours)


def without_hidden(values: Mapping[Labels, float]) -> dict[Labels, float]:
    """Without the mounts that lie below another one at the same place: theirs gives both the numbers of the upper."""
    rows = [line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    upper = {row[1]: (row[0], row[2]) for row in rows}
    shown = {}
    for labels, value in values.items():
        of = dict(labels)
        if "mountpoint" not in of or upper.get(of["mountpoint"]) == (of["device"], of["fstype"]):
            shown[labels] = value
    return shown


def test_every_family_that_it_has_too_is_alike_and_its_value_within_what_moved(
    node: NodeExporter, exporter: Exporter, tmp_path: Path
) -> None:
    for number in range(LOOKS):
        (tmp_path / str(number)).write_bytes(bytes(1_000_000))  # something moves

        before, ours, after = node.look(), look(exporter), node.look()

        assert ours.keys() <= set(declared())
        for name, shown in ours.items():
            their = before[theirs_of(name)]
            kind = "counter" if their.kind in {"unknown", "untyped"} and name in RENAMED else their.kind
            assert shown.kind == kind, name
            assert shown.label_names == their.label_names, name
            first, last = without_hidden(their.values), without_hidden(after[theirs_of(name)].values)
            assert shown.values.keys() == first.keys(), name
            if name not in MOMENTARY:
                assert_between(name, first, shown.values, last)


def assert_between(
    name: str, before: Mapping[Labels, float], ours: Mapping[Labels, float], after: Mapping[Labels, float]
) -> None:
    slack = TOLERANCES.get(name, 1e-6)
    for labels, value in ours.items():
        low, high = sorted((before[labels], after[labels]))
        idle = (
            0.05 if ("mode", "idle") in labels or ("mode", "iowait") in labels else 0
        )  # the kernel may take some back
        margin = slack + idle + 1e-9 * abs(value)
        assert low - margin <= value <= high + margin, (name, dict(labels), low, value, high)


def declared() -> Iterator[str]:
    for collector in (Host, Filesystem):
        yield from (family.name.removeprefix(OURS) for family in collector.families)


def test_what_it_has_and_we_leave_out_is_listed(node: NodeExporter, exporter: Exporter) -> None:
    ours = {theirs_of(name) for name in look(exporter)}
    theirs = node.look().keys()

    left = {name for name in theirs if name not in ours}

    assert sorted(unlisted(left, {**LEFT_OUT, **ON_SOME_MACHINES})) == []
    assert [pattern for pattern in LEFT_OUT if not any(fnmatchcase(name, pattern) for name in left)] == []
    assert set(RENAMED.values()) <= theirs
    assert set(RENAMED) <= set(declared())


def unlisted(names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    return {name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns)}


def test_the_types_of_file_systems_that_are_left_out_are_its_own() -> None:
    said = subprocess.run(["prometheus-node-exporter", "--help"], capture_output=True, text=True, check=False)

    flag = f'--collector.filesystem.fs-types-exclude="{FilesystemOptions().fs_types_exclude}"'
    assert flag in said.stdout + said.stderr


def test_every_collector_that_it_has_on_is_listed(node: NodeExporter) -> None:
    on = families(node.page(), THEIRS)["scrape_collector_success"].values

    assert {dict(labels)["collector"] for labels in on} == {*COLLECTORS, *COLLECTORS_LEFT_OUT}


def test_the_documentation_has_the_same_tables() -> None:
    _, _, after = DOCUMENT.read_text().partition("\n### Beside node_exporter\n")
    section = re.split(r"^##", after, maxsplit=1, flags=re.MULTILINE)[0]

    written = re.findall(r"^\| `([^`]+)` \| (.+) \|$", section, re.MULTILINE)

    renamed = {name: f"`{other}`" for name, other in RENAMED.items()}
    assert written == [*(renamed | LEFT_OUT | ON_SOME_MACHINES | COLLECTORS_LEFT_OUT).items()]


def test_the_documented_options_are_the_defaults(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(host:\n.*?)```", DOCUMENT.read_text(), re.DOTALL)
    file = tmp_path / "config.yml"
    file.write_text(f"{example}brokers: []")

    sections = load(file).host_collectors

    assert sections["host"] == HostOptions(enabled=True)
    assert sections["filesystem"] == FilesystemOptions(enabled=True)
    keys = {key for options in (HostOptions, FilesystemOptions) for key in options.__struct_fields__}
    assert keys == set(re.findall(r"^  (\w+):", example, re.MULTILINE))
