"""How each part of a layer is drawn: what the options say, else what the source says, else a rule."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from octree.pyramid.errors import OctreeWarning, UsageError
from octree.pyramid.model import Channel
from octree.render.config import LoaderSettings
from octree.render.option_table import ChannelOption
from octree.render.request import Blending, Interpolation, LayerOptions, RenderRequest
from octree.render.scene.contrast import measured_range, type_range, whole_range
from octree.render.tiles.texels import base_for, lost_steps
from octree.render.tiles.tile_source import OpenTileSource
from octree.render.view.state import Section, Slicing, resolve
from octree.render.volume_options import Planes

CHANNEL_COLORS = ("#ff0000", "#00ff00", "#0000ff", "#ffff00", "#ff00ff", "#00ffff", "#ffffff")
"""For channels whose source names no colour, in order."""


@dataclass(frozen=True, slots=True)
class Look:
    """One part of a layer, ready to draw: its channel, if that is not the view's, and its colours."""

    channel: int | None
    clim: tuple[float, float]
    gamma: float
    colormap: str
    opacity: float
    blending: Blending
    interpolation: Interpolation
    labels: bool
    rgb: bool
    iso: float | None = None
    attenuation: float | None = None
    planes: Planes | None = None
    """Of a volume these are shown, camera coordinates; None: all of it."""
    auto_opacity: bool = False
    """Nobody has said how opaque it is."""

    def drawing(self) -> dict[str, Any]:
        """The arguments that ``TiledImageVisual`` and ``MarchVisual`` have in common."""
        others = ("channel", "iso", "attenuation", "planes", "auto_opacity")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in others}


def looks_of(source: OpenTileSource, options: LayerOptions, request: RenderRequest) -> list[Look]:
    """The parts of one layer, bottom first. Raises UsageError for a channel that does not exist.

    A source with channels is drawn as all of them, added up in their own colours, unless ``--channels`` picks,
    ``--index c=`` chooses one, or ``--colormap`` says how to draw the first.
    """
    looks = _looks(source, options, request)
    _rebase(source, looks, request)
    return looks


def _rebase(source: OpenTileSource, looks: Sequence[Look], request: RenderRequest) -> None:
    """Have texels made that can tell apart what lies between the contrast limits."""
    dtype = source.face(resolve(request.slicing, source.spec, lenient=True)).value_dtype
    source.rebase({look.channel: base_for(dtype, look.clim, labels=look.labels) for look in looks})
    warn_of_lost(source, dtype, [look.clim for look in looks if not look.labels])


def warn_of_lost(source: OpenTileSource, dtype: np.dtype[Any], clims: Sequence[tuple[float, float]]) -> None:
    """Say when contrast limits span more of these values than are told apart."""
    steps = max([1, *(lost_steps(dtype, clim) for clim in clims)])
    if steps > 1:
        warnings.warn(
            f"{source.path}: contrast limits that span more than 2^24 values of {dtype} are drawn in 24 bits: values that "
            f"differ by less than {steps} may look the same",
            OctreeWarning,
            stacklevel=3,
        )


def _looks(source: OpenTileSource, options: LayerOptions, request: RenderRequest) -> list[Look]:
    channels = channels_of(source, options, request)
    look = Look(
        channel=None,
        clim=(0.0, 1.0),
        gamma=options.gamma,
        colormap=options.colormap or "gray",
        opacity=1.0 if options.opacity is None else options.opacity,
        auto_opacity=options.opacity is None,
        blending=options.blending or "translucent",
        interpolation=options.interpolation,
        labels=source.labels,
        rgb=source.rgb,
        iso=options.iso,
        attenuation=options.attenuation,
        planes=options.planes,
    )
    if channels is None:
        return [replace(look, clim=_clim(source, request.slicing, None, options, request.settings.loader))]
    looks = []
    for number, channel in enumerate(channels):
        told = _told(source, channel.index)
        position = tuple({**dict(request.slicing.position), "c": channel.index}.items())
        slicing = replace(request.slicing, position=position)
        color = channel.color or (f"#{told.color}" if told and told.color else None)
        looks.append(
            replace(
                look,
                channel=channel.index,
                clim=channel.clim or _clim(source, slicing, told, options, request.settings.loader),
                colormap=color or CHANNEL_COLORS[number % len(CHANNEL_COLORS)],
                blending=options.blending or "additive",
            )
        )
    return looks


