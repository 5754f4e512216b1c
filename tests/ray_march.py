"""A slow renderer of volumes, written to be obviously right: whole levels, all samples of all rays, float64.

It knows nothing of bricks, slots, gutters, textures or cells: only of boxes, each of which shows one level. Which box owns a
sample is decided in float32, as a graphics card decides it; where it lies and what it holds, in float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.render.view.volume.sight import Rays

BRIGHT = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One level: ``texels`` (d, h, w) or (d, h, w, samples); base voxels per texel, and where the first begins, (x, y, z)."""

    texels: NDArray[Any]
    scale: tuple[float, float, float]
    origin: tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """Base coordinates (x, y, z) of what shows one level; ``volume`` None: nothing is drawn there."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    volume: Volume | None


def rays_of_pixels(rays: Rays, dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """(h, w, 3) where each begins, relative to the centre, and one step of it."""
    width, height = rays.size_px
    i = (np.arange(width, dtype=dtype) + dtype(0.5))[None, :, None]
    j = (np.arange(height, dtype=dtype) + dtype(0.5))[:, None, None]
    vectors = (rays.origin, rays.across, rays.down, rays.step, rays.step_across, rays.step_down)
    origin, across, down, step, step_across, step_down = [np.array(vector, dtype) for vector in vectors]
    begin = origin + i * across + j * down
    steps = step + i * step_across + j * step_down
    return begin, np.where(np.abs(steps) < 1e-12, dtype(1e-12), steps)


def owned(rays: Rays, box: Box) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(h, w) the first sample of each ray that lies in a box, and the one after the last."""
    begin, step = rays_of_pixels(rays, np.float32)
    inverse = np.float32(1) / step
    centre = np.array(rays.centre)
    low, high = (np.array(np.array(corner) - centre, np.float32) for corner in (box.low, box.high))
    a = np.ceil((low - begin) * inverse - np.float32(0.5))
    b = np.ceil((high - begin) * inverse - np.float32(0.5))
    first, stop = np.minimum(a, b).max(axis=-1), np.maximum(a, b).min(axis=-1)
    return np.maximum(first, np.float32(rays.first_k)), np.minimum(stop, np.float32(rays.stop_k))


def count(rays: Rays, box: Box) -> int:
    """How many samples of all rays lie in a box."""
    first, stop = owned(rays, box)
    return int(np.maximum(stop - first, 0).astype(np.int64).sum())


