"""Shapes, dtypes, scales and translations of levels against each other: everything that needs no pixel."""

from __future__ import annotations

from octree.pyramid.axes import name_axes
from octree.pyramid.model import AXIS_ORDER
from octree.pyramid.options import shown
from octree.pyramid.store.ngff import Multiscale
from octree.pyramid.units import SPACE_UNITS, TIME_UNITS
from octree.pyramid.verify.findings import Findings

BLOCK_METHODS = ("mean", "mode", "median", "min", "max")
_CLOSE = 1e-6


def check_structure(image: Multiscale, findings: Findings) -> None:
    """Add what is wrong with the levels' own metadata, and with one level against the one before."""
    _check_image(image, findings)
    for level in range(len(image.levels)):
        _check_array(image, level, findings)
        if level:
            _check_shape_and_scale(image, level, findings)
            _check_translation(image, level, findings)
            _check_recorded_factors(image, level, findings)
    if image.labels and image.arrays[0].dtype.kind not in "iub":
        findings.add("dtype", "level 0", f"labels are integers, not {image.arrays[0].dtype}", 0)


def _check_image(image: Multiscale, findings: Findings) -> None:
    """What should be so, and is in all that octree writes: of others it is a note."""
    wrong = []
    letters = [axis.name for axis in image.axes]
    if letters != sorted(letters, key=AXIS_ORDER.index):
        wrong.append(f"the axes {list(image.axis_names)} are not in the order t, c, z, y, x")
    for axis in image.axes:
        known = {"time": TIME_UNITS, "space": SPACE_UNITS}.get(axis.type, frozenset())
        if axis.unit and axis.unit not in known:
            wrong.append(f"axis {axis.name}: {axis.unit!r} is no unit of {axis.type} that OME-Zarr lists")
    for what in wrong:
        if image.by_octree:
            findings.add("metadata", "attributes", what)
        else:
            findings.note(what)
    paths = [level.path for level in image.levels]
    for path in sorted({path for path in paths if paths.count(path) > 1}):
        findings.add("metadata", "attributes", f"level {path!r} is listed {paths.count(path)} times")
    if image.arrays[0].zarr_format == 2 and image.group.child(".zgroup").stamp() is None:
        findings.add("metadata", ".zgroup", "is missing: Zarr v2 takes the folder for no group")


def _check_array(image: Multiscale, level: int, findings: Findings) -> None:
    array, where = image.arrays[level], image.levels[level].path
    if array.dtype != image.arrays[0].dtype:
        findings.add("dtype", where, f"{array.dtype}, but level 0 is {image.arrays[0].dtype}", level)
    wanted = 2 if image.version.startswith(("0.1", "0.2", "0.3", "0.4")) else 3
    if array.zarr_format != wanted:
        findings.add(
            "metadata", where, f"Zarr v{array.zarr_format}; OME-Zarr {image.version} is Zarr v{wanted}", level
        )
    if array.zarr_format == 3:
        names = array.dimension_names
        if names is None:
            findings.add("dimension-names", where, "dimension_names is missing", level)
        elif tuple(names) != image.axis_names:
            same = name_axes(str(n) for n in names) == "".join(axis.name for axis in image.axes)
            note = " (same letters, written in another way)" if same else ""
            findings.add(
                "dimension-names",
                where,
                f"dimension_names {list(names)} are not the axes {list(image.axis_names)}{note}",
                level,
            )


def integer_factor(before: int, after: int) -> int | None:
    """The factor f with ceil(before / f) == after, the lowest there is; None when no integer fits."""
    if after < 1:
        return None
    factor = -(-before // after)
    return factor if -(-before // factor) == after else None


def factors_of(image: Multiscale, level: int) -> tuple[int, ...] | None:
    """Integer factors from the level before to ``level``, as scale and shape both say; None when they do not."""
    factors = []
    for i in range(len(image.axes)):
        ratio = image.levels[level].scale[i] / image.levels[level - 1].scale[i]
        before, after = image.arrays[level - 1].shape[i], image.arrays[level].shape[i]
        factor = round(ratio)
        if factor < 1 or abs(ratio - factor) > _CLOSE * ratio or -(-before // factor) != after:
            return None
        factors.append(factor)
    return tuple(factors)


def _check_shape_and_scale(image: Multiscale, level: int, findings: Findings) -> None:
    where = image.levels[level].path
    for i, axis in enumerate(image.axes):
        ratio = image.levels[level].scale[i] / image.levels[level - 1].scale[i]
        before, after = image.arrays[level - 1].shape[i], image.arrays[level].shape[i]
        factor, fitting = round(ratio), integer_factor(before, after)
        whole = factor >= 1 and abs(ratio - factor) <= _CLOSE * ratio
        if whole and -(-before // factor) == after:
            continue
        lengths = f"axis {axis.name}: {after} of {before}"
        if not image.by_octree and abs(ratio - before / after) <= _CLOSE * ratio:
            findings.note(
                f"level {level}: {lengths} is no integer factor, but the scale says the same; it was not compared"
            )
            continue
        if whole and max(1, before // factor) == after:
            lost = before - after * factor
            findings.add(
                "shape",
                where,
                f"{lengths} at factor {factor} leaves the last {lost} out (not the ceil)",
                level,
            )
        elif fitting is not None:
            findings.add(
                "scale",
                where,
                f"{lengths} is factor {fitting}; the scale says {ratio:.6g} times the level before",
                level,
            )
        else:
            findings.add("shape", where, f"{lengths} is no integer factor; the scale says {ratio:.6g}", level)


def _check_recorded_factors(image: Multiscale, level: int, findings: Findings) -> None:
    """What octree wrote down of how it halved: of axes that are short, any factor fits the lengths."""
    recorded = image.metadata.get("factors") if image.by_octree else None
    if not isinstance(recorded, list) or len(recorded) != len(image.levels):
        return
    step = recorded[level]
    ratios = [
        own / before
        for own, before in zip(image.levels[level].scale, image.levels[level - 1].scale, strict=True)
    ]
    if not isinstance(step, list) or len(step) != len(ratios):
        return
    for axis, ratio, factor in zip(image.axes, ratios, step, strict=True):
        if factor != round(ratio) or abs(ratio - round(ratio)) > _CLOSE * ratio:
            findings.add(
                "scale",
                image.levels[level].path,
                f"axis {axis.name}: was halved by {shown(factor)}, as the metadata record; the scale says {ratio:.6g} times "
                "the level before",
                level,
            )


def _check_translation(image: Multiscale, level: int, findings: Findings) -> None:
    """Pixel centres: half the difference of the scales for block methods, none for nearest."""
    base, own, where = image.levels[0], image.levels[level], image.levels[level].path
    for i, axis in enumerate(image.axes):
        shift = own.translation[i] - base.translation[i]
        half = (own.scale[i] - base.scale[i]) / 2
        allowed = [half] if image.method in BLOCK_METHODS else [0.0, half]
        if image.method == "nearest" and image.by_octree:  # others' may take the sample in the middle
            allowed = [0.0]
        slack = _CLOSE * max(own.scale[i], abs(own.translation[i]))
        if min(abs(shift - value) for value in allowed) > slack:
            wanted = " or ".join(f"{base.translation[i] + value:.9g}" for value in allowed)
            findings.add(
                "translation",
                where,
                f"axis {axis.name}: {own.translation[i]:.9g}, but {wanted} is the centre of its first block",
                level,
            )
        elif image.method not in (*BLOCK_METHODS, "nearest") and abs(half) > slack and abs(shift) <= slack:
            findings.note(
                "no translation is written: if blocks were averaged, coarser levels lie half a pixel off"
            )
