"""Volumes, against the slow ray-marcher; each comparison has seen its negative controls fail."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gl_volume import VolumeStage, bricks_of, load_key, look_at, pyramid
from numpy.typing import NDArray
from ray_march import Box, Volume, count, march, march_colors, march_ids, over, sample

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.pyramid.model import TileKey
from octree.render.gl import canvas as canvas_module
from octree.render.gl import colored
from octree.render.gl.canvas import Canvas
from octree.render.gl.colors import colormap_values, label_colors
from octree.render.gl.volume import counting
from octree.render.gl.volume import march as march_module
from octree.render.gl.volume.brick_atlas import BrickAtlas
from octree.render.gl.volume.counting import SampleCounter
from octree.render.gl.volume.march import MarchVisual
from octree.render.tiles.texels import label_bytes
from octree.render.view.cover import Cover, regions_of
from octree.render.view.volume.cells import DRAWN, FAILED, MISSING, cells_of
from octree.render.view.volume.samples import owned
from octree.render.view.volume.sight import Rays, Sight, rays_of

RNG = np.random.default_rng(17)
SIZE = (32, 26)
CLIM = (2000.0, 60000.0)
MODES = ("mip", "minip", "mean", "attenuated-mip", "alpha", "iso")


def noise(shape: tuple[int, ...] = (21, 26, 30)) -> NDArray[np.uint16]:
    """Darker to one side, or every highest value would be the same."""
    values = np.random.default_rng(17).integers(0, 65536, shape) * np.linspace(0.3, 1.0, shape[2])
    return values.astype(np.uint16)


def gray(values: Any) -> Any:
    return np.stack([values, values, values, np.ones_like(values)], axis=-1)


def half_loaded(canvas: Canvas, image: Any = None, **options: Any) -> VolumeStage:
    """Three levels, of the finest and the second some bricks."""
    lattice, arrays = pyramid(noise() if image is None else image, (8, 8, 8), [(2, 2, 2), (2, 2, 2)])
    stage = VolumeStage(lattice, arrays, canvas, options={"clim": CLIM, **options})
    stage.put(bricks_of(lattice, 2))
    stage.put(tile for tile in bricks_of(lattice, 1) if sum(tile.grid) % 3)
    stage.put(tile for tile in bricks_of(lattice, 0) if sum(tile.grid) % 2)
    return stage


def wanted_frame(
    stage: VolumeStage, sight: Sight, cover: Cover, step: float = 1.0, color_of: Any = gray
) -> NDArray[np.uint8]:
    visual, linear = stage.visual, stage.visual.interpolation == "linear"
    boxes = stage.boxes(cover)
    found = sample(rays_of(sight, step), boxes, linear=linear)
    frame = march(
        found,
        visual.mode,
        color_of,
        clim=visual.clim,
        opacity=visual.opacity,
        attenuation=visual.attenuation,
        iso=sum(visual.clim) / 2 if visual.iso is None else visual.iso,
        step_world=step,
        world=sight.voxel,
        boxes=boxes,
        linear=linear,
    )
    return over(frame, stage.canvas.background)


def differing(frame: NDArray[np.uint8], wanted: NDArray[np.uint8], by: int = 1) -> float:
    """Share of pixels that differ by more than so many steps of 255."""
    apart = np.abs(frame[..., :3].astype(int) - wanted).max(axis=-1)
    return float((apart > by).mean())


VIEWS: dict[str, dict[str, Any]] = {
    "orthographic": {"azimuth": 35, "elevation": 25, "zoom": 1.1},
    "perspective": {"azimuth": -50, "elevation": 10, "zoom": 1.2, "fov": 40, "roll": 12},
    "axis-aligned": {"zoom": 0.5},
    "from behind": {"azimuth": 180, "zoom": 2.0},
    "from above": {"elevation": 90, "zoom": 1.0},
    "slab": {"azimuth": 35, "elevation": 25, "zoom": 1.1, "slab": 9.0},
    "oblique slice": {"azimuth": 35, "elevation": 25, "zoom": 1.1, "slab": 0.0},
    "close": {"azimuth": 35, "elevation": 25, "zoom": 9.0, "at": (16.0, 16.0, 8.0)},
}


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_of_mixed_levels_is_that_of_the_reference(
    canvas: Canvas, view: str, interpolation: str
) -> None:
    stage = half_loaded(canvas, interpolation=interpolation)
    sight = look_at(stage.lattice, SIZE, **VIEWS[view])
    cover = stage.cover(sight)
    assert len(set(cover.quads.levels.tolist())) == 3
    assert differing(stage.frame(sight, cover), wanted_frame(stage, sight, cover)) == 0


TWO_VIEWS = ("orthographic", "perspective")


@pytest.mark.parametrize("view", TWO_VIEWS)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_that_of_the_reference(canvas: Canvas, mode: str, view: str) -> None:
    """Steps of 0.8, so that opacity and attenuation must know how long they are."""
    stage = half_loaded(canvas, mode=mode, attenuation=0.2, opacity=0.15 if mode == "alpha" else 0.8)
    canvas.background = (0.0, 0.0, 0.4, 1.0)
    sight = look_at(stage.lattice, SIZE, **VIEWS[view])
    cover = stage.cover(sight)
    frame, wanted = stage.frame(sight, cover, 0.8), wanted_frame(stage, sight, cover, 0.8)
    assert differing(frame, wanted) == 0
    assert len(np.unique(frame[..., 0])) > 20


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_nearest_texels(canvas: Canvas, mode: str) -> None:
    """Where a sample lies within a rounding of two texels' border, either is right."""
    stage = half_loaded(canvas, mode=mode, interpolation="nearest", attenuation=0.2)
    sight = look_at(stage.lattice, SIZE, **VIEWS["orthographic"])
    cover = stage.cover(sight)
    assert differing(stage.frame(sight, cover), wanted_frame(stage, sight, cover)) <= 0.002


