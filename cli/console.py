"""Where words go: data on stdout, everything else on stderr. Nothing else in this room writes to either.

A line that is said may hold text from files: it is shown, never obeyed (``octree.pyramid.foreign``). rich obeys
NO_COLOR and writes plain text where there is no terminal.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from octree.cli.signals import reported
from octree.pyramid.errors import OctreeError, OctreeWarning, WriteError
from octree.pyramid.foreign import json_text, printable

if TYPE_CHECKING:
    from rich.console import Console


@functools.cache
def err_console() -> Console:
    """The console for people, on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say(line: str, *, style: str = "", lead: str = "") -> None:
    """One line on stderr, after ``lead``, words of ours in rich's ``style``."""
    console = err_console()
    if lead:
        console.print(lead, style=style, markup=False, end="")
    console.print(printable(line), markup=False)


def say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """In the place of ``warnings.showwarning``: what we or a library warn of, without the line of code."""
    whose = "" if issubclass(category, OctreeWarning) else f"{category.__name__}: "
    say(f"warning: {whose}{message}")


def say_json(document: Any) -> None:
    """One JSON document on one line of stderr."""
    print(json_text(document, ascii_only=True), file=sys.stderr, flush=True)


def put(line: str = "", *, lead: tuple[str, str, str] | None = None) -> None:
    """One line of a result that people read, on stdout, after a ``lead`` of ours: words, and words in a style."""
    if lead is not None:
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=True, emoji=False)
        console.print(lead[0], markup=False, end="")
        console.print(lead[1], style=lead[2], markup=False, end="")
    _write_out(printable(line))


def print_json(document: Any) -> None:
    """Exactly one JSON document on stdout. Non-finite numbers are a bug and raise."""
    ascii_only = not (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    reported()
    _write_out(json_text(document, indent=2, ascii_only=ascii_only))
    flush_out()


def _write_out(text: str) -> None:
    """What the encoding of stdout has no character for goes out as an escape. Raises WriteError."""
    if sys.stdout is None:  # as after >&-
        raise WriteError("nothing can be printed: stdout is closed", hint="give it a file, or /dev/null")
    encoding = sys.stdout.encoding or "ascii"
    with _out_errors():
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def flush_out() -> None:
    """Whatever was printed is where it goes. Raises WriteError."""
    if sys.stdout is not None:
        with _out_errors():
            sys.stdout.flush()


@contextmanager
def _out_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise WriteError(
            f"writing to stdout failed: {error.strerror}", hint="free some space, or write elsewhere"
        ) from error


def print_error(error: OctreeError, *, as_json: bool) -> None:
    """What, where, why and what to do, in a few lines; with ``as_json`` also the document on stdout. Where nothing can
    be written the exit code alone says it."""
    if as_json:
        with suppress(WriteError, BrokenPipeError):
            print_json({"error": error.to_json()})
    with suppress(OSError):
        say(error.message, style="bold red", lead="error: ")
        if error.hint:
            say(error.hint, style="bold", lead="hint:  ")
