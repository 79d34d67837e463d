"""Files of others: text and YAML, bounded, and what is wrong with them in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from exporter.safe.secrets import hide_urls
from exporter.safe.text import one_line

LARGEST: Final = 1024 * 1024
"""Characters of a file, and values of a YAML document, aliases unfolded."""

_STRING: Final = "tag:yaml.org,2002:str"


class DocumentError(ValueError):
    """A file that cannot be read, or is no YAML. The message says where, what was found and what is wanted."""


def read_text(path: Path) -> str:
    """The text of a file. Raises DocumentError."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        raise DocumentError(f"found no file that can be read ({error.strerror}), wanted one") from None
    except ValueError:  # a null byte in the name is one, too
        raise DocumentError("found no UTF-8 text, wanted it") from None
    if len(text) > LARGEST:
        raise DocumentError(f"found more than {LARGEST} characters, wanted fewer")
    return text


def read_yaml(path: Path) -> Any:
    """The document in a YAML file: plain values, in which every key is a string. Raises DocumentError."""
    text = read_text(path)
    try:
        document = yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
    except DocumentError:
        raise
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DocumentError(f"line {line}: found no YAML ({one_line(error.problem or '')}), wanted YAML") from None
    except Exception as error:  # PyYAML lets pass whatever its constructors raise: KeyError for `!!bool x`
        raise DocumentError(f"found no YAML ({one_line(str(error))}), wanted YAML") from None
    if _too_large(document):
        raise DocumentError(f"found aliases that unfold to more than {LARGEST} values, wanted fewer")
    return document


def shown(value: object) -> str:
    """A value as it was typed, in an error message. Not what follows `://`: a URL may stand anywhere by mistake."""
    return one_line(repr(hide_urls(value) if isinstance(value, str) else value), 60)


class _Loader(yaml.SafeLoader):
    """PyYAML, which would keep the last of two equal keys without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            where = f"line {key.start_mark.line + 1}"
            # No merge keys (`<<`) either: merges of merges grow without bound. A backtick is how msgspec quotes keys.
            if not isinstance(key, yaml.ScalarNode) or key.tag != _STRING or "`" in key.value:
                found = f"the key {shown(key.value)}" if isinstance(key, yaml.ScalarNode) else "a key of many values"
                raise DocumentError(f"{where}: found {found}, wanted a name")
            if key.value in seen:
                raise DocumentError(f"{where}: found the key {shown(key.value)} a second time, wanted it once")
            seen.add(key.value)
        return node


def _too_large(document: object) -> bool:
    """Whether aliases make a document larger than any file could be, or endless."""
    todo, seen = [document], 0
    while todo and seen <= LARGEST:
        value = todo.pop()
        seen += 1
        if isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, list | tuple | set):
            todo += value
    return bool(todo)
