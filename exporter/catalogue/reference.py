"""The metrics reference, for `docs/metrics.md`."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.catalogue import FAMILIES


def reference() -> Iterator[str]:
    """The metrics reference, line by line, as Markdown."""
    yield "# Metrics"
    yield ""
    yield "Generated from `exporter/catalogue/` by `make docs`; a test holds the two together."
    yield ""
    yield "| family | type | labels | meaning |"
    yield "|---|---|---|---|"
    for family in FAMILIES.values():
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield f"| `{family.name}` | {family.kind} | {labels} | {family.help.replace('|', '/')} |"
