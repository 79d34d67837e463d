"""Panels that explain themselves: each with a description, a unit, a legend and a text for when there is no data."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self, TypeAlias, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, heatmap, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models.dashboard import (
    DashboardSpecialValueMapOptions,
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    Panel,
    SpecialValueMap,
    SpecialValueMatch,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.src import limits
from grafana.src.promql import quantile

DATASOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
Size: TypeAlias = tuple[int, int]
"""Columns, of 24, and rows."""
NO_DATA: Final = "No data"
NO_NUMBER: Final = "Not known"
OUTCOME_COLOURS: Final = {
    "succeeded": "green",
    "failed": "red",
    "aborted": "purple",
    "expired": "orange",
    "not_found": "yellow",
    "rejected": "dark-orange",
    "undecodable": "dark-red",
    "unknown": "gray",
}
STATE_COLOURS: Final = {
    "ready": "orange",
    "scheduled": "purple",
    "reserved": "yellow",
    "running": "green",
    "paused": "gray",
}
LEAST: Final = {"percentunit": 0.1, "ops": 1, "short": 1}
"""How far an axis reaches at least: that of a line at 0 would end at 100, or 10,000 %."""
LAST: Final = "Last *"
"""What Grafana calls the column of the last values of a legend."""
NOT_KNOWN: Final = SpecialValueMap(
    options=DashboardSpecialValueMapOptions(
        match=SpecialValueMatch.NULL, result=ValueMappingResult(color=limits.UNKNOWN)
    )
)
"""Grafana takes a number that is not there for the best, or worst, of its thresholds."""
LEGEND_HEIGHT: Final = 8
"""A panel that is lower than this has no room for a table of its series."""


@dataclass(frozen=True, slots=True)
class Says:
    """The description of a panel."""

    means: str
    normal: str
    do: str

    def __str__(self) -> str:
        return f"{self.means}\n\n**Normal:** {self.normal}\n\n**What to do:** {self.do}"


@dataclass(frozen=True, slots=True)
class Query:
    """One query, and what each of its series is called: text with `{{label}}` in it."""

    expr: str
    legend: str = ""


def percentiles(buckets: str) -> list[Query]:
    """Those that one looks at, of the rates of a histogram's buckets."""
    return [Query(quantile(share, buckets), name) for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))]


class Described(Protocol):
    """What all builders of panels have in common."""

    def build(self) -> Panel: ...
    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def datasource(self, datasource: DataSourceRef) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def no_value(self, no_value: str) -> Self: ...
    def span(self, w: int) -> Self: ...
    def height(self, h: int) -> Self: ...
    def with_target(self, target: Builder[Dataquery]) -> Self: ...
    def override_by_name(self, name: str, properties: list[DynamicConfigValue]) -> Self: ...


B = TypeVar("B", bound=Described)


def described(panel: B, title: str, says: Says, unit: str, size: Size, empty: str) -> B:
    """Say of a panel what every one says: `empty` is shown when there is no data."""
    panel.title(title).description(str(says)).datasource(DATASOURCE).unit(unit).no_value(empty)
    return panel.span(size[0]).height(size[1])


def asking(panel: B, queries: Iterable[Query], form: PromQueryFormat, *, now: bool) -> B:
    """Add queries, called A, B and so on: of the present only, or of all the time that the dashboard shows."""
    for at, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend or "__auto")
        target.ref_id(string.ascii_uppercase[at]).datasource(DATASOURCE).format(form)
        panel.with_target(target.instant() if now else target.range())
    return panel


# -- over time --------------------------------------------------------------------------------------------------


def lines(
    title: str,
    says: Says,
    unit: str,
    *queries: Query,
    size: Size = (12, 9),
    empty: str = NO_DATA,
    stacked: bool = False,
) -> timeseries.Panel:
    """Lines over time from 0 on, or areas on top of each other. The legend is a table with the last and the highest
    value of each series, where there is room for one."""
    panel = asking(timeseries.Panel(), queries, PromQueryFormat.TIME_SERIES, now=False)
    described(panel, title, says, unit, size, empty).axis_soft_min(0).line_width(1)
    if unit in LEAST:
        panel.axis_soft_max(LEAST[unit])
    panel.fill_opacity(40 if stacked else 10).show_points(options.VisibilityMode.NEVER)
    panel.color_scheme(builders.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
    if stacked:
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    panel.tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    return panel.legend(_legend(as_table=size[1] >= LEGEND_HEIGHT))


def _legend(*, as_table: bool) -> common.VizLegendOptions:
    mode = options.LegendDisplayMode.TABLE if as_table else options.LegendDisplayMode.LIST
    legend = common.VizLegendOptions().show_legend(True).display_mode(mode)
    legend.calcs(["lastNotNull", "max"] if as_table else [])
    if as_table:
        legend.sort_by(LAST).sort_desc(True)  # few rows are seen at once
    return legend.placement(options.LegendPlacement.BOTTOM)


def by_colour(panel: B, colours: Mapping[str, str]) -> B:
    """Give series of known names the colour that they have everywhere."""
    for name, colour in colours.items():
        restyled(panel, name, color={"mode": "fixed", "fixedColor": colour})
    return panel


def as_limit(panel: timeseries.Panel, name: str) -> timeseries.Panel:
    """Draw a series as the line that others should stay below."""
    style = {"dash": [8, 6], "fill": "dash"}
    colour = {"mode": "fixed", "fixedColor": limits.BAD}
    unstacked = {"group": False, "mode": "none"}
    return restyled(panel, name, color=colour, custom_lineStyle=style, custom_fillOpacity=0, custom_stacking=unstacked)


def limited(panel: timeseries.Panel, thresholds: limits.Thresholds) -> timeseries.Panel:
    """Draw thresholds as lines, where they are the same for all series."""
    style = common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(thresholds).thresholds_style(style)


def restyled(panel: B, name: str, **properties: Any) -> B:
    """Show one series, or column, otherwise: `unit="s"`; `custom_width=100` is the property `custom.width`."""
    values = [DynamicConfigValue(id_val=key.replace("_", "."), value=value) for key, value in properties.items()]
    panel.override_by_name(name, values)
    return panel


def over_time(
    title: str, says: Says, unit: str, expr: str, size: Size = (12, 9), empty: str = NO_DATA
) -> heatmap.Panel:
    """A heatmap of a histogram's buckets: `expr` gives the rate of each `le`."""
    panel = asking(heatmap.Panel(), [Query(expr, "{{le}}")], PromQueryFormat.HEATMAP, now=False)
    described(panel, title, says, unit, size, empty)
    panel.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
    panel.y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(options.AxisPlacement.LEFT))
    return panel.calculate(False).cell_gap(1).show_legend().hide_y_histogram().mode(options.TooltipDisplayMode.SINGLE)


