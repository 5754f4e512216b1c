"""The only file that knows OME-Zarr keys: PyramidSpec ⇄ metadata, 0.4 and 0.5 (older ones are read).

Plain JSON is read and written here without the zarr library, whose import alone would take most of a render.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octree.pyramid.axes import SAMPLE_COUNTS, name_axes
from octree.pyramid.errors import SourceError, SourceNotFound
from octree.pyramid.model import AXIS_ORDER, Axis, Channel, LevelInfo, PyramidSpec
from octree.pyramid.store.json_files import finite, read_json, write_json
from octree.pyramid.store.zarr_meta import ArrayMeta, read_array_meta
from octree.pyramid.units import known_unit, space_unit

RGB_COLORS = ("FF0000", "00FF00", "0000FF")
VERSIONS = ("0.5", "0.4")
TOOL = "octree"
DISPLAY_KEY = "omero"
LABEL_KEY = "image-label"
IMAGES_KEY = "multiscales"
_BUILD_HINT = "build a pyramid from it first: octree build SOURCE DEST"


@dataclass(frozen=True, slots=True)
class Multiscale:
    """One multiscale image as its metadata say, axes in the file's own order; ``axis_names`` as the file has them."""

    group: Path
    axes: tuple[Axis, ...]
    axis_names: tuple[str, ...]
    levels: tuple[LevelInfo, ...]
    arrays: tuple[ArrayMeta, ...]
    name: str
    version: str
    method: str
    labels: bool
    channels: tuple[Channel, ...]
    rgb: bool
    metadata: dict[str, Any]
    label_facts: dict[str, Any]

    @property
    def by_octree(self) -> bool:
        """Is it of our own making? Then every rule of ours holds to the last bit."""
        return str(self.metadata.get("tool", "")).startswith(TOOL)


def group_attributes(path: Path) -> tuple[dict[str, Any], str] | None:
    """OME attributes of a Zarr group and the Zarr version's OME version ("0.5" or "0.4"); None: no group here."""
    if (path / "zarr.json").is_file():
        node = read_json(path / "zarr.json")
        if node.get("node_type") != "group":
            return None
        attributes = _object(node.get("attributes"))
        ome = attributes.get("ome", attributes)
        return (ome if isinstance(ome, dict) else {}), "0.5"
    if (path / ".zattrs").is_file() and not (path / ".zarray").is_file():
        return read_json(path / ".zattrs"), "0.4"
    if (path / ".zgroup").is_file():
        return {}, "0.4"
    return None


def _object(value: Any) -> dict[str, Any]:
    """A JSON object, {} for anything else."""
    return value if isinstance(value, dict) else {}


def _first(value: Any) -> Any:
    """The first of a JSON array; None for anything else."""
    return value[0] if isinstance(value, list) and value else None


def is_pyramid(path: str | Path) -> bool:
    """Does the folder's metadata make it a multiscale image? No error for anything else."""
    try:
        return bool(find_image(Path(path)))
    except SourceError:
        return False


def read_spec(path: str | Path) -> PyramidSpec:
    """The pyramid at ``path``, OME-Zarr 0.1 to 0.5, ours or made by others.

    A folder of several images (bioformats2raw) gives its first, several multiscales in one group the first.
    Raises SourceNotFound, or SourceError saying what is wrong: no pyramid, broken JSON, a level that is gone.
    """
    scale = read_multiscale(path)
    names = "".join(axis.name for axis in scale.axes)
    if list(names) != sorted(names, key=AXIS_ORDER.index) or not {"y", "x"} <= set(names):
        raise SourceError(
            f"{scale.group}: its axes are in the order {names}, not t, c, z, y, x",
            hint=_BUILD_HINT,
            path=str(scale.group),
        )
    return PyramidSpec(
        axes=scale.axes,
        dtype=scale.arrays[0].dtype,
        levels=scale.levels,
        name=scale.name,
        ome_version=scale.version,
        method=scale.method,
        rgb=scale.rgb,
        labels=scale.labels,
        channels=scale.channels,
        extra={"group": str(scale.group), "metadata": scale.metadata, "label_facts": scale.label_facts},
    )


def read_multiscale(path: str | Path, *, base_only: bool = False) -> Multiscale:
    """As ``read_spec``, with axes in the file's own order; ``base_only``: level 0 alone, whatever the others are."""
    path = Path(path)
    if not path.exists():
        raise SourceNotFound(
            f"there is no folder {path}", hint="check the path and its spelling", path=str(path)
        )
    group, attributes, version = find_image(path)
    if base_only:
        attributes = _without_coarse(attributes)
    return understand(group, attributes, version)


def _without_coarse(attributes: dict[str, Any]) -> dict[str, Any]:
    try:
        first = attributes[IMAGES_KEY][0]
        return {**attributes, IMAGES_KEY: [{**first, "datasets": first["datasets"][:1]}]}
    except (KeyError, TypeError, IndexError):
        return attributes  # broken: who understands it says how


