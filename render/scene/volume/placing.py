"""Planes among volumes: where images without z lie, and what that means for how the others are drawn. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from octree.pyramid.errors import UsageError
from octree.pyramid.model import PyramidSpec
from octree.render.request import RenderRequest
from octree.render.tiles.slab import Slab
from octree.render.view.state import PLANE, VOLUME

_LIGHT = ("mip", "mean", "attenuated-mip")
"""Modes whose pixels hide what they lie over, however dark they are."""


def slab_of(request: RenderRequest, number: int, spec: PyramidSpec, first: PyramidSpec) -> Slab | None:
    """Where the image of a layer lies on z if it is to be a slab of the first, a volume; None: it is not. Raises UsageError for
    ``--planes`` that it cannot have."""
    is_plane = set(PLANE) <= set(spec.free_axes) and "z" not in spec.axis_names
    if request.volume is None or not is_plane or not set(VOLUME) <= set(first.free_axes):
        return None
    planes = dict(request.layers[number].planes or (("z", 0),))
    if set(planes) != {"z"}:
        raise UsageError(
            f"--planes: SOURCE {number + 1} has no z: it is a plane across z",
            hint="--planes z=12 says where it lies, in level-0 positions of the first SOURCE",
        )
    return Slab.of(first, planes["z"])


def with_planes(
    request: RenderRequest, first: PyramidSpec, are_slabs: Sequence[bool], are_labels: Sequence[bool]
) -> RenderRequest:
    """The request once it is known which layers are images without z. Light in front of planes is added to them, where nobody has
    said how: a maximum that is black would hide them. Raises UsageError for planes beside the image."""
    layers = [
        replace(layer, planes=(("z", 0),)) if is_slab and layer.planes is None else layer
        for layer, is_slab in zip(request.layers, are_slabs, strict=True)
    ]
    for layer in layers:
        for axis, at in layer.planes or ():
            length = first.levels[0].shape[first.axis_names.index(axis)]
            if not 0 <= at < length:
                raise UsageError(
                    f"--planes: {axis}={at} lies outside the image",
                    hint=f"{axis} of the first SOURCE runs from 0 to {length - 1}",
                )
    if request.volume is not None and request.volume.mode in _LIGHT and any(each.planes for each in layers):
        layers = [
            replace(layer, blending=layer.blending or "additive")
            if layer.planes is None and not is_labels
            else layer
            for layer, is_labels in zip(layers, are_labels, strict=True)
        ]
    return replace(request, layers=tuple(layers))