def blob(shape: tuple[int, ...], dtype: str, *, noise: float = 0.0) -> NDArray[Any]:
    """Nothing but a bright ball that is not in the middle, of values from 0 to 1 of what the type holds."""
    grids = np.meshgrid(*[np.arange(n) - 0.35 * n for n in shape], indexing="ij")
    ball = np.clip(1.2 - sum((2.5 * grid / n) ** 2 for grid, n in zip(grids, shape, strict=True)), 0, 1)
    ball = ball + noise * RNG.random(shape) * (1 - ball)
    high = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    return np.asarray((ball * high).astype(dtype))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("limits", "noise"), [((0.1, 0.9), 0.05), ((0.0, 0.5), 0.0), ((0.9, 0.1), 0.05), ((0.3, 0.3001), 0.05)]
)
def test_what_is_skipped_would_not_have_changed_a_pixel(
    canvas: Canvas, mode: str, limits: tuple[float, float], noise: float
) -> None:
    """Bricks of one value, bricks beyond the limits, and rays that can become no brighter."""
    image = blob((24, 20, 28), "uint16", noise=noise)
    lattice, arrays = pyramid(image, (8, 8, 8))
    clim = (limits[0] * 65535, limits[1] * 65535)
    options = {"clim": clim, "mode": mode, "attenuation": 0.1, "iso": 30000.0}
    options["opacity"] = 0.3 if mode == "alpha" else 1.0
    stage = VolumeStage(lattice, arrays, canvas, options=options).put_all()
    canvas.background = (0.3, 0.0, 0.0, 1.0)
    sight = look_at(lattice, SIZE, 30, 20)
    cover = stage.cover(sight)
    assert differing(stage.frame(sight, cover), wanted_frame(stage, sight, cover)) == 0