def understand(group: Path, attributes: Mapping[str, Any], version: str) -> Multiscale:
    """The first multiscale of a group's OME attributes; ``version`` is "0.5" or "0.4" for Zarr v3 or v2. Raises
    SourceError."""
    try:
        return _multiscale(group, attributes, version)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise SourceError(
            f"{group}: the OME-Zarr metadata are broken: {type(error).__name__}: {error}",
            hint="octree verify says which field",
            path=str(group),
        ) from error


def find_image(path: Path) -> tuple[Path, dict[str, Any], str]:
    """The group that holds the multiscale image (``path``, or the first image inside), its OME attributes, and
    "0.5" or "0.4" for Zarr v3 or v2. Raises SourceError when there is none, right or wrong."""
    found = group_attributes(path) if path.is_dir() else None
    if found is None:
        what = (
            "a Zarr array, not a pyramid"
            if (path / ".zarray").is_file() or (path / "zarr.json").is_file()
            else None
        )
        what = what or ("no OME-Zarr pyramid" if path.is_dir() else "a file, not a pyramid")
        raise SourceError(f"{path} is {what}", hint=_BUILD_HINT, path=str(path))
    attributes, version = found
    if IMAGES_KEY in attributes:
        return path, attributes, version
    if "bioformats2raw.layout" in attributes:
        inner = group_attributes(path / "OME") if (path / "OME").is_dir() else None
        first = _first(inner[0].get("series")) if inner else None
        place = path / str("0" if first is None else first)
        image = group_attributes(place) if place.is_dir() else None
        if image and IMAGES_KEY in image[0]:
            return place, *image
        raise SourceError(
            f"{path} is a folder of images, of which the first, {place}, is none",
            hint="the folder is incomplete; copy it again",
            path=str(path),
        )
    hint = _BUILD_HINT
    if "plate" in attributes:
        well = _object(_first(_object(attributes["plate"]).get("wells"))).get("path", "A/1")
        hint = f"it is a plate; name one of its images, for example {path / str(well)}/0"
    elif "well" in attributes:
        hint = f"it is a well; name one of its images, for example {path}/0"
    elif isinstance(attributes.get("labels"), list) and attributes["labels"]:
        hint = f"it is a group of labels; name one, for example {path / str(attributes['labels'][0])}"
    raise SourceError(f"{path} is a Zarr group without a multiscale image", hint=hint, path=str(path))


def _multiscale(group: Path, attributes: Mapping[str, Any], version: str) -> Multiscale:
    entry = attributes[IMAGES_KEY][0]
    arrays = _arrays(entry, group)
    axes, names = _axes(entry, len(arrays[0].shape), group)
    given = entry.get("metadata")
    metadata: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    channels = _channels(attributes.get(DISPLAY_KEY))
    return Multiscale(
        group=group,
        axes=axes,
        axis_names=names,
        levels=_levels(entry, arrays, group),
        arrays=arrays,
        name=str(entry.get("name") or ""),
        version=str(attributes.get("version") or entry.get("version") or version),
        method=str(entry.get("type") or metadata.get("method") or ""),
        labels=LABEL_KEY in attributes,
        channels=channels,
        rgb=_is_rgb(metadata, channels, axes, arrays[0]),
        metadata=metadata,
        label_facts=_label_facts(attributes.get(LABEL_KEY)),
    )


def _label_facts(given: Any) -> dict[str, Any]:
    """Colours and properties of labels. Not the link to their image, which leads elsewhere from another place."""
    found = given if isinstance(given, dict) else {}
    return {key: found[key] for key in ("colors", "properties") if isinstance(found.get(key), list)}


def _arrays(entry: Mapping[str, Any], group: Path) -> tuple[ArrayMeta, ...]:
    datasets = entry["datasets"]
    if not datasets:
        raise SourceError(f"{group}: the multiscale image lists no levels", path=str(group))
    arrays = tuple(read_array_meta(group / str(d["path"]), f"level {i}") for i, d in enumerate(datasets))
    rank = len(arrays[0].shape)
    for index, array in enumerate(arrays):
        if len(array.shape) != rank or 0 in array.shape:
            raise SourceError(
                f"{group}: level {index} has shape {array.shape}, level 0 {arrays[0].shape}", path=str(group)
            )
    return arrays


def _levels(entry: Mapping[str, Any], arrays: tuple[ArrayMeta, ...], group: Path) -> tuple[LevelInfo, ...]:
    rank = len(arrays[0].shape)
    outer = _transform(entry.get("coordinateTransformations"), rank, group)
    levels = []
    for dataset, array in zip(entry["datasets"], arrays, strict=True):
        own = _transform(dataset.get("coordinateTransformations"), rank, group)
        if own is None:  # before 0.4 there were no transformations
            ratios = (round(a / b) for a, b in zip(arrays[0].shape, array.shape, strict=True))
            own = [float(max(1, ratio)) for ratio in ratios], [0.0] * rank
        scale, shift = own
        if outer:
            shift = [v * s + t for v, s, t in zip(shift, outer[0], outer[1], strict=True)]
            scale = [v * s for v, s in zip(scale, outer[0], strict=True)]
        levels.append(
            LevelInfo(
                path=str(dataset["path"]),
                shape=array.shape,
                chunks=array.chunks,
                shards=array.shards,
                scale=tuple(scale),
                translation=tuple(shift),
                codec=array.codec,
            )
        )
    return tuple(levels)


