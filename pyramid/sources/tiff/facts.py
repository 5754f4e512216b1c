"""What a TIFF says about its image: axes, voxel size, units, channels. From OME-XML, ImageJ's notes or the tags."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from octree.pyramid.axes import name_axes
from octree.pyramid.model import Channel
from octree.pyramid.reach import Reach, open_file
from octree.pyramid.sources.attributes import kept
from octree.pyramid.sources.protocol import Facts
from octree.pyramid.units import known_unit

_INCH_UM = 25_400.0
_COLOR = {2, 3, 6}  # RGB, palette, YCbCr
_SEPARATED = 5
_INKS = ("cyan", "magenta", "yellow", "black")
_NO_UNITS = ("pixel", "reference frame")
_FINEST_PRINT_UM = 20.0
"""ResolutionUnit is about printing far more often than about a specimen: only pixels finer than this are believed."""


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One image of an OME-XML document, and the UUID of the file that the document is in."""

    element: Element
    file_uuid: str | None


def series_facts(tiff: Any, series: Any, image: OmeImage | None) -> Facts:
    """Facts of one series of an open tifffile.TiffFile, of which OME-XML says ``image``. Broken metadata say nothing,
    they never raise."""
    compression = series.keyframe.compression
    codec = str(getattr(compression, "name", compression)).lower().removeprefix("adobe_")
    facts = dataclasses.replace(_notes(tiff, series, image), codec=codec)
    attributes, dropped = kept(_attributes(tiff, series, image))
    return dataclasses.replace(facts, attributes=attributes, warnings=(*facts.warnings, *dropped))


_GEOGRAPHY = {
    33550: "ModelPixelScale",
    33922: "ModelTiepoint",
    34264: "ModelTransformation",
    34735: "GeoKeyDirectory",
    34736: "GeoDoubleParams",
    34737: "GeoAsciiParams",
    42112: "GDALMetadata",
}
_TEXTS = {270: "ImageDescription", 271: "Make", 272: "Model", 305: "Software", 306: "DateTime", 315: "Artist"}


def _attributes(tiff: Any, series: Any, image: OmeImage | None) -> dict[str, Any]:
    """What the file says beyond facts: where on earth it lies, its notes, who made it."""
    tags = series.keyframe.tags
    found: dict[str, Any] = {}
    if image is not None:
        found["OME-XML"] = tiff.ome_metadata
    elif tiff.is_imagej:
        found |= {f"ImageJ {key}": value for key, value in (tiff.imagej_metadata or {}).items()}
    else:
        found |= _named(tags, {k: v for k, v in _TEXTS.items() if k != 270 or not tiff.is_shaped})
    return found | _named(tags, _GEOGRAPHY)


def _named(tags: Any, names: Mapping[int, str]) -> dict[str, Any]:
    return {name: tags[code].value for code, name in names.items() if code in tags}


def _notes(tiff: Any, series: Any, image: OmeImage | None) -> Facts:
    axes = name_axes(series.axes)
    if axes and "c" not in axes and series.keyframe.photometric not in _COLOR:
        axes = axes.replace("s", "c")  # samples of a grey image are channels, not colours
    name = str(series.name or "") if series.kind == "ome" else ""
    try:
        if image is not None:
            return _ome_facts(image.element, axes, name)
        if series.kind == "imagej" and tiff.imagej_metadata:
            return _imagej_facts(tiff.imagej_metadata, series.keyframe, axes)
        if series.kind == "stk":
            return _stk_facts(tiff.stk_metadata or {}, axes)
        facts = _tag_facts(series.keyframe, axes)
        if series.keyframe.photometric == _SEPARATED and series.keyframe.samplesperpixel == len(_INKS):
            facts = dataclasses.replace(facts, channels=tuple(Channel(ink) for ink in _INKS))
        return facts
    except (ValueError, TypeError, KeyError, IndexError):
        return Facts(axes=axes)


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def _tag(node: Element) -> str:
    return str(node.tag).rpartition("}")[2]