@pytest.mark.parametrize("mode", MODES)
def test_bricks_cut_in_halves_show_the_same(
    canvas: Canvas, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Odd bricks of three levels, mostly dark; rays skip more, and see the same."""
    image = blob((21, 26, 30), "uint16")
    for view in TWO_VIEWS:
        frames = []
        for pays in (-2.0, 2.0):
            monkeypatch.setattr(march_module, "HALVING_PAYS", pays)
            stage = half_loaded(canvas, image, mode=mode, attenuation=0.2, opacity=0.5)
            sight = look_at(stage.lattice, SIZE, **VIEWS[view])
            cover = stage.cover(sight)
            frames.append(stage.frame(sight, cover).copy())
            rows = stage.visual.sent_rows
            assert rows == (8 if pays < 0 else 1) * len(stage.visual.keys)
        assert np.abs(frames[0].astype(int) - frames[1]).max() <= 1
        assert differing(frames[0], wanted_frame(stage, sight, cover)) <= (0.002 if mode == "iso" else 0)


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("mode", ["mip", "mean", "alpha"])
def test_every_type_of_value(canvas: Canvas, dtype: str, mode: str, interpolation: str) -> None:
    """A window of 40 of 255 steps: what 8 bits of a filter would lose shows."""
    high = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    image = (RNG.integers(0, 65536, (17, 15, 19)) / 65535 * high * 0.2).astype(dtype)
    options = {"clim": (0.02 * high, 0.18 * high), "mode": mode, "interpolation": interpolation}
    stage = half_loaded(canvas, image, **options, opacity=0.2 if mode == "alpha" else 1.0)
    sight = look_at(stage.lattice, SIZE, 35, 25, zoom=1.3)
    cover = stage.cover(sight)
    frame, wanted = stage.frame(sight, cover), wanted_frame(stage, sight, cover)
    assert differing(frame, wanted) <= (0.002 if interpolation == "nearest" else 0)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "iso"])
def test_nan_is_no_value(canvas: Canvas, mode: str) -> None:
    image = RNG.random((16, 16, 16)).astype(np.float32)
    image[RNG.random(image.shape) < 0.3] = np.nan
    image[:, :8, :8] = np.nan
    lattice, arrays = pyramid(image, (8, 8, 8))
    options = {"clim": (0.1, 0.9), "mode": mode, "interpolation": "nearest", "attenuation": 0.1}
    stage = VolumeStage(lattice, arrays, canvas, options=options | {"opacity": 0.3}).put_all()
    canvas.background = (0.0, 0.0, 0.4, 1.0)
    sight = look_at(lattice, SIZE, 0.5, 0.4, zoom=1.5)
    cover = stage.cover(sight)
    wanted = wanted_frame(stage, sight, cover)
    assert differing(stage.frame(sight, cover), wanted) <= 0.002
    stage.visual.nan_color = (1.0, 0.0, 0.0, 1.0)
    stage.visual.opacity = 1.0
    frame = stage.frame(sight, cover)
    red = (frame == [255, 0, 0, 255]).all(axis=-1)
    assert red.any() == (mode != "alpha")


def test_infinities_are_ends(canvas: Canvas) -> None:
    image = np.full((8, 8, 8), 0.5, np.float32)
    lattice, arrays = pyramid(image, (8, 8, 8))
    sight = look_at(lattice, (8, 8))
    for value, mode, shown in ((np.inf, "mip", 255), (-np.inf, "minip", 0), (-np.inf, "mip", 128)):
        arrays[0][3, 3, 3] = value
        stage = VolumeStage(lattice, arrays, canvas, options={"mode": mode, "interpolation": "nearest"})
        frame = stage.put_all().frame(sight)
        assert frame[3, 3].tolist() == [shown, shown, shown, 255]
        assert frame[5, 5].tolist() == [128, 128, 128, 255]
    arrays[0][:] = -np.inf
    stage = VolumeStage(lattice, arrays, canvas, options={"interpolation": "nearest"})
    assert (stage.put_all().frame(sight) == [0, 0, 0, 255]).all()


@pytest.mark.parametrize("mode", ["mip", "minip", "mean", "attenuated-mip", "alpha"])
@pytest.mark.parametrize("samples", [2, 3, 4])
def test_colour_images(canvas: Canvas, mode: str, samples: int) -> None:
    image = RNG.integers(0, 256, (12, 12, 12, samples)).astype(np.uint8)
    lattice, arrays = pyramid(image, (8, 8, 8))
    options = {"clim": (20.0, 230.0), "mode": mode, "rgb": True, "attenuation": 0.1}
    stage = VolumeStage(lattice, arrays, canvas, options=options | {"opacity": 0.4}).put_all()
    canvas.background = (0.0, 0.0, 0.4, 1.0)
    sight = look_at(lattice, SIZE, 30, 20, zoom=1.5)
    boxes = stage.boxes(stage.cover(sight))
    found = sample(rays_of(sight, 0.9), boxes, linear=True)
    found.values[:] /= 255
    wanted = march_colors(
        found, mode, clim=(20 / 255, 230 / 255), opacity=0.4, attenuation=0.1, step_world=0.9
    )
    # of two that are almost as bright either may be the brightest
    allowed = 0.005 if mode == "attenuated-mip" else 0
    assert differing(stage.frame(sight, step=0.9), over(wanted, canvas.background)) <= allowed


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("opacity", [1.0, 0.4])
def test_labels_are_the_first_id_or_all_translucent(canvas: Canvas, mode: str, opacity: float) -> None:
    ids = RNG.integers(0, 2**32, (14, 12, 13)) * (RNG.random((14, 12, 13)) < 0.1)
    image = label_bytes(ids).reshape(*ids.shape, 4)
    lattice, arrays = pyramid(image, (8, 8, 8))
    options = {"labels": True, "mode": mode, "opacity": opacity, "interpolation": "linear"}
    stage = VolumeStage(lattice, arrays, canvas, options=options).put_all()
    canvas.background = (0.0, 0.0, 0.4, 1.0)
    sight = look_at(lattice, SIZE, 30, 20, zoom=1.5)
    found = sample(rays_of(sight, 0.9), stage.boxes(stage.cover(sight)), linear=False)

    def color_of(numbers: Any) -> Any:
        return label_colors(numbers) / 255

    wanted = march_ids(found, mode, color_of, opacity=opacity, step_world=0.9)
    assert differing(stage.frame(sight, step=0.9), over(wanted, canvas.background)) <= 0.002


@pytest.mark.parametrize("mode", ["mip", "mean", "alpha", "iso"])
@pytest.mark.parametrize("factors", [[(1, 2, 2), (2, 2, 2)], [(3, 2, 1)], [(1, 3, 3), (2, 1, 1)]])
def test_anisotropic_voxels_and_odd_factors(
    canvas: Canvas, mode: str, factors: list[tuple[int, int, int]]
) -> None:
    lattice, arrays = pyramid(noise((11, 23, 29)), (4, 8, 8), factors, shift=0.3)
    options = {"clim": CLIM, "mode": mode, "attenuation": 0.1, "opacity": 0.3}
    stage = VolumeStage(lattice, arrays, canvas, options=options)
    stage.put(bricks_of(lattice, len(arrays) - 1))
    stage.put(tile for tile in bricks_of(lattice, 0) if sum(tile.grid) % 2)
    sight = look_at(lattice, SIZE, 35, 25, world=(2.7, 1.2, 1.0))
    cover = stage.cover(sight)
    allowed = 0.002 if mode == "iso" else 0  # a sample may be the threshold itself
    assert differing(stage.frame(sight, cover), wanted_frame(stage, sight, cover)) <= allowed


def test_far_from_the_origin(canvas: Canvas) -> None:
    """float32 knows no voxels there; what is drawn is relative to the middle of the view."""
    image, far = noise((16, 16, 16)), 2**24
    near, arrays = pyramid(image, (8, 8, 8))
    near_stage = VolumeStage(near, arrays, canvas)
    level = LatticeLevel((far + 16,) * 3, (8, 8, 8), (1.0,) * 3, (0.0,) * 3)
    lattice = Lattice((level,))
    distant = VolumeStage(lattice, arrays, canvas, options={"clim": CLIM})
    shifted = {
        TileKey(0, (), tuple(n + far // 8 for n in tile.grid)): near_stage.texels(tile)
        for tile in bricks_of(near, 0)
    }
    distant.texels = shifted.__getitem__  # type: ignore[method-assign] # all else does not matter
    distant.texels_beside = lambda tile, by: shifted.get(  # type: ignore[method-assign] # the same
        TileKey(0, (), tuple(np.add(tile.grid, by).tolist()))
    )
    distant.put(shifted)
    clip = Region((far,) * 3, (far + 16.0,) * 3)
    sight = look_at(lattice, SIZE, 30, 20, at=(far + 8.0,) * 3, clip=clip)
    cover = distant.cover(sight)
    distant.boxes = lambda cover: [  # type: ignore[method-assign] # the volume begins there
        Box(region.low[::-1], region.high[::-1], Volume(image, (1.0,) * 3, (float(far),) * 3))
        for region in regions_of(cover.quads.dest)
    ]
    assert differing(distant.frame(sight, cover), wanted_frame(distant, sight, cover)) == 0


def test_channels_add_up(canvas: Canvas) -> None:
    lattice, arrays = pyramid(noise((16, 16, 16)), (8, 8, 8))
    other = [np.ascontiguousarray(arrays[0][::-1])]
    atlas = BrickAtlas(2**24)
    atlas.shares = 2
    sight = look_at(lattice, SIZE, 30, 20)
    total: Any = 0
    stages = []
    for number, (texels, color) in enumerate(((arrays, "red"), (other, "#00ff80"))):
        options = {"clim": CLIM, "colormap": color, "blending": "additive"}
        stage = VolumeStage(lattice, texels, canvas, atlas, options, source=f"channel {number}").put_all()
        total = total + stage.frame(sight)[..., :3].astype(int)
        stages.append(stage)
    assert len({atlas.place(key).page for key in atlas.resident}) == 2
    canvas.draw([stage.visual for stage in stages])
    assert np.abs(np.minimum(total, 255) - canvas.read()[..., :3]).max() <= 1
    assert len(np.unique(total.reshape(-1, 3), axis=0)) > 50


def test_failed_and_missing_bricks_show_nothing(canvas: Canvas) -> None:
    lattice, arrays = pyramid(noise((16, 16, 16)), (8, 8, 8))
    stage = VolumeStage(lattice, arrays, canvas, options={"clim": CLIM})
    stage.put(tile for tile in bricks_of(lattice, 0) if tile.grid[1:] != (0, 0))
    canvas.background = (0.0, 1.0, 0.0, 1.0)
    sight = look_at(lattice, (32, 32), 0, 0, zoom=2)
    cover = stage.cover(sight, failed=lambda tile: tile.grid == (0, 0, 0))
    assert len(cover.failed) == len(cover.missing) == 1
    frame = stage.frame(sight, cover)
    assert (frame[:16, :16] == [0, 255, 0, 255]).all()
    assert not (frame[16:, :, :] == [0, 255, 0, 255]).all(axis=-1).any()
    assert differing(frame, wanted_frame(stage, sight, cover)) == 0


@pytest.mark.parametrize("mode", ["mip", "alpha"])
def test_a_frame_in_parts_is_the_frame_in_one(
    canvas: Canvas, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    stage = half_loaded(canvas, mode=mode)
    sight = look_at(stage.lattice, SIZE, **VIEWS["perspective"])
    whole = stage.frame(sight).copy()
    canvas.draw([stage.visual], within=(5, 7, 20, 11))
    np.testing.assert_array_equal(canvas.read(), whole)
    monkeypatch.setattr(canvas_module, "_MAX_PART_PX", 17)
    canvas.resize((1, 1))
    np.testing.assert_array_equal(stage.frame(sight), whole)


@pytest.mark.parametrize("mode", MODES)
def test_texels_relative_to_a_base(canvas: Canvas, mode: str) -> None:
    """(value - offset) * scale in textures: the picture is that of the values."""
    image = (1e6 + RNG.random((16, 16, 16)) * 50).astype(np.float64)
    frames = []
    for base, values in (((0.0, 1.0), image - 1e6), ((1e6, 0.25), (image - 1e6) * 0.25)):
        lattice, arrays = pyramid(values.astype(np.float32), (8, 8, 8))
        start = 1e6 if base[0] else 0.0
        options = {"clim": (start + 5, start + 45), "base": base, "mode": mode, "opacity": 0.5}
        stage = VolumeStage(lattice, arrays, canvas, options=options).put_all()
        frames.append(stage.frame(look_at(lattice, SIZE, 30, 20)).copy())
    assert differing(frames[0], frames[1][..., :3]) == 0


@pytest.mark.parametrize("view", VIEWS)
def test_samples_are_counted_exactly(canvas: Canvas, view: str) -> None:
    stage = half_loaded(canvas)
    sight = look_at(stage.lattice, SIZE, **VIEWS[view])
    gone = [tile for tile in bricks_of(stage.lattice, 2) if tile.grid[0] == 0]
    stage.atlas._remove([load_key(tile) for tile in gone])
    cover = stage.cover(sight, failed=lambda tile: tile.level == 0 and tile.grid[1] == 0)
    rays, cells = rays_of(sight, 0.9), cells_of(stage.lattice, cover, sight)
    wanted: dict[tuple[int, int, int], int] = {}
    kinds = [DRAWN] * len(cover.quads) + [FAILED] * len(cover.failed) + [MISSING] * len(cover.missing)
    levels = [*cover.quads.levels.tolist(), *[0] * (len(cover.failed) + len(cover.missing))]
    for kind, level, box in zip(kinds, levels, stage.boxes(cover), strict=True):
        wanted[kind, level, 0] = wanted.get((kind, level, 0), 0) + count(rays, box)
    counter = SampleCounter()
    found = counter.count(cells, rays)
    assert len(wanted) >= 3
    assert found == wanted
    assert sum(found.values()) > 0
    counter.close()
    counter.close()


def test_many_kinds_of_rows_are_counted_in_several_passes(
    canvas: Canvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    lattice, _ = pyramid(noise((24, 24, 24)), (8, 8, 8))
    stage = VolumeStage(lattice, [noise((24, 24, 24))], canvas).put_all()
    sight = look_at(lattice, SIZE, 30, 20)
    cover = stage.cover(sight)
    cells = cells_of(lattice, cover, sight)
    rays = rays_of(sight, 1.0)
    cells = replace(cells, levels=np.arange(len(cells.levels)))  # each row is one of its own
    counter = SampleCounter()
    found = counter.count(cells, rays)
    assert len(found) == 27
    boxes = [count(rays, box) for box in stage.boxes(cover)]
    assert [found[DRAWN, row, 0] for row in range(27)] == boxes
    monkeypatch.setattr(counting, "_PART_PX", 13)  # a large frame is counted in parts
    assert counter.count(cells, rays) == found
    monkeypatch.setattr(counting, "most_samples", lambda *_: 1e9)  # of long rays a number holds one count
    assert counter.count(cells, rays) == found
    counter.close()


@pytest.mark.parametrize("mode", ["mip", "minip", "mean", "attenuated-mip", "iso", "alpha"])
def test_a_stride_takes_every_so_many_th_sample(canvas: Canvas, mode: str) -> None:
    image = blob((32, 32, 32), "uint16")
    lattice, arrays = pyramid(image, (8, 8, 8), [(2, 2, 2), (2, 2, 2)])
    options = {"clim": CLIM, "mode": mode, "opacity": 0.2 if mode == "alpha" else 1.0, "attenuation": 0.1}
    stage = VolumeStage(lattice, arrays, canvas, options=options)
    stage.put(bricks_of(lattice, 2))
    sight = look_at(lattice, SIZE, 30, 20)
    every = stage.frame(sight).astype(int)
    some = stage.frame(sight, strides=True).astype(int)
    off = np.abs(every - some).mean()
    assert off == 0 if mode == "alpha" else 0 < off < (40 if mode == "iso" else 6)
    np.testing.assert_array_equal(stage.frame(sight), every)  # by the shader that could
    stage.put_all()
    settled = stage.frame(sight, strides=True)
    np.testing.assert_array_equal(
        VolumeStage(lattice, arrays, canvas, options=options).put_all().frame(sight), settled
    )


def test_strides_march_fewer_samples(canvas: Canvas, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted where they are taken: of a shader that shows how many."""
    plain = colored.shader_pair

    def counting_pair(name: str, head: str) -> tuple[str, str]:
        vertex, fragment = plain(name, head)
        for before, after in (
            ("float count = 0.0;", "float count = 0.0; float taken = 0.0;"),
            ("count += stride;", "count += stride; taken += 1.0;"),
            ("vec4(sum.x / max(count, 1.0))", "vec4(taken / 255.0)"),
        ):
            assert before in fragment
            fragment = fragment.replace(before, after)
        return vertex, fragment

    monkeypatch.setattr(colored, "shader_pair", counting_pair)
    lattice, arrays = pyramid(noise((32, 32, 32)), (8, 8, 8), [(2, 2, 2), (2, 2, 2)])
    stage = VolumeStage(lattice, arrays, canvas, options={"clim": (0.0, 65535.0), "mode": "mean"})
    sight = look_at(lattice, SIZE, 30, 20)
    rays = rays_of(sight, 1.0)
    first, stop = owned(rays, *(np.subtract(ends[::-1], rays.centre).tolist() for ends in sight.box))
    all_of_them = int(np.maximum(stop - first, 0).sum())

    def taken(*, strides: bool) -> int:
        return int(stage.frame(sight, strides=strides)[..., 0].astype(int).sum())

    stage.put(bricks_of(lattice, 2))
    assert taken(strides=False) == all_of_them
    assert taken(strides=True) == pytest.approx(all_of_them / 4, rel=0.03)
    stage.put_all()
    assert taken(strides=True) == all_of_them


def test_a_page_may_grow_between_a_cover_and_its_drawing(canvas: Canvas) -> None:
    image = noise((40, 40, 40))
    lattice, arrays = pyramid(image, (8, 8, 8))
    stage = VolumeStage(lattice, arrays, canvas, BrickAtlas(200 * 10**3 * 2), {"clim": CLIM})
    tiles = bricks_of(lattice, 0)
    stage.put(tiles[:30])
    sight = look_at(lattice, SIZE, 30, 20)
    cover = stage.cover(sight)
    before = stage.atlas.bytes
    canvas.resize(SIZE)
    stage.show(sight, cover)
    stage.put(tiles[30:])
    assert stage.atlas.bytes > before
    canvas.draw([stage.visual])
    assert differing(canvas.read(), wanted_frame(stage, sight, cover)) == 0


def test_negative_controls(canvas: Canvas) -> None:
    """The comparison notices a texel's shift, swapped bricks, gutters of nothing, samples half a step late, and a level too
    coarse."""
    lattice, arrays = pyramid(noise((24, 24, 24)), (8, 8, 8), [(2, 2, 2)])
    sight = look_at(lattice, SIZE, **VIEWS["orthographic"])
    right = VolumeStage(lattice, arrays, canvas, options={"clim": CLIM}).put_all()
    cover = right.cover(sight)
    wanted = wanted_frame(right, sight, cover)
    assert differing(right.frame(sight, cover), wanted) == 0

    def fault(change: Any) -> float:
        stage = VolumeStage(lattice, arrays, canvas, options={"clim": CLIM})
        change(stage)
        if not len(stage.atlas):
            stage.put_all()
        return differing(stage.frame(sight, stage.cover(sight)), wanted)

    def shifted(stage: VolumeStage) -> None:
        texels = stage.texels
        stage.texels = lambda tile: np.roll(texels(tile), 1, axis=2)  # type: ignore[method-assign] # the fault

    def swapped(stage: VolumeStage) -> None:
        texels, one, other = stage.texels, TileKey(0, (), (1, 1, 1)), TileKey(0, (), (1, 2, 1))
        stage.texels = lambda tile: texels({one: other, other: one}.get(tile, tile))  # type: ignore[method-assign] # the fault

    def unseen(stage: VolumeStage) -> None:
        stage.put_all()
        for key in stage.atlas.resident:
            place = stage.atlas.place(key)
            texture = stage.atlas.texture(place.page)
            nothing = np.zeros((place.depth + 2, place.height + 2, 1), np.uint16)
            for x in (place.x - 1, place.x + place.width):
                texture.write([(nothing, place.z - 1, place.y - 1, x)])

    def late(stage: VolumeStage) -> None:
        show = stage.visual.set_rays

        def half_a_step(rays: Rays, world: Any) -> None:
            origin = np.add(rays.origin, np.multiply(0.5, rays.step))
            show(replace(rays, origin=tuple(origin.tolist())), world)

        stage.visual.set_rays = half_a_step  # the fault

    def coarse(stage: VolumeStage) -> None:
        stage.put(bricks_of(lattice, 1))
        stage.put(tile for tile in bricks_of(lattice, 0) if tile.grid[2] < 2 or tile.grid[0] != 1)

    for change in (shifted, swapped, unseen, late, coarse):
        assert fault(change) > 0.01, change.__name__


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
@pytest.mark.parametrize("mode", ["mip", "mean", "alpha", "iso"])
def test_where_bricks_lie_in_the_page_does_not_matter(canvas: Canvas, mode: str, interpolation: str) -> None:
    """To the last bit; what OpenGL interpolates may be rounded the other way."""
    lattice, arrays = pyramid(noise((24, 24, 24)), (8, 8, 8))
    sight = look_at(lattice, SIZE, 33, 21, zoom=1.37)
    frames = []
    for order in (1, -1):
        options = {"clim": CLIM, "mode": mode, "interpolation": interpolation, "opacity": 0.3}
        stage = VolumeStage(lattice, arrays, canvas, options=options)
        if order < 0:  # a page of another size
            stage.atlas.reserve((8, 8, 8), np.uint16, stage.part, 300)
        stage.put(bricks_of(lattice, 0)[::order])
        frames.append(stage.frame(sight).copy())
    apart = np.abs(frames[0].astype(int) - frames[1])
    assert apart.max() <= (interpolation == "linear")


@pytest.mark.parametrize("blending", ["translucent", "additive", "opaque"])
def test_pixels_that_meet_nothing_keep_what_was_there(canvas: Canvas, blending: str) -> None:
    lattice, arrays = pyramid(np.full((8, 8, 8), 65535, np.uint16), (8, 8, 8))
    for mode in MODES:
        options = {"clim": (0, 65535), "mode": mode, "blending": blending, "colormap": "red"}
        stage = VolumeStage(lattice, arrays, canvas, options=options).put_all()
        canvas.background = (0.0, 0.0, 1.0, 1.0)
        frame = stage.frame(look_at(lattice, (32, 32), zoom=1))
        assert (frame[:11] == [0, 0, 255, 255]).all()
        assert frame[16, 16].tolist() == [255, 0, 255 * (blending == "additive"), 255]


@pytest.mark.parametrize(
    ("name", "value"), [("mode", "maximum"), ("clim", (0, float("nan"))), ("opacity", 2), ("gamma", 0)]
)
def test_senseless_settings_are_refused(canvas: Canvas, name: str, value: Any) -> None:
    visual = MarchVisual(BrickAtlas(2**20))
    before = getattr(visual, name)
    with pytest.raises(UsageError):
        setattr(visual, name, value)
    assert getattr(visual, name) == before


@pytest.mark.parametrize("mode", MODES)
def test_colormaps_and_gamma(canvas: Canvas, mode: str) -> None:
    gamma = 0.5
    stage = half_loaded(canvas, mode=mode, colormap="viridis", gamma=gamma, opacity=0.4, attenuation=0.1)
    canvas.background = (1.0, 1.0, 1.0, 1.0)
    sight = look_at(stage.lattice, SIZE, **VIEWS["orthographic"])
    cover = stage.cover(sight)

    def viridis(values: Any) -> Any:
        return colormap_values("viridis", np.asarray(values) ** gamma)

    frame, wanted = stage.frame(sight, cover), wanted_frame(stage, sight, cover, color_of=viridis)
    assert differing(frame, wanted, 2) == 0


def draw_some(gl: str) -> dict[str, Any]:
    """Frames and counts of each view, in a process that has this platform."""
    found: dict[str, Any] = {}
    with Canvas(SIZE, gl=gl, max_threads=2) as canvas:
        for view, mode in zip(VIEWS, itertools.cycle(MODES), strict=False):
            stage = VolumeStage(*pyramid(BALL, (8, 8, 8)), canvas, options={"clim": CLIM, "mode": mode})
            stage.put_all()
            sight = look_at(stage.lattice, SIZE, **VIEWS[view])
            found[view] = stage.frame(sight).copy()
            counter = SampleCounter()
            cells = cells_of(stage.lattice, stage.cover(sight), sight)
            found[f"{view} counts"] = sum(counter.count(cells, rays_of(sight, 1.0)).values())
    return found


BALL = (np.indices((21, 18, 25)).sum(axis=0) * 1500 % 61000).astype(np.uint16)
EGL = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_gl_volume_march import draw_some
np.savez(sys.argv[2], **draw_some("egl"))
"""


def test_egl_draws_the_same(gl_info: Any, tmp_path: Path) -> None:
    to = tmp_path / "egl.npz"
    variables = {
        k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "GALLIVM_PERF")
    }
    command = [sys.executable, "-W", "error", "-c", EGL, str(Path(__file__).parent), str(to)]
    run = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    wanted = draw_some("osmesa")
    with np.load(to) as found:
        assert set(found) == set(wanted)
        for name, frame in wanted.items():
            np.testing.assert_array_equal(found[name], frame, err_msg=name)
