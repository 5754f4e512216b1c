"""Reading OME-Zarr metadata, 0.1 to 0.5: the only file that knows their keys, but for ``ngff_write.py``.

Plain JSON is read here without the zarr library, whose import alone would take most of a render.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from octree.pyramid.axes import SAMPLE_COUNTS, name_axes
from octree.pyramid.errors import OutsideError, SourceError, SourceNotFound
from octree.pyramid.model import AXIS_ORDER, Axis, Channel, LabelFacts, LevelInfo, PyramidSpec
from octree.pyramid.store.json_files import finite, read_json
from octree.pyramid.store.named import Where, place_of
from octree.pyramid.store.place import Place
from octree.pyramid.store.remote.faults import RemoteError
from octree.pyramid.store.zarr_meta import ArrayMeta, metadata_name, read_array_meta
from octree.pyramid.units import known_unit

_SAME_SCALE = 1e-3
"""Scales that differ by less are written by hand, or rounded."""
RGB_COLORS = ("FF0000", "00FF00", "0000FF")
VERSIONS = ("0.5", "0.4")
TOOL = "octree"
DISPLAY_KEY = "omero"
LABEL_KEY = "image-label"
IMAGES_KEY = "multiscales"
_OWN_KEYS = {"ome", IMAGES_KEY, DISPLAY_KEY, LABEL_KEY, "labels", "bioformats2raw.layout", "plate", "well"}
"""Attributes of groups that are OME-Zarr's."""
_BUILD_HINT = "build a pyramid from it first: octree build SOURCE DEST"


@dataclass(frozen=True, slots=True)
class Multiscale:
    """One multiscale image as its metadata say, axes in the file's own order; ``axis_names`` as the file has them."""

    group: Place
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
    label_facts: LabelFacts

    @property
    def by_octree(self) -> bool:
        """Is it of our own making? Then every rule of ours holds to the last bit."""
        return str(self.metadata.get("tool", "")).startswith(TOOL)


def other_attributes(place: Place) -> dict[str, Any]:
    """What a group says beyond OME-Zarr. Raises SourceError, OutsideError."""
    node = read_json(place.child("zarr.json"))
    said = node.get("attributes") if node is not None else read_json(place.child(".zattrs"))
    return {key: value for key, value in _object(said).items() if key not in _OWN_KEYS}


def group_attributes(place: Place) -> tuple[dict[str, Any], str] | None:
    """OME attributes of a Zarr group and the Zarr version's OME version ("0.5" or "0.4"); None: no group here.
    Raises SourceError, OutsideError."""
    if (node := read_json(place.child("zarr.json"))) is not None:
        if node.get("node_type") != "group":
            return None
        attributes = _object(node.get("attributes"))
        ome = attributes.get("ome", attributes)
        return (ome if isinstance(ome, dict) else {}), "0.5"
    found = read_json(place.child(".zattrs"))
    if found is not None and (IMAGES_KEY in found or place.child(".zarray").stamp() is None):
        return found, "0.4"
    return None if place.child(".zgroup").stamp() is None else ({}, "0.4")


def _object(value: Any) -> dict[str, Any]:
    """A JSON object, {} for anything else."""
    return value if isinstance(value, dict) else {}


def _first(value: Any) -> Any:
    """The first of a JSON array; None for anything else."""
    return value[0] if isinstance(value, list) and value else None


def is_pyramid(where: Where) -> bool:
    """Does the folder's metadata make it a multiscale image? No error for anything else, but OutsideError, and
    RemoteError where a store does not say."""
    try:
        return bool(find_image(where))
    except (OutsideError, RemoteError):
        raise
    except SourceError:
        return False


def read_spec(where: Where) -> PyramidSpec:
    """The pyramid at ``where``, OME-Zarr 0.1 to 0.5, ours or made by others.

    A folder of several images (bioformats2raw) gives its first, several multiscales in one group the first.
    Raises SourceNotFound, or SourceError saying what is wrong: no pyramid, broken JSON, a level that is gone;
    OutsideError for metadata that lead out.
    """
    return spec_of(read_multiscale(where))


def spec_of(scale: Multiscale) -> PyramidSpec:
    """An image whose axes are in canonical order. Raises SourceError for another one."""
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
        metadata=scale.metadata,
        label_facts=scale.label_facts,
    )


