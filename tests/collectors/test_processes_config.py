"""The section `processes`: what is taken, and one line for what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.collectors.processes.options import Group, ProcessesOptions
from exporter.config import Config, ConfigError, load

BROKERS = "brokers: [{name: main, url: redis://h}]\n"


def loaded(directory: Path, groups: str) -> Config:
    file = directory / "config.yml"
    file.write_text(f"{BROKERS}processes: {{groups: [{groups}]}}")
    return load(file)


def test_groups(tmp_path: Path) -> None:
    config = loaded(
        tmp_path, "{name: a, command: 'arq .*Worker'}, {name: b, pid_file: /run/b.pid}, {name: c, unit: c@.service}"
    )

    assert config.host_collectors["processes"] == ProcessesOptions(
        groups=(
            Group(name="a", command="arq .*Worker"),
            Group(name="b", pid_file="/run/b.pid"),
            Group(name="c", unit="c@.service"),
        )
    )


ERRORS = [
    ("{name: a}", "[0].command: found neither it nor pid_file nor unit, wanted one of the three"),
    ("{name: a, command: x, unit: x.service}", "[0].unit: found it beside command, wanted one of the two"),
    ("{name: a, pid_file: /x, unit: x.service}", "[0].unit: found it beside pid_file, wanted one of the two"),
    (
        "{name: a, command: '(x'}",
        "[0].command: found '(x' (missing ), unterminated subpattern at position 0), wanted a regular expression",
    ),
    ("{name: a, command: 'x{99999999999}'}", "[0].command: found 'x{99999999999}' ("),
    ("{name: a, unit: celery}", "[0].unit: found 'celery', wanted the name of a .service, .scope or .slice"),
    ("{name: a, unit: /x/celery.service}", "[0].unit: found '/x/celery.service', wanted the name of"),
    ('{name: a, pid_file: "a\\0b"}', "[0].pid_file: found 'a\\x00b', wanted the path of a file"),
    ("{command: x}", "[0]: found no key 'name', wanted one"),
    ("{name: a, cmd: x}", "[0]: found the unknown key 'cmd', wanted one of name, command, pid_file, unit"),
    ("{name: a, command: ''}", "[0].command: found '' (a string), wanted"),
    ("{name: 'a b', command: x}", "[0].name: found 'a b' (a string), wanted"),
    (
        "{name: a, command: x}, {name: a, unit: y.service}",
        "[1].name: found 'a' a second time, wanted a name of its own",
    ),
]


@pytest.mark.parametrize(("groups", "error"), ERRORS, ids=[groups for groups, _ in ERRORS])
def test_what_is_wrong_is_told_in_one_line(groups: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, groups)

    assert str(raised.value).startswith(f"{tmp_path / 'config.yml'}: processes.groups{error}")
    assert "\n" not in str(raised.value)
