"""The opcodes of pickles (protocols 0 to 5), by table: what each does to the stack, and nothing else.

Their meaning: CPython's Lib/pickletools.py. See `pickles` for what is kept and how reading is bounded.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from exporter.safe.machine import OPAQUE, Global, Machine, MalformedPickle, Object, Stop, Tuple, Value, leaf
from exporter.safe.operands import (
    F64,
    I32,
    U16,
    U32,
    Handler,
    byte,
    constant,
    decimal,
    decimal_float,
    decimal_or_bool,
    decoded,
    dup,
    empty_dict,
    escaped_text,
    fixed,
    line,
    lined,
    long1,
    not_kept,
    number,
    short_text,
    skipped,
    text,
)

_MAX_PROTOCOL: Final = 5


# -- the memo: what it holds is shared, never copied ------------------------------------------------------------


def _memoize(machine: Machine, at: int) -> int:
    memo = machine.memo
    memo[len(memo)] = machine.stack[-1]
    return at


def _get(form: Struct) -> Handler:
    read, width = form.unpack_from, form.size

    def handler(machine: Machine, at: int) -> int:
        machine.stack.append(machine.memo[read(machine.data, at)[0]])
        return at + width

    return handler


def _put(form: Struct) -> Handler:
    read, width = form.unpack_from, form.size

    def handler(machine: Machine, at: int) -> int:
        machine.memo[read(machine.data, at)[0]] = machine.stack[-1]
        return at + width

    return handler


def _place(machine: Machine, at: int) -> tuple[int, int]:
    """A place in the memo, in decimal, and where its line ends."""
    end = line(machine.data, at)
    if end - at > 10:
        raise MalformedPickle("found a place in the memo beyond 32 bits")
    return int(machine.data[at:end]), end


def _get_line(machine: Machine, at: int) -> int:
    place, end = _place(machine, at)
    machine.stack.append(machine.memo[place])
    return end + 1


def _put_line(machine: Machine, at: int) -> int:
    place, end = _place(machine, at)
    machine.memo[place] = machine.stack[-1]
    return end + 1


# -- containers -------------------------------------------------------------------------------------------------


def _mark(machine: Machine, at: int) -> int:
    machine.below.append(machine.stack)
    machine.stack = []
    return at


def _pop(machine: Machine, at: int) -> int:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.to_mark()
    return at


def _pop_mark(machine: Machine, at: int) -> int:
    machine.to_mark()
    return at


def _tuple(machine: Machine, at: int) -> int:
    items = machine.to_mark()
    machine.stack.append(Tuple(leaf(items[0]) if items else None))
    return at


def _short_tuple(size: int) -> Handler:
    def handler(machine: Machine, at: int) -> int:
        first = machine.stack[-size]
        del machine.stack[-size:]
        machine.stack.append(Tuple(leaf(first)))
        return at

    return handler


def _opaque_of_items(machine: Machine, at: int) -> int:
    machine.to_mark()
    machine.stack.append(OPAQUE)
    return at


def _drop_item(machine: Machine, at: int) -> int:
    """Puts an item or a state into what stands below it, which isn't kept."""
    machine.stack[-2]
    machine.stack.pop()
    return at


def _drop_items(machine: Machine, at: int) -> int:
    machine.to_mark()
    machine.stack[-1]
    return at


def _fill(target: Value, items: list[Any]) -> None:
    if len(items) % 2:
        raise MalformedPickle("found a key without a value")
    if target.__class__ is dict:
        for key, value in zip(items[::2], items[1::2], strict=True):
            if key.__class__ is str:
                target[key] = value


def _dict(machine: Machine, at: int) -> int:
    items = machine.to_mark()
    made: dict[str, Value] = {}
    _fill(made, items)
    machine.stack.append(made)
    return at


def _set_item(machine: Machine, at: int) -> int:
    stack = machine.stack
    target = stack[-3]
    _fill(target, stack[-2:])
    del stack[-2:]
    return at


def _set_items(machine: Machine, at: int) -> int:
    items = machine.to_mark()
    _fill(machine.stack[-1], items)
    return at


# -- opcodes that would import and call: they name -------------------------------------------------------------------


def _named(module: Any, name: Any) -> Value:
    return Global(module, name) if module.__class__ is str and name.__class__ is str else OPAQUE


def _made(by: Any, first: Any) -> Value:
    if by.__class__ is Global:
        return Object(by, leaf(first))
    return by if by.__class__ is Object else OPAQUE


def _called(by: Any, arguments: Any) -> Value:
    return _made(by, arguments.first if arguments.__class__ is Tuple else OPAQUE)


def _two_lines(machine: Machine, at: int) -> tuple[Value, int]:
    data = machine.data
    middle = line(data, at)
    end = line(data, middle + 1)
    return Global(decoded(data, at, middle), decoded(data, middle + 1, end)), end + 1


def _global(machine: Machine, at: int) -> int:
    found, end = _two_lines(machine, at)
    machine.stack.append(found)
    return end


