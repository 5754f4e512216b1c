"""JSON documents on disk: read with errors that say what is wrong, written in one atomic step, never non-finite."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from octree.pyramid.errors import SourceError, SourceNotFound, WriteError
from octree.pyramid.store.removal import replacing


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``. Raises SourceNotFound, or SourceError for anything that is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SourceNotFound(f"there is no file {path}", path=str(path)) from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}", path=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{path} is not JSON: {error}", hint="the metadata file is damaged", path=str(path)
        ) from error
    if not isinstance(document, dict):
        raise SourceError(f"{path} holds no JSON object", hint="the metadata file is damaged", path=str(path))
    return document


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write and sync beside ``path``, then rename over it: no reader ever sees half a document.

    Raises WriteError; ValueError for a non-finite number (see ``finite``).
    """
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    try:
        # bytes of a file name that are no text become ?: readers in other languages take no document with them
        with replacing(path) as partial, partial.open("w", encoding="utf-8", errors="replace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror}", path=str(path)) from error


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
