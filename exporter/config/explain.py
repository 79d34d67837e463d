"""msgspec's errors in our terms: where in the file, what was found, what is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec

from exporter.safe.documents import shown

_OWN_MESSAGE: Final = ": found "
"""In what a part of the schema says of itself, in our terms already; msgspec never says so."""
_MESSAGE: Final = re.compile(r"(?P<what>.*?)(?: - at `\$?(?P<at>[^`]*)`)?$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<key>.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(?P<key>.*)`", re.DOTALL)


def explain(message: str, raw: Any, schema: Any) -> str:
    """msgspec's message in our terms: path, found, wanted."""
    match = _MESSAGE.match(message)
    what, at = (match["what"], match["at"] or "") if match else (message, "")
    steps = list(_steps(at))
    where = at.removeprefix(".")
    prefix = f"{where}: " if where else ""
    if unknown := _UNKNOWN.match(what):
        known = ", ".join(_known_keys(schema, steps))
        return f"{prefix}found the unknown key {shown(unknown['key'])}, wanted one of {known}"
    if missing := _MISSING.match(what):
        return f"{prefix}found no key {missing['key']!r}, wanted one"
    if _OWN_MESSAGE in what:
        return f"{where}.{what}"
    wanted = re.sub(r", got .*", "", what, flags=re.DOTALL).removeprefix("Expected ").replace("`", "")
    wanted = re.sub(r"^\w+", lambda word: _WANTED.get(word[0], word[0]), wanted.replace(" | null", ""))
    return f"{prefix}found {_found(raw, steps)}, wanted {wanted}"


def _steps(at: str) -> Iterator[str | int]:
    for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d*)\]", at):
        yield name or int(index or 0)


def _found(raw: Any, steps: list[str | int]) -> str:
    """The value at the path; of a secret only its kind."""
    value = raw
    try:
        for step in steps:
            value = value[step]
    except (KeyError, IndexError, TypeError):
        return "something else"
    if isinstance(value, dict | list) or any(str(step).startswith(_SECRET) for step in steps):
        return kind_of(value)
    return f"{shown(value)} ({kind_of(value)})"


_SECRET: Final = ("url", "password", "addresses")
"""How the keys begin where a secret may stand, if only by mistake."""


def _known_keys(schema: Any, steps: list[str | int]) -> tuple[str, ...]:
    """The keys that the schema knows at the path."""
    here = schema
    for step in steps:
        here = get_args(here)[0] if isinstance(step, int) else _field_type(here, step)
    return tuple(here.__struct_fields__)


def _field_type(struct: Any, name: str) -> Any:
    kind = next(field.type for field in msgspec.structs.fields(struct) if field.name == name)
    return get_args(kind)[0] if get_origin(kind) in (Annotated, UnionType) else kind


_KINDS: Final = {
    dict: "a mapping",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "nothing",
}

_WANTED: Final = {
    "object": "a mapping",
    "array": "a list",
    "str": "a string",
    "bool": "a boolean",
    "int": "an integer",
    "float": "a number",
}


def kind_of(value: object) -> str:
    """What a value of the file is, in words."""
    return _KINDS.get(type(value), type(value).__name__)