def read_multiscale(where: Where, *, base_only: bool = False) -> Multiscale:
    """As ``read_spec``, with axes in the file's own order; ``base_only``: level 0 alone, whatever the others are, as
    long as none is finer."""
    group, attributes, version = find_image(where)
    _check_order(group, attributes)
    if base_only:
        attributes = _without_coarse(attributes)
    return understand(group, attributes, version)


def _check_order(group: Place, attributes: Mapping[str, Any]) -> None:
    """Raises SourceError where a level is finer than one before it: which is level 0 would be a guess. Metadata that
    make no sense are left to who understands them."""
    try:
        datasets = attributes[IMAGES_KEY][0]["datasets"]
        given = [dataset.get("coordinateTransformations") for dataset in datasets]
        rank = len(next(step["scale"] for step in given[0] if step["type"] == "scale"))
        scales = [own[0] for own in (_transform(each, rank, group) for each in given) if own is not None]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration, SourceError):
        return
    for level, (before, own) in enumerate(itertools.pairwise(scales), start=1):
        if any(b < a * (1 - _SAME_SCALE) for a, b in zip(before, own, strict=True)):
            raise SourceError(
                f"{group}: level {level} is finer than level {level - 1}: scale {own} after {before}",
                hint="levels are listed from the finest to the coarsest: correct the order of its datasets",
                path=str(group),
            )


def _without_coarse(attributes: dict[str, Any]) -> dict[str, Any]:
    try:
        first = attributes[IMAGES_KEY][0]
        return {**attributes, IMAGES_KEY: [{**first, "datasets": first["datasets"][:1]}]}
    except (KeyError, TypeError, IndexError):
        return attributes  # broken: who understands it says how


def understand(group: Place, attributes: Mapping[str, Any], version: str) -> Multiscale:
    """The first multiscale of a group's OME attributes; ``version`` is "0.5" or "0.4" for Zarr v3 or v2. Raises
    SourceError, OutsideError."""
    try:
        return _multiscale(group, attributes, version)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise SourceError(
            f"{group}: the OME-Zarr metadata are broken: {type(error).__name__}: {error}",
            hint="octree verify says which field",
            path=str(group),
        ) from error


def find_image(where: Where) -> tuple[Place, dict[str, Any], str]:
    """The group that holds the multiscale image (``where``, or the first image inside), its OME attributes, and
    "0.5" or "0.4" for Zarr v3 or v2. Raises SourceNotFound when nothing is there, SourceError for anything that is no
    image, right or wrong; OutsideError."""
    place = place_of(where)
    found = group_attributes(place)
    if found is None:
        raise _no_group(place)
    attributes, version = found
    if IMAGES_KEY in attributes:
        return place, attributes, version
    if "bioformats2raw.layout" in attributes:
        inner = group_attributes(place.child("OME"))
        first = _first(inner[0].get("series")) if inner else None
        first_place = place.child(
            str("0" if first is None else first), f"{place}: its first image, {first!r},"
        )
        image = group_attributes(first_place)
        if image and IMAGES_KEY in image[0]:
            return first_place, *image
        raise SourceError(
            f"{place} is a folder of images, of which the first, {first_place}, is none",
            hint="the folder is incomplete; copy it again",
            path=str(place),
        )
    hint = _BUILD_HINT
    if "plate" in attributes:
        well = _object(_first(_object(attributes["plate"]).get("wells"))).get("path", "A/1")
        hint = f"it is a plate; name one of its images, for example {place}/{well}/0; --montage auto --montage-by wells renders them all"
    elif "well" in attributes:
        hint = f"it is a well; name one of its images, for example {place}/0"
    elif isinstance(attributes.get("labels"), list) and attributes["labels"]:
        hint = f"it is a group of labels; name one, for example {place}/{attributes['labels'][0]}"
    raise SourceError(f"{place} is a Zarr group without a multiscale image", hint=hint, path=str(place))


@dataclass(frozen=True, slots=True)
class Well:
    """One well of a plate: its first image, its name (``B/3``), and where it lies, counted from 0."""

    image: Place
    name: str
    row: int
    column: int


