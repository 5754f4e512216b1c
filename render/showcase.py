"""What ``octree demo`` makes: pyramids of a picture, of a generated image and of a stack, frames of them, a film of tiles
arriving, one through the stack and one around it, and an HTML report. Everything comes from installed packages; nothing is fetched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from octree.pyramid import BuildResult, build
from octree.pyramid.errors import DestinationError
from octree.pyramid.foreign import json_text
from octree.pyramid.sources.sample import GeneratedImage, generated_stack, picture
from octree.pyramid.units import bytes_text
from octree.render.frames import Renderer, names_of
from octree.render.output.encode import FrameWriter, PngKeeper
from octree.render.output.files import atomic_file
from octree.render.report.html import write_html
from octree.render.report.values import RunReport
from octree.render.request import parse_request
from octree.render.scene.frame import Frame

Say = Callable[[str], None]


def make_demo(folder: Path, *, edge_px: int, say: Say) -> list[Path]:
    """Make the demo in ``folder`` (what an earlier demo left there is replaced); returns the files to look at."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DestinationError(
            f"{folder} cannot be made: {error.strerror or error}",
            hint="name a folder that can be written",
            path=str(folder),
        ) from error
    retina, cells = folder / "retina.ome.zarr", folder / f"cells-{edge_px}.ome.zarr"
    _build(picture("retina.jpg"), retina, say)
    _build(GeneratedImage(edge_px), cells, say)
    made = [
        *_views(retina, folder, "retina", ["fit", "x=360,y=640,zoom=2"], {"interpolation": "linear"}, say),
        *_views(
            cells,
            folder,
            "cells",
            ["fit", f"x={edge_px / 2},y={edge_px / 2},zoom=1", f"x={edge_px / 2},y={edge_px / 2},zoom=7.3"],
            {"clim": "1000,24000", "gamma": "0.7", "colormap": "viridis", "interpolation": "linear"},
            say,
        ),
    ]
    return [*made, *_film(cells, folder, edge_px, say), _stack_film(folder, say), _turntable(folder, say)]


def _build(source: Any, dest: Path, say: Say, **options: Any) -> BuildResult:
    result = build(source, dest, overwrite=True, **options)
    rate = result.bytes_read / max(result.seconds, 1e-9)
    say(
        f"built {dest}: {len(result.spec.levels)} levels, {bytes_text(result.bytes_written)}, "
        f"{result.seconds:.2f} s ({bytes_text(rate)}/s), peak memory {bytes_text(result.peak_rss_bytes)}"
    )
    return result


def _views(
    pyramid: Path, folder: Path, name: str, cameras: list[str], options: dict[str, Any], say: Say
) -> list[Path]:
    """Settled frames, with one report for all."""
    pattern = str(folder / f"{name}-{{index}}.png")
    with _run(pyramid, cameras, {"size": "1024x768", **options}, pattern) as (renderer, frames):
        for frame in frames:
            coverage, timings = frame.report.coverage, frame.report.timings_ms
            say(
                f"rendered {pattern.format(index=frame.index)}: level {frame.report.level}, "
                f"{100 * coverage.ideal:.0f} % ideal, {timings.total:.0f} ms"
            )
        report = renderer.report()
    path = folder / f"{name}-report.json"
    _write_json(path, report.to_json())
    return [Path(pattern.format(index=shot.index)) for shot in renderer.shots] + [path]


def _film(pyramid: Path, folder: Path, edge_px: int, say: Say) -> list[Path]:
    """Tiles refining over a slow network, on the virtual clock: the same film on every machine."""
    camera = folder / "camera.json"
    close = {"x": edge_px * 0.55, "y": edge_px * 0.52, "zoom": 1.0}
    keyframes = [
        {"t_s": 0, "x": edge_px / 2, "y": edge_px / 2, "zoom": 384 / edge_px},
        {"t_s": 1.6, **close},
        {"t_s": 2.6, **close},
    ]
    _write_json(camera, {"fps": 15, "easing": "smooth", "keyframes": keyframes})
    options: dict[str, Any] = {"size": "512x384", "clim": "1000,24000", "gamma": "0.7", "clock": "virtual"}
    options |= {"latency": "80ms", "bandwidth": "4MB/s", "show_grid": True, "min_coverage": "0"}
    film, page = folder / "refining.gif", folder / "report.html"
    start_s = time.perf_counter()
    with PngKeeper() as keeper, _run(pyramid, [str(camera)], options, str(film)) as (renderer, frames):
        for frame in frames:
            keeper.put(frame.rgba)
        report: RunReport = renderer.report()
        pictures = keeper.pngs()
    write_html(page, report.to_json(), pictures)
    say(f"filmed {film}: {len(pictures)} frames in {time.perf_counter() - start_s:.1f} s, report {page}")
    return [film, page]


def _stack_film(folder: Path, say: Say) -> Path:
    """Down through a stack: three planes through one point."""
    stack, camera, film = folder / "stack.ome.zarr", folder / "through.json", folder / "through.gif"
    _build(generated_stack(), stack, say, voxel_size={"z": 1.0, "y": 0.5, "x": 0.5}, unit="micrometer")
    _write_json(camera, {"fps": 12, "keyframes": [{"t_s": 0, "z": 2}, {"t_s": 4, "z": 45}]})
    options = {
        "size": "444x368",
        "montage": "ortho",
        "clim": "900,22000",
        "colormap": "viridis",
        "settle": True,
    }
    with _run(stack, [str(camera)], options, str(film)) as (_, frames):
        count = sum(1 for _ in frames)
    say(f"filmed {film}: {count} frames through the stack")
    return film


def _turntable(folder: Path, say: Say) -> Path:
    """Once around the same stack as a volume."""
    film = folder / "turntable.gif"
    options = {"size": "320x240", "mode": "alpha", "fps": "6", "settle": True, "interpolation": "linear"}
    options |= {"clim": "2500,16000", "colormap": "magma"}
    with _run(folder / "stack.ome.zarr", ["turntable"], options, str(film)) as (_, frames):
        count = sum(1 for _ in frames)
    say(f"filmed {film}: {count} frames around the stack")
    return film


@contextmanager
def _run(
    pyramid: Path, cameras: list[str], options: dict[str, Any], output: str
) -> Iterator[tuple[Renderer, Iterator[Frame]]]:
    """A renderer, and its frames; each is written to ``output`` as it goes by."""
    request = parse_request([str(pyramid)], cameras, options)
    with (
        Renderer(request, command="octree demo") as renderer,
        FrameWriter(output, names_of(renderer.shots)) as writer,
    ):

        def written() -> Iterator[Frame]:
            for frame in renderer.frames():
                writer.put(frame.index, frame.rgba)
                yield frame

        yield renderer, written()


def _write_json(path: Path, document: Any) -> None:
    with atomic_file(path) as partial:
        partial.write_text(json_text(document, indent=2) + "\n", encoding="utf-8")
