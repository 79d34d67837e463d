"""Reading the documents under `docs/`: their sections and tables."""

from __future__ import annotations

import re

from tests.servers import ROOT


class Document:
    """One document on a system."""

    def __init__(self, name: str) -> None:
        self.text = (ROOT / "docs" / name).read_text()

    def section(self, title: str) -> str:
        """What stands below a headline, up to the next."""
        (text,) = re.findall(rf"^#+ {title}\n(.*?)(?=^#+ |\Z)", self.text, re.DOTALL | re.MULTILINE)
        return str(text)

    def rows(self, title: str) -> list[list[str]]:
        """The cells of a section's tables, without the headlines."""
        tables = re.findall(r"^\|[-|]+\|\n((?:\|.*\n)+)", self.section(title), re.MULTILINE)
        return [re.split(r"(?<!\\)\|", line)[1:-1] for table in tables for line in table.splitlines()]

    def loose_links(self) -> set[str]:
        """Links to headlines of this document that it does not have."""
        titles = {re.sub(r"\W+", "-", title.lower()) for title in re.findall(r"^#+ (.+)$", self.text, re.MULTILINE)}
        return {*re.findall(r"\]\(#([^)]+)\)", self.text)} - titles


def quoted(cell: str) -> list[str]:
    """What stands in a cell as code."""
    return [code.replace("\\|", "|") for code in re.findall("`([^`]+)`", cell)]
