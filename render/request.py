"""What to render, as values: options in, a frozen request out. Pure; for the command line, for check suites and
for Python alike. ``option_table`` reads the words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from octree.pyramid.errors import AxisError, UsageError
from octree.pyramid.options import Option
from octree.pyramid.store.remote.options import RemoteOptions, read_remote
from octree.render.config import Settings, load_settings
from octree.render.films import MAX_FRAMES, Place, PlaneRange
from octree.render.loading.network import Network
from octree.render.option_table import RENDER, ChannelOption, Projection
from octree.render.view.camera_text import is_path, is_volume_camera
from octree.render.view.montage import Shape
from octree.render.view.state import VOLUME, Slicing
from octree.render.volume_options import SLICE, Planes, VolumeMode, VolumeOptions

Blending = Literal["translucent", "additive", "opaque"]
Late = Literal["coarse", "hold", "wait"]
Interpolation = Literal["nearest", "linear"]


@dataclass(frozen=True, slots=True)
class LayerOptions:
    """How one layer is drawn; ``clim``, ``opacity``, ``iso`` and ``attenuation`` None are automatic, ``channels`` None is what the source
    says, ``planes`` None is all of a volume."""

    clim: tuple[float, float] | None
    gamma: float
    colormap: str | None
    opacity: float | None
    blending: Blending | None
    interpolation: Interpolation
    channels: tuple[ChannelOption, ...] | None
    iso: float | None = None
    attenuation: float | None = None
    planes: Planes | None = None


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """Everything ``frames.Renderer`` needs, checked; ``parse_request`` makes it. ``mode`` None: settle for views and
    films over an index, stream for paths; ``fps`` None: 10, or a path's own; ``late`` None: coarse; ``min_coverage`` None: 1 when settling, 0
    when streaming; ``network`` None: reads are as fast as they are; ``pixel_aspect`` None: by voxel size. ``volume`` None: planes
    are shown. ``moved``: axes that camera paths move along, known once they have been read."""

    sources: tuple[Any, ...]
    cameras: tuple[str, ...]
    size_px: tuple[int, int]
    layers: tuple[LayerOptions, ...]
    mode: Literal["settle", "stream"] | None
    fps: float | None
    late: Late | None
    timeout_ms: float
    min_coverage: float | None
    background: str
    labels: bool
    index: Mapping[str, Place]
    display: tuple[str, ...]
    project: Projection | None
    montage: Shape | None
    montage_by: Literal["index", "camera", "source", "channel", "wells"] | None
    no_titles: bool
    pixel_aspect: float | None
    single_level: bool
    show_grid: bool
    mark_pending: bool
    overview: bool
    clock: Literal["real", "virtual"]
    network: Network | None
    gl: str
    allow_outside: bool
    allow_empty: bool
    remote: RemoteOptions
    settings: Settings
    volume: VolumeOptions | None = None
    moved: frozenset[str] = frozenset()

    @property
    def ranges(self) -> dict[str, PlaneRange]:
        """The axes of a film over an index, the slowest first."""
        return {axis: place for axis, place in self.index.items() if isinstance(place, PlaneRange)}

    @property
    def slicing(self) -> Slicing:
        """What is shown of images of more axes than a frame has; of a film, at its beginning."""
        begins = {
            axis: place.begin if isinstance(place, PlaneRange) else place
            for axis, place in self.index.items()
        }
        return Slicing.of(begins, self.display if self.volume is None else VOLUME, self.project)


def parse_request(
    sources: Sequence[Any],
    cameras: Sequence[str],
    options: Mapping[str, Any],
    *,
    settings: Settings | None = None,
) -> RenderRequest:
    """A request from option values by their long names with ``_`` for ``-``: texts as on the command line,
    or numbers and booleans as in TOML. None means not given. Raises UsageError naming option and value."""
    given = {name: value for name, value in options.items() if value is not None and value not in ([], ())}
    read = RENDER.read(given)
    if not sources:
        raise UsageError("no SOURCE to render")
    if read["settle"] and read["stream"]:
        raise UsageError("--settle and --stream exclude each other")
    _check_film(read, cameras)
    volume = _volume(read, given, cameras)
    for name in ("montage_by", "no_titles"):
        if read[name] and read["montage"] is None:
            raise UsageError(f"{RENDER[name].long} without --montage", hint="for example --montage auto")
    budgets = {o.setting: read[o.name] for o in RENDER if o.setting and read[o.name] is not None}
    settings = load_settings(read["config"]) if settings is None else settings
    if volume is not None:
        budgets.setdefault("atlas_bytes", settings.render.volume_atlas_bytes)
    same = (
        "fps",
        "late",
        "display",
        "project",
        "montage",
        "montage_by",
        "no_titles",
        "pixel_aspect",
        "background",
        "labels",
        "single_level",
        "show_grid",
        "mark_pending",
        "overview",
        "clock",
        "gl",
        "allow_outside",
        "allow_empty",
    )
    return RenderRequest(
        sources=tuple(sources),
        cameras=tuple(cameras) or ("fit",),
        size_px=read["size"],
        layers=_layers(given, len(sources)),
        mode="settle" if read["settle"] else "stream" if read["stream"] else None,
        timeout_ms=read["timeout"],
        min_coverage=read["min_coverage"],
        index=read["index"] or {},
        network=_network(read),
        settings=replace(settings, render=replace(settings.render, **budgets)),
        volume=volume,
        remote=read_remote(given),
        **{name: read[name] for name in same},
    )


def _check_film(read: Mapping[str, Any], cameras: Sequence[str]) -> None:
    """Raises UsageError for what means something in films only, and for a film that is too long. Of ranges without an
    end that is known later."""
    ranges = {axis: place for axis, place in (read["index"] or {}).items() if isinstance(place, PlaneRange)}
    moves = any(map(is_path, cameras))
    for name in ("fps", "late"):
        if read[name] is not None and not ranges and not moves:
            raise AxisError(f"--{name} without a film", hint=_FILMS)
    if read["late"] is not None and (read["settle"] or (ranges and not read["stream"])):
        raise UsageError("--late without --stream", hint="settled films wait until each plane is complete")
    ended = [place.count(0) for place in ranges.values() if place.stop is not None]
    check_length(math.prod(ended) * max(1, len(cameras)))


def _volume(
    read: Mapping[str, Any], given: Mapping[str, Any], cameras: Sequence[str]
) -> VolumeOptions | None:
    """How a volume is drawn, None where planes are. Raises UsageError for options of the one with the other."""
    around = next(filter(is_volume_camera, cameras), None)
    mode = read["mode"] or (SLICE if around is None else "mip")
    if mode == SLICE:
        if around is not None:
            raise UsageError(
                f"--mode slice shows planes, and --camera {around} looks at a volume",
                hint="--mode mip, minip, mean, attenuated-mip, alpha or iso shows volumes",
            )
        for name in ("slab", "clip", "detail", "box", "iso", "attenuation", "planes"):
            if given.get(name) not in (None, False):
                raise UsageError(
                    f"{RENDER[name].long} is of volumes, and planes are shown",
                    hint="--mode mip, or a camera such as azimuth=30,elevation=20, shows a volume",
                )
        return None
    shows = f"--mode {mode}" if read["mode"] else f"--camera {around}"
    for name, own in (("iso", "iso"), ("attenuation", "attenuated-mip")):
        if given.get(name) is not None and mode != own:
            raise UsageError(f"--{name} is of --mode {own}, not of --mode {mode}", hint=f"--mode {own}")
    for name, why in _OF_PLANES.items():
        if given.get(name) not in (None, False) and read[name] != RENDER[name].initial:
            raise UsageError(
                f"{RENDER[name].long} with {shows}: {why}",
                hint=f"leave out {RENDER[name].long}, or --mode slice",
            )
    if read["montage"] == "ortho":
        raise UsageError(
            f"--montage ortho with {shows}: its three views are planes",
            hint="several --camera with --montage auto show a volume from several sides",
        )
    for axis in [*(read["index"] or {}), *([read["project"].axis] if read["project"] else [])]:
        if axis in VOLUME:
            option = "index" if axis in (read["index"] or {}) else "project"
            raise UsageError(
                f"--{option} {axis}=… with {shows}: a volume has all of {axis}",
                hint=f"--clip {axis}=FROM:TO shows a part of it",
            )
    return VolumeOptions(
        cast("VolumeMode", mode), read["slab"], read["clip"], read["detail"] or 1.0, read["box"]
    )


_OF_PLANES = {
    "display": "a volume displays z, y and x",
    "pixel_aspect": "the shape of a volume is by voxel size",
    "overview": "the inset is of planes",
    "show_grid": "the grid is of planes",
    "mark_pending": "what is pending is marked on planes",
}
"""Options that mean nothing to volumes."""

_FILMS = "a film is a range such as --index t=0:50, or a camera path"


def check_length(frames: int) -> None:
    """Raises UsageError for more frames than one run draws."""
    if frames > MAX_FRAMES:
        raise UsageError(
            f"{frames} frames are more than one run draws, {MAX_FRAMES}",
            hint="take a larger step, as in t=0:5000:10, or several runs",
        )


def _network(read: Mapping[str, Any]) -> Network | None:
    network = Network(
        latency_ms=read["latency"],
        bandwidth_bytes_per_s=read["bandwidth"],
        jitter_ms=read["jitter"],
        fail_rate=read["fail_rate"],
        seed=read["seed"],
    )
    return None if network == Network(seed=network.seed) else network


def _layers(given: Mapping[str, Any], count: int) -> tuple[LayerOptions, ...]:
    columns = {
        option.name: _per_layer(option, given.get(option.name), count) for option in RENDER if option.many
    }
    return tuple(LayerOptions(**{name: values[k] for name, values in columns.items()}) for k in range(count))


def _per_layer(option: Option, value: Any, count: int) -> list[Any]:
    """One option's value for each layer: one for all, or in order with the default for the rest."""
    default = option.initial
    if value is None:
        return [default] * count
    values = value if isinstance(value, list | tuple) else [value]
    if option.name == "clim" and all(isinstance(v, int | float) for v in values):
        values = [tuple(values)]  # clim = [0, 1000] in a suite file is one pair
    if len(values) > count:
        raise UsageError(f"{option.long} is given {len(values)} times for {count} source(s)")
    parsed = [option.read(each) for each in values]
    return parsed * count if len(parsed) == 1 else parsed + [default] * (count - len(parsed))
