"""Options declared once: type, default, unit and help in one line of a table. Pure.

The command line, the environment, the Python interface, suite files, the settings file and the documentation are
made from these tables: ``building/option_table.py``, ``render/option_table.py``, ``render/config.py``. What is
wrong with a value is said in the same words wherever it was given.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from octree.pyramid.errors import UsageError
from octree.pyramid.units import parse_bytes, parse_ms, parse_rate, parse_time_ms

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value. ``words`` say what is allowed; ``parse`` takes a text of the command line, or a value of
    TOML, JSON or Python, and raises ValueError (nothing more to say than ``words``) or UsageError. ``symbol``
    stands for the value in ``--help``; ``choices`` are all there are, of a word."""

    words: str
    parse: Callable[[Any], Any]
    symbol: str = "TEXT"
    choices: tuple[str, ...] = ()

    def read(self, name: str, value: Any) -> Any:
        """``value`` checked. Raises UsageError that says ``name``, the value, and what is allowed."""
        try:
            return self.parse(value)
        except UsageError as error:
            raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
        except (ValueError, TypeError, OverflowError):
            if self.choices:
                raise UsageError(
                    f"unknown {name} {shown(value)}", hint=f"choose {', '.join(self.choices)}"
                ) from None
            raise UsageError(f"{name} must be {self.words}, not {shown(value)}") from None


def shown(value: object) -> str:
    """A value in an error message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True, slots=True)
class Option:
    """One option. ``name`` is the Python name: ``min_coverage`` is ``--min-coverage`` on the command line.

    ``default`` is given as a user would write it; None means that not giving it has a meaning of its own, which
    ``unset`` says. ``many``: given several times, the values go to the layers in order. ``group`` is the heading
    in ``--help``; ``setting`` the key of the settings file whose value this option replaces; ``live`` means
    something to a node in somebody else's canvas too.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    unset: str = ""
    group: str = ""
    many: bool = False
    setting: str = ""
    live: bool = False
    short: tuple[str, ...] = ()

    @property
    def flag(self) -> bool:
        return self.kind is FLAG

    @property
    def long(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def default_text(self) -> str:
        """What the documentation says of not giving it."""
        return self.unset or ("" if self.flag or self.default in (None, "") else str(self.default))

    @property
    def initial(self) -> Any:
        """The value of an option that is not given."""
        return False if self.flag else None if self.default is None else self.read(self.default)

    @property
    def described(self) -> str:
        """Its help, with what not giving it means."""
        return f"{self.help}  [default: {self.default_text}]" if self.default_text else self.help

    def read(self, value: Any) -> Any:
        """``value`` checked. Raises UsageError that names the option, the value, and what is allowed."""
        return self.kind.read(self.long, value)


@dataclass(frozen=True, slots=True)
class Table:
    """Options in the order of ``--help``. ``what`` names their owner in error messages."""

    what: str
    options: tuple[Option, ...]

    def __iter__(self) -> Iterator[Option]:
        return iter(self.options)

    def __getitem__(self, name: str) -> Option:
        return next(option for option in self.options if option.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(option.name for option in self.options)

    def check_names(self, given: Mapping[str, Any]) -> None:
        """Raises UsageError for a name that is no option, with all that are."""
        for name in given:
            if name not in self.names:
                raise UsageError(
                    f"{self.what} has no option {name.replace('_', '-')!r}",
                    hint=f"options: {', '.join(self.names).replace('_', '-')}",
                )

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every option's value: as given, or its default; None in ``given`` is not given. Those of ``many`` are
        left out: they are the layers' own. Raises UsageError."""
        self.check_names(given)
        return {
            option.name: option.initial if given.get(option.name) is None else option.read(given[option.name])
            for option in self
            if not option.many
        }


RUN = "How it runs"
"""The group of options that change nothing of what comes out."""


# kinds that any table may use


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(value)
    return value


def _local_path(value: Any) -> str:
    """A name that a file or folder of this machine can have. Raises UsageError for a URL, ValueError for what no file
    can be called."""
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(value)
    if "://" in text:
        raise UsageError(
            f"{text} is a URL, and this is a file or folder of this machine",
            hint="give a local path; what is written there can be copied elsewhere afterwards",
        )
    os.fsencode(text)  # UnicodeEncodeError is a ValueError
    return text


FLAG = Kind("true or false", _flag)
TEXT = Kind("a text", _text)
ANY = Kind("anything", lambda value: value)
BYTES = Kind("a number of bytes of at least 0, or a text such as 512MiB", parse_bytes, "BYTES")
MS = Kind("milliseconds of at least 0, or a text such as 50ms", parse_ms, "TIME")
TIME = Kind("a time with its unit, such as 50ms", parse_time_ms, "TIME")
PATH = Kind("a path of this machine", _local_path, "PATH")
RATE = Kind("bytes a second above 0, or a text such as 20MB/s", parse_rate, "RATE")


def choice(*allowed: str) -> Kind:
    """One of some words."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(value)
        return value

    return Kind(f"one of {', '.join(allowed)}", parse, "WORD", allowed)


def finite(value: Any) -> float:
    """A finite number out of a text or a number. Raises ValueError."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(shown(value))
    return number


def number(low: float, high: float = math.inf, *, above: bool = False) -> Kind:
    """A number from ``low`` (or above it) to ``high``."""

    def parse(value: Any) -> float:
        found = finite(value)
        if not low <= found <= high or (above and found == low):
            raise ValueError(value)
        return found

    most = f" and <= {high:g}" if high < math.inf else ""
    if (low, high) == (0, 1):
        return Kind("a number from 0 to 1", parse, "FRACTION")
    return Kind(f"a number {'>' if above else '>='} {low:g}{most}", parse, "NUMBER")


def whole(low: int, high: int | None = None) -> Kind:
    """A whole number from ``low`` to ``high``."""

    def parse(value: Any) -> int:
        if isinstance(value, str) and len(value) > 30:
            raise ValueError(value)
        found = int(value) if isinstance(value, str) else value
        if isinstance(found, float) and found.is_integer():
            found = int(found)
        if isinstance(found, bool) or not hasattr(found, "__index__"):
            raise ValueError(value)
        found = found.__index__()
        if found < low or (high is not None and found > high):
            raise ValueError(value)
        return found

    span = f"from {low} to {high}" if high is not None else f"of at least {low}"
    return Kind(f"a whole number {span}", parse, "INTEGER")


def takes(*tables: Table) -> Callable[[F], F]:
    """A function whose ``**options`` are those of the tables: its signature and docstring name each of them."""

    def dress(function: F) -> F:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        options = [option for table in tables for option in table]
        named = [
            inspect.Parameter(
                option.name, inspect.Parameter.KEYWORD_ONLY, default=False if option.flag else option.default
            )
            for option in options
        ]
        function.__signature__ = signature.replace(parameters=[*own, *named])  # type: ignore[attr-defined] # inspect reads it
        width = max(len(option.name) for option in options)
        lines = [f"        {option.name:{width}}  {option.described}" for option in options]
        function.__doc__ = (
            f"{(function.__doc__ or '').rstrip()}\n\n    Options:\n\n" + "\n".join(lines) + "\n    "
        )
        return function

    return dress
