"""The options of ``octree render``, each declared once, and how their words are read. Pure and light: ``--help``
imports this and no numpy.

An option of ``many`` given several times goes to the layers in order; given once it holds for every layer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from octree.pyramid.errors import AxisError, UsageError
from octree.pyramid.limits import LIMITS
from octree.pyramid.options import (
    ANY,
    BYTES,
    FLAG,
    PATH,
    RATE,
    RUN,
    TEXT,
    TIME,
    Kind,
    Option,
    Table,
    choice,
    number,
    whole,
)
from octree.pyramid.reach import OUTSIDE
from octree.pyramid.store.remote.options import REMOTE
from octree.pyramid.units import parse_time_ms
from octree.render.config import RenderSettings
from octree.render.films import LATE, LEAST_FPS, MOST_FPS, parse_index
from octree.render.volume_options import (
    SLICE,
    VOLUME_MODES,
    auto_or_number,
    auto_or_positive,
    parse_clip,
    parse_planes,
    parse_slab,
)

VIEW, LOOK, OUT = "View", "Look", "What comes out"
GL_CHOICES = ("auto", "osmesa", "window", "egl")
MONTAGE_BY = ("index", "camera", "source", "channel", "wells")
MAX_SIDE_PX = 65536
MAX_FRAME_PX = 2**28


@dataclass(frozen=True, slots=True)
class ChannelOption:
    """One entry of ``--channels``: position on the channel axis, colour, contrast limits (None: auto)."""

    index: int
    color: str | None = None
    clim: tuple[float, float] | None = None


PROJECTIONS = ("max", "min", "mean", "sum")


@dataclass(frozen=True, slots=True)
class Projection:
    """One axis reduced to one value: level-0 positions ``first`` to ``stop`` (half-open; None: the axis' ends), or so many
    ``around`` the position, each way."""

    axis: str
    method: str
    first: int | None = None
    stop: int | None = None
    around: int | None = None

    def __str__(self) -> str:
        """As it is written."""
        if self.around is not None:
            return f"{self.axis}={self.method}:~{self.around}"
        ends = "".join(f":{'' if end is None else end}" for end in (self.first, self.stop))
        return f"{self.axis}={self.method}{ends.rstrip(':') and ends}"


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def parse_clim(value: Any) -> tuple[float, float] | None:
    """``auto``, or two finite numbers ``low,high``; with the higher first what is bright becomes dark."""
    if isinstance(value, str):
        if value.strip() == "auto":
            return None
        parts: Sequence[Any] = value.split(",")
    else:
        parts = value if isinstance(value, list | tuple) else ()
    try:
        low, high = map(_limit, parts)
    except UsageError:
        raise
    except (TypeError, ValueError):
        raise UsageError(f"{value!r} is not auto or low,high", hint="for example 0,1000") from None
    return _checked_clim(low, high)


def _limit(value: Any) -> float:
    """One contrast limit. Raises UsageError for a whole number that no float is: of 64-bit values it would be another."""
    limit = float(value)
    text = str(value).strip()
    if abs(limit) >= 2**53 and re.fullmatch(r"[-+]?\d{1,99}", text) and int(text) != int(limit):
        raise UsageError(
            f"{text} is no contrast limit: beyond 2^53 not every whole number is one",
            hint=f"the nearest are {int(math.nextafter(limit, -math.inf))}, {int(limit)} and {int(math.nextafter(limit, math.inf))}",
        )
    return limit


def _checked_clim(low: float, high: float) -> tuple[float, float]:
    if not (math.isfinite(low) and math.isfinite(high) and low != high):
        raise UsageError(f"contrast limits must be two finite numbers that differ, not {low:g},{high:g}")
    return low, high


def parse_channels(value: Any) -> tuple[ChannelOption, ...]:
    """``0:red:lo-hi,1:green,2``: position, then a colour and contrast limits if given."""
    channels: list[ChannelOption] = []
    for part in str(value).split(","):
        index, *rest = (piece.strip() for piece in part.split(":"))
        if not index.isdecimal() or len(rest) > 2:
            raise UsageError(
                f"{part!r} is not INDEX[:COLOR[:LOW-HIGH]]", hint="for example 0:red:100-2000,1:green"
            )
        clim = None
        if len(rest) == 2 and rest[1] not in ("", "auto"):
            match = re.fullmatch(f"({_NUMBER})-({_NUMBER})", rest[1])
            if match is None:
                raise UsageError(f"{part!r}: {rest[1]!r} is not LOW-HIGH", hint="for example 100-2000")
            clim = _checked_clim(_limit(match[1]), _limit(match[2]))
        channels.append(ChannelOption(int(index), (rest[0] or None) if rest else None, clim))
    repeated = [c.index for c in channels]
    if len(set(repeated)) != len(repeated):
        raise UsageError(f"a channel is named twice in {value!r}")
    return tuple(channels)


def parse_size(value: Any) -> tuple[int, int]:
    """``1024x768`` → (width, height) in pixels."""
    match = re.fullmatch(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*", str(value))
    if match is None:
        raise UsageError(f"{value!r} is not WIDTHxHEIGHT", hint="for example 1024x768")
    width, height = int(match[1]), int(match[2])
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX and width * height <= MAX_FRAME_PX):
        raise UsageError(
            f"a frame is 1 to {MAX_SIDE_PX} pixels on a side and at most {MAX_FRAME_PX} in all, not {value}"
        )
    return width, height


def _is_place(text: str) -> bool:
    return text.isdecimal() and len(text) < 19


def parse_display(value: Any) -> tuple[str, ...]:
    """``zx``: the names of the axes of the rows and of the columns. Which there are, the image says."""
    if not isinstance(value, str | list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(value)
    names = tuple([name for part in value for name in part if name not in ", "])
    if not names or len(names) > 9:
        raise ValueError(value)
    if names == ("z", "y", "x"):
        raise UsageError("a plane has two axes, rows and columns, not 'zyx'", hint="choose yx, zx or zy")
    return names


def parse_projection(value: Any) -> Projection:
    """``z=max``, ``z=mean:4:12`` (positions, half-open) or ``z=max:~3`` (three each way of the position)."""
    if isinstance(value, Projection):
        return value
    axis, _, rest = str(value).partition("=")
    method, *ends = (part.strip() for part in rest.split(":"))
    shaped = method in PROJECTIONS and len(axis.strip()) == 1
    around = len(ends) == 1 and ends[0].startswith("~") and _is_place(ends[0][1:])
    between = len(ends) in (0, 2) and all(end == "" or _is_place(end) for end in ends)
    if not (shaped and (around or between)):
        raise AxisError(
            f"{value!r} is not AXIS=METHOD[:FROM:TO], or [:~N]",
            hint=f"for example z=max, z=mean:4:12 or z=max:~3; methods: {', '.join(PROJECTIONS)}",
        )
    if around:
        return Projection(axis.strip(), method, around=int(ends[0][1:]))
    first, stop = (int(end) if end else None for end in ends or ("", ""))
    if stop is not None and stop <= (first or 0):
        raise AxisError(f"{value!r} projects nothing", hint="FROM must be below TO, which is not part of it")
    return Projection(axis.strip(), method, first, stop)


def parse_montage(value: Any) -> Any:
    """``auto``, ``ortho``, or ``3x2``: (columns, rows)."""
    text = str(value).strip()
    if text in ("auto", "ortho"):
        return text
    match = re.fullmatch(r"(\d{1,5})\s*[xX×]\s*(\d{1,5})", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise UsageError(f"{value!r} is not auto, ortho or COLUMNSxROWS", hint="for example 3x2")
    return int(match[1]), int(match[2])


def _positive_ms(value: Any) -> float:
    time_ms = parse_time_ms(value)
    if time_ms <= 0:
        raise ValueError(value)
    return time_ms


def _mib(size_bytes: int) -> str:
    return f"{size_bytes // 2**20}MiB"


FRACTION = number(0, 1)
RENDER = Table(
    "render",
    (
        Option("size", Kind("WIDTHxHEIGHT", parse_size, "SIZE"), "WIDTHxHEIGHT in pixels.", "1024x768", group=VIEW),
        Option("index", Kind("a place such as t=3,z=10", parse_index, "PLACE"),
               "Plane to show: t=0,z=0; a film: t=0:50, t=0:50:5, t=:.", unset="0 each", group=VIEW, live=True),
        Option("display", Kind("two axes such as zx, rows and columns", parse_display, "AXES"),
               "Axes of rows and columns: yx, zx, zy.", "yx", group=VIEW, live=True),
        Option("project", Kind("a projection such as z=max", parse_projection, "AXIS=METHOD"),
               "Project an axis: z=max, min, mean or sum, z=max:FROM:TO, z=max:~N.",
               unset="none", group=VIEW, live=True),
        Option("montage", Kind("auto, ortho or COLUMNSxROWS", parse_montage, "SHAPE"),
               "Several views in one frame: auto, COLUMNSxROWS, or ortho.", unset="one view", group=VIEW),
        Option("montage_by", choice(*MONTAGE_BY), "What varies in it: index, channel, source, camera, or the wells of a plate.",
               unset="whichever varies", group=VIEW),
        Option("no_titles", FLAG, "No titles on the views of a montage.", group=VIEW),
        Option("pixel_aspect", number(1e-6, 1e6), "How high a level-0 pixel is drawn for its width; 1 draws texels.",
               unset="by voxel size", group=VIEW),
        Option("mode", choice(SLICE, *VOLUME_MODES), "slice: planes. Volumes: mip, minip, mean, attenuated-mip, alpha or iso.",
               unset="slice; mip for cameras around a volume", group=VIEW),
        Option("slab", Kind("a thickness of at least 0, as 20 or 5um", parse_slab, "LENGTH"),
               "Only so much of a volume about the camera's centre: level-0 voxels of x, or 5um; 0 is an oblique slice.",
               unset="off", group=VIEW),
        Option("clip", Kind("a box such as x=100:900,z=:50", parse_clip, "BOX"),
               "Only this box of a volume, level-0 positions: x=100:900,z=:50.", unset="all of it", group=VIEW),
        Option("planes", Kind("planes such as x=100,y=80,z=12, or none", parse_planes, "PLACES"),
               "A volume's planes in its place, opaque: x=100,y=80,z=12; of an image without z where it lies: z=12.",
               unset="none; z=0 of an image without z beside a volume", group=VIEW, many=True),
        Option("detail", number(0, 1e6, above=True), "Of volumes: voxels of the wanted level are at most so many pixels.",
               unset="1", group=VIEW),
        Option("box", FLAG, "Outline of a volume, with ticks, and its axes.", group=VIEW),
        Option("iso", Kind("auto or a number", auto_or_number, "VALUE"), "Threshold of --mode iso, in data values.",
               unset="auto: the middle of the contrast limits", group=LOOK, many=True),
        Option("attenuation", Kind("auto or a number of at least 0", auto_or_positive, "NUMBER"),
               "How fast --mode attenuated-mip darkens, per world unit.", unset="auto", group=LOOK, many=True),
        Option("clim", Kind("auto or low,high", parse_clim, "LOW,HIGH"), "Contrast limits low,high.",
               unset="auto", group=LOOK, many=True, live=True),
        Option("gamma", number(0, 100, above=True), "Gamma.", 1, group=LOOK, many=True, live=True),
        Option("colormap", TEXT, "A vispy colormap or a colour.", unset="gray", group=LOOK, many=True, live=True),
        Option("opacity", FRACTION, "0 to 1; of --mode alpha per world unit.", unset="1; of alpha by the volume's size",
               group=LOOK, many=True, live=True),
        Option("blending", choice("translucent", "additive", "opaque"), "translucent, additive or opaque.",
               unset="translucent", group=LOOK, many=True, live=True),
        Option("interpolation", choice("nearest", "linear"), "nearest or linear.",
               default="nearest", group=LOOK, many=True, live=True),
        Option("channels", Kind("a list such as 0:red:100-2000,1:green", parse_channels),
               "Composite channels: 0:red:lo-hi,1:green.", unset="those of the source", group=LOOK, many=True, live=True),
        Option("background", TEXT, "A colour, or transparent.", "black", group=LOOK),
        Option("labels", FLAG, "Values are ids: draw label colours.", group=LOOK, live=True),
        Option("show_grid", FLAG, "Draw tile borders by level.", group=LOOK, live=True),
        Option("mark_pending", FLAG, "Hatch what is not ideal yet.", group=LOOK, live=True),
        Option("overview", FLAG, "Inset with the whole image and the view.", group=LOOK),
        Option("settle", FLAG, "Wait until each frame is settled (for views, films over --index).", group=RUN),
        Option("stream", FLAG, "Draw at the film's rate what has arrived (for paths).", group=RUN),
        Option("fps", number(LEAST_FPS, MOST_FPS), "Frames per second of a film.", unset="10, or the path's own", group=RUN),
        Option("late", choice(*LATE), "With --stream, a plane that is not complete in time: coarse, hold (the last one) or wait.",
               unset="coarse", group=RUN),
        Option("timeout", Kind("a time above 0 with its unit, such as 30s", _positive_ms, "TIME"), "Longest wait for one settled frame.",
               "60s", group=RUN),
        Option("min_coverage", FRACTION, "Fraction of the visible image that must be ideal, else exit 1.",
               unset="1 settled, 0 streamed", group=RUN),
        Option("allow_empty", FLAG, "Take frames that show nothing of the image; else exit 1.", group=RUN),
        Option("single_level", FLAG, "Draw a SOURCE without a pyramid from level 0 only.", group=RUN, live=True),
        Option("config", PATH, "Settings file.", group=RUN),
        Option("cache", BYTES, "Bytes of the tile cache in memory.", unset=_mib(RenderSettings().cache_bytes), group=RUN, setting="cache_bytes"),
        Option("atlas", BYTES, "Bytes of the texture atlas.", unset=f"{_mib(RenderSettings().atlas_bytes)}; of volumes {_mib(RenderSettings().volume_atlas_bytes)}",
               group=RUN, setting="atlas_bytes"),
        *LIMITS,
        *OUTSIDE,
        *REMOTE,
        Option("clock", choice("real", "virtual"), "real or virtual.", "real", group=RUN),
        Option("latency", TIME, "Simulated latency of each read, as 50ms.", "0ms", group=RUN),
        Option("bandwidth", RATE, "Simulated bandwidth, as 20MB/s.", unset="no limit", group=RUN),
        Option("jitter", TIME, "Simulated jitter of the latency, as 10ms.", "0ms", group=RUN),
        Option("fail_rate", FRACTION, "Simulated fraction of reads that fail.", 0, group=RUN),
        Option("seed", whole(0), "Seed of the simulation.", 0, group=RUN),
        Option("gl", choice(*GL_CHOICES), "auto, osmesa (no display), window or egl.", "auto", group=RUN),
    ),
)  # fmt: skip

OUTPUTS = Table(
    "render",
    (
        Option("output", PATH, "PNG, or a pattern: frame-{index:04}.png, {camera}, {t:03}. - is stdout. .gif and .mp4 for films.",
               group=OUT, short=("-o",)),
        Option("report", PATH, "Write the JSON report here.", group=OUT),
        Option("html", PATH, "Write a one-page HTML report here.", group=OUT),
        Option("trace", PATH, "Write a Chrome trace here.", group=OUT),
        Option("monitor", PATH, "Stream counters of each frame as JSON lines; - is stdout.", group=OUT),
        Option("slice_log", PATH, "Append a line for each plane that was asked for: how soon it came.", group=OUT),
    ),
)  # fmt: skip
"""Where the command writes what it makes; a request does not hold them."""

SPREAD = Table(
    "render",
    (
        Option("scheduler", ANY,
               "Draw settled frames in several processes: local (one for each core), or a dask scheduler as tls://host:8786.",
               unset="in this process", group=RUN),
    ),
)  # fmt: skip
"""Who draws; ``frames`` and ``farm`` are two ways of doing the same."""