def _axes(entry: Mapping[str, Any], rank: int, group: Path) -> tuple[tuple[Axis, ...], tuple[str, ...]]:
    given = entry.get("axes") or list("tczyx"[-rank:])
    given = [{"name": a} if isinstance(a, str) else a for a in given]
    if len(given) != rank:
        raise SourceError(f"{group}: {len(given)} axes are named, the arrays have {rank}", path=str(group))
    names = [str(a["name"]) for a in given]
    letters = name_axes(names)
    if letters is None or "s" in letters:
        raise SourceError(
            f"{group}: the axes {names} are not an image's (t, c, z, y, x)", hint=_BUILD_HINT, path=str(group)
        )
    units = [a.get("unit") for a in given]
    axes = (
        Axis(letter, (known_unit(str(unit)) or str(unit)) if unit else None)
        for letter, unit in zip(letters, units, strict=True)
    )
    return tuple(axes), tuple(names)


def _transform(given: Any, rank: int, group: Path) -> tuple[list[float], list[float]] | None:
    """(scale, translation) of a list of transformations applied one after the other; None when there is none."""
    if not given:
        return None
    scale, shift = [1.0] * rank, [0.0] * rank
    for step in given:
        kind = step["type"]
        if kind == "identity":
            continue
        if kind not in ("scale", "translation") or kind not in step:
            raise SourceError(f"{group}: a transformation of type {kind!r} is not supported", path=str(group))
        values = [float(v) for v in step[kind]]
        if len(values) != rank or not all(map(math.isfinite, values)):
            raise SourceError(
                f"{group}: the {kind} {values} does not fit {rank} axes of finite numbers", path=str(group)
            )
        if kind == "scale":
            if min(values) <= 0:
                raise SourceError(f"{group}: the scale {values} is not above 0", path=str(group))
            scale = [a * b for a, b in zip(scale, values, strict=True)]
            shift = [a * b for a, b in zip(shift, values, strict=True)]
        else:
            shift = [a + b for a, b in zip(shift, values, strict=True)]
    return scale, shift


def _channels(omero: Any) -> tuple[Channel, ...]:
    """Display facts; a block that makes no sense is as good as none, as it decides nothing about the data."""
    listed = omero.get("channels") if isinstance(omero, dict) else None
    channels = []
    for given in listed if isinstance(listed, list) else []:
        if not isinstance(given, dict):
            return ()
        color = str(given.get("color") or "").lstrip("#").upper()
        window = given.get("window")
        bounds = [window.get(end) for end in ("start", "end")] if isinstance(window, dict) else []
        numbers = [float(v) for v in bounds if isinstance(v, (int, float)) and math.isfinite(v)]
        channels.append(
            Channel(
                label=str(given.get("label") or ""),
                color=color if re.fullmatch("[0-9A-F]{6}", color) else None,
                window=(numbers[0], numbers[1]) if len(numbers) == 2 else None,
                active=given.get("active") is not False,
            )
        )
    return tuple(channels)


def _is_rgb(
    metadata: Mapping[str, Any], channels: tuple[Channel, ...], axes: tuple[Axis, ...], array: ArrayMeta
) -> bool:
    names = [axis.name for axis in axes]
    count = array.shape[names.index("c")] if "c" in names else 0
    if count not in SAMPLE_COUNTS:
        return False
    if isinstance(metadata.get("rgb"), bool):
        return bool(metadata["rgb"])
    # made by others: three uint8 channels in exactly these colours over the whole range are one colour image
    colors = tuple(channel.color for channel in channels[:3])
    whole = all(channel.window in (None, (0.0, 255.0)) for channel in channels[:3])
    return len(channels) == count and colors == RGB_COLORS and whole and array.dtype == np.uint8


def write_image_metadata(
    dest: str | Path, spec: PyramidSpec, *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write what makes the folder ``dest`` a pyramid, in one atomic step.

    ``metadata`` goes into the multiscale's own ``metadata`` beside method and rgb (JSON-able).
    Raises WriteError when the disk refuses, UsageError for a unit that OME-Zarr does not know.
    """
    dest = Path(dest)
    attributes = image_attributes(spec, metadata=metadata)
    if spec.ome_version == "0.4":
        write_json(dest / ".zgroup", {"zarr_format": 2})
        write_json(dest / ".zattrs", attributes)
    else:
        node = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": attributes}}
        write_json(dest / "zarr.json", node)


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
        attributes[LABEL_KEY] = spec.extra.get("label_facts", {}) | (
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
