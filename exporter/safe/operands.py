"""The opcodes of pickles that put a value of their own on the stack: numbers, texts, and what isn't kept."""

from __future__ import annotations

from codecs import raw_unicode_escape_decode
from collections.abc import Callable
from struct import Struct
from typing import Final, TypeAlias

from exporter.safe.machine import OPAQUE, Cut, Machine, Value

TEXT_BYTES: Final = 1024
"""Of a longer text only the head is kept."""
_DIGITS: Final = 640
"""Of a number in decimal: as many as LONG1, the binary form, holds. int() takes quadratic time."""
Handler: TypeAlias = Callable[[Machine, int], int]
"""Does an opcode; takes the position after it, gives that after its operand."""


U16: Final = Struct("<H")
I32: Final = Struct("<i")
U32: Final = Struct("<I")
_U64: Final = Struct("<Q")
F64: Final = Struct(">d")


def line(data: bytes, at: int) -> int:
    """Where the line that starts at `at` ends."""
    end = data.find(b"\n", at)
    if end < 0:
        raise Cut
    return end


def _sized(length: Struct) -> Callable[[bytes, int], tuple[int, int]]:
    """A function for operands with a length before them: gives start and end."""
    read, width = length.unpack_from, length.size

    def bounds(data: bytes, at: int) -> tuple[int, int]:
        start = at + width
        end = start + read(data, at)[0]
        if end > len(data):
            raise Cut
        return start, end

    return bounds


_SIZED: Final = {length.size: _sized(length) for length in (Struct("<B"), U32, _U64)}


def decoded(data: bytes, start: int, end: int) -> str:
    if end - start > TEXT_BYTES:
        return data[start : start + TEXT_BYTES].decode("utf-8", "replace")
    return data[start:end].decode("utf-8", "surrogatepass")


# -- opcodes that put something on the stack --------------------------------------------------------------------


def constant(value: Value) -> Handler:
    def handler(machine: Machine, at: int) -> int:
        machine.stack.append(value)
        return at

    return handler


def number(form: Struct) -> Handler:
    read, width = form.unpack_from, form.size

    def handler(machine: Machine, at: int) -> int:
        machine.stack.append(read(machine.data, at)[0])
        return at + width

    return handler


def byte(machine: Machine, at: int) -> int:
    machine.stack.append(machine.data[at])
    return at + 1


def long1(machine: Machine, at: int) -> int:
    data = machine.data
    end = at + 1 + data[at]
    if end > len(data):
        raise Cut
    machine.stack.append(int.from_bytes(data[at + 1 : end], "little", signed=True))
    return end


def short_text(machine: Machine, at: int) -> int:
    data = machine.data
    end = at + 1 + data[at]
    if end > len(data):
        raise Cut
    machine.stack.append(data[at + 1 : end].decode("utf-8", "surrogatepass"))
    return end


def text(width: int) -> Handler:
    bounds = _SIZED[width]

    def handler(machine: Machine, at: int) -> int:
        start, end = bounds(machine.data, at)
        machine.stack.append(decoded(machine.data, start, end))
        return end

    return handler


def skipped(width: int) -> Handler:
    """An operand with its length before it, which isn't kept."""
    bounds = _SIZED[width]

    def handler(machine: Machine, at: int) -> int:
        _, end = bounds(machine.data, at)
        machine.stack.append(OPAQUE)
        return end

    return handler


def fixed(width: int) -> Handler:
    """An operand of `width` bytes, which isn't kept: a number of the extension registry."""

    def handler(machine: Machine, at: int) -> int:
        if at + width > len(machine.data):
            raise Cut
        machine.stack.append(OPAQUE)
        return at + width

    return handler


def lined(read: Callable[[bytes], Value]) -> Handler:
    """An operand that is a line."""

    def handler(machine: Machine, at: int) -> int:
        end = line(machine.data, at)
        machine.stack.append(read(machine.data[at:end]))
        return end + 1

    return handler


def decimal(line: bytes) -> Value:
    return OPAQUE if len(line) > _DIGITS else int(line.removesuffix(b"L"))


def decimal_or_bool(line: bytes) -> Value:
    return line == b"01" if line in (b"00", b"01") else decimal(line)


def decimal_float(line: bytes) -> Value:
    return OPAQUE if len(line) > _DIGITS else float(line)


def escaped_text(line: bytes) -> Value:
    # Not bytes.decode: it imports this codec at its first use.
    if len(line) > TEXT_BYTES:
        return raw_unicode_escape_decode(line[:TEXT_BYTES], "ignore")[0]
    return raw_unicode_escape_decode(line)[0]


def not_kept(line: bytes) -> Value:
    return OPAQUE


def empty_dict(machine: Machine, at: int) -> int:
    machine.stack.append({})
    return at


def dup(machine: Machine, at: int) -> int:
    machine.stack.append(machine.stack[-1])
    return at