def value_at(volume: Volume, points: NDArray[np.float64], *, linear: bool) -> NDArray[np.float64]:
    """(n[, samples]) of a level at points (n, 3), base coordinates x, y, z; beyond the level its edge."""
    texels = volume.texels
    top = np.array(texels.shape[2::-1]) - 1
    at = (points - np.array(volume.origin)) / np.array(volume.scale)

    def texel(place: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y, z = np.clip(place, 0, top).astype(int).T
        return texels[z, y, x].astype(np.float64)

    if not linear:
        return texel(np.floor(at))
    corner = np.floor(at - 0.5)
    part = at - 0.5 - corner
    total: Any = 0.0
    for step in itertools.product((0, 1), repeat=3):
        weight = np.where(step, part, 1 - part).prod(axis=1)
        values = texel(corner + step)
        weight = weight.reshape(-1, *[1] * (values.ndim - 1))
        total = total + np.where(weight > 0, weight * values, 0.0)
    return np.asarray(total)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """All samples of all rays, in order: values (k, h, w[, samples]), NaN where there is none or it is not drawn; positions
    (k, h, w, 3), base coordinates; the box of each (-1: none); directions (h, w, 3)."""

    values: NDArray[np.float64]
    points: NDArray[np.float64]
    boxes: NDArray[np.intp]
    steps: NDArray[np.float64]


def sample(rays: Rays, boxes: Sequence[Box], *, linear: bool) -> Samples:
    width, height = rays.size_px
    begin, step = rays_of_pixels(rays, np.float64)
    spans = [owned(rays, box) for box in boxes]
    inside = [(first, stop) for first, stop in spans if (first < stop).any()]
    k0 = int(min((first[first < stop].min() for first, stop in inside), default=0))
    k1 = int(max((stop[first < stop].max() for first, stop in inside), default=0))
    ks = np.arange(k0, k1)
    points = begin + (ks[:, None, None, None] + 0.5) * step + np.array(rays.centre)
    shown = next((box.volume.texels for box in boxes if box.volume is not None), np.zeros((1, 1, 1)))
    values = np.full((len(ks), height, width, *shown.shape[3:]), np.nan)
    owners = np.full((len(ks), height, width), -1)
    for number, (box, (first, stop)) in enumerate(zip(boxes, spans, strict=True)):
        here = (ks[:, None, None] >= first) & (ks[:, None, None] < stop)
        assert (owners[here] == -1).all(), "a sample has one owner"
        owners[here] = number
        if box.volume is not None and here.any():
            values[here] = value_at(box.volume, points[here], linear=linear)
    return Samples(values, points, owners, step)


def brightness(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is compared: of (…, samples) their brightness, of others themselves. ``values`` of textures: 0 to 1."""
    samples = values.shape[3] if values.ndim == 4 else 1
    if samples == 1:
        return values
    light = values[..., 0] if samples == 2 else values[..., :3] @ BRIGHT
    return light * (np.clip(values[..., -1], 0, 1) if samples in (2, 4) else 1.0)


def march(
    found: Samples,
    mode: str,
    color_of: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    clim: tuple[float, float],
    opacity: float = 1.0,
    attenuation: float = 0.0,
    iso: float = 0.0,
    step_world: float = 1.0,
    world: tuple[float, float, float] = (1.0, 1.0, 1.0),
    boxes: Sequence[Box] = (),
    linear: bool = True,
) -> NDArray[np.float64]:
    """(h, w, 4) straight colours from 0 to 1, of values of one sample; alpha 0 where nothing is. ``color_of`` turns (n,) values
    within the limits, 0 to 1, into (n, 4)."""
    values, (low, high) = found.values, clim
    _, height, width = values.shape[:3]
    frame = np.zeros((height, width, 4))
    for y, x in np.ndindex(height, width):
        ray = values[:, y, x]
        there = np.flatnonzero(~np.isnan(ray))
        if not len(there):
            continue
        ray = ray[there]
        part = np.clip((ray - low) / (high - low), 0, 1)
        if mode == "alpha":
            colour, clear = np.zeros(3), 1.0
            for rgba, value in zip(color_of(part), part, strict=True):
                alpha = 1 - (1 - opacity * value * rgba[3]) ** step_world
                colour, clear = colour + clear * alpha * rgba[:3], clear * (1 - alpha)
                if clear < 0.005:
                    break
            frame[y, x] = (*(colour / (1 - clear) if clear < 1 else colour), 1 - clear)
            continue
        if mode == "iso":
            hits = np.flatnonzero(ray >= iso)
            if len(hits):
                k = there[hits[0]]
                box = boxes[found.boxes[k, y, x]]
                light = lit(box.volume, found.points[k, y, x], found.steps[y, x], world, linear=linear)
                rgba = color_of(np.ones(1))[0]
                frame[y, x] = (*(rgba[:3] * light), rgba[3] * opacity)
            continue
        if mode == "attenuated-mip":
            before = np.concatenate([[0.0], np.cumsum(part)[:-1]]) * step_world
            shown = (part * np.exp(-attenuation * before)).max()
        else:
            chosen = {"mip": ray.max, "minip": ray.min, "mean": ray.mean}[mode]()
            shown = np.clip((chosen - low) / (high - low), 0, 1)
        frame[y, x] = color_of(np.array([shown]))[0] * (1, 1, 1, opacity)
    return frame


def march_colors(
    found: Samples,
    mode: str,
    *,
    clim: tuple[float, float],
    opacity: float = 1.0,
    attenuation: float = 0.0,
    step_world: float = 1.0,
) -> NDArray[np.float64]:
    """As ``march``, of values with 2, 3 or 4 samples: gray, colour, the last of an even number alpha, from 0 to 1."""
    values, (low, high) = found.values, clim
    _, height, width, samples = values.shape
    has_alpha = samples % 2 == 0
    frame = np.zeros((height, width, 4))
    for y, x in np.ndindex(height, width):
        ray = values[:, y, x]
        ray = ray[~np.isnan(brightness(ray[:, None, None])[:, 0, 0])]
        if not len(ray):
            continue
        light = brightness(ray[:, None, None])[:, 0, 0]
        alpha = ray[:, -1] if has_alpha else np.ones(len(ray))
        rgb = np.repeat(ray[:, :1], 3, axis=1) if samples == 2 else ray[:, :3]
        shown = np.clip((rgb - low) / (high - low), 0, 1)
        if mode == "alpha":
            colour, clear = np.zeros(3), 1.0
            for one, thick in zip(shown, np.clip(alpha, 0, 1) * opacity * (shown @ BRIGHT), strict=True):
                part = 1 - (1 - thick) ** step_world
                colour, clear = colour + clear * part * one, clear * (1 - part)
                if clear < 0.005:
                    break
            frame[y, x] = (*(colour / (1 - clear) if clear < 1 else colour), 1 - clear)
        elif mode == "mean":
            total = alpha.sum()
            mean = (rgb * alpha[:, None]).sum(axis=0) / max(total, 1e-6)
            frame[y, x] = (*np.clip((mean - low) / (high - low), 0, 1), opacity * total / len(ray))
        else:
            dim = 1.0
            if mode == "attenuated-mip":
                part = np.clip((light - low) / (high - low), 0, 1)
                seen = np.exp(-attenuation * step_world * np.concatenate([[0.0], np.cumsum(part)[:-1]]))
                chosen = int(np.argmax(part * seen))
                dim = seen[chosen]
            else:
                chosen = int(np.argmax(light) if mode == "mip" else np.argmin(light))
            frame[y, x] = (*(shown[chosen] * dim), np.clip(alpha[chosen], 0, 1) * opacity)
    return frame


def march_ids(
    found: Samples,
    mode: str,
    color_of: Callable[[NDArray[Any]], NDArray[np.float64]],
    *,
    opacity: float = 1.0,
    step_world: float = 1.0,
) -> NDArray[np.float64]:
    """As ``march``, of ids as their four little-endian bytes: the first that is not 0, or all of them, translucent."""
    _, height, width, _ = found.values.shape
    frame = np.zeros((height, width, 4))
    for y, x in np.ndindex(height, width):
        ray = found.values[:, y, x]
        ids = (ray[~np.isnan(ray[:, 0])].astype(np.int64) * 256 ** np.arange(4)).sum(axis=1)
        ids = ids[ids != 0]
        if not len(ids):
            continue
        if mode != "alpha":
            frame[y, x] = (*color_of(ids[:1])[0, :3], opacity)
            continue
        colour, clear, part = np.zeros(3), 1.0, 1 - (1 - opacity) ** step_world
        for rgb in color_of(ids)[:, :3]:
            colour, clear = colour + clear * part * rgb, clear * (1 - part)
            if clear < 0.005:
                break
        frame[y, x] = (*(colour / (1 - clear)), 1 - clear)
    return frame


def lit(volume: Volume | None, point: Any, step: Any, world: Any, *, linear: bool) -> float:
    """A headlight on what a level is at a point: 0.2 where the surface is seen from its edge, 1 where it faces the light."""
    assert volume is not None
    scale = np.array(volume.scale)
    slope = np.array(
        [
            value_at(volume, np.array([point + axis / 2 * scale]), linear=linear)[0]
            - value_at(volume, np.array([point - axis / 2 * scale]), linear=linear)[0]
            for axis in np.eye(3)
        ]
    ) / (scale * np.array(world))
    steepness = float(np.sqrt((slope**2).sum()))
    if steepness == 0:
        return 1.0
    direction = np.array(step) * np.array(world)
    facing = abs(float(slope @ direction)) / steepness / float(np.sqrt((direction**2).sum()))
    return 0.2 + 0.8 * facing


def over(frame: NDArray[np.float64], background: Sequence[float]) -> NDArray[np.uint8]:
    """(h, w, 3) of straight colours over an opaque one."""
    alpha = frame[..., 3:]
    return np.rint((frame[..., :3] * alpha + np.array(background[:3]) * (1 - alpha)) * 255).astype(np.uint8)
