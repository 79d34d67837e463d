"""Label text: anything that lies in a broker becomes a label value that is safe, bounded and still distinct."""

from __future__ import annotations

import hashlib
import re
from typing import Final

OTHER: Final = "__other__"
"""Where names beyond a cap are folded into."""
UNKNOWN: Final = "__unknown__"
"""What is not known; never a plausible name."""

_RESERVED: Final = frozenset({OTHER})  # systems themselves say UNKNOWN: who names a task so tells no more
_HASH_CHARS: Final = 12
# C0, DEL, C1; lone surrogates; invisible, bidirectional and line-separating marks, which make two names look alike
# or turn a line of a terminal around (Trojan Source, CVE-2021-42574); byte order mark; non-characters; tags.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\ud800-\udfff\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\U000e0000-\U000e007f]"
)
_LOOKS_MENDED: Final = re.compile(rf"~[0-9a-f]{{{_HASH_CHARS}}}\Z")


def label_text(raw: str | bytes, limit: int = 128) -> str:
    """A label value for `raw`: valid UTF-8, no control characters, at most `limit` bytes.

    Text that is clean passes unchanged. Any other is mended (unsafe characters replaced, the tail cut) and gets a
    suffix `~<hash of the original>`, so that names which differ stay different. A clean text that looks as if it had
    been mended, or that is a reserved name, gets the suffix too: nobody can pose as another name.
    """
    text = raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else raw
    if _is_clean(text, limit):
        return text
    original = text.encode("utf-8", "surrogatepass")
    suffix = "~" + hashlib.blake2b(original, digest_size=_HASH_CHARS // 2).hexdigest()
    return _cut(_UNSAFE.sub("�", text), limit - len(suffix)) + suffix


def one_line(raw: str, limit: int = 300) -> str:
    """`raw` as one bounded line for logs, error messages and pages: unsafe characters are shown escaped."""
    line = _UNSAFE.sub(lambda match: ascii(match.group())[1:-1], raw)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _is_clean(text: str, limit: int) -> bool:
    if _UNSAFE.search(text) or len(text.encode()) > limit:
        return False
    return text not in _RESERVED and not _LOOKS_MENDED.search(text)


def _cut(text: str, limit: int) -> str:
    """The longest head of `text` that is at most `limit` bytes of whole UTF-8 characters."""
    return text.encode()[:limit].decode("utf-8", "ignore")
