"""Rendering and content negotiation: families in, the bytes of `/metrics` out.

The bytes equal prometheus_client's, but for two things: `le` is always written as a float (`60.0`), and the work is
cut into slices, so that the event loop never waits for a whole exposition (2 s for 100,000 series there).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString as _untyped_go_string

SLICE_LINES: Final = 1_000
"""Lines between two breaths of the loop: about 3 ms of work, where their samples are made on the way."""


@dataclass(frozen=True, slots=True)
class Format:
    """An exposition format: its media type for negotiation, and the Content-Type it is sent with."""

    media_type: str
    versions: tuple[str, ...]
    content_type: str
    openmetrics: bool


TEXT: Final = Format("text/plain", ("0.0.4",), "text/plain; version=0.0.4; charset=utf-8", openmetrics=False)
OPENMETRICS: Final = Format(
    "application/openmetrics-text",
    ("1.0.0",),
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
    openmetrics=True,
)


# -- negotiation ------------------------------------------------------------------------------------------------


def choose_format(accept: str) -> Format:
    """The format that an Accept header wants most; text where it wants none, or something we do not speak.

    q-values are honoured (RFC 9110, 12.5.1); where two formats are wanted alike, OpenMetrics is given, as it carries
    more. `*/*` and `text/*` mean text: what a browser or curl asks for should be readable everywhere.
    """
    wanted = {TEXT: 0.0, OPENMETRICS: 0.0}
    for media_type, parameters in _accepted(accept):
        quality = _quality(parameters)
        if _speaks(OPENMETRICS, media_type, parameters):
            wanted[OPENMETRICS] = max(wanted[OPENMETRICS], quality)
        elif media_type in {"*/*", "text/*"} or _speaks(TEXT, media_type, parameters):
            wanted[TEXT] = max(wanted[TEXT], quality)
    return OPENMETRICS if wanted[OPENMETRICS] > 0 and wanted[OPENMETRICS] >= wanted[TEXT] else TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip: named, or by `*`, with a q-value above 0."""
    codings = {coding: _quality(parameters) for coding, parameters in _accepted(accept_encoding)}
    return codings.get("gzip", codings.get("*", 0.0)) > 0