def _stack_global(machine: Machine, at: int) -> int:
    stack = machine.stack
    stack[-2:] = [_named(stack[-2], stack[-1])]
    return at


def _reduce(machine: Machine, at: int) -> int:
    stack = machine.stack
    stack[-2:] = [_called(stack[-2], stack[-1])]
    return at


def _newobj_ex(machine: Machine, at: int) -> int:
    stack = machine.stack
    stack[-3:] = [_called(stack[-3], stack[-2])]
    return at


def _inst(machine: Machine, at: int) -> int:
    found, end = _two_lines(machine, at)
    items = machine.to_mark()
    machine.stack.append(_made(found, items[0] if items else None))
    return end


def _obj(machine: Machine, at: int) -> int:
    items = machine.to_mark()
    machine.stack.append(_made(items[0], items[1] if len(items) > 1 else None))
    return at


def _persistent(machine: Machine, at: int) -> int:
    machine.stack[-1] = OPAQUE
    return at


# -- the rest ---------------------------------------------------------------------------------------------------


def _stop(machine: Machine, at: int) -> int:
    machine.stack[-1]
    raise Stop


def _proto(machine: Machine, at: int) -> int:
    if machine.data[at] > _MAX_PROTOCOL:
        raise MalformedPickle("found a protocol that isn't known")
    return at + 1


def _frame(machine: Machine, at: int) -> int:
    """How many bytes may be read at once: nobody needs to know."""
    return at + 8


def _untouched(machine: Machine, at: int) -> int:
    machine.stack[-1]
    return at


def _unknown(machine: Machine, at: int) -> int:
    raise MalformedPickle("found an unknown opcode")


OPCODES: Final[dict[bytes, Handler]] = {
    b"(": _mark,
    b".": _stop,
    b"0": _pop,
    b"1": _pop_mark,
    b"2": dup,
    b"F": lined(decimal_float),  # FLOAT
    b"I": lined(decimal_or_bool),  # INT
    b"J": number(I32),  # BININT
    b"K": byte,  # BININT1
    b"L": lined(decimal),  # LONG
    b"M": number(U16),  # BININT2
    b"N": constant(None),
    b"P": lined(not_kept),  # PERSID
    b"Q": _persistent,  # BINPERSID
    b"R": _reduce,
    b"S": lined(not_kept),  # STRING, of Python 2
    b"T": skipped(4),  # BINSTRING
    b"U": skipped(1),  # SHORT_BINSTRING
    b"V": lined(escaped_text),  # UNICODE
    b"X": text(4),  # BINUNICODE
    b"a": _drop_item,  # APPEND
    b"b": _drop_item,  # BUILD
    b"c": _global,
    b"d": _dict,
    b"e": _drop_items,  # APPENDS
    b"g": _get_line,  # GET
    b"h": _get(Struct("<B")),  # BINGET
    b"i": _inst,
    b"j": _get(U32),  # LONG_BINGET
    b"l": _opaque_of_items,  # LIST
    b"o": _obj,
    b"p": _put_line,  # PUT
    b"q": _put(Struct("<B")),  # BINPUT
    b"r": _put(U32),  # LONG_BINPUT
    b"s": _set_item,
    b"t": _tuple,
    b"u": _set_items,
    b"}": empty_dict,
    b"]": constant(OPAQUE),  # EMPTY_LIST
    b")": constant(Tuple(None)),  # EMPTY_TUPLE
    b"G": number(F64),  # BINFLOAT
    b"B": skipped(4),  # BINBYTES
    b"C": skipped(1),  # SHORT_BINBYTES
    b"\x80": _proto,
    b"\x81": _reduce,  # NEWOBJ
    b"\x82": fixed(1),  # EXT1
    b"\x83": fixed(2),  # EXT2
    b"\x84": fixed(4),  # EXT4
    b"\x85": _short_tuple(1),
    b"\x86": _short_tuple(2),
    b"\x87": _short_tuple(3),
    b"\x88": constant(True),
    b"\x89": constant(False),
    b"\x8a": long1,
    b"\x8b": skipped(4),  # LONG4: beyond what LONG1 holds
    b"\x8c": short_text,  # SHORT_BINUNICODE
    b"\x8d": text(8),  # BINUNICODE8
    b"\x8e": skipped(8),  # BINBYTES8
    b"\x8f": constant(OPAQUE),  # EMPTY_SET
    b"\x90": _drop_items,  # ADDITEMS
    b"\x91": _opaque_of_items,  # FROZENSET
    b"\x92": _newobj_ex,
    b"\x93": _stack_global,
    b"\x94": _memoize,
    b"\x95": _frame,
    b"\x96": skipped(8),  # BYTEARRAY8
    b"\x97": constant(OPAQUE),  # NEXT_BUFFER
    b"\x98": _untouched,  # READONLY_BUFFER
}
HANDLERS: Final[list[Handler]] = [OPCODES.get(bytes((code,)), _unknown) for code in range(256)]
