"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperOption

from octree.pyramid.errors import UsageError
from octree.pyramid.options import RUN, Option, Table

F = TypeVar("F", bound=Callable[..., Any])

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


class Command(TyperCommand):
    """A command that refuses an option given twice where one is meant: the library would take the last, silently. Of how it
    runs (--workers, --memory) the last one counts, as aliases and scripts are used to."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        seen = set()
        for option in given:
            one = isinstance(option, TyperOption) and not (option.multiple or option.is_flag)
            if one and option.name in seen and getattr(option, "rich_help_panel", None) != RUN:
                raise UsageError(
                    f"{option.opts[-1]} is given several times, and takes one value",
                    hint=f"see '{ctx.command_path} --help' for what it takes",
                )
            seen.add(option.name)
        return super().parse_args(ctx, args)


def with_options(*tables: Table) -> Callable[[F], F]:
    """A command with the options of these tables before its own: they reach its ``**given`` as they were written,
    texts and flags, None or False where they were not given. The tables read them."""

    def dress(function: F) -> F:
        signature = inspect.signature(function, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        first = [p for p in own if p.default is inspect.Parameter.empty]
        parameters = [*first, *(_parameter(o) for table in tables for o in table), *own[len(first) :]]
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined] # inspect reads it
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        )
        return function

    return dress


def _parameter(option: Option) -> inspect.Parameter:
    plain = option.flag or option.many or option.default is None
    info = typer.Option(
        *option.short,
        option.long,
        help=option.help,
        rich_help_panel=option.group or None,
        show_default=(option.default_text or False) if plain else True,
        metavar=None if option.flag else option.kind.symbol,
    )
    kind: Any = bool if option.flag else list[str] | None if option.many else str | None
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if option.flag else None if plain else str(option.default),
        annotation=Annotated[kind, info],
    )


def given_of(table: Table, given: dict[str, Any]) -> dict[str, Any]:
    """What was given of one table's options."""
    return {name: given[name] for name in table.names if given[name] is not None and given[name] is not False}


def warn_of_tcp(scheduler: str | None) -> None:
    """A line on stderr where ``scheduler`` is one that anybody may call."""
    from octree.cli.console import say

    if str(scheduler).startswith("tcp://"):
        say(
            "warning: tcp:// is unauthenticated: whoever reaches that scheduler's port can run code here and there; "
            "use tls:// on networks that others share"
        )
