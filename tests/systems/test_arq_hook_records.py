"""The hook's records, read: as they are written, by newer hooks, and by whoever means harm."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Outcome, Unreadable
from exporter.systems.arq.ends.witnesses import Told
from exporter.systems.arq.hook.records import (
    ENTRY_FIELDS,
    RUNNING_BYTES,
    WORKER_FIELDS,
    Entry,
    Progress,
    WorkerRecord,
    read_entry,
    read_progress,
    read_worker,
)
from tests.systems.hook_records import fields, flat

NOW = 1_700_000_000.0
TIMES = {"due": NOW - 2, "start": NOW, "end": NOW + 1.5, "written": NOW + 2.5}
ODD_NUMBERS = ["", "x", "nan", "inf", "-1", "1e300", "9" * 400]
BYTES = st.binary(max_size=40) | st.sampled_from([b"1", b"succeeded", b"1700000000.5"])


def entry(**changes: Any) -> dict[str, str]:
    return fields("w:0000abcd", 7, **(TIMES | {"job": "j"} | changes))


def told(**changes: Any) -> Told | Unreadable:
    """What an entry tells that has a worker and a number."""
    found = read_entry("q", flat(entry(**changes)))
    assert isinstance(found, Entry)
    assert (found.worker, found.n) == ("w:0000abcd", 7)
    return found.told


def test_an_entry_as_it_is_written() -> None:
    succeeded = Told(
        queue="q",
        task="send",
        job_id="j",
        outcome=Outcome.SUCCEEDED,
        exception=None,
        attempt=1,
        due=NOW - 2,
        start=NOW,
        end=NOW + 1.5,
        written=NOW + 2.5,
        kept=False,
    )
    assert told() == succeeded
    retried = msgspec.structs.replace(succeeded, outcome=None, attempt=3, kept=True)
    assert told(outcome="retried", exception="", kept=1, **{"try": 3}) == retried
    assert told(outcome="failed", exception="KeyError").exception == "KeyError"  # type: ignore[union-attr]
    assert told(outcome="aborted").outcome is Outcome.ABORTED  # type: ignore[union-attr]


def test_other_order_and_more_fields_do_no_harm() -> None:
    shuffled = dict(reversed((entry() | {"added": "later"}).items()))
    assert read_entry("q", flat(shuffled)) == read_entry("q", flat(entry()))
    assert read_entry("q", [*flat(entry()), b"odd"]) == read_entry("q", flat(entry()))


@pytest.mark.parametrize(
    ("version", "reason"),
    [(2, "encoding"), ("10", "encoding"), ("", "malformed"), (0, "malformed"), ("1x", "malformed")],
)
def test_a_newer_version_is_not_read(version: object, reason: str) -> None:
    assert read_entry("q", flat(entry(v=version))) is Unreadable(reason)
    assert read_entry("q", [b"v", str(version).encode()]) is Unreadable(reason)
    assert read_worker([str(version).encode(), *[b""] * (len(WORKER_FIELDS) - 1)]) is Unreadable(reason)


@pytest.mark.parametrize("missing", ENTRY_FIELDS)
def test_a_field_that_is_missing(missing: bytes) -> None:
    whole = entry()
    del whole[missing.decode()]
    assert read_entry("q", flat(whole)) is Unreadable.MALFORMED


def test_no_number_beyond_reason() -> None:
    for number in ODD_NUMBERS:
        for name in ("start", "end", "written", "try"):
            assert told(**{name: number}) is Unreadable.MALFORMED
        assert read_entry("q", flat(entry(n=number))) is Unreadable.MALFORMED
    assert told(kept="yes") is told(outcome="won") is Unreadable.MALFORMED


def test_no_duration_is_negative_and_no_due_time_made_up() -> None:
    backwards = told(end=NOW - 5)
    assert isinstance(backwards, Told)
    assert (backwards.end, backwards.run) == (NOW - 5, 0.0)  # as its result tells it, whose clock was set back
    for unknown in (*ODD_NUMBERS, 0.001, 0):
        found = told(due=unknown)
        assert isinstance(found, Told)
        assert found.wait is None


def test_what_is_too_long() -> None:
    for name, most in (("job", 512), ("task", 256), ("exception", 128)):
        assert isinstance(told(**{name: "ä" * most}), Told)
        assert told(**{name: "ä" * (most + 1)}) is Unreadable.BOUNDS
    assert read_entry("q", flat(entry(worker="w" * 513))) is Unreadable.BOUNDS


def worker(**changes: Any) -> list[bytes | None]:
    numbers = {"slots": 10, "busy": 2, "functions": 3, "records": 40}
    known = {"v": 1, "queue": "q", "started": NOW, "at": NOW + 1, "beat": 5, **numbers, "arq": "0.28.0"} | changes
    return [None if known[name] is None else str(known[name]).encode() for name in WORKER_FIELDS]


def test_a_worker() -> None:
    assert read_worker(worker()) == WorkerRecord("q", NOW, NOW + 1, 5.0, 10, 2, 3, "0.28.0", 40)
    assert read_worker([None] * len(WORKER_FIELDS)) is None
    for name in ("started", "at", "beat", "slots", "busy", "functions", "records"):
        for number in (None, *ODD_NUMBERS):
            assert read_worker(worker(**{name: number})) is Unreadable.MALFORMED, name
    assert read_worker(worker(queue="q" * 513)) is read_worker(worker(arq="1" * 65)) is Unreadable.BOUNDS
    for beat, believed in ((0, 0.05), (1e9, 600.0)):
        found = read_worker(worker(beat=beat))
        assert isinstance(found, WorkerRecord)
        assert found.beat == believed


def test_progress() -> None:
    jobs = [{"id": "a"}, {"id": "b", "reported": NOW}, {"id": "c", "reported": NOW - 1, "done": 1, "total": None}]
    assert read_progress(json.dumps(jobs).encode()) == Progress(2, NOW - 1)
    assert read_progress(b"[]") == Progress(0, None)
    assert read_progress(None) is None
    # what msgspec refuses: lone surrogates, NaN, one bad job among good ones
    odd = [{"id": "\ud800", "reported": NOW}, {"reported": float("nan")}, {"reported": "x"}, 7, {"reported": 1e300}]
    assert read_progress(json.dumps(odd).encode()) == Progress(1, NOW)
    for bad in (b"", b"{", b"7", b"[" * 100_000, b"\xff"):
        assert read_progress(bad) is None
    assert read_progress(b" " * (RUNNING_BYTES + 1)) is None


@given(st.lists(BYTES, max_size=30), st.lists(st.none() | BYTES, min_size=10, max_size=10), st.binary(max_size=60))
def test_nothing_raises(parts: list[bytes], values: list[bytes | None], running: bytes) -> None:
    whole = [part for pair in zip(ENTRY_FIELDS, [*parts, *[b"1"] * 13], strict=False) for part in pair]
    for found in (read_entry("q", parts), read_entry("q", whole)):
        assert isinstance(found, Entry | Unreadable)
    assert isinstance(read_worker(values), WorkerRecord | Unreadable | None)
    assert msgspec.to_builtins(read_progress(running)) is not ...
