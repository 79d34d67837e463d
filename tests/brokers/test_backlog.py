"""Bytes in, messages out: whole, in order, within bounds, and in linear time and memory."""

from __future__ import annotations

import tracemalloc

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.brokers.backlog import MESSAGE_BYTES, NOTHING, PIECE_BYTES, Backlog
from exporter.brokers.bounded import Overrun

MEGABYTE = 1024 * 1024


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


def message(payload: bytes) -> bytes:
    return b"*3\r\n" + bulk(b"message") + bulk(b"channel") + bulk(payload)


def fill(backlog: Backlog, data: bytes, size: int) -> None:
    """As a socket would: `size` bytes at a time."""
    view = memoryview(data)
    for start in range(0, len(data), size):
        backlog.put(view[start : start + size])


def drain(backlog: Backlog) -> list[object]:
    found = []
    while (one := backlog.take()) is not NOTHING:
        found.append(one)
    return found


@given(
    st.lists(st.binary(max_size=300) | st.just(b"x" * 50_000) | st.just(b"*9999999\r\n$99999999\r\n"), max_size=20),
    st.sampled_from([1, 7, 100, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, MEGABYTE]),
)
def test_messages_come_out_whole_however_they_came_in(payloads: list[bytes], size: int) -> None:
    backlog = Backlog()
    data = b"".join(map(message, payloads))
    fill(backlog, data[:5_000], 1)
    fill(backlog, data[5_000:], size)
    assert backlog.size == backlog.peak == len(data)
    assert [one[2] for one in drain(backlog)] == payloads  # type: ignore[index]
    assert backlog.size == 0


def test_the_buffer_it_was_filled_from_may_be_overwritten() -> None:
    backlog = Backlog()
    data = bytearray(message(b"first"))
    backlog.put(memoryview(data))
    data[:] = bytes(len(data))
    assert drain(backlog) == [[b"message", b"channel", b"first"]]


def test_what_has_no_end_yet_is_kept() -> None:
    backlog = Backlog()
    data = message(b"x" * 100)
    backlog.put(memoryview(data[:-1]))
    assert backlog.take() is NOTHING
    backlog.put(memoryview(data[-1:]))
    assert drain(backlog) == [[b"message", b"channel", b"x" * 100]]


def test_tiny_arrivals_take_no_more_memory_than_they_say() -> None:
    backlog = Backlog()
    one = memoryview(b"x")
    tracemalloc.start()
    try:
        for _ in range(200_000):
            backlog.put(one)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert backlog.size == 200_000
    assert held < 2 * backlog.size


def test_a_message_longer_than_the_bound_is_refused() -> None:
    backlog = Backlog()
    part = memoryview(bulk(b"x" * MEGABYTE))
    backlog.put(memoryview(b"*1000\r\n"))
    for _ in range(MESSAGE_BYTES // MEGABYTE - 1):
        backlog.put(part)
        assert backlog.take() is NOTHING
    backlog.put(part)
    with pytest.raises(Overrun, match="message larger than"):
        backlog.take()


@pytest.mark.parametrize("head", [b"*2147483647\r\n", b"*3\r\n*9999999\r\n", b"$99999999\r\n", b"+" + b"x" * MEGABYTE])
def test_sizes_beyond_the_bounds_are_refused(head: bytes) -> None:
    backlog = Backlog()
    backlog.put(memoryview(head))
    with pytest.raises(Overrun):
        backlog.take()


@pytest.mark.parametrize("junk", [b"HTTP/1.1 400 Bad Request\r\n", b"$-2\r\n", b"\x00\r\n", b":x\r\n"])
def test_what_is_no_protocol_raises_and_a_cleared_backlog_starts_anew(junk: bytes) -> None:
    backlog = Backlog()
    fill(backlog, junk + message(b"behind"), 3)
    with pytest.raises(hiredis.ProtocolError):
        drain(backlog)
    backlog.clear()
    assert backlog.size == 0
    fill(backlog, message(b"new"), MEGABYTE)
    assert drain(backlog) == [[b"message", b"channel", b"new"]]


def test_values_that_look_like_nothing_are_messages() -> None:
    backlog = Backlog()
    fill(backlog, b"#f\r\n$-1\r\n*-1\r\n*0\r\n:0\r\n$0\r\n\r\n-ERR \xff\r\n", MEGABYTE)
    values = drain(backlog)
    assert values[:-1] == [False, None, None, [], 0, b""]
    assert isinstance(values[-1], hiredis.ReplyError)


def test_arrays_in_arrays_do_no_harm() -> None:
    backlog = Backlog()
    fill(backlog, b"*1\r\n" * 1000 + b":1\r\n" + message(b"behind"), MEGABYTE)
    found = drain(backlog)
    assert len(found) == 2
    assert found[1] == [b"message", b"channel", b"behind"]


def test_an_array_of_many_keys_fits() -> None:
    keys = [b"arq:in-progress:%032d" % number for number in range(200_000)]
    data = b"*3\r\n" + bulk(b"message") + bulk(b"__redis__:invalidate") + b"*200000\r\n" + b"".join(map(bulk, keys))
    backlog = Backlog()
    fill(backlog, data, PIECE_BYTES * 4)
    assert drain(backlog) == [[b"message", b"__redis__:invalidate", keys]]
