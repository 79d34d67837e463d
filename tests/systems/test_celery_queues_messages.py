"""What is read of the messages of tasks, and what is made of those that are none."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.systems.celery.queues.messages import (
    LARGEST_ODD,
    Delivered,
    Message,
    read_delivered,
    read_message,
)
from tests.systems.celery_queues import message
from tests.systems.observing import START


def test_the_headers_of_a_task_are_read() -> None:
    text = message("1", eta=START, retries=2, redelivered=True).encode()
    assert read_message(text) == Message("1", START, 2, True)


def test_a_delivered_message_names_its_route() -> None:
    record = json.dumps([json.loads(message("1")), "shop", "in"]).encode()
    assert read_delivered(record) == Delivered(Message("1", None, 0, False), "shop", "in")


def test_without_exchange_and_key_they_are_empty() -> None:
    record = json.dumps([json.loads(message("1")), None, None]).encode()
    assert read_delivered(record) == Delivered(Message("1", None, 0, False), "", "")


def test_a_text_that_msgspec_refuses_is_read_all_the_same() -> None:
    text = message("1", argsrepr="\udcff", kwargsrepr=float("nan")).encode()
    assert read_message(text) == Message("1", None, 0, False)


def test_an_eta_without_offset_is_utc() -> None:
    headers = {"id": "1", "eta": "2023-11-14T22:13:20"}
    assert read_message(json.dumps({"headers": headers}).encode()) == Message("1", START, 0, False)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"x",
        b"null",
        b"[]",
        b"{}",
        b'{"headers": null}',
        b'{"headers": {}}',  # protocol 1 has its id in the body
        b'{"headers": {"id": 1}}',
        b'{"headers": {"id": ""}}',
        b'{"headers": {"id": "1", "eta": "soon"}}',
        b'{"headers": {"id": "1", "eta": 5}}',
        b'{"headers": {"id": "1", "retries": "x"}}',
        b'{"headers": {"id": "%s"}}' % (b"x" * 513),
        b"[" * 100_000,
        b'{"headers": ' + b'{"a":' * 50_000,
        b"\x80\x04K\x01.",
        b'{"headers": {"id": "1"}, "x": NaN, "body": "%s"}' % (b"x" * LARGEST_ODD),
    ],
)
def test_what_is_no_task_is_told_apart(text: bytes) -> None:
    assert read_message(text) is None
    found = read_delivered(b"[" + text + b', "", "celery"]')
    assert found is None or found == Delivered(None, "", "celery")


@pytest.mark.parametrize("text", [b"{}", b'{"headers": {}}', b'{"headers": {}, "x": NaN}'])
def test_the_route_of_what_is_no_task_is_read(text: bytes) -> None:
    assert read_delivered(b"[" + text + b', "shop", "in"]') == Delivered(None, "shop", "in")


@pytest.mark.parametrize("text", [b"{}", b"[]", b"[{}]", b'[{"headers": {"id": "1"}}, 1, 2]', b'["a", "b", "c"]'])
def test_a_record_of_another_shape_is_none(text: bytes) -> None:
    assert read_delivered(text) is None


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(text: bytes) -> None:
    assert read_message(text) is None
    assert read_delivered(text) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "eta", "retries"]), inner),
    max_leaves=8,
)


@given(VALUES)
def test_no_document_does_harm(value: object) -> None:
    read_message(json.dumps({"headers": value}).encode())
    read_delivered(json.dumps([{"headers": value}, value, value]).encode())


def test_a_large_body_costs_little() -> None:
    text = json.dumps(json.loads(message("1")) | {"body": "x" * 4_000_000}).encode()
    began = time.perf_counter()
    assert read_message(text) == Message("1", None, 0, False)
    assert time.perf_counter() - began < 0.5
