"""The machine that a pickle's opcodes work on, and the values that it keeps of what unpickling would have made."""

from __future__ import annotations

import enum
from typing import Any, Final, TypeAlias, cast

import msgspec


class MalformedPickle(Exception):
    """What no pickler writes: an unknown opcode, nothing on the stack, a memo entry that isn't there, bad text."""


class Opaque(enum.Enum):
    """Stands for everything that isn't kept: lists, sets, bytes, buffers, persistent objects, huge ints."""

    OPAQUE = "opaque"


OPAQUE: Final = Opaque.OPAQUE


# No garbage collection: they hold nothing that could hold them, and no chain of themselves that would be freed
# recursively.


class Global(msgspec.Struct, frozen=True, gc=False):
    """A class or function that the pickle names, e.g. `builtins`, `ValueError`."""

    module: str
    name: str


Leaf: TypeAlias = bool | int | float | str | Global | None


_LEAVES: Final = frozenset({type(None), bool, int, float, str, Global})


def leaf(value: Any) -> Leaf:
    return cast(Leaf, value) if value.__class__ in _LEAVES else None


class Tuple(msgspec.Struct, frozen=True, gc=False):
    """A tuple, of which only the first item is kept: None where that is no `Leaf`."""

    first: Leaf


class Object(msgspec.Struct, frozen=True, gc=False):
    """What unpickling would have made by calling `by` with `first` and perhaps more; None where that is no `Leaf`.

    What an object made when called passes as that object: `functools.partial(C, ...)()` is by `partial` with C.
    """

    by: Global
    first: Leaf


Value: TypeAlias = "Leaf | dict[str, Value] | Tuple | Object | Opaque"


class Machine:
    """The state of an unpickler. `below` holds the stacks under each open mark."""

    __slots__ = ("below", "consumed", "data", "memo", "stack")

    def __init__(self, data: bytes, memo: dict[int, Value]) -> None:
        self.data = data
        self.memo = memo
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.consumed = False  # whether the bytes ended where an opcode did

    def to_mark(self) -> list[Any]:
        """Takes off what was put on since the last mark, and the mark. IndexError without one."""
        items = self.stack
        self.stack = self.below.pop()
        return items


class Stop(Exception):
    """The opcode STOP."""


class Cut(Exception):
    """An operand goes beyond the data."""