def ome_image(xml: str, number: int, count: int) -> OmeImage | None:
    """What OME-XML says of the image that tifffile gives as series ``number`` of ``count``; None when it says nothing."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    images = [node for node in root if _tag(node) == "Image"]
    if len(images) != count:  # tifffile leaves out images without planes
        images = [node for node in images if any(_tag(inner) == "TiffData" for inner in node.iter())]
    return OmeImage(images[number], root.get("UUID")) if number < len(images) else None


def companion_xml(xml: str, folder: Path, reach: Reach) -> str | None:
    """The description that a file leaves to another one (``BinaryOnly``), when that is in ``folder``. Raises
    OutsideError when a link leads from there out of ``reach``."""
    try:
        there = "BinaryOnly" in xml  # large documents are not parsed once more for nothing
        nodes = [node for node in ElementTree.fromstring(xml) if _tag(node) == "BinaryOnly"] if there else []
        name = Path(nodes[0].get("MetadataFile", "")).name
        file = reach.named(folder, name, f"{name}, the companion of a file in {folder},")
        with open_file(file) as stream:
            text = stream.read().decode("utf-8")
        ElementTree.fromstring(text)
    except (ElementTree.ParseError, IndexError, OSError, UnicodeError):
        return None
    return text


def _ome_facts(image: Element, axes: str | None, name: str) -> Facts:
    pixels = next((node for node in image if _tag(node) == "Pixels"), None)
    if pixels is None:
        return Facts(axes=axes, name=name)
    sizes: dict[str, float] = {}
    units: dict[str, str] = {}
    lost: list[str] = []
    for letter, key, default in (
        ("x", "PhysicalSizeX", "µm"), ("y", "PhysicalSizeY", "µm"), ("z", "PhysicalSizeZ", "µm"), ("t", "TimeIncrement", "s"),
    ):  # fmt: skip
        word = pixels.get(key + "Unit", default)
        size, unit = _number(pixels.get(key)), known_unit(word)
        if size and unit:  # "pixel" and "reference frame" say nothing of the specimen
            sizes[letter], units[letter] = size, unit
        elif key in pixels.attrib and not (size and word in _NO_UNITS):
            lost.append(f"its {key} of {pixels.get(key)!r} {word} is no size")
    channels = tuple(
        Channel(label=node.get("Name") or "", color=_ome_color(node.get("Color")))
        for node in pixels
        if _tag(node) == "Channel"
    )
    return Facts(axes=axes, voxel_size=sizes, units=units, channels=channels, name=name, warnings=tuple(lost))


def _ome_color(text: str | None) -> str | None:
    """OME stores red, green, blue, alpha as one signed 32-bit integer."""
    try:
        return f"{(int(text or '') >> 8) & 0xFFFFFF:06X}" if text else None
    except ValueError:
        return None


def _stk_facts(notes: Mapping[str, Any], axes: str | None) -> Facts:
    """MetaMorph: a calibration of the plane, and the distances of planes when they are all the same."""
    sizes: dict[str, float] = {}
    word = str(notes.get("CalibrationUnits") or "")
    unit = known_unit(word)
    lost = []
    for letter, key in (("x", "XCalibration"), ("y", "YCalibration")):
        size = _number(notes.get(key))
        if size and unit:
            sizes[letter] = size
    if notes.get("XCalibration") is not None and not sizes:
        lost.append(f"its calibration {notes.get('XCalibration')} {word!r} is no size")
    distances = np.unique(np.asarray(notes.get("ZDistance", ()), float))
    if unit and len(distances) == 1 and (size := _number(distances[0])):
        sizes["z"] = size
    return Facts(axes=axes, voxel_size=sizes, units=dict.fromkeys(sizes, unit or ""), warnings=tuple(lost))


def _imagej_facts(notes: dict[str, Any], page: Any, axes: str | None) -> Facts:
    word = str(notes.get("unit", ""))  # ImageJ may write the sign of micro as an escape
    unit = known_unit(word) or known_unit(word.replace("\\u00B5", "µ").replace("\\u00b5", "µ"))
    sizes: dict[str, float] = {}
    units: dict[str, str] = {}
    x, y = (_number(v) for v in page.get_resolution())
    printed = unit == "inch" and max(1 / (x or 1), 1 / (y or 1)) * _INCH_UM > _FINEST_PRINT_UM
    if unit and x and y and not printed:  # without a unit, ImageJ's resolution is 1 or a print resolution
        sizes |= {"x": 1 / x, "y": 1 / y}
        units |= {"x": unit, "y": unit}
        if z := _number(notes.get("spacing")):
            sizes["z"], units["z"] = z, unit
    if step := _number(notes.get("finterval")):
        sizes["t"], units["t"] = step, known_unit(str(notes.get("tunit", ""))) or "second"
    return Facts(axes=axes, voxel_size=sizes, units=units, channels=_imagej_channels(notes))


def _imagej_channels(notes: dict[str, Any]) -> tuple[Channel, ...]:
    """Colours are the brightest entries of the look-up tables, windows the display ranges."""
    tables, ranges = notes.get("LUTs") or [], notes.get("Ranges") or []
    if not tables or len(ranges) not in (0, 2 * len(tables)):
        return ()
    colors = ["{:02X}{:02X}{:02X}".format(*(int(row[-1]) for row in table)) for table in tables]
    pairs = [(float(a), float(b)) for a, b in zip(ranges[::2], ranges[1::2], strict=True)]
    windows = [pair if pair[0] < pair[1] else None for pair in pairs] or [None] * len(colors)
    return tuple(Channel(color=color, window=window) for color, window in zip(colors, windows, strict=True))


def _tag_facts(page: Any, axes: str | None) -> Facts:
    """Aperio's MPP, else the resolution tags when they are fine enough to be of a specimen."""
    found = re.search(r"\bMPP\s*=\s*([0-9.]+)", str(page.description or ""))
    if found and (size := _number(found[1])):
        return Facts(
            axes=axes, voxel_size={"x": size, "y": size}, units={"x": "micrometer", "y": "micrometer"}
        )
    micrometres = {2: _INCH_UM, 3: 10_000.0}.get(int(page.resolutionunit or 1))
    if micrometres is None:
        return Facts(axes=axes)
    x, y = (_number(v) for v in page.get_resolution())
    if not x or not y or max(micrometres / x, micrometres / y) > _FINEST_PRINT_UM:
        return Facts(axes=axes)
    sizes = {"x": micrometres / x, "y": micrometres / y}
    return Facts(axes=axes, voxel_size=sizes, units={"x": "micrometer", "y": "micrometer"})
