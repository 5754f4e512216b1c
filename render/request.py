"""What to render, as values: option texts in, a frozen request out. Pure; the one place that reads the words
of ``octree render``'s options, for the command line, for check suites and for Python alike.

An option given several times goes to the layers in order; given once it holds for every layer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from octree.pyramid.errors import UsageError
from octree.pyramid.units import parse_bytes, parse_ms, parse_pixels, parse_rate
from octree.render.config import Settings, default_settings, load_settings
from octree.render.loading.network import Network

T = TypeVar("T")

Blending = Literal["translucent", "additive", "opaque"]
Interpolation = Literal["nearest", "linear"]
GL_CHOICES = ("auto", "osmesa", "window", "egl")
MAX_SIDE_PX = 65536
MAX_FRAME_PX = 2**28


@dataclass(frozen=True, slots=True)
class ChannelOption:
    """One entry of ``--channels``: position on the channel axis, colour, contrast limits (None: auto)."""

    index: int
    color: str | None = None
    clim: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class LayerOptions:
    """How one layer is drawn; ``clim`` None is automatic, ``channels`` None is what the source says."""

    clim: tuple[float, float] | None = None
    gamma: float = 1.0
    colormap: str | None = None
    opacity: float = 1.0
    blending: Blending | None = None
    interpolation: Interpolation = "nearest"
    channels: tuple[ChannelOption, ...] | None = None


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """Everything ``frames.Renderer`` needs, checked. ``mode`` None: settle for views, stream for paths;
    ``min_coverage`` None: 1 when settling, 0 when streaming; ``network`` None: reads are as fast as they are."""

    sources: tuple[Any, ...]
    cameras: tuple[str, ...]
    size_px: tuple[int, int] = (1024, 768)
    layers: tuple[LayerOptions, ...] = ()
    mode: Literal["settle", "stream"] | None = None
    timeout_ms: float = 60_000.0
    min_coverage: float | None = None
    background: str = "black"
    labels: bool = False
    index: Mapping[str, int] = field(default_factory=dict)
    single_level: bool = False
    show_grid: bool = False
    mark_pending: bool = False
    overview: bool = False
    clock: Literal["real", "virtual"] = "real"
    network: Network | None = None
    gl: str = "auto"
    settings: Settings = field(default_factory=default_settings)


LAYER_OPTIONS = ("clim", "gamma", "colormap", "opacity", "blending", "interpolation", "channels")
RUN_OPTIONS = (
    *("size", "settle", "stream", "timeout", "min_coverage", "background", "labels", "index"),
    *("single_level", "show_grid", "mark_pending", "overview", "config", "cache", "atlas", "clock"),
    *("max_pixels", "max_decoded"),
    *("latency", "bandwidth", "jitter", "fail_rate", "seed", "gl"),
)
OPTION_NAMES = (*LAYER_OPTIONS, *RUN_OPTIONS)


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
    for name in given:
        if name not in OPTION_NAMES:
            raise UsageError(
                f"unknown option {name!r}", hint=f"options: {', '.join(OPTION_NAMES).replace('_', '-')}"
            )
    if not sources:
        raise UsageError("no SOURCE to render")
    read = _Reader(given)
    if settings is None:
        settings = load_settings(given.get("config"))
    return RenderRequest(
        sources=tuple(sources),
        cameras=tuple(cameras) or ("fit",),
        size_px=read.value("size", parse_size, (1024, 768)),
        layers=_layers(given, len(sources)),
        mode=_mode(read),
        timeout_ms=read.value("timeout", _positive_ms, 60_000.0),
        min_coverage=read.value("min_coverage", _fraction, None),
        background=read.value("background", str, "black"),
        labels=read.flag("labels"),
        index=read.value("index", parse_index, {}),
        single_level=read.flag("single_level"),
        show_grid=read.flag("show_grid"),
        mark_pending=read.flag("mark_pending"),
        overview=read.flag("overview"),
        clock=read.value("clock", _choice("real", "virtual"), "real"),
        network=_network(read),
        gl=read.value("gl", _choice(*GL_CHOICES), "auto"),
        settings=_with_budgets(settings, read),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one option of a run; what is wrong is said with the option's name in front."""

    given: Mapping[str, Any]

    def value(self, name: str, parse: Callable[[Any], T], default: Any) -> Any:
        return _read(name, self.given[name], parse) if name in self.given else default

    def flag(self, name: str) -> bool:
        value = self.given.get(name, False)
        if not isinstance(value, bool):
            raise UsageError(f"{_option(name)} is true or false, not {value!r}")
        return value


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _read(name: str, value: Any, parse: Callable[[Any], T]) -> T:
    try:
        return parse(value)
    except UsageError as error:
        raise UsageError(f"{_option(name)}: {error.message}", hint=error.hint) from error


def _mode(read: _Reader) -> Literal["settle", "stream"] | None:
    settle, stream = read.flag("settle"), read.flag("stream")
    if settle and stream:
        raise UsageError("--settle and --stream exclude each other")
    return "settle" if settle else "stream" if stream else None