def states(
    title: str,
    says: Says,
    query: Query,
    texts: Mapping[str, tuple[str, str]],
    size: Size = (12, 9),
    empty: str = NO_DATA,
) -> statetimeline.Panel:
    """A bar over time for each series, coloured by its value: `texts` has text and colour of each value.

    Grafana says of no data that it has no time, whatever it is told to say: so the description does.
    """
    panel = asking(statetimeline.Panel(), [query], PromQueryFormat.TIME_SERIES, now=False)
    described(panel, title, says, "none", size, empty).mappings([mapping(texts)])
    panel.description(_with_reason(says, empty))
    panel.color_scheme(builders.FieldColor().mode(FieldColorModeId.FIXED).fixed_color(limits.UNKNOWN))
    panel.merge_values(True).show_value(options.VisibilityMode.NEVER).row_height(0.8).fill_opacity(80).line_width(0)
    return panel.legend(_legend(as_table=False)).tooltip(
        common.VizTooltipOptions().mode(options.TooltipDisplayMode.SINGLE)
    )


# -- now --------------------------------------------------------------------------------------------------------


def number(
    title: str,
    says: Says,
    unit: str,
    *queries: Query,
    thresholds: limits.Thresholds | None = None,
    size: Size = (4, 4),
    empty: str = NO_DATA,
) -> stat.Panel:
    """One number now, or a few with their names; coloured only where it has thresholds.

    Grafana draws what stands for a number as large as fits: a text of some length could not be read. So it says that
    there is none, and the description says why.
    """
    panel = asking(stat.Panel(), queries, PromQueryFormat.TIME_SERIES, now=True)
    described(panel, title, says, unit, size, NO_NUMBER).thresholds(thresholds or limits.none())
    panel.description(_with_reason(says, empty))
    panel.color_scheme(builders.FieldColor().mode(FieldColorModeId.THRESHOLDS))
    panel.color_mode(options.BigValueColorMode.BACKGROUND if thresholds else options.BigValueColorMode.VALUE)
    panel.mappings([NOT_KNOWN])
    panel.graph_mode(options.BigValueGraphMode.NONE).reduce_options(_last())
    return panel.text_mode(options.BigValueTextMode.AUTO)


def bars(
    title: str,
    says: Says,
    unit: str,
    *queries: Query,
    thresholds: limits.Thresholds | None = None,
    size: Size = (8, 8),
    empty: str = NO_DATA,
) -> bargauge.Panel:
    """A bar for each series now."""
    panel = asking(bargauge.Panel(), queries, PromQueryFormat.TIME_SERIES, now=True)
    described(panel, title, says, unit, size, empty).thresholds(thresholds or limits.none()).min(0)
    panel.color_scheme(builders.FieldColor().mode(FieldColorModeId.THRESHOLDS)).reduce_options(_last())
    panel.text(common.VizTextDisplayOptions().title_size(14).value_size(18))
    if unit == "percentunit":
        panel.max(1)
    return panel.orientation(options.VizOrientation.HORIZONTAL).display_mode(options.BarGaugeDisplayMode.BASIC)


def mapping(texts: Mapping[str, tuple[str, str]]) -> ValueMapping:
    """Words and colours for values."""
    found = enumerate(texts.items())
    return ValueMap(
        options={key: ValueMappingResult(text=text, color=colour, index=at) for at, (key, (text, colour)) in found}
    )


def _with_reason(says: Says, empty: str) -> str:
    """The description of a panel that cannot say by itself why it is empty."""
    return f"{says}\n\n**{NO_NUMBER}:** {empty.removeprefix(f'{NO_DATA}: ').removesuffix('.')}."


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)
