"""Units: lengths and times as OME-Zarr names them, with the spellings people write and near matches; and the
quantities of options and settings: sizes (``512MiB``), times (``50ms``), rates (``20MB/s``)."""

from __future__ import annotations

import difflib
import math
import re
from decimal import Decimal
from typing import Any

from octree.pyramid.errors import UsageError

_PREFIXES = {
    "yocto": "y", "zepto": "z", "atto": "a", "femto": "f", "pico": "p", "nano": "n", "micro": "u", "milli": "m",
    "centi": "c", "deci": "d", "": "", "hecto": "h", "kilo": "k", "mega": "M", "giga": "G", "tera": "T", "peta": "P",
    "exa": "E", "zetta": "Z", "yotta": "Y",
}  # fmt: skip

SPACE_UNITS = frozenset(
    {prefix + "meter" for prefix in _PREFIXES} | {"angstrom", "foot", "inch", "mile", "parsec", "yard"}
)
TIME_UNITS = frozenset({prefix + "second" for prefix in _PREFIXES} | {"minute", "hour", "day"})

_METRES = {
    "yocto": 1e-24, "zepto": 1e-21, "atto": 1e-18, "femto": 1e-15, "pico": 1e-12, "nano": 1e-9, "micro": 1e-6,
    "milli": 1e-3, "centi": 1e-2, "deci": 1e-1, "": 1.0, "hecto": 1e2, "kilo": 1e3, "mega": 1e6, "giga": 1e9,
    "tera": 1e12, "peta": 1e15, "exa": 1e18, "zetta": 1e21, "yotta": 1e24,
}  # fmt: skip
_OTHER_METRES = {
    "angstrom": 1e-10, "inch": 0.0254, "foot": 0.3048, "yard": 0.9144, "mile": 1609.344, "parsec": 3.0856775814913673e16,
}  # fmt: skip


def _aliases() -> dict[str, str]:
    # symbols keep their case (mm and Mm differ); words are looked up in lower case
    table: dict[str, str] = {}
    for prefix, symbol in _PREFIXES.items():
        for sign in {"u": ("u", "µ", "μ")}.get(symbol, (symbol,)):
            table[sign + "m"] = prefix + "meter"
            table[sign + "s"] = prefix + "second"
        for word, unit in (
            ("metre", "meter"),
            ("metres", "meter"),
            ("meters", "meter"),
            ("seconds", "second"),
        ):
            table[prefix + word] = prefix + unit
    table |= {
        "micron": "micrometer",
        "microns": "micrometer",
        "\u00c5": "angstrom",
        "\u212b": "angstrom",  # the sign of the unit, not the letter
        "A": "angstrom",
    }
    table |= {"ångström": "angstrom", "angstroms": "angstrom", "in": "inch", '"': "inch", "inches": "inch"}
    table |= {"ft": "foot", "feet": "foot", "mi": "mile", "miles": "mile", "yd": "yard", "yards": "yard"}
    table |= {"pc": "parsec", "parsecs": "parsec", "sec": "second", "min": "minute", "minutes": "minute"}
    return table | {"h": "hour", "hours": "hour", "d": "day", "days": "day"}


_ALIASES = _aliases()


def known_unit(word: str | None) -> str | None:
    """The UDUNITS-2 word of OME-Zarr's list that ``word`` means, or None when it means none of them."""
    text = (word or "").strip()
    if text in _ALIASES:
        return _ALIASES[text]
    low = text.lower()
    if low in SPACE_UNITS or low in TIME_UNITS:
        return low
    # one-letter and two-letter words are symbols: their case counts ("MM" is not a length)
    return _ALIASES.get(low) if len(low) > 2 else None


def space_unit(word: str) -> str:
    """The unit of length that ``word`` means. Raises UsageError, with near matches, for anything else."""
    unit = known_unit(word) if isinstance(word, str) else None
    if unit in SPACE_UNITS:
        return unit
    if unit is not None:
        raise UsageError(
            f"{word!r} is a unit of time; the voxel size is a length",
            hint="use a unit of length, for example micrometer",
        )
    near = difflib.get_close_matches(str(word).lower(), sorted(SPACE_UNITS | {"micron"}), n=3, cutoff=0.5)
    guess = f"did you mean {', '.join(near)}? " if near else ""
    raise UsageError(
        f"{word!r} is not a unit of length that OME-Zarr knows",
        hint=f"{guess}Use a UDUNITS word such as micrometer, nanometer, millimeter, meter or angstrom.",
    )


def metres(unit: str) -> float | None:
    """How many metres one ``unit`` of length is; None for a word that is none of OME-Zarr's list."""
    if unit in _OTHER_METRES:
        return _OTHER_METRES[unit]
    return _METRES.get(unit.removesuffix("meter")) if unit.endswith("meter") else None


