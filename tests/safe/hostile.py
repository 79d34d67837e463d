"""Pickles that would run something, never end or take all memory if they were unpickled, and broken ones.

What would run makes the file MARKER. `nothing_runs()` shows that nothing does: by that file, and by the interpreter's
audit events, of which reading a pickle must raise none at all.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import random
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from struct import pack

MARKER = Path(tempfile.gettempdir()) / f"taskqueue-exporter-hostile-{os.getpid()}"
COMMAND = f"touch {MARKER}"

STOP = b"."


def text(value: str) -> bytes:
    return b"X" + pack("<I", len(value.encode())) + value.encode()


def name(module: str, function: str) -> bytes:
    return text(module) + text(function) + b"\x93"


SYSTEM = name("posix", "system")
RUN = text(COMMAND)
CALLED = SYSTEM + RUN + b"\x85R"
NESTED = b")" + b"2\x86" * 60  # () becomes ((), ()) becomes ...: hashing it takes 2**60 steps
DEEP = 100_000

CALLS = {
    "GLOBAL REDUCE": b"cposix\nsystem\n(V" + COMMAND.encode() + b"\ntR",
    "STACK_GLOBAL REDUCE": CALLED,
    "GLOBAL that imports": b"cantigravity\nfly\n",
    "STACK_GLOBAL that imports": name("idlelib.idle", "idle"),
    "STACK_GLOBAL with dots": name("os", "path.os.system") + RUN + b"\x85R",
    "NEWOBJ": name("subprocess", "Popen") + text("touch") + text(str(MARKER)) + b"\x86\x85\x81",
    "NEWOBJ_EX": name("subprocess", "Popen") + RUN + b"\x85}" + text("shell") + b"\x88s\x92",
    "INST": b"(V" + COMMAND.encode() + b"\niposix\nsystem\n",
    "OBJ": b"(cposix\nsystem\nV" + COMMAND.encode() + b"\no",
    "BUILD": name("types", "SimpleNamespace") + b")\x81}" + text("__setstate__") + SYSTEM + b"sb" + RUN + b"b",
    "EXT1": b"\x82\x01" + RUN + b"\x85R",
    "EXT2": b"\x83\x01\x02" + RUN + b"\x85R",
    "EXT4": b"\x84\x01\x02\x03\x04" + RUN + b"\x85R",
    "PERSID": b"P" + COMMAND.encode() + b"\n",
    "BINPERSID": RUN + b"Q",
    "eval": name("builtins", "eval") + text(f"__import__('os').system({COMMAND!r})") + b"\x85R",
    "exec": name("builtins", "exec") + text(f"open({str(MARKER)!r}, 'w')") + b"\x85R",
    "open": name("io", "open") + text(str(MARKER)) + text("w") + b"\x86R",
    "getattr": name("builtins", "getattr") + name("builtins", "__import__") + text("os") + b"\x85R"
    + text("system") + b"\x86R" + RUN + b"\x85R",
    "pickle in a pickle": name("_pickle", "loads") + b"C" + bytes([len(CALLED) + 1]) + CALLED + STOP + b"\x85R",
    "APPEND calls append": name("posix", "system") + RUN + b"\x85R" + RUN + b"a",
    "APPENDS calls extend": CALLED + b"(" + RUN + b"e",
    "SETITEMS calls __setitem__": CALLED + b"(" + RUN + RUN + b"u",
    "ADDITEMS calls add": CALLED + b"(" + RUN + b"\x90",
    "partial": name("functools", "partial") + SYSTEM + RUN + b"\x86R)R",
    "pow": name("builtins", "pow") + b"K\x0aJ\x00\xca\x9a\x3b\x86R",
    "a list of a range": name("builtins", "list") + name("builtins", "range")
    + b"\x8a\x06\xff\xff\xff\xff\xff\x0f\x85R\x85R",
}  # fmt: skip

BOMBS = {
    "nested tuples as a key": b"}" + NESTED + b"Ns",
    "nested tuples as keys": b"}(" + (NESTED + b"N") * 3 + b"u",
    "nested tuples in a dict of DICT": b"(" + NESTED + b"Nd",
    "nested tuples in a set": b"\x8f(" + NESTED + b"\x90",
    "nested tuples in a frozenset": b"(" + NESTED + b"\x91",
    "nested tuples by the memo": b"})\x94" + b"".join(
        b"hXhX\x86\x94".replace(b"X", bytes([n])) for n in range(60)
    ) + b"Ns",
    "ints that collide as keys": b"}(" + b"".join(
        b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little", signed=True) + b"N" for n in range(4000)
    ) + b"u",
    "places in the memo that collide": b"N" + b"".join(b"r" + pack("<I", n << 15) for n in range(13_000)),
    "lists that double": b"]\x94" + b"".join(b"](hXhXe\x94".replace(b"X", bytes([n])) for n in range(60)),
    "dicts that double": b"}\x94" + b"".join(
        b"}(" + text("a") + b"hX".replace(b"X", bytes([n])) + text("b") + bytes([0x68, n]) + b"u\x94" for n in range(60)
    ),
    "names that double": b"}(" + text("k") + text("n" * 1000) + b"\x94" + b"h\x00h\x00\x93" * 15_000,
    "objects that hold objects": name("a", "b") + b"\x85" + b"".join(b"cm\nC\n2\x85R\x85" for _ in range(8000)),
    "DUP": b"}" + b"2" * 60_000,
    "MEMOIZE": b"N" + b"\x94" * 60_000,
    "BINGET": b"N\x94" + b"h\x00" * 30_000,
    "a place in the memo beyond memory": b"Nr\xff\xff\xff\xff",
    "a place in the memo beyond numbers": b"Np" + b"9" * 5000 + b"\n",
    "a text of 4 GB": b"X\xff\xff\xff\xffabc",
    "BINUNICODE8": b"\x8d" + pack("<Q", 2**40) + b"abc",
    "BINUNICODE8 beyond 63 bits": b"\x8d" + pack("<Q", 2**64 - 1) + b"abc",
    "BINBYTES": b"B\xff\xff\xff\x7fabc",
    "BINBYTES8": b"\x8e" + pack("<Q", 2**40) + b"abc",
    "BYTEARRAY8": b"\x96" + pack("<Q", 2**40),
    "BINSTRING below 0": b"T" + pack("<i", -1) + b"abc",
    "LONG4": b"\x8b\xff\xff\xff\x7f\x01",
    "LONG4 below 0": b"\x8b\x00\x00\x00\x80\x01",
    "FRAME": b"\x95" + pack("<Q", 2**63) + b"N",
    "NEXT_BUFFER": b"\x97\x98",
    "LONG of a million digits": b"L" + b"9" * 1_000_000 + b"L\n",
    "LONG of 60,000 digits": b"L" + b"9" * 60_000 + b"L\n",
    "INT of 60,000 digits": b"I" + b"9" * 60_000 + b"\n",
    "FLOAT of 60,000 digits": b"F" + b"9" * 60_000 + b"\n",
    "marks, deep": b"(" * DEEP,
    "lists, deep": b"]" * DEEP + b"a" * (DEEP - 1),
    "dicts, deep": (b"}" + text("k")) * (DEEP // 10) + b"N" + b"s" * (DEEP // 10),
    "dicts, deep, and whole": (b"}" + text("k")) * 1000 + b"N" + b"s" * 1000,
    "tuples, deep": b")" + b"\x85" * DEEP,
    "objects, deep": b"cm\nC\n" + b"\x85R" * (DEEP // 2),
    "a list in itself": b"]\x94h\x00a",
    "a dict in itself": b"}\x94" + text("k") + b"h\x00s",
}  # fmt: skip

_GOOD = pickle.dumps(
    {"t": 1, "f": "f", "a": (), "k": {}, "et": 1, "s": True, "r": None, "st": 1, "ft": 2, "q": "q", "id": "id"}
)
BROKEN = {
    "nothing after PROTO": b"\x80\x04",
    "cut amid a text": _GOOD[:15],
    "cut amid a number": _GOOD[: _GOOD.index(b"K") + 1],
    "cut before SETITEMS": _GOOD[:-2],
    "cut before STOP": _GOOD[:-1],
    "protocol 9": b"\x80\x05\x80\x09N.",
    "no such opcode": b"\x80\x04\xff.",
    "no UTF-8": b"\x80\x04X\x02\x00\x00\x00\xff\xfe.",
    "no number": b"\x80\x04Iabc\n.",
    "no escape": b"\x80\x04V\\u12\n.",
    "a key without a value": b"\x80\x04}(X\x01\x00\x00\x00ku.",
    "no memo entry": b"\x80\x04h\x07.",
    "no place in the memo": b"\x80\x04Npx\n.",
    "no line end": b"\x80\x04cposix",
} | {
    f"nothing on the stack for {opcode!r}": b"\x80\x04" + opcode + b"N."
    for opcode in (b".", b"0", b"1", b"2", b"R", b"Q", b"a", b"b", b"d", b"e", b"l", b"o", b"p0\n", b"q\x00", b"s",
                   b"t", b"u", b"iposix\nsystem\n", b"\x81", b"\x85", b"\x86", b"\x87", b"\x90", b"\x91", b"\x92",
                   b"\x93", b"\x94", b"\x98", b"(o", b"(u", b"(s", b"(R")
}  # fmt: skip

HOSTILE: dict[str, bytes] = {
    **{label: b"\x80\x04" + body + STOP for label, body in (CALLS | BOMBS).items()},
    **{
        f"{label}, protocol 0": body + STOP
        for label, body in CALLS.items()
        if label in {"GLOBAL REDUCE", "INST", "OBJ"}
    },
    **BROKEN,
}
"""None of them is the result of a job."""

_OPERATIONS = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


def mutated(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds with a few bytes changed, put in, taken out; or with the tail of another."""
    changed = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(6):
            case 0:
                changed[at : at + 1] = chance.randbytes(1)
            case 1:
                changed[at:at] = chance.choice(_OPERATIONS)
            case 2:
                del changed[at : at + chance.randint(1, 4)]
            case 3:
                changed[at:] = chance.choice(seeds)[-chance.randint(1, 100) :]
            case 4:
                changed[at:at] = changed[: chance.randint(0, 50)]
            case _:
                changed[at : at + 1] = chance.choice(_OPERATIONS)
    return bytes(changed)


class _Watch(threading.local):
    events: list[str] | None = None


_watch = _Watch()
_installed: list[bool] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _watch.events is not None:
        _watch.events.append(f"{event} {arguments!r:.200}")


@contextmanager
def nothing_runs() -> Iterator[list[str]]:
    """Within it, nothing is imported, opened, called by name or otherwise audited; gives what was, so far."""
    if not _installed:
        _installed.append(True)
        sys.addaudithook(_note)  # for good: it can't be taken back
    MARKER.unlink(missing_ok=True)
    seen: list[str] = []
    _watch.events = seen
    try:
        yield seen
    finally:
        _watch.events = None
    ran = MARKER.exists()
    MARKER.unlink(missing_ok=True)
    assert not seen
    assert not ran
