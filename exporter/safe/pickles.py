"""Reads pickles (protocols 0 to 5) and runs nothing: a pull parser that knows the opcodes and imports no name.

`pickle.Unpickler` cannot be made safe by overriding `find_class`: 370 bytes of nested tuples as a dict key keep it
hashing for ever, ten bytes make it ask for gigabytes. This reader keeps scalars, dicts by their `str` keys, and of an
object who made it and the first argument. It hashes only strings and ints that opcodes built, never recurses,
allocates nothing by a declared length, and ends after MAX_BYTES or MAX_OPCODES, each opcode of which costs no more than
what it takes off the stack or out of the data.
"""

from __future__ import annotations

import enum
import struct
from typing import Final

import msgspec

from exporter.safe.machine import OPAQUE, Cut, Global, Machine, MalformedPickle, Object, Stop, Tuple, Value
from exporter.safe.opcodes import HANDLERS

__all__ = [
    "MAX_BYTES", "MAX_OPCODES", "OPAQUE", "End", "Global", "MalformedPickle", "Object", "Reading", "Tuple", "Value",
    "read_items", "read_pickle",
]  # fmt: skip

MAX_BYTES: Final = 1 << 16
MAX_OPCODES: Final = 5_000
"""About a millisecond. What a dict held up to there is still told."""


class End(enum.Enum):
    """Where reading ended."""

    WHOLE = "whole"  # at the STOP of the pickle
    CUT = "cut"  # the bytes ended first
    BOUNDS = "bounds"  # MAX_BYTES or MAX_OPCODES were used up


class Reading(msgspec.Struct, frozen=True):
    """What a pickle holds, and where reading ended.

    Unless it is WHOLE, `value` is the outermost dict as far as it was filled, None where the pickle is no dict. Its
    last value may be the first piece of what was being built there, and items after it further pieces: only who
    knows the order of the keys can tell.
    """

    value: Value
    end: End
    opcodes: int


def read_pickle(data: bytes) -> Reading:
    """What the pickle at the start of `data` holds. Raises MalformedPickle, nothing else."""
    machine = Machine(data if len(data) <= MAX_BYTES else data[:MAX_BYTES], {})
    end, opcodes = _run(machine)
    if end is End.WHOLE:
        return Reading(machine.stack[-1], end, opcodes)
    if end is End.CUT and len(data) > MAX_BYTES:
        end = End.BOUNDS
    return Reading(_outermost(machine), end, opcodes)


def read_items(data: bytes) -> list[Value]:
    """The values that a piece from the middle of a pickle puts on the stack, one after the other.

    What it refers to may stand before it, so that no reference is followed: those are OPAQUE. Raises MalformedPickle,
    also where the piece ends amid a value or takes what it did not put there.
    """
    machine = Machine(data[:MAX_BYTES], _Elsewhere())
    end, _ = _run(machine)
    if end is not End.CUT or machine.below or not machine.consumed:
        raise MalformedPickle("no whole items")
    return machine.stack


def _run(machine: Machine) -> tuple[End, int]:
    """Runs the pickle; where it ended, and after how many opcodes that were whole."""
    data, handlers = machine.data, HANDLERS
    at = opcodes = 0
    try:
        for opcodes in range(1, MAX_OPCODES + 1):  # noqa: B007
            at = handlers[data[at]](machine, at + 1)
    except Stop:
        return End.WHOLE, opcodes
    except (Cut, struct.error):
        return End.CUT, opcodes - 1
    except IndexError:  # of the data, or of the stack: an opcode that stood before the last byte had its operand
        if at + 1 < len(data):
            raise MalformedPickle("found less on the stack than is wanted") from None
        machine.consumed = at == len(data)
        return End.CUT, opcodes - 1
    except (KeyError, ValueError):
        raise MalformedPickle("found no text, no number or no memo entry where one is wanted") from None
    return End.BOUNDS, opcodes


def _outermost(machine: Machine) -> dict[str, Value] | None:
    """The outermost dict, with the items that were about to be put into it."""
    below, stack = machine.below, machine.stack
    bottom = below[0] if below else stack
    if not bottom or bottom[0].__class__ is not dict:
        return None
    found: dict[str, Value] = bottom[0]
    if below and len(bottom) == 1:
        waiting = below[1] if len(below) > 1 else stack
        for key, value in zip(waiting[::2], waiting[1::2], strict=False):
            if key.__class__ is not str:
                break
            found[key] = value
    return found


class _Elsewhere(dict[int, "Value"]):
    """A memo that is not at hand."""

    def __setitem__(self, key: int, value: Value) -> None:
        """Numbers given out here would not be those of the pickle."""

    def __missing__(self, key: int) -> Value:
        return OPAQUE
