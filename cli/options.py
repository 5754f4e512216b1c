"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

T = TypeVar("T")

debug_wanted: contextvars.ContextVar[bool] = contextvars.ContextVar("debug_wanted", default=False)
json_wanted: contextvars.ContextVar[bool] = contextvars.ContextVar("json_wanted", default=False)


def _remember_debug(wanted: bool) -> bool:
    if wanted:
        debug_wanted.set(True)
    return wanted


def _remember_json(wanted: bool) -> bool:
    if wanted:
        json_wanted.set(True)
    return wanted


Debug = Annotated[
    bool, typer.Option("--debug", callback=_remember_debug, help="Show a traceback when something fails.")
]
Json = Annotated[
    bool,
    typer.Option("--json", callback=_remember_json, help="Print exactly one JSON document on stdout."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but results and errors.")]

MAX_PIXELS = "Pixels of one flat image, frames counted (default 2^30)."
MAX_DECODED = "Bytes that one flat image, tile or chunk may take while it is decoded (default 2GiB)."
MaxPixels = Annotated[str | None, typer.Option("--max-pixels", help=MAX_PIXELS, show_default=False)]
MaxDecoded = Annotated[str | None, typer.Option("--max-decoded", help=MAX_DECODED, show_default=False)]


def parsed(option: str, text: str, parse: Callable[[str], T]) -> T:
    """``parse(text)``, with the option's name in front of what is wrong (UsageError)."""
    from octree.pyramid.errors import UsageError

    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error.message}", hint=error.hint) from error
