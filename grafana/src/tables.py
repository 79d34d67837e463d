"""Tables: a row for each queue, task or worker, a column for each query."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models.common import TableCellHeight
from grafana_foundation_sdk.models.dashboard import (
    DashboardSpecialValueMapOptions,
    DataTransformerConfig,
    SpecialValueMap,
    SpecialValueMatch,
    ValueMapping,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.src import limits
from grafana.src.panels import NO_DATA, Query, Says, Size, asking, described, restyled

UNKNOWN: Final = "–"
"""In a cell without a value, where Grafana would say why the whole table is empty."""
COLOURED_TEXT: Final = {"type": "color-text"}
COLOURED: Final = {"type": "color-background", "mode": "basic"}
GAUGE: Final = {"type": "gauge", "mode": "basic"}
"""How cells look, by the thresholds of their column."""


NO_COLOUR: Final = SpecialValueMap(
    options=DashboardSpecialValueMapOptions(
        match=SpecialValueMatch.NULL, result=ValueMappingResult(text=UNKNOWN, color="transparent")
    )
)
"""Grafana takes a cell without a value for the best of the column's thresholds."""


@dataclass(frozen=True, slots=True)
class Key:
    """A column with the values of a label. `url` is where its cells lead to."""

    label: str
    title: str
    url: str = ""
    link: str = ""
    """What the link is called."""
    width: int | None = None
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column with what a query gives now for each key."""

    title: str
    expr: str
    unit: str = "short"
    decimals: int | None = None
    cell: Mapping[str, str] | None = None
    thresholds: limits.Thresholds | None = None
    least: float | None = None
    most: float | None = None
    """The ends of a gauge."""
    width: int | None = None
    mappings: tuple[ValueMapping, ...] = ()
    early: bool = False
    """Whether it stands right behind the first key."""


def rows(
    title: str,
    says: Says,
    keys: Sequence[Key],
    columns: Sequence[Column],
    *,
    size: Size = (24, 9),
    empty: str = NO_DATA,
    sort: str = "",
    ascending: bool = False,
) -> table.Panel:
    """A table, sorted by the column of the title `sort`. Several series with the same keys are one row, of the highest:
    what is recorded has one each."""
    by = ", ".join(key.label for key in keys)
    queries = [Query(f"max by ({by}) ({column.expr})") for column in columns]
    panel = asking(table.Panel(), queries, PromQueryFormat.TABLE, now=True)
    described(panel, title, says, "short", size, empty).cell_height(TableCellHeight.SM).filterable(False)
    panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(_arranged(keys, columns))
    for key in keys:
        _show_key(panel, key)
    for column in columns:
        _show_column(panel, column)
    if sort:
        panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(not ascending)])
    return panel


def _arranged(keys: Sequence[Key], columns: Sequence[Column]) -> DataTransformerConfig:
    """Keys first, then columns, by their titles. Values are called by their query's letter, if there are several."""
    labels = {key.label: key.title for key in keys}
    letters = string.ascii_uppercase if len(columns) > 1 else [""]
    values = {
        f"Value #{letter}" if letter else "Value": column.title
        for letter, column in zip(letters, columns, strict=False)
    }
    early = [name for name, column in zip(values, columns, strict=True) if column.early]
    order = [keys[0].label, *early, *labels, *values]
    arranged = {
        "excludeByName": {"Time": True},
        "indexByName": {name: at for at, name in enumerate(dict.fromkeys(order))},
        "renameByName": labels | values,
    }
    return DataTransformerConfig(id_val="organize", options=arranged)


def _show_key(panel: table.Panel, key: Key) -> None:
    shown: dict[str, Any] = {
        "unit": "string",
        "noValue": "",  # nothing to click
        "custom_hidden": key.hidden or None,
        "custom_width": key.width,
    }
    if key.url:
        shown["links"] = [{"title": key.link, "url": key.url, "targetBlank": key.url.startswith("http")}]
    restyled(panel, key.title, **{name: value for name, value in shown.items() if value is not None})


def _show_column(panel: table.Panel, column: Column) -> None:
    shown: dict[str, Any] = {
        "unit": column.unit,
        "noValue": UNKNOWN,
        "decimals": column.decimals,
        "custom_cellOptions": column.cell,
        "custom_width": column.width,
        "thresholds": column.thresholds.build() if column.thresholds else None,
        "mappings": [*column.mappings, NO_COLOUR] if column.thresholds else list(column.mappings) or None,
        "min": column.least,
        "max": column.most,
    }
    if column.thresholds:
        shown["color"] = {"mode": "thresholds"}
    restyled(panel, column.title, **{name: value for name, value in shown.items() if value is not None})
