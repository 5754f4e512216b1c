"""Where words go: data on stdout, everything else on stderr.

rich obeys NO_COLOR and writes plain text where there is no terminal.
"""

from __future__ import annotations

import functools
import json
import sys
from typing import TYPE_CHECKING, Any

from octree.pyramid.errors import OctreeError

if TYPE_CHECKING:
    from rich.console import Console


@functools.cache
def err_console() -> Console:
    """The console for people, on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


@functools.cache
def out_console() -> Console:
    """The console for results that people read, on stdout."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """Exactly one JSON document on stdout. Non-finite numbers are a bug and raise."""
    json.dump(document, sys.stdout, indent=2, allow_nan=False, ensure_ascii=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def print_error(error: OctreeError, *, as_json: bool) -> None:
    """What, where, why and what to do, in a few lines; with ``as_json`` also the document on stdout."""
    if as_json:
        print_json({"error": error.to_json()})
    console = err_console()
    console.print("[bold red]error:[/] ", end="")
    console.print(error.message, markup=False)
    if error.hint:
        console.print("[bold]hint:[/]  ", end="")
        console.print(error.hint, markup=False)
