"""JSON and msgpack that would take all memory, all time or the whole stack if they were taken at their word.

Each is a value that may stand within a map, as an argument of a job or as its result.
"""

from __future__ import annotations

import random
from struct import pack

DEEP = 30_000

JSON_VALUES = {
    "lists, deep": b"[" * DEEP + b"]" * DEEP,
    "lists, deep, and open": b"[" * DEEP,
    "lists, deep, and NaN": b"[" * DEEP + b"NaN" + b"]" * DEEP,
    "NaN and lists, deep": b"[NaN, " + b"[" * DEEP + b"]" * DEEP + b"]",
    "dicts, deep": b'{"a":' * (DEEP // 4) + b"1" + b"}" * (DEEP // 4),
    "many lists": b"[" + b"[]," * (DEEP // 2) + b"[]]",
    "many lists and NaN": b"[" + b"[]," * (DEEP // 2) + b"NaN]",
    "many keys": b"{" + b",".join(b'"%x":1' % number for number in range(5000)) + b"}",
    "one key again and again": b"{" + b'"a":1,' * 5000 + b'"a":2}',
    "an int of 60,000 digits": b"9" * 60_000,
    "an int of 4,000 digits": b"9" * 4_000,
    "ints of 4,000 digits and NaN": b"[" + (b"9" * 4_000 + b",") * 14 + b"NaN]",
    "a number beyond numbers": b"1e999999999",
    "NaN": b"NaN",
    "minus infinity": b"-Infinity",
    "a lone surrogate": b'"\\ud800"',
    "no UTF-8": b'"\xff\xfe"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "a null byte": b'"\x00"',
    "an escaped null byte": b'"\\u0000"',
    "no escape": b'"\\x"',
    "a text without an end": b'"abc',
    "fields of its own": b'{"et": 1, "s": true, "r": 1, "st": 1, "ft": 2, "q": "q", "id": "id"}',
    "fields in a text": rb'"\", \"st\": 1, \"ft\": 2, \"q\": \"q\", \"id\": \"id\"}"',
    "keys again and again": b"[" + b'{"et": 1, "s": true, "r": 1}, ' * 900 + b"1]",
    "keys again and again and NaN": b"[" + b'{"et": 1, "s": true, "r": 1}, ' * 900 + b"NaN]",
    "an end in the middle": b'1, "st": 1, "ft": 2}',
}

MSGPACK_VALUES = {
    "lists, deep": b"\x91" * DEEP + b"\xc0",
    "dicts, deep": b"\x81\xa1a" * (DEEP // 3) + b"\xc0",
    "keys that are dicts, deep": b"\x81" * DEEP + b"\xc0",
    "a list of 4 billion": b"\xdd\xff\xff\xff\xff\xc0",
    "a dict of 4 billion": b"\xdf\xff\xff\xff\xff\xa1a\xc0",
    "a text of 4 GB": b"\xdb\xff\xff\xff\xffabc",
    "bytes of 4 GB": b"\xc6\xff\xff\xff\xffabc",
    "an ext of 4 GB": b"\xc9\xff\xff\xff\xff\x01abc",
    "many lists": b"\xdd" + pack(">I", DEEP) + b"\x90" * DEEP,
    "keys that are no texts": b"\x83\x01\xc0\xc3\xc0\xc4\x01a\xc0",
    "keys that are lists": b"\x81\x92\x01\x02\xc0",
    "one key again and again": b"\xde\x13\x88" + b"\xa1a\x01" * 5000,
    "NaN": b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    "infinity": b"\xca\x7f\x80\x00\x00",
    "no UTF-8": b"\xa2\xff\xfe",
    "a key that is no UTF-8": b"\x81\xa1\xff\xc0",
    "a lone surrogate": b"\xa3\xed\xa0\x80",
    "bytes": b"\xc4\x03abc",
    "an ext": b"\xc7\x03\x05abc",
    "a time": b"\xd6\xff\x00\x00\x00\x00",
    "a time beyond time": b"\xc7\x0c\xff" + b"\xff" * 12,
    "the byte that is never used": b"\xc1",
    "fields of its own": b"\x84\xa2st\x01\xa2ft\x02\xa1q\xa1q\xa2id\xa1i",
    "keys again and again": b"\xdc\x03\x84" + b"\x83\xa2et\x01\xa1s\xc3\xa1r\x01" * 900,
    "an end in the middle": b"\x01\xa2st\x01\xa2ft\x02",
}

JSON_BROKEN = {
    "an open brace": b"{",
    "an empty map": b"{}",
    "another map": b'{"a": 1}',
    "two maps": b"{}{}",
    "braces, deep": b"{" * 60_000,
    "brackets, deep": b'{"t":' + b"[" * 60_000,
    "white space without an end": b" " * 60_000 + b"{",
    "UTF-16": '{"t": 1}'.encode("utf-16"),
    "UTF-16 without its mark": '{"t": 1}'.encode("utf-16-le"),
    "a byte order mark": b'\xef\xbb\xbf{"t": 1}',
    "a list": b"[1]",
    "a text": b'"t"',
    "nothing but NaN": b'{"t": NaN}',
    "a comment": b'{/* */"t": 1}',
    "single quotes": b"{'t': 1}",
}

MSGPACK_BROKEN = {
    "an empty map": b"\x80",
    "a map of 15 and nothing": b"\x8f",
    "map16 and nothing": b"\xde",
    "map32 of 4 billion": b"\xdf\xff\xff\xff\xff",
    "map32 of 4 billion and an item": b"\xdf\xff\xff\xff\xff\xa1t\x01",
    "another map": b"\x81\xa1a\x01",
    "keys that are no texts": b"\x81\x01\x01",
    "keys that are maps, deep": b"\x81" * 60_000,
    "a list": b"\x91\x01",
}


def mangled(chance: random.Random, seeds: list[bytes]) -> bytes:
    """One of the seeds with a few bytes changed, put in, taken out; or with the tail of another."""
    changed = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(5):
            case 0:
                changed[at : at + 1] = chance.randbytes(1)
            case 1:
                del changed[at : at + chance.randint(1, 4)]
            case 2:
                changed[at:] = chance.choice(seeds)[-chance.randint(1, 100) :]
            case 3:
                changed[at:at] = changed[: chance.randint(0, 50)]
            case _:
                changed[at:at] = chance.choice(
                    (b"{", b"}", b"[", b'"', b",", b"\x8b", b"\xa1s", b"\xdf", b"\xc4", b"\xc0")
                )
    return bytes(changed)