def converted(length: float, own: str, other: str) -> float:
    """``length`` in units ``own`` as a number of units ``other``, both of ``SPACE_UNITS``.

    In decimal, so that 500 nanometers are 0.5 micrometers and not a neighbour of it.
    """
    ratio = Decimal(repr(metres(own))) / Decimal(repr(metres(other)))
    return float(Decimal(repr(float(length))) * ratio)


# quantities of options and settings

_BYTE_WORDS = {
    "": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12,
    "tb": 10**12, "ki": 2**10, "kib": 2**10, "mi": 2**20, "mib": 2**20, "gi": 2**30, "gib": 2**30, "ti": 2**40,
    "tib": 2**40,
}  # fmt: skip
_PIXEL_WORDS = {
    unit + px: factor
    for unit, factor in (("", 1), ("k", 10**3), ("m", 10**6), ("g", 10**9), ("t", 10**12))
    for px in ("", "px", "pixels")
}
_MS_WORDS = {
    "": 1.0,
    "ms": 1.0,
    "s": 1e3,
    "us": 1e-3,
    "µs": 1e-3,
    "μs": 1e-3,
    "m": 6e4,
    "min": 6e4,
    "h": 3.6e6,
}
_QUANTITY = re.compile(
    r"\s*\+?(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)\s*([A-Za-zµμ]*)\s*", re.ASCII
)


def parse_bytes(text: str | float) -> int:
    """Bytes from ``512MiB``, ``2GB``, ``1.5 k`` or a plain number; at least 0. Raises UsageError."""
    amount = _parse_quantity(text, _BYTE_WORDS, "a size", "use bytes, or KiB, MiB, GiB, KB, MB, GB: 512MiB")
    if amount >= 2**63:
        raise UsageError(f"{_shown(text)} is too large a size", hint="use at most 8388607TiB")
    return round(amount)


def parse_pixels(text: str | float) -> int:
    """Pixels from ``500M``, ``2G``, ``1e9`` or a plain number; at least 0. Raises UsageError."""
    amount = _parse_quantity(text, _PIXEL_WORDS, "a number of pixels", "use pixels, or k, M, G: 500M")
    if amount >= 2**63:
        raise UsageError(f"{_shown(text)} is too large a number of pixels", hint="use at most 9e18")
    return round(amount)


_STEPS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def bytes_text(count: float) -> str:
    """``1.5 MiB``: three figures are enough for people."""
    size, step = float(count), 0
    while size >= 1024 and step < len(_STEPS) - 1:
        size, step = size / 1024, step + 1
    return f"{size:.3g} {_STEPS[step]}" if step and size < 1000 else f"{size:.0f} {_STEPS[step]}"


def parse_ms(text: str | float) -> float:
    """Milliseconds from ``50ms``, ``1.5s``, ``2min`` or a plain number of milliseconds; at least 0. Raises
    UsageError."""
    return _parse_quantity(text, _MS_WORDS, "a time", "use ms, s, us, min or h: 50ms")


def parse_time_ms(text: str | float) -> float:
    """Milliseconds from ``50ms`` or ``1.5s``: of names that say no unit, so that only 0 may be without. Raises
    UsageError."""
    time_ms = parse_ms(text)
    if time_ms and not (isinstance(text, str) and text.strip()[-1].isalpha()):
        raise UsageError(f"{_shown(text)} has no unit", hint=f"give it as {text!s:.12}s or {text!s:.12}ms")
    return time_ms


def parse_rate(text: str | float) -> float:
    """Bytes per second from ``20MB/s``, ``100Mbit/s``, ``1GiB`` or a plain number; above 0. Raises UsageError."""
    if isinstance(text, str):
        body = re.sub(r"\s*(/\s*s|ps)\s*$", "", text)
        bits = re.fullmatch(r"(.*?[kKmMgG]i?|.*?\d\s*)bits?", body)
        amount = _rate_of(bits[1], text) / 8 if bits else _rate_of(body, text)
    else:
        amount = _rate_of(text, text)
    if amount <= 0:
        raise UsageError(f"{text!r} is not above 0", hint="leave it out for no limit")
    return amount


def _rate_of(body: str | float, text: str | float) -> float:
    hint = "use bytes per second, as 20MB/s, 1GiB/s or 100Mbit/s"
    try:
        return _parse_quantity(body, _BYTE_WORDS, "a rate", hint)
    except UsageError:
        raise UsageError(f"{text!r} is not a rate", hint=hint) from None


def _parse_quantity(text: object, words: dict[str, Any], what: str, hint: str) -> float:
    if isinstance(text, int | float) and not isinstance(text, bool):
        amount = _float(text)
    elif isinstance(text, str) and (match := _QUANTITY.fullmatch(text)) and match[2].lower() in words:
        amount = float(match[1]) * words[match[2].lower()]
    else:
        raise UsageError(f"{_shown(text)} is not {what}", hint=hint)
    if not (math.isfinite(amount) and amount >= 0):
        raise UsageError(f"{_shown(text)} is not {what} of at least 0", hint=hint)
    return amount


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # whole numbers have no end
        return math.inf


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
