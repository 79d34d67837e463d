"""Caps: who is let in stays in, whatever comes beside."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.safe.limits import Names

SETS = st.sets(st.sampled_from("abcdefghij"))


def test_below_the_cap_everyone_is_let_in() -> None:
    assert Names(3, 128).admit(["a", "b", "c"]) == {"a", "b", "c"}


def test_who_was_let_in_stays_in_at_the_cap() -> None:
    names = Names(2, 128)
    names.admit(["c", "d"])

    assert names.admit(["a", "b", "c", "d"]) == {"c", "d"}


def test_a_place_that_is_given_up_goes_to_the_next() -> None:
    names = Names(2, 128)
    names.admit(["a", "b", "c"])

    assert names.admit(["c", "b"]) == {"b", "c"}
    assert names.admit(["a", "b", "c"]) == {"b", "c"}


def test_the_first_tier_goes_before_who_was_let_in() -> None:
    names = Names(2, 128)
    names.admit([], ["gone", "lost"])

    assert names.admit(["new"], ["gone", "lost"]) >= {"new"}


@given(rounds=st.lists(st.tuples(SETS, SETS), max_size=6), cap=st.integers(1, 6))
def test_caps_hold_and_nobody_flaps(rounds: list[tuple[set[str], set[str]]], cap: int) -> None:
    names = Names(cap, 128)
    before: frozenset[str] = frozenset()
    for first, second in rounds:
        second = second - first
        admitted = names.admit(sorted(first), sorted(second))

        assert admitted <= first | second
        assert len(admitted) == min(cap, len(first | second))
        stay = before & first
        assert stay <= admitted, "a place in the first tier is lost to nobody"
        before = admitted


def test_remembered_texts_are_bounded() -> None:
    names = Names(10, 128)
    for number in range(1000):
        assert names.text(f"queue\n{number}").startswith("queue")

    assert len(names._texts) <= 20