def wells_of(where: Where) -> tuple[Well, ...]:
    """The wells of a plate, as its metadata list them. Raises SourceError for what is no plate, or a broken one, and OutsideError."""
    place = place_of(where)
    found = group_attributes(place)
    if found is None:
        raise _no_group(place)
    plate = found[0].get("plate")
    if plate is None:
        raise SourceError(
            f"{place} is no plate", hint="a plate is an OME-Zarr group of wells", path=str(place)
        )
    try:
        names = [str(well["path"]) for well in plate["wells"]]
        rows, columns = ([str(each["name"]) for each in plate[axis]] for axis in ("rows", "columns"))
        parts = [name.split("/") for name in names]
        wells = [
            Well(_first_field(place, name), name, rows.index(row), columns.index(column))
            for name, (row, column) in zip(names, parts, strict=True)
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(
            f"{place}: the metadata of the plate are broken: {type(error).__name__}: {error}", path=str(place)
        ) from error
    if not wells:
        raise SourceError(f"{place} is a plate without wells", path=str(place))
    wells_at = Counter((well.row, well.column) for well in wells)
    if twice := next((well.name for well in wells if wells_at[well.row, well.column] > 1), ""):
        raise SourceError(f"{place} is a plate that has several wells at {twice}", path=str(place))
    return tuple(wells)


def _first_field(plate: Place, name: str) -> Place:
    row, column = name.split("/")
    well = plate.child(row, f"{plate}: well {name},").child(column, f"{plate}: well {name},")
    found = group_attributes(well)
    field = _object(_first(_object(found[0].get("well") if found else None).get("images"))).get("path", "0")
    return well.child(str(field), f"{well}: its first image, {field!r},")


def _no_group(place: Place) -> SourceError:
    kind = place.kind()
    if kind == "nothing":
        return SourceNotFound(
            f"there is no folder {place}", hint="check the path and its spelling", path=str(place)
        )
    what = "a file, not a pyramid" if kind == "value" else "no OME-Zarr pyramid"
    if any(place.child(name).stamp() for name in (".zarray", "zarr.json")):
        what = "a Zarr array, not a pyramid"
    return SourceError(f"{place} is {what}", hint=_BUILD_HINT, path=str(place))


def _multiscale(group: Place, attributes: Mapping[str, Any], version: str) -> Multiscale:
    entry = attributes[IMAGES_KEY][0]
    arrays = _arrays(entry, group, 3 if version == "0.5" else 2)
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


def _label_facts(given: Any) -> LabelFacts:
    """Colours and properties of labels. Not the link to their image, which leads elsewhere from another place."""
    found = _object(given)
    colors, properties = (finite(found.get(key)) for key in ("colors", "properties"))
    return LabelFacts(
        tuple(colors) if isinstance(colors, list) else (),
        tuple(properties) if isinstance(properties, list) else (),
    )


def _arrays(entry: Mapping[str, Any], group: Place, zarr_format: int) -> tuple[ArrayMeta, ...]:
    datasets = [str(dataset["path"]) for dataset in entry["datasets"]]
    if not datasets:
        raise SourceError(f"{group}: the multiscale image lists no levels", path=str(group))
    # all of them are checked before the first is read
    places = [group.child(name, f"{group}: level {i}, {name!r},") for i, name in enumerate(datasets)]
    group.prefetch(f"{name}/{metadata_name(zarr_format)}" for name in datasets)
    arrays = tuple(
        read_array_meta(place, f"level {i}", zarr_format=zarr_format) for i, place in enumerate(places)
    )
    rank = len(arrays[0].shape)
    for index, array in enumerate(arrays):
        if len(array.shape) != rank or 0 in array.shape:
            raise SourceError(
                f"{group}: level {index} has shape {array.shape}, level 0 {arrays[0].shape}", path=str(group)
            )
    return arrays


def _levels(entry: Mapping[str, Any], arrays: tuple[ArrayMeta, ...], group: Place) -> tuple[LevelInfo, ...]:
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


def _axes(entry: Mapping[str, Any], rank: int, group: Place) -> tuple[tuple[Axis, ...], tuple[str, ...]]:
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


def _transform(given: Any, rank: int, group: Place) -> tuple[list[float], list[float]] | None:
    """(scale, translation) of a list of transformations applied one after the other; None when there is none."""
    if not given:
        return None
    scale, shift = [1.0] * rank, [0.0] * rank
    for step in given:
        kind = step["type"]
        if kind == "identity":
            continue
        if kind not in ("scale", "translation") or kind not in step:
            raise SourceError(
                f"{group}: a transformation of type {kind!r} is not supported",
                hint="OME-Zarr has scale and translation, with their numbers beside them; or name one of its arrays",
                path=str(group),
            )
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
                window=(numbers[0], numbers[1]) if len(numbers) == 2 and numbers[0] < numbers[1] else None,
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
