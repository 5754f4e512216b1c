"""JSON documents in a store: read with errors that say what is wrong, written in one atomic step, never non-finite."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from octree.pyramid.errors import SourceError, WriteError
from octree.pyramid.store.place import Place


def read_json(place: Place) -> dict[str, Any] | None:
    """The JSON object at ``place``; None when nothing is there. Raises SourceError for anything else, OutsideError."""
    try:
        data = place.read()
        if data is None:
            return None
        document = json.loads(data.decode("utf-8"))
    except OSError as error:
        raise SourceError(f"{place} cannot be read: {error.strerror or error}", path=str(place)) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{place} is not JSON: {error}", hint="the metadata file is damaged", path=str(place)
        ) from error
    if not isinstance(document, dict):
        raise SourceError(
            f"{place} holds no JSON object", hint="the metadata file is damaged", path=str(place)
        )
    return document


def write_json(place: Place, document: Mapping[str, Any]) -> None:
    """Write in one step: no reader ever sees half a document.

    Raises WriteError; ValueError for a non-finite number (see ``finite``).
    """
    data = json_bytes(document)
    try:
        place.write(data)
    except OSError as error:
        raise WriteError(f"{place} cannot be written: {error.strerror or error}", path=str(place)) from error


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """The document as it is written. Raises ValueError for a non-finite number."""
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    # bytes of a file name that are no text become ?: readers in other languages take no document with them
    return text.encode("utf-8", errors="replace")


def finite(value: Any) -> Any:
    """``value`` with every number that JSON has no word for as text: NaN, infinity, complex numbers."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return value
