"""Text that we did not write (names, paths, labels and messages out of files) on its way to somebody's screen, log,
page or program. Whatever is printed goes through here, so that it is shown and never obeyed (pure)."""

from __future__ import annotations

import json
import re
from typing import Any

INVISIBLE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # line breaks, escape sequences, C1 controls
    "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # direction, width, separators
    "\ud800-\udfff"  # bytes of a name that are no UTF-8
    "\U000e0000-\U000e0fff"  # tags and selectors nobody sees
    "]"
)
"""What a reader cannot see, and a terminal or page may obey. Joiners (U+200C, U+200D) are part of words and emoji."""
_COMMAND = re.compile(r"^\s*:(?=:)|#(?=#\w*\[)")
"""How lines of a log begin that CI services obey: ``::error``, and ``##[error]`` or ``##vso[…]`` anywhere."""
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_MARKDOWN = re.compile(r"[\\`*_\[\](){}|~$!^=]|[&<>]|://|www\.|(?P<mention>@|#(?=\w)|\bGH-(?=\d))")
_ELLIPSIS = " […] "


def printable(text: object, limit: int = 4000) -> str:
    """``text`` as one line to be printed: characters that a terminal or a CI service obeys, or that nobody sees,
    as escapes; of more than ``limit`` characters the two ends."""
    line = str(text)
    if len(line) > limit:
        half = (limit - len(_ELLIPSIS)) // 2
        line = line[:half] + _ELLIPSIS + line[-half:]
    return _COMMAND.sub(_escaped, INVISIBLE.sub(_escaped, line))


def _escaped(found: re.Match[str]) -> str:
    before, char = found[0][:-1], found[0][-1]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte of a file name that is no UTF-8
        code -= 0xDC00
    short = _SHORT.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
    return before + (short if code < 0x10000 else f"\\U{code:08x}")


def json_text(document: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """``document`` as JSON for a terminal, a log or a file: the same values, but nothing in it is obeyed on the way,
    and it is always valid UTF-8. Raises ValueError for numbers that are not finite."""
    separators = None if indent is not None else (",", ":")
    text = json.dumps(
        document, indent=indent, separators=separators, allow_nan=False, ensure_ascii=ascii_only
    )
    text = re.sub(r"#(?=#\w*\[)", r"\\u0023", text)
    return _BEYOND_LINES.sub(_json_escaped, text)


_BEYOND_LINES = re.compile(INVISIBLE.pattern.replace("\x00-\x1f", ""))  # JSON escapes those itself, in texts


def _json_escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def markdown(text: object) -> str:
    """``text`` as Markdown of one line that shows it: no markup, HTML, links, pictures, mentions or table cells."""
    return _MARKDOWN.sub(_marked_down, printable(text))


_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "://": "&#58;//", "www.": "www&#46;"}


def _marked_down(found: re.Match[str]) -> str:
    """Punctuation after a backslash; an empty comment ends a mention or a reference before it begins."""
    what = found[0]
    return _ENTITIES.get(what) or (what + "<!-- -->" if found["mention"] else "\\" + what)


def xml_text(text: object) -> str:
    """``text`` as XML 1.0 can hold it, on one line; the caller escapes markup."""
    return re.sub("[\ufffe\uffff]", "\ufffd", printable(text, limit=100_000))
