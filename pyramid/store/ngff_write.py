"""Writing OME-Zarr metadata, 0.4 and 0.5: PyramidSpec → attributes. Pure but for one function."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from octree.pyramid.model import Axis, Channel, PyramidSpec
from octree.pyramid.store.json_files import finite, write_json
from octree.pyramid.store.named import Where, place_of
from octree.pyramid.store.ngff import DISPLAY_KEY, IMAGES_KEY, LABEL_KEY, RGB_COLORS, TOOL, VERSIONS
from octree.pyramid.units import known_unit, space_unit


def write_image_metadata(
    dest: Where, spec: PyramidSpec, *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write what makes the folder ``dest`` a pyramid, in one atomic step.

    ``metadata`` goes into the multiscale's own ``metadata`` beside method and rgb (JSON-able).
    Raises WriteError when the disk refuses, UsageError for a unit that OME-Zarr does not know.
    """
    place = place_of(dest)
    for name, document in image_documents(spec, metadata=metadata):
        write_json(place.child(name), document)


def image_documents(
    spec: PyramidSpec, *, metadata: Mapping[str, Any] | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """Names and documents of what makes a folder a pyramid; with the last one it is one. Pure."""
    attributes = image_attributes(spec, metadata=metadata)
    if spec.ome_version == "0.4":
        return [(".zgroup", {"zarr_format": 2}), (".zattrs", attributes)]
    node = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": attributes}}
    return [("zarr.json", node)]


def archive_comment(ome_version: str) -> bytes:
    """What an archive of a pyramid says of itself. Pure."""
    return json.dumps({"ome": {"version": ome_version}}).encode()


def image_attributes(spec: PyramidSpec, *, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The OME attributes of a pyramid: the ``ome`` object of 0.5, the whole ``.zattrs`` of 0.4. Pure."""
    if spec.ome_version not in VERSIONS:
        raise ValueError(f"OME-Zarr {spec.ome_version} cannot be written, only {' and '.join(VERSIONS)}")
    axes = [
        {"name": a.name, "type": a.type} | ({"unit": _unit_of(a)} if a.unit and a.type != "channel" else {})
        for a in spec.axes
    ]
    image: dict[str, Any] = {
        "name": spec.name,
        "axes": axes,
        "datasets": [
            {
                "path": level.path,
                "coordinateTransformations": [
                    {"type": "scale", "scale": list(level.scale)},
                    {"type": "translation", "translation": list(level.translation)},
                ],
            }
            for level in spec.levels
        ],
        "type": spec.method,
        "metadata": finite({"tool": TOOL, **(metadata or {}), "method": spec.method, "rgb": spec.rgb}),
    }
    old = spec.ome_version == "0.4"
    attributes: dict[str, Any] = {} if old else {"version": spec.ome_version}
    attributes[IMAGES_KEY] = [{"version": spec.ome_version} | image if old else image]
    if spec.labels:
        facts = {"colors": spec.label_facts.colors, "properties": spec.label_facts.properties}
        attributes[LABEL_KEY] = {key: list(found) for key, found in facts.items() if found} | (
            {"version": spec.ome_version} if old else {}
        )
    elif channels := _display_channels(spec):
        attributes[DISPLAY_KEY] = {
            "channels": [
                _omero_channel(channel, spec.dtype, index) for index, channel in enumerate(channels)
            ],
            "rdefs": {"model": "color", "defaultT": 0, "defaultZ": _middle(spec)},
        } | ({"version": "0.4"} if old else {})
    return attributes


def _unit_of(axis: Axis) -> str:
    return space_unit(axis.unit or "") if axis.type == "space" else (known_unit(axis.unit) or "second")


def _middle(spec: PyramidSpec) -> int:
    z = spec.axis_index("z")
    return spec.levels[0].shape[z] // 2 if z is not None else 0


def _display_channels(spec: PyramidSpec) -> tuple[Channel, ...]:
    c = spec.axis_index("c")
    count = spec.levels[0].shape[c] if c is not None else 1
    if not spec.rgb:
        return spec.channels if len(spec.channels) == count else ()
    names = zip(("red", "green", "blue", "alpha"), (*RGB_COLORS, "FFFFFF"), strict=True)
    windows = [channel.window for channel in spec.channels] + [None] * count
    return tuple(Channel(n, color, w) for (n, color), w in zip(list(names)[:count], windows, strict=False))


def _omero_channel(channel: Channel, dtype: np.dtype[Any], index: int) -> dict[str, Any]:
    whole = (0.0, 1.0)
    if dtype.kind in "iu":
        whole = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    start, end = channel.window or whole
    if not (math.isfinite(start) and math.isfinite(end)):
        start, end = whole
    low, high = (min(whole[0], start), max(whole[1], end)) if dtype.kind in "iub" else (start, end)
    return {
        "label": channel.label or f"channel {index}",
        "color": channel.color or "FFFFFF",
        "active": channel.active,
        "coefficient": 1.0,
        "family": "linear",
        "inverted": False,
        "window": {"min": low, "max": high, "start": start, "end": end},
    }
