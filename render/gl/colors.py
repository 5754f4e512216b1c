"""Colours as numbers: names, colormaps as tables, label ids. No OpenGL here."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import UsageError

if TYPE_CHECKING:
    from vispy.color import BaseColormap

TABLE_SIZE = 4096
GRAYS = ("gray", "grey", "grays", "greys")

RGBA = tuple[float, float, float, float]


def parse_color(text: str) -> RGBA:
    """RGBA, each 0 to 1, of a colour name, ``#rgb``, ``#rgba``, ``#rrggbb``, ``#rrggbbaa`` or ``transparent``."""
    word = text.strip().lower()
    if word in ("transparent", "none"):
        return 0.0, 0.0, 0.0, 0.0
    if (match := re.fullmatch(r"#?([0-9a-f]{6}(?:[0-9a-f]{2})?|[0-9a-f]{3,4})", word)) and (
        word.startswith("#") or len(word) in (6, 8)
    ):
        digits = match[1]
        if len(digits) < 6:
            digits = "".join(digit * 2 for digit in digits)
        values = [int(digits[i : i + 2], 16) / 255 for i in range(0, len(digits), 2)]
        return values[0], values[1], values[2], values[3] if len(values) > 3 else 1.0
    names = _color_names()
    if word in names:
        return parse_color(names[word])
    near = difflib.get_close_matches(word, names, 3)
    raise UsageError(
        f"no colour called {text!r}",
        hint=f"a name such as {', '.join(near) or 'red, white'}, or #rrggbb, #rrggbbaa, transparent",
    )


def _color_or_none(text: str) -> RGBA | None:
    try:
        return parse_color(text)
    except UsageError:
        return None


def _color_names() -> dict[str, str]:
    from vispy.color import get_color_dict

    names: dict[str, str] = get_color_dict()
    return names


def colormap_values(name: str | BaseColormap, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 4) RGBA, not premultiplied, at n places from 0 to 1 of a colormap: gray, black to one colour ("red",
    "#00ff00"), one of vispy's or matplotlib's by name, or a vispy colormap. A name that is both ("orange", "pink") is the
    colour. UsageError for what is none."""
    at = np.clip(at, 0, 1)
    if name in GRAYS:
        return np.stack([at, at, at, np.ones_like(at)], axis=1)
    from vispy.color import get_colormap, get_colormaps

    if isinstance(name, str) and (color := _color_or_none(name)) is not None:
        return np.stack([*(at * value for value in color[:3]), np.full_like(at, color[3])], axis=1)
    try:
        found = get_colormap(name)
    except (KeyError, TypeError) as error:
        near = difflib.get_close_matches(str(name), get_colormaps(), 3) or ["gray", "viridis", "magma"]
        raise UsageError(
            f"no colormap or colour called {name!r}",
            hint=f"a colormap such as {', '.join(near)}; or a colour such as red, #00ff00",
        ) from error
    values: Any = found.map(at.astype(np.float32)[:, None])  # some maps take columns only
    return np.clip(np.asarray(values, np.float64).reshape(len(at), 4), 0, 1)


def is_solid(name: str | BaseColormap) -> bool:
    """Whether every colour of a colormap is opaque."""
    return bool((colormap_values(name, np.linspace(0.0, 1.0, 256))[:, 3] >= 1).all())


def color_table(name: str | BaseColormap, gamma: float) -> NDArray[np.uint8]:
    """(TABLE_SIZE, 4) RGBA: row i is the colour of the value (i / (TABLE_SIZE - 1))², gamma
    applied. By the root of the value, so that dark values keep their steps when gamma lifts them."""
    value = np.linspace(0.0, 1.0, TABLE_SIZE) ** 2
    color = colormap_values(name, value**gamma)
    return np.rint(color * 255).astype(np.uint8)


_PRIME_HUE, _PRIME_TONE = 65521, 65519
_STEP_HUE, _STEP_TONE = 40494, 28657


def label_colors(ids: NDArray[Any]) -> NDArray[np.uint8]:
    """(…, 4) RGBA of label ids (their low 32 bits); id 0 is transparent. The shader does the same, to the bit.

    The hue goes round by the golden section from id to id, so neighbours differ; a second remainder picks
    among brighter, darker and paler tones, so ids that share a hue still differ.
    """
    number = np.asarray(ids).astype(np.int64) & 0xFFFFFFFF
    hue = number * _STEP_HUE % _PRIME_HUE * 6
    tone = number * _STEP_TONE % _PRIME_TONE * 8 // _PRIME_TONE
    sector, rest = np.divmod(hue, _PRIME_HUE)
    high = 255 - 28 * (tone % 4)
    low = np.where(tone < 4, 24, 80)
    rise = low + (high - low) * (rest * 255 // _PRIME_HUE) // 255
    fall = high + low - rise
    order = [(high, rise, low), (fall, high, low), (low, high, rise)]
    order += [(low, fall, high), (rise, low, high), (high, low, fall)]
    color = np.zeros((*number.shape, 4), np.uint8)
    for channel in range(3):
        color[..., channel] = np.choose(sector, [triple[channel] for triple in order])
    color[..., 3] = 255
    color[number == 0] = 0
    return color


def shader_constants() -> dict[str, str]:
    """Numbers that the shader must share: the table's size, and for ``label_colors`` a factor for each byte."""
    constants = {"TABLE_SIZE": f"{TABLE_SIZE}.0"}
    for name, prime, step in (("HUE", _PRIME_HUE, _STEP_HUE), ("TONE", _PRIME_TONE, _STEP_TONE)):
        factors = ", ".join(f"{256**byte * step % prime}.0" for byte in range(4))
        constants[f"{name}_FACTORS"] = f"vec4({factors})"
        constants[f"{name}_PRIME"] = f"{prime}.0"
    return constants
