"""Values that stand for no value, as GDAL and the conventions of NetCDF (CF) write them down. Pure."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from octree.pyramid.sources.protocol import RawArray
from octree.pyramid.sources.views import ConvertedArray, Said

_NEARLY = 1 + 1e-6  # GDAL writes the lowest float32 in so many digits that it is none
_FILLS = ("_FillValue", "missing_value")


def as_nodata(text: str, dtype: np.dtype[Any]) -> float | int | None:
    """The number that ``text`` is, as ``dtype`` has it; None when no pixel can have it."""
    try:
        value = float(text)
        if dtype.kind == "f":
            most = float(np.finfo(dtype).max)
            if math.isfinite(value) and most < abs(value) <= most * _NEARLY:
                value = math.copysign(most, value)
            return None if math.isfinite(value) and abs(value) > most else float(dtype.type(value))
        whole = int(text) if text.lstrip("+-").isdigit() else int(value)
        if dtype.kind in "iu" and whole == value and np.iinfo(dtype).min <= whole <= np.iinfo(dtype).max:
            return whole
    except (ValueError, OverflowError):
        pass
    return None


def without(raw: RawArray, value: float) -> RawArray:
    """Floats with NaN where they are ``value``."""
    if math.isnan(value):
        return raw
    own, nan = raw.dtype.type(value), raw.dtype.type(math.nan)
    return ConvertedArray(raw, lambda data: np.where(data == own, nan, data))


def by_conventions(raw: RawArray) -> RawArray:
    """``raw`` without the values that its attributes say are none: floats become NaN, integers have a nodata value. Scales
    that its attributes name are not applied, which is said."""
    attributes, dtype = raw.facts.attributes, raw.dtype
    said, nodata = list(_not_applied(attributes, dtype)), raw.facts.nodata
    fills = [name for name in _FILLS if name in attributes]
    if fills and dtype.kind in "iuf":
        given = attributes[fills[0]]
        nodata = _fill(given, dtype)
        if nodata is None:
            said.append(f"its {fills[0]} {given!r} is none that its pixels could have")
    if nodata == raw.facts.nodata and not said:
        return raw
    if nodata is not None and dtype.kind == "f":
        raw, nodata = without(raw, float(nodata)), math.nan
    return Said(raw, dataclasses.replace(raw.facts, nodata=nodata, warnings=(*raw.facts.warnings, *said)))


def _fill(given: Any, dtype: np.dtype[Any]) -> float | int | None:
    value = given[0] if isinstance(given, list) and len(given) == 1 else given
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if (found := as_nodata(str(value), dtype)) is not None or not isinstance(value, str):
        return found
    try:  # as xarray writes floats to Zarr
        data = base64.b64decode(value, validate=True)
        return float(np.frombuffer(data, "<f8")[0]) if len(data) == 8 else None
    except ValueError:
        return None


def _not_applied(attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> list[str]:
    scaled = []
    for name, plain in (("scale_factor", 1.0), ("add_offset", 0.0)):
        given = attributes.get(name, plain)
        if (given[0] if isinstance(given, list) and len(given) == 1 else given) != plain:
            scaled.append(name)
    said = [
        f"its {' and '.join(scaled)} {'is' if len(scaled) == 1 else 'are'} not applied: values are as stored"
    ]
    said = said if scaled else []
    if dtype.kind == "i" and str(attributes.get("_Unsigned", "")).lower() == "true":
        said.append("its values are meant without a sign (_Unsigned): they are as stored")
    return said