def _accepted(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    for part in header.split(","):
        value, *rest = part.split(";")
        pairs = (parameter.partition("=") for parameter in rest)
        yield value.strip().lower(), {key.strip().lower(): text.strip().strip('"') for key, _, text in pairs}


def _quality(parameters: dict[str, str]) -> float:
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0


def _speaks(form: Format, media_type: str, parameters: dict[str, str]) -> bool:
    version = parameters.get("version")
    return media_type == form.media_type and (version is None or version in form.versions)


# -- rendering --------------------------------------------------------------------------------------------------


class Renderer:
    """Renders families whose names are plain (`[a-zA-Z_][a-zA-Z0-9_]*`) and whose text is valid Unicode.

    Keeps the `name{labels} ` prefix of every series it has seen, which is most of the cost.
    The prefixes live in two generations: what the younger lacks is taken over from the elder, and the elder is
    dropped when the younger is full. So series that are gone are forgotten, and memory is bounded.
    """

    def __init__(self, remembered_series: int = 200_000) -> None:
        self._limit = remembered_series
        self._young: dict[tuple[str, ...], str] = {}
        self._old: dict[tuple[str, ...], str] = {}

    def render(self, families: Iterable[Metric], form: Format, slice_lines: int = SLICE_LINES) -> Iterator[bytes]:
        """The exposition in slices of about `slice_lines` lines. A slice never splits one histogram."""
        blocks: list[str] = []
        lines = 0
        for metric in families:
            for block in self._blocks(metric, form):
                blocks.append(block)
                lines += block.count("\n")
                if lines >= slice_lines:
                    yield "".join(blocks).encode()
                    blocks.clear()
                    lines = 0
        if form.openmetrics:
            blocks.append("# EOF\n")
        yield "".join(blocks).encode()

    def _blocks(self, metric: Metric, form: Format) -> Iterator[str]:
        """The lines of one family; the lines of one histogram come as one block."""
        yield _header(metric, form)
        moved: dict[str, list[Sample]] = {}
        samples = metric.samples if form.openmetrics else _without_odd(metric, moved)
        line = partial(self._openmetrics_line if form.openmetrics else self._text_line, metric.type)
        if metric.type in _HISTOGRAMS:
            yield from _join_histograms(samples, line)
        else:
            yield from map(line, samples)
        for suffix, odd in sorted(moved.items()):
            yield _text_header(metric.name + suffix, metric.documentation, "gauge")
            yield from map(line, odd)

    def _text_line(self, kind: str, sample: Sample) -> str:
        line = self._prefix(kind, sample) + _number(sample.value)
        if sample.timestamp is not None:
            line += f" {int(float(sample.timestamp) * 1000):d}"  # milliseconds here, seconds in OpenMetrics
        return line + "\n"

    def _openmetrics_line(self, kind: str, sample: Sample) -> str:
        line = self._prefix(kind, sample) + _number(sample.value)
        if sample.timestamp is not None:
            line += f" {sample.timestamp}"
        if sample.exemplar is not None:
            line += _exemplar(sample.exemplar)
        return line + "\n"

    def _prefix(self, kind: str, sample: Sample) -> str:
        labels = sample.labels
        key = (kind, sample.name, *labels, *labels.values())
        prefix = self._young.get(key)
        if prefix is None:
            prefix = self._old.get(key) or _compose_prefix(kind, sample.name, labels)
            if len(self._young) >= self._limit:
                self._old, self._young = self._young, {}
            self._young[key] = prefix
        return prefix


async def expose(families: Iterable[Metric], renderer: Renderer, form: Format, *, gzip: bool) -> bytes:
    """The whole exposition, gzipped (level 1: level 9 takes 20 times as long for a third less) if wanted.

    Gives the loop its turn after each slice, compression included.
    """
    packer = zlib.compressobj(1, zlib.DEFLATED, 31) if gzip else None  # 31: a gzip header, the largest window
    body: list[bytes] = []
    for piece in renderer.render(families, form):
        body.append(packer.compress(piece) if packer else piece)
        await asyncio.sleep(0)
    if packer:
        body.append(packer.flush())
    return b"".join(body)


# -- the formats' grammar ---------------------------------------------------------------------------------------

_HISTOGRAMS: Final = frozenset({"histogram", "gaugehistogram"})
# How the text format calls what OpenMetrics has and it has not: name suffix, type.
_TEXT_TYPES: Final = {
    "counter": ("_total", "counter"),
    "info": ("_info", "gauge"),
    "stateset": ("", "gauge"),
    "gaugehistogram": ("", "histogram"),
    "unknown": ("", "untyped"),
}
# Samples that the text format knows only as gauge families of their own, behind the family.
_ODD_SUFFIXES: Final = ("_created", "_gsum", "_gcount")


def _header(metric: Metric, form: Format) -> str:
    if not form.openmetrics:
        suffix, kind = _TEXT_TYPES.get(metric.type, ("", metric.type))
        return _text_header(metric.name + suffix, metric.documentation, kind)
    unit = f"# UNIT {metric.name} {metric.unit}\n" if metric.unit else ""
    return f"# HELP {metric.name} {_escape(metric.documentation)}\n# TYPE {metric.name} {metric.type}\n{unit}"


def _text_header(name: str, documentation: str, kind: str) -> str:
    text = documentation.replace("\\", r"\\").replace("\n", r"\n")  # HELP keeps its quotes in the text format
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _without_odd(metric: Metric, moved: dict[str, list[Sample]]) -> Iterator[Sample]:
    """The samples that the text format keeps in the family; the others are put into `moved`, by suffix."""
    suffixes = {metric.name + suffix: suffix for suffix in _ODD_SUFFIXES}
    for sample in metric.samples:
        suffix = suffixes.get(sample.name)
        if suffix is None:
            yield sample
        else:
            moved.setdefault(suffix, []).append(sample)


def _join_histograms(samples: Iterable[Sample], line: Callable[[Sample], str]) -> Iterator[str]:
    """The lines of each histogram as one block: its buckets come first, up to +Inf, then its other samples."""
    block: list[str] = []
    open_ended = True  # whether a bucket that comes now belongs to the histogram before
    for sample in samples:
        bound = sample.labels.get("le")
        if bound is not None and not open_ended:
            yield "".join(block)
            block.clear()
        open_ended = bound is not None and bound != "+Inf"
        block.append(line(sample))
    yield "".join(block)


def _compose_prefix(kind: str, name: str, labels: Mapping[str, str]) -> str:
    if not labels:
        return f"{name} "
    if kind in _HISTOGRAMS and "le" in labels:
        labels = {**labels, "le": _go_string(labels["le"])}  # `60` and `60.0` would be two series
    text = ",".join([f'{key}="{_escape(value)}"' for key, value in sorted(labels.items())])
    return f"{name}{{{text}}} "


def _go_string(value: float | str) -> str:
    """A number as Go's strconv prints it."""
    return str(_untyped_go_string(value))  # type: ignore[no-untyped-call]


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    """`value` as Go prints it. Where Python's repr is the same, it is taken: this runs for every series."""
    value = float(value)
    return repr(value) if -1e6 < value < 1e6 else _go_string(value)


def _exemplar(exemplar: Exemplar) -> str:
    labels = ",".join([f'{key}="{_escape(value)}"' for key, value in sorted(exemplar.labels.items())])
    timestamp = "" if exemplar.timestamp is None else f" {exemplar.timestamp}"
    return f" # {{{labels}}} {_go_string(exemplar.value)}{timestamp}"
