"""Colours as numbers: names, colormaps as tables, label ids. No OpenGL here."""

from __future__ import annotations

import difflib
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import UsageError

TABLE_SIZE = 256


def parse_color(text: str) -> tuple[float, float, float, float]:
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


def _color_names() -> dict[str, str]:
    from vispy.color import get_color_dict

    names: dict[str, str] = get_color_dict()
    return names


def colormap_table(name: str) -> NDArray[np.uint8]:
    """(256, 4) RGBA of a colormap: a vispy colormap by name, or black to one colour ("red", "#00ff00")."""
    ramp = np.linspace(0.0, 1.0, TABLE_SIZE)
    if name in ("gray", "grey", "grays", "greys"):
        values = np.repeat(ramp[:, None], 4, axis=1)
        values[:, 3] = 1.0
    elif (mapped := _vispy_colormap(name, ramp)) is not None:
        values = mapped
    else:
        try:
            color = np.array(parse_color(name))
        except UsageError as error:
            raise UsageError(
                f"no colormap or colour called {name!r}",
                hint=f"a colormap such as {', '.join(_similar_maps(name))}; or a colour such as red, #00ff00",
            ) from error
        values = ramp[:, None] * color
        values[:, 3] = color[3]
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _vispy_colormap(name: str, ramp: NDArray[np.float64]) -> NDArray[np.float64] | None:
    from vispy.color import get_colormap, get_colormaps

    if name not in get_colormaps():
        return None
    values: Any = get_colormap(name).map(ramp.astype(np.float32))
    return np.asarray(values, np.float64).reshape(TABLE_SIZE, 4)


def _similar_maps(name: str) -> list[str]:
    from vispy.color import get_colormaps

    return difflib.get_close_matches(name, get_colormaps(), 3) or ["gray", "viridis", "magma"]


_PRIME_HUE, _PRIME_TONE = 65521, 65519
_STEP_HUE, _STEP_TONE = 40503, 28657


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


def label_constants() -> dict[str, str]:
    """The numbers of ``label_colors`` as the shader wants them: a factor for each byte of an id."""
    constants = {}
    for name, prime, step in (("HUE", _PRIME_HUE, _STEP_HUE), ("TONE", _PRIME_TONE, _STEP_TONE)):
        factors = ", ".join(f"{256**byte * step % prime}.0" for byte in range(4))
        constants[f"{name}_FACTORS"] = f"vec4({factors})"
        constants[f"{name}_PRIME"] = f"{prime}.0"
    return constants
