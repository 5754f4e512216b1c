"""Metadata of a pyramid against the OME-Zarr schema. The schema is ome-zarr-models', imported when it is asked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from octree.pyramid.store import ngff


def schema_errors(attributes: Mapping[str, Any], version: str) -> list[str] | None:
    """What the OME-Zarr schema (ome-zarr-models) has against the attributes; None for a version it does not know."""
    import warnings

    from pydantic import BaseModel, ValidationError

    model: type[BaseModel]
    label = ngff.LABEL_KEY in attributes
    if version.startswith("0.5"):
        from ome_zarr_models.v05.image import ImageAttrs as Image05
        from ome_zarr_models.v05.image_label import ImageLabelAttrs as Label05

        model = Label05 if label else Image05
    elif version.startswith("0.4"):
        from ome_zarr_models.v04.image import ImageAttrs as Image04
        from ome_zarr_models.v04.image_label import ImageLabelAttrs as Label04

        model = Label04 if label else Image04
    else:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what should be, but need not
            model.model_validate(dict(attributes))
    except ValidationError as error:
        return [f"{'.'.join(map(str, e['loc'])) or 'attributes'}: {e['msg']}" for e in error.errors()]
    except Exception as error:  # its checks of one field count on what those of another have found wrong
        return [f"attributes: they are not what the schema can check: {type(error).__name__}: {error}"]
    return []


def _window_errors(window: Any) -> list[str]:
    given = window if isinstance(window, dict) else {}
    numbers = [v for end in ("min", "max", "start", "end") if isinstance(v := given.get(end), (int, float))]
    if len(numbers) < 4 or not all(map(math.isfinite, numbers)):
        return [f"the window {window} is not four finite numbers: min, max, start, end"]
    return [] if numbers[2] <= numbers[3] else [f"the window {window} starts above its end"]


def own_errors(entry: Mapping[str, Any], version: str) -> list[str]:
    """What the strict schema demands besides, and octree always writes: fields of one multiscale."""
    kinds = {"name": str, "type": str, "metadata": dict} | (
        {"version": str} if version.startswith("0.4") else {}
    )
    wrong = [
        f"{key} is missing or no {kind.__name__}"
        for key, kind in kinds.items()
        if not isinstance(entry.get(key), kind)
    ]
    return wrong + ([] if version in ngff.VERSIONS else [f"version {version} is none that octree writes"])


def display_errors(attributes: Mapping[str, Any], channel_count: int) -> list[str]:
    """What is wrong with the channels' display facts, which the schema of 0.5 does not look at."""
    if ngff.DISPLAY_KEY not in attributes:
        return []
    block = attributes[ngff.DISPLAY_KEY]
    listed = block.get("channels") if isinstance(block, dict) else None
    if not isinstance(listed, list) or not all(isinstance(channel, dict) for channel in listed):
        return ["omero: channels is not a list of objects"]
    wrong = []
    if len(listed) != channel_count:
        wrong.append(f"omero: {len(listed)} channels are described, the image has {channel_count}")
    for index, channel in enumerate(listed):
        where = f"omero.channels.{index}"
        if not re.fullmatch("[0-9A-Fa-f]{6}", str(channel.get("color", "FFFFFF"))):
            wrong.append(f"{where}: the color {channel.get('color')!r} is not six hexadecimal digits")
        if missing := [key for key in ("color", "window") if key not in channel]:
            wrong.append(f"{where}: {' and '.join(missing)} missing")
        if "window" in channel:
            wrong += [f"{where}: {what}" for what in _window_errors(channel["window"])]
    return wrong