def _network(read: _Reader) -> Network | None:
    network = Network(
        latency_ms=read.value("latency", parse_ms, 0.0),
        bandwidth_bytes_per_s=read.value("bandwidth", parse_rate, None),
        jitter_ms=read.value("jitter", parse_ms, 0.0),
        fail_rate=read.value("fail_rate", _fraction, 0.0),
        seed=read.value("seed", _whole, 0),
    )
    return None if network == Network(seed=network.seed) else network


def _with_budgets(settings: Settings, read: _Reader) -> Settings:
    limits = {
        setting: read.value(option, parse_bytes, None)
        for option, setting in (("cache", "cache_bytes"), ("atlas", "atlas_bytes"))
    }
    limits["max_pixels"] = read.value("max_pixels", _above_0(parse_pixels), None)
    limits["max_decoded_bytes"] = read.value("max_decoded", _above_0(parse_bytes), None)
    return replace(
        settings, render=replace(settings.render, **{k: v for k, v in limits.items() if v is not None})
    )


# per-layer options


def _layers(given: Mapping[str, Any], count: int) -> tuple[LayerOptions, ...]:
    parsers: dict[str, Callable[[Any], Any]] = {
        "clim": parse_clim,
        "gamma": _gamma,
        "colormap": str,
        "opacity": _fraction,
        "blending": _choice("translucent", "additive", "opaque"),
        "interpolation": _choice("nearest", "linear"),
        "channels": parse_channels,
    }
    layers = [LayerOptions() for _ in range(count)]
    for name, parse in parsers.items():
        if name not in given:
            continue
        values = given[name] if isinstance(given[name], list | tuple) else [given[name]]
        if name == "clim" and all(isinstance(v, int | float) for v in values):
            values = [tuple(values)]  # clim = [0, 1000] in a suite file is one pair
        if len(values) > count:
            raise UsageError(f"{_option(name)} is given {len(values)} times for {count} source(s)")
        parsed = [_read(name, value, parse) for value in values]
        for number in range(count):
            if len(parsed) == 1 or number < len(parsed):
                value = parsed[0] if len(parsed) == 1 else parsed[number]
                layers[number] = replace(layers[number], **{name: value})
    return tuple(layers)


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def parse_clim(value: Any) -> tuple[float, float] | None:
    """``auto``, or two finite numbers ``low,high`` with low below high."""
    if isinstance(value, str):
        if value.strip() == "auto":
            return None
        parts: Sequence[Any] = value.split(",")
    else:
        parts = value if isinstance(value, list | tuple) else ()
    try:
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        raise UsageError(f"{value!r} is not auto or low,high", hint="for example 0,1000") from None
    return _checked_clim(low, high)


def _checked_clim(low: float, high: float) -> tuple[float, float]:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"contrast limits must be finite with low below high, not {low:g},{high:g}")
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
            clim = _checked_clim(float(match[1]), float(match[2]))
        channels.append(ChannelOption(int(index), (rest[0] or None) if rest else None, clim))
    repeated = [c.index for c in channels]
    if len(set(repeated)) != len(repeated):
        raise UsageError(f"a channel is named twice in {value!r}")
    return tuple(channels)


# single values


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


def parse_index(value: Any) -> dict[str, int]:
    """``t=3,z=10``: which plane of the axes that are not displayed, in level-0 positions."""
    if isinstance(value, Mapping):
        pairs = [(str(k), str(v)) for k, v in value.items()]
    else:
        pairs = [
            (k.strip(), v.strip()) for k, _, v in (part.partition("=") for part in str(value).split(","))
        ]
    index: dict[str, int] = {}
    for axis, position in pairs:
        if axis not in ("t", "z", "c") or not position.isdecimal() or axis in index:
            raise UsageError(f"{value!r} is not like t=3,z=10", hint="axes t, z and c, counted from 0")
        index[axis] = int(position)
    return index


def _choice(*allowed: str) -> Callable[[Any], Any]:
    def parse(value: Any) -> str:
        if value not in allowed:
            raise UsageError(f"{value!r} is not one of {', '.join(allowed)}")
        return str(value)

    return parse


def _finite(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{value!r} is not a number")
    return number


def _fraction(value: Any) -> float:
    number = _finite(value)
    if not 0 <= number <= 1:
        raise UsageError(f"{value!r} is not between 0 and 1")
    return number


def _gamma(value: Any) -> float:
    number = _finite(value)
    if not 0 < number <= 100:
        raise UsageError(f"{value!r} is not above 0 (and at most 100)")
    return number


def _whole(value: Any) -> int:
    number = _finite(value)
    if number != int(number) or number < 0:
        raise UsageError(f"{value!r} is not a whole number from 0")
    return int(number)


def _above_0(parse: Callable[[Any], int]) -> Callable[[Any], int]:
    def checked(value: Any) -> int:
        amount = parse(value)
        if amount <= 0:
            raise UsageError(f"a limit of {value} is not above 0", hint="leave it out for the default")
        return amount

    return checked


def _positive_ms(value: Any) -> float:
    number = parse_ms(value)
    if number <= 0:
        raise UsageError(f"{value!r} is not above 0")
    return number
