"""The renderer against its reference: prometheus_client's bytes and parsers."""

from __future__ import annotations

import asyncio
import gzip
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

from exporter.exposition import OPENMETRICS, TEXT, Format, Renderer, accepts_gzip, choose_format, expose

# -- arbitrary families -----------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LABEL_NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,6}", fullmatch=True).filter(lambda name: name != "le")
LABELS = st.dictionaries(LABEL_NAMES, TEXTS, max_size=4)
VALUES = st.one_of(st.floats(), st.integers(-(2**60), 2**60), st.sampled_from([0, 1, 1e6, 999999.0, 1e21, 1e-7, -0.0]))
TIMESTAMPS = st.none() | st.floats(0, 4e9)
EXEMPLARS = st.none() | st.builds(Exemplar, LABELS, st.floats(allow_nan=False), st.none() | st.floats(0, 4e9))
BOUNDS = st.lists(st.floats(0.001, 1e9), min_size=1, max_size=5, unique=True).map(sorted)
# The suffixes of samples by type; the empty one is the family's own name.
SUFFIXES = {
    "counter": ["_total", "_created"],
    "gauge": [""],
    "info": ["_info"],
    "stateset": [""],
    "summary": ["", "_sum", "_count", "_created"],
    "unknown": [""],
}


@st.composite
def plain_families(draw: st.DrawFn, name: str) -> Metric:
    kind = draw(st.sampled_from(sorted(SUFFIXES)))
    metric = Metric(name, draw(TEXTS), kind)
    for _ in range(draw(st.integers(0, 6))):
        suffix = draw(st.sampled_from(SUFFIXES[kind]))
        exemplar = draw(EXEMPLARS) if suffix == "_total" else None
        metric.samples.append(Sample(name + suffix, draw(LABELS), draw(VALUES), draw(TIMESTAMPS), exemplar))
    return metric


@st.composite
def histogram_families(draw: st.DrawFn, name: str) -> Metric:
    kind = draw(st.sampled_from(["histogram", "gaugehistogram"]))
    metric = Metric(name, draw(TEXTS), kind)
    count, total = ("_gcount", "_gsum") if kind == "gaugehistogram" else ("_count", "_sum")
    for labels in draw(st.lists(LABELS, max_size=4)):
        for bound in [*draw(BOUNDS), math.inf]:
            le = {**labels, "le": floatToGoString(bound)}  # type: ignore[no-untyped-call]
            metric.samples.append(Sample(f"{name}_bucket", le, draw(VALUES), None, draw(EXEMPLARS)))
        metric.samples.append(Sample(name + count, labels, draw(VALUES)))
        metric.samples.append(Sample(name + total, labels, draw(VALUES)))
    return metric


@st.composite
def expositions(draw: st.DrawFn) -> list[Metric]:
    shapes = draw(st.lists(st.sampled_from([plain_families, histogram_families]), max_size=4))
    return [draw(shape(f"taskqueue_family_{index}")) for index, shape in enumerate(shapes)]


def reference(families: list[Metric], form: Format) -> bytes:
    class Fixed(CollectorRegistry):
        def collect(self) -> list[Metric]:
            return families

    generate = generate_openmetrics if form.openmetrics else generate_latest
    return generate(Fixed())


RENDERER = Renderer(remembered_series=50)  # shared and small on purpose: every example meets the others' prefixes


@settings(max_examples=300, deadline=None)
@given(families=expositions(), slice_lines=st.integers(1, 40), form=st.sampled_from([TEXT, OPENMETRICS]))
def test_bytes_equal_prometheus_client_whatever_the_slices(
    families: list[Metric], slice_lines: int, form: Format
) -> None:
    slices = list(RENDERER.render(families, form, slice_lines))

    assert b"".join(slices) == reference(families, form)


@settings(max_examples=100, deadline=None)
@given(families=expositions(), slice_lines=st.integers(1, 5))
def test_a_slice_never_splits_a_histogram(families: list[Metric], slice_lines: int) -> None:
    # In OpenMetrics, as the text format tears _gcount and _gsum off a gauge histogram by itself.
    for piece in RENDERER.render(families, OPENMETRICS, slice_lines):
        last = piece.decode().rstrip("\n").rpartition("\n")[2]
        assert "_bucket" not in last.partition("{")[0] or last.startswith("#")


# -- a realistic exposition, read back --------------------------------------------------------------------------


