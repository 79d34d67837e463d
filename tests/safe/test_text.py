"""Label text: safe, bounded, and what was distinct stays distinct."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.exposition import OPENMETRICS, TEXT, Format, Renderer
from exporter.safe.text import OTHER, UNKNOWN, label_text, one_line

BIDI_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
NASTY = st.sampled_from(
    ["\x00", "\n", "\r", "\x1b[31m", "\x7f", "\x85", "\xad", "\ud800", "\udcff", "\u061c", "\u200b", "\u200e", "\u2028",
     "\u202e", "\u2066", "\u206f", "\ufeff", "\ufffd", "\uffff", "\U000e0041", '"', "\\", "~", "a", "é", "名", "🦀"]
)  # fmt: skip
NAMES = st.one_of(
    st.text(st.characters(), max_size=200),
    st.lists(NASTY, max_size=80).map("".join),
    st.binary(max_size=200).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.sampled_from([OTHER, UNKNOWN, "", "a" * 128, "a" * 129, "é" * 64, "é" * 65, "~000000000000"]),
)
LIMITS = st.integers(32, 1024)


def is_safe(text: str) -> bool:
    return not any(
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(character) in BIDI_CONTROLS
        for character in text
    )


@given(name=NAMES, limit=LIMITS)
def test_a_label_is_utf8_without_controls_and_within_the_limit(name: str, limit: int) -> None:
    text = label_text(name, limit)

    assert len(text.encode("utf-8")) <= limit
    assert is_safe(text)


@given(raw=st.binary(max_size=300))
def test_bytes_are_taken_as_the_text_they_stand_for(raw: bytes) -> None:
    assert label_text(raw) == label_text(raw.decode("utf-8", "surrogateescape"))


@given(name=st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=125), max_size=128))
def test_clean_text_passes_unchanged(name: str) -> None:
    assume(name not in {OTHER, UNKNOWN})
    assert label_text(name) == name


@given(one=NAMES, other=NAMES, limit=LIMITS)
def test_distinct_names_stay_distinct(one: str, other: str, limit: int) -> None:
    assume(one != other)
    assert label_text(one, limit) != label_text(other, limit)


@given(name=NAMES, limit=LIMITS)
def test_nobody_can_pose_as_another(name: str, limit: int) -> None:
    shown = label_text(name, limit)

    assert (label_text(shown, limit) == shown) is (shown == name)


@given(name=st.text(max_size=40), limit=LIMITS)
def test_long_names_that_differ_at_the_end_stay_distinct(name: str, limit: int) -> None:
    long = name + "x" * limit

    assert len({label_text(long + end, limit) for end in ("", "x", "y", "é", "\n")}) == 5


@pytest.mark.parametrize("invisible", ["\xad", "\u180e", "\u200b", "\u2060", "\u206a", "\ufeff", "\U000e0041"])
def test_names_that_look_alike_are_told_apart(invisible: str) -> None:
    assert label_text(f"queue{invisible}").startswith("queue\ufffd~")


def test_nobody_poses_as_what_was_folded() -> None:
    assert label_text(OTHER).startswith(f"{OTHER}~")


def test_what_a_system_calls_unknown_stays_so() -> None:
    assert label_text(UNKNOWN) == UNKNOWN


def test_the_form_of_a_mended_name() -> None:
    assert label_text("a\nb") == "a\ufffdb~" + label_text("a\nb")[-12:]
    assert label_text("é" * 100, 33) == "é" * 10 + "~" + label_text("é" * 100, 33)[-12:]


@given(names=st.lists(NAMES, max_size=5, unique=True), form=st.sampled_from([TEXT, OPENMETRICS]))
def test_the_official_parsers_read_it_back(names: list[str], form: Format) -> None:
    metric = Metric("x", "Help.", "gauge")
    for name in names:
        metric.add_sample("x", {"queue": label_text(name)}, 1)

    text = b"".join(Renderer().render([metric], form)).decode("utf-8")

    parse = parse_openmetrics if form.openmetrics else parse_text
    read = [sample.labels["queue"] for family in parse(text) for sample in family.samples]
    assert read == [label_text(name) for name in names]


# -- one line ---------------------------------------------------------------------------------------------------


@given(raw=NAMES, limit=st.integers(1, 300))
def test_one_line_is_one_bounded_line(raw: str, limit: int) -> None:
    line = one_line(raw, limit)

    assert len(line) <= limit
    assert is_safe(line)
    line.encode("utf-8")


def test_one_line_shows_what_was_there() -> None:
    assert one_line("a\nb\x1b\udcff") == r"a\nb\x1b\udcff"
    assert one_line("abcdef", 4) == "abc…"
