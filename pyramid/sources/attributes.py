"""What a source says of itself beyond what octree understands: kept as JSON, or named as dropped. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

_MOST_BYTES = 1 << 16
"""Of one attribute, as JSON: metadata are read by every viewer at every start."""
_MOST_NAMES = 8


def kept(said: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(attributes as JSON has them, a sentence that names those that are dropped, if there are any)."""
    good: dict[str, Any] = {}
    dropped = []
    for name, value in said.items():
        try:
            plain = _plain(value)
            if len(json.dumps(plain)) > _MOST_BYTES:
                raise ValueError(name)
            good[str(name)] = plain
        except (TypeError, ValueError, RecursionError):
            dropped.append(str(name))
    if not dropped:
        return good, ()
    more = f" and {len(dropped) - _MOST_NAMES} more" if len(dropped) > _MOST_NAMES else ""
    return good, (f"attributes that are not kept: {', '.join(dropped[:_MOST_NAMES])}{more}",)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if isinstance(value, np.generic | np.ndarray):
        if value.size > _MOST_BYTES or value.dtype.kind not in "biufSUO":
            raise ValueError("too much")
        return _plain(value.tolist())
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        if len(value) > _MOST_BYTES:
            raise ValueError("too much")
        return [_plain(inner) for inner in value]
    raise TypeError(type(value).__name__)