def realistic() -> list[Metric]:
    gauge = Metric("taskqueue_queue_jobs", 'Jobs "ready"\nor not \\', "gauge")
    gauge.add_sample("taskqueue_queue_jobs", {"queue": 'a"b\\c\nd', "state": "ready"}, 3)
    counter = Metric("taskqueue_jobs_finished", "Finished.", "counter")
    exemplar = Exemplar({"job_id": "0af7"}, 0.67, 1520879607.789)
    counter.add_sample("taskqueue_jobs_finished_total", {"task": "send"}, 1e6, exemplar=exemplar)
    histogram = Metric("taskqueue_job_wait_seconds", "Wait.", "histogram")
    for le, count in (("0.1", 1), ("60", 2), ("+Inf", 2)):
        histogram.add_sample("taskqueue_job_wait_seconds_bucket", {"task": "send", "le": le}, count)
    histogram.add_sample("taskqueue_job_wait_seconds_count", {"task": "send"}, 2)
    histogram.add_sample("taskqueue_job_wait_seconds_sum", {"task": "send"}, 12.5)
    return [gauge, counter, histogram]


def rendered(form: Format) -> str:
    return b"".join(Renderer().render(realistic(), form)).decode()


@pytest.mark.parametrize(("form", "parse"), [(TEXT, parse_text), (OPENMETRICS, parse_openmetrics)])
def test_official_parsers_read_every_value_back(form: Format, parse: object) -> None:
    assert callable(parse)
    read = [sample for family in parse(rendered(form)) for sample in family.samples]

    expected = {(s.name, *sorted(s.labels.items())): s.value for family in realistic() for s in family.samples}
    bucket = ("taskqueue_job_wait_seconds_bucket", ("le", "60"), ("task", "send"))
    expected[("taskqueue_job_wait_seconds_bucket", ("le", "60.0"), ("task", "send"))] = expected.pop(bucket)
    assert {(s.name, *sorted(s.labels.items())): s.value for s in read} == expected


@pytest.mark.parametrize("form", [TEXT, OPENMETRICS])
@pytest.mark.parametrize("le", ["60", "60.0", "6e1"])
def test_le_is_always_a_float(form: Format, le: str) -> None:
    metric = Metric("x", "", "histogram")
    metric.add_sample("x_bucket", {"le": le}, 1)

    assert 'x_bucket{le="60.0"} 1.0' in b"".join(Renderer().render([metric], form)).decode()


def test_le_of_a_gauge_is_left_alone_even_beside_a_histogram_of_that_name() -> None:
    renderer = Renderer()
    for kind, shown in (("histogram", "60.0"), ("gauge", "60")):
        metric = Metric("x", "", kind)
        metric.add_sample("x_bucket", {"le": "60"}, 1)
        assert f'x_bucket{{le="{shown}"}} 1.0' in b"".join(renderer.render([metric], TEXT)).decode()


def test_memory_of_prefixes_is_bounded() -> None:
    renderer = Renderer(remembered_series=100)
    for number in range(1000):
        metric = Metric("x", "", "gauge")
        metric.add_sample("x", {"n": str(number)}, 1)
        list(renderer.render([metric], TEXT))

    assert len(renderer._young) + len(renderer._old) <= 200


# -- expose -----------------------------------------------------------------------------------------------------


async def test_gzip_carries_the_same_bytes() -> None:
    plain = await expose(realistic(), Renderer(), TEXT, gzip=False)
    packed = await expose(realistic(), Renderer(), TEXT, gzip=True)

    assert gzip.decompress(packed) == plain == reference_with_float_le()


def reference_with_float_le() -> bytes:
    return reference(realistic(), TEXT).replace(b'le="60"', b'le="60.0"')


async def test_the_loop_gets_its_turn_between_slices() -> None:
    metric = Metric("x", "", "gauge")
    for number in range(10_000):
        metric.add_sample("x", {"n": str(number)}, number)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count_turns())
    await expose([metric], Renderer(), TEXT, gzip=True)
    counter.cancel()

    assert turns >= 5


# -- negotiation ------------------------------------------------------------------------------------------------

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=2.0.0", TEXT),
        ("application/openmetrics-text;q=0.4,text/plain;q=0.6", TEXT),
        ("application/openmetrics-text;q=0.6,text/plain;q=0.4", OPENMETRICS),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=junk", TEXT),
        ("application/openmetrics-text;q=nan, text/plain;q=0.1", TEXT),
        ("APPLICATION/OpenMetrics-Text ; Version=1.0.0", OPENMETRICS),
        (";;,=,q=;", TEXT),
    ],
)
def test_format_by_negotiation(accept: str, form: Format) -> None:
    assert choose_format(accept) is form


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("", False),
        ("gzip", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("gzip;q=0", False),
        ("*", True),
        ("br", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
    ],
)
def test_gzip_by_negotiation(header: str, wanted: bool) -> None:
    assert accepts_gzip(header) is wanted
