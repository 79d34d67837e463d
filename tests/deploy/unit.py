"""The unit of deploy/systemd as tests read it, and what the document says about it."""

from __future__ import annotations

import re

from tests.servers import ROOT

FILES = ROOT / "deploy" / "systemd"
UNIT = FILES / "taskqueue-exporter.service"
CONFIG = FILES / "exporter.yml"
DOCUMENT = ROOT / "docs" / "deployment.md"


def values(key: str, text: str | None = None) -> list[str]:
    """What a unit, by default ours, says for a key, once for each line."""
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text() if text is None else text, re.MULTILINE)


def value(key: str, text: str | None = None) -> str:
    (only,) = values(key, text)
    return only


def section(title: str) -> str:
    """One section of the document, with what is below it."""
    (found,) = re.findall(rf"^## {title}$\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def commands(title: str) -> list[list[str]]:
    """The blocks of commands in a section, each line without its `$`."""
    blocks = re.findall(r"^```console$\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)
    return [[line.removeprefix("$ ") for line in block.splitlines()] for block in blocks]