def channels_of(
    source: OpenTileSource, options: LayerOptions, request: RenderRequest
) -> Sequence[ChannelOption] | None:
    """The channels to add up, or None for one part in a colormap."""
    spec = source.spec
    section = resolve(request.slicing, spec, lenient=True)
    choosable = "c" in section.entries and section.projected != "c"
    if not choosable or source.labels:
        if options.channels is not None:
            raise UsageError(
                f"--channels: {source.path} has no channels to choose from",
                hint="its samples are one colour"
                if source.rgb
                else "c is displayed or projected"
                if "c" in spec.axis_names
                else f"its axes: {', '.join(spec.axis_names)}",
            )
        return None
    count = spec.levels[0].shape[spec.axis_names.index("c")]
    moves = "c" in request.ranges or "c" in request.moved
    if options.channels is not None:
        if "c" in request.index and not moves:
            raise UsageError(
                f"--channels and --index c={request.index['c']} both choose what is shown of c",
                hint="leave out one of them",
            )
        if moves:
            raise UsageError(
                "--channels shows the same channels in every frame of a film over c",
                hint="leave out --channels, or c of the film",
            )
        for channel in options.channels:
            if channel.index >= count:
                raise UsageError(
                    f"--channels: no channel {channel.index} in {source.path}: it has {count}",
                    hint="channels count from 0",
                )
        return options.channels
    if count == 1 or "c" in request.index or moves or options.colormap is not None:
        return None
    return [ChannelOption(index) for index in range(count)]


def channels_shown(
    sources: Sequence[OpenTileSource], layers: Sequence[LayerOptions], request: RenderRequest
) -> list[int | None]:
    """What is shown of the axis c, part by part, None: the channel where the view stands; [] where no source has one to
    choose."""
    found: list[int | None] = []
    for source, options in zip(sources, layers, strict=True):
        if "c" in source.spec.free_axes:
            channels = channels_of(source, options, request)
            found += [None] if channels is None else [channel.index for channel in channels]
    return found


def _told(source: OpenTileSource, channel: int) -> Channel | None:
    channels = source.spec.channels
    return channels[channel] if channel < len(channels) else None


def _clim(
    source: OpenTileSource,
    slicing: Slicing,
    told: Channel | None,
    options: LayerOptions,
    settings: LoaderSettings,
) -> tuple[float, float]:
    """Contrast limits: as asked, as recorded, the whole range of bytes and colours, or that of the data. Sums have
    a range of their own."""
    if options.clim is not None:
        return options.clim
    if source.labels:
        return 0.0, 1.0
    dtype, section = source.spec.dtype, resolve(slicing, source.spec, lenient=True)
    if section.method == "sum":
        return _measured(source, section, settings)
    if source.rgb:
        return type_range(source.texture_dtype if dtype.kind == "b" else dtype)
    if told is None and len(source.spec.channels) == 1:
        told = source.spec.channels[0]
    if told is not None and told.window is not None:
        return told.window
    if dtype.kind == "b":
        return 0.0, 1.0
    if dtype == "uint8":
        return type_range(dtype)
    return _measured(source, section, settings)


def _measured(source: OpenTileSource, section: Section, settings: LoaderSettings) -> tuple[float, float]:
    """The range of a little of the data; where nothing of it can be read, that of its type."""
    face = source.face(section)
    found = measured_range(face, face.at(section), settings)
    if found is not None:
        return found
    low, high = whole_range(face.value_dtype)
    warnings.warn(
        f"{source.path}: nothing could be read to choose contrast limits by; {low:g} to {high:g}, the range of "
        f"{face.value_dtype}, is taken; --clim LOW,HIGH chooses",
        OctreeWarning,
        stacklevel=2,
    )
    return low, high
