"""Stepping and playing through planes: the series of NAP-4 (asynchronous slicing), against bare loops in the same process.

small   20 x 512² in memory · medium   100 x 2048² on disk, chunks of a plane · large   64 x 1024² on disk, chunks of
64³ beside chunks of a plane · huge   1,000 x 16384², computed when it is read, on the virtual clock at 0, 50 and 500 ms.
Prints Markdown tables; what is on the virtual clock is the same on every machine.
"""

from __future__ import annotations

import gc
import json
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from octree.pyramid import build
from octree.pyramid.grid import Region
from octree.render.config import default_settings
from octree.render.frames import Renderer
from octree.render.gl.canvas import Canvas
from octree.render.gl.library import gloo
from octree.render.gl.page import PageTexture
from octree.render.live import TiledImage
from octree.render.loading.clock import VirtualClock
from octree.render.loading.network import Network
from octree.render.request import parse_request
from octree.render.scene.keys import Part
from octree.render.scene.layer import Layer
from octree.render.scene.pipeline import Pipeline
from octree.render.scene.sources import open_source
from octree.render.view.state import Slicing

SIZE = (1024, 768)
R16 = (0x822A, 0x1903)
"""GL_R16 and GL_RED: how a texture keeps uint16, and how it is given."""
LIMITS = {"clim": "0,65535", "size": f"{SIZE[0]}x{SIZE[1]}"}


class Computed:
    """(t, y, x) uint16, made when it is read."""

    dtype, ndim = np.dtype("u2"), 3

    def __init__(self, planes: int, edge: int) -> None:
        self.shape, self.chunks = (planes, edge, edge), (1, 256, 256)

    def __getitem__(self, place: Any) -> NDArray[np.uint16]:
        t, y, x = (np.arange(*part.indices(n)) for part, n in zip(place, self.shape, strict=True))
        return (t[:, None, None] * 650 + (y[:, None] // 64 + x // 64) % 2 * 300).astype(np.uint16)


def noise(planes: int, edge: int) -> NDArray[np.uint16]:
    smooth = np.add.outer(np.arange(edge) * 7, np.arange(edge) * 5).astype(np.uint16)
    return np.stack([smooth + np.uint16(600 * t) for t in range(planes)])


class BareFilm:
    """The same pixels with nothing decided: each plane's region is read by TensorStore, uploaded as one texture, drawn as
    one quad, finished and read back."""

    def __init__(self, array: Any, corner: tuple[int, int]) -> None:
        self._array = array
        self._rows = slice(corner[0], min(corner[0] + SIZE[1], array.shape[1]))
        self._cols = slice(corner[1], min(corner[1] + SIZE[0], array.shape[2]))
        self._program = gloo.Program(
            "attribute vec2 a_place; varying vec2 v_at;"
            "void main() { v_at = a_place * 0.5 + 0.5; gl_Position = vec4(a_place, 0.0, 1.0); }",
            "uniform sampler2D u_plane; varying vec2 v_at;"
            "void main() { float x = texture2D(u_plane, v_at).r; gl_FragColor = vec4(x, x, x, 1.0); }",
        )
        self._program["a_place"] = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], np.float32)

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        gloo.set_state(blend=False, depth_test=False)
        self._program.draw("triangle_strip")

    def run(self, canvas: Canvas, planes: range) -> float:
        """Seconds."""
        begin_s = time.perf_counter()
        for plane in planes:
            data = self._array[plane, self._rows, self._cols].read().result()
            texture = gloo.Texture2D(data[..., None], internalformat="r16", interpolation="nearest")
            self._program["u_plane"] = texture
            canvas.draw([self])
            canvas.read()
            texture.delete()
        return time.perf_counter() - begin_s


class FloorFilm:
    """The least that single tiles take: those of each plane are read one by one, begun together by a thread, two planes ahead;
    each is uploaded into a slot of its own, as octree does it, and all are drawn by one call, finished and read back. No plan,
    no cache, no cover, no retries, nothing counted."""

    EDGE, PAGE_PX = 256, 4096

    def __init__(self, array: Any, corner: tuple[int, int]) -> None:
        self._array, edge = array, self.EDGE
        rows = range(corner[0] // edge * edge, corner[0] + SIZE[1], edge)
        cols = range(corner[1] // edge * edge, corner[1] + SIZE[0], edge)
        self._tiles = [(row, col) for row in rows for col in cols]
        self._program = gloo.Program(
            "attribute vec2 a_place; attribute vec2 a_texel; varying vec2 v_texel;"
            "void main() { v_texel = a_texel; gl_Position = vec4(a_place, 0.0, 1.0); }",
            "uniform sampler2D u_page; uniform float u_page_px; varying vec2 v_texel;"
            "void main() { float x = texture2D(u_page, (floor(v_texel) + 0.5) / u_page_px).r;"
            " gl_FragColor = vec4(x, x, x, 1.0); }",
        )
        self._program["u_page_px"] = float(self.PAGE_PX)
        unit = np.array([[0, 0], [0, 1], [1, 0], [1, 0], [0, 1], [1, 1]])
        base = (np.array(self._tiles)[:, None] + unit * edge - corner).reshape(-1, 2)
        place = np.stack([base[:, 1] / SIZE[0] * 2 - 1, 1 - base[:, 0] / SIZE[1] * 2], axis=1)
        self._program["a_place"] = gloo.VertexBuffer(place.astype(np.float32))
        self._corners = (unit * edge)[None, :, ::-1].astype(np.float32)
        self._pages: list[PageTexture] = []
        self._used = 0

    def _read(self, plane: int) -> list[NDArray[np.uint16]]:
        edge = self.EDGE
        begun = [self._array[plane, r : r + edge, c : c + edge].read() for r, c in self._tiles]
        return [each.result() for each in begun]

    def _upload(self, tiles: list[NDArray[np.uint16]]) -> None:
        """Into the next slots, all of one page."""
        along = self.PAGE_PX // self.EDGE
        number, slot = divmod(self._used, along**2 // len(tiles) * len(tiles))
        if number == len(self._pages):
            self._pages.append(PageTexture((self.PAGE_PX, self.PAGE_PX), "uint16", 1, R16))
        corners = [
            (self.EDGE * (at // along), self.EDGE * (at % along)) for at in range(slot, slot + len(tiles))
        ]
        self._pages[number].write([(tile, *corner) for tile, corner in zip(tiles, corners, strict=True)])
        at = np.array(corners, np.float32)[:, None, ::-1] + self._corners
        self._program["a_texel"] = gloo.VertexBuffer(at.reshape(-1, 2))
        self._program["u_page"] = self._pages[number]
        self._used += len(tiles)

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        gloo.set_state(blend=False, depth_test=False)
        self._program.draw("triangles")

    def run(self, canvas: Canvas, planes: range) -> float:
        """Seconds; every plane is read, and texture memory is new."""
        begin_s = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            coming = deque(pool.submit(self._read, plane) for plane in planes[:2])
            left = iter(planes[2:])
            while coming:
                self._upload(coming.popleft().result())
                coming.extend(pool.submit(self._read, plane) for plane in islice(left, 1))
                canvas.draw([self])
                canvas.read()
        seconds = time.perf_counter() - begin_s
        for page in self._pages:
            page.delete()
        self._pages, self._used = [], 0
        return seconds


def opened(path: Path, level: str = "0") -> Any:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path / level}/"}}
    return ts.open(spec, read=True).result()


def film(source: Any, index: str, camera: str, **options: Any) -> tuple[float, Any]:
    """(seconds of the frames after the first, report)."""
    with Renderer(parse_request([source], [camera], {**LIMITS, "index": index, **options})) as renderer:
        frames = renderer.frames()
        next(frames)
        begin_s = time.perf_counter()
        for _ in frames:
            pass
        return time.perf_counter() - begin_s, renderer.report()


def paired(
    ours: Callable[[], float], theirs: Callable[[], float], times: int = 3
) -> tuple[float, float, float]:
    """Medians of both, and of the ratio of pairs."""
    pairs = [(ours(), theirs()) for _ in range(times)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def stepping(folder: Path) -> list[str]:
    """Settled films: every plane complete."""
    rows = []
    medium = folder / "medium.ome.zarr"
    build(noise(100, 2048), medium, axes="tyx")
    small = noise(20, 512)
    camera = "x=1024,y=1024,zoom=1"
    corner = (1024 - SIZE[1] // 2, 1024 - SIZE[0] // 2)
    with Canvas(SIZE) as canvas:
        bare = BareFilm(opened(medium), corner)
        a, b, ratio = paired(
            lambda: film(str(medium), "t=:", camera)[0], lambda: bare.run(canvas, range(1, 100))
        )
        rows.append(
            f"| medium: film of 100 planes, each read once | {10 * a / 0.99:.1f} | {10 * b / 0.99:.1f} | {ratio:.2f} |"
        )
        floor = FloorFilm(opened(medium), corner)
        a, b, ratio = paired(
            lambda: floor.run(canvas, range(1, 100)), lambda: bare.run(canvas, range(1, 100))
        )
        rows.append(
            f"| *floor* of that: the same tiles read singly, uploaded to slots, drawn, and nothing else | {10 * a / 0.99:.1f} | {10 * b / 0.99:.1f} | {ratio:.2f} |"
        )
        keys = folder / "there-and-back.json"
        place = {"x": 1024, "y": 1024, "zoom": 1}
        ends = [{"t_s": 0, "t": 0, **place}, {"t_s": 4, "t": 99, **place}, {"t_s": 8, "t": 0, **place}]
        keys.write_text(json.dumps({"fps": 24.75, "keyframes": ends}))

        def back() -> float:
            request = parse_request([str(medium)], [str(keys)], {**LIMITS, "settle": True})
            with Renderer(request) as renderer:
                frames = renderer.frames()
                for _ in range(len(renderer.shots) // 2 + 1):
                    next(frames)
                begin_s = time.perf_counter()
                count = sum(1 for _ in frames)
                return (time.perf_counter() - begin_s) / count * 99

        a, b, ratio = paired(back, lambda: bare.run(canvas, range(98, -1, -1)))
        rows.append(
            f"| medium: the same planes again, tiles in memory | {10 * a / 0.99:.1f} | {10 * b / 0.99:.1f} | {ratio:.2f} |"
        )
        memory = ts.array(small)
        little = BareFilm(memory, (0, 0))
        a, b, ratio = paired(
            lambda: film(small, "z=:", "fit", single_level=True)[0], lambda: little.run(canvas, range(1, 20))
        )
        rows.append(
            f"| small: film of 20 planes in memory | {1000 * a / 19:.1f} | {1000 * b / 19:.1f} | {ratio:.2f} |"
        )
    return rows


def chunked(folder: Path) -> list[str]:
    """The same volume in flat and in cubic chunks: z steps, and planes across."""
    volume = noise(64, 1024)
    paths = {}
    for name, chunks in (("flat", [1, 256, 256]), ("cubic", [64, 64, 64])):
        paths[name] = folder / f"{name}.zarr"
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{paths[name]}/"},
            "metadata": {
                "shape": list(volume.shape),
                "data_type": "uint16",
                "dimension_names": ["z", "y", "x"],
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "zstd", "configuration": {"level": 1}},
                ],
            },
        }
        ts.open(spec, create=True).result().write(volume).result()
    rows = []
    for what, index, options in (
        ("z scroll, 64 planes", "z=:", {}),
        ("zx, 64 planes", "y=0:64", {"display": "zx", "pixel_aspect": 8}),
    ):
        both = {"single_level": True, **options}
        a, b, ratio = paired(
            lambda index=index, both=both: film(str(paths["cubic"]), index, "fit", **both)[0],
            lambda index=index, both=both: film(str(paths["flat"]), index, "fit", **both)[0],
        )
        rows.append(f"| large: {what} | {1000 * a / 63:.1f} | {1000 * b / 63:.1f} | {ratio:.2f} |")
    return rows


def playing() -> list[str]:
    """Streams on the virtual clock: what was drawn when its time came."""
    rows = []
    source = Computed(1000, 2048)
    for latency in (0, 50, 500):
        for fps in (10, 30):
            simulated = {"clock": "virtual", "latency": f"{latency}ms", "stream": True, "fps": fps}
            _, report = film(source, "z=0:100", "x=1024,y=1024,zoom=1", **simulated)
            frames = report.frames
            holes = sum(frame.coverage.missing > 1e-9 for frame in frames)
            complete = sum(frame.coverage.ideal > 1 - 1e-9 for frame in frames)
            totals = report.totals.to_json()
            rows.append(
                f"| {latency} ms | {fps} | {len(frames)} | {holes} | {complete} | {totals['wrong_plane_frames']} | "
                f"{totals['reads_wasted']} |"
            )
    return rows


def asking(folder: Path) -> list[str]:
    """A node in a window, on the virtual clock: one plane, and 25 of them in a second, of which the last counts."""
    from vispy.scene import PanZoomCamera, SceneCanvas

    sources = (
        ("small", noise(40, 512), True),
        ("medium", str(folder / "medium.ome.zarr"), False),
        ("large", str(folder / "cubic.zarr"), True),
        ("huge", Computed(1000, 16384), True),
    )
    rows = []
    for name, source, single in sources:
        for latency in (0, 50, 500):
            window = SceneCanvas(size=SIZE, show=False)
            view = window.central_widget.add_view(camera=PanZoomCamera(aspect=1))
            network = Network(latency_ms=latency)
            with Pipeline(default_settings(), clock=VirtualClock(), network=network) as pipeline:
                node = TiledImage(
                    source, parent=view.scene, clim="0,65535", single_level=single, pipeline=pipeline
                )
                window.render()
                (y0, x0), (y1, x1) = node.extent.low, node.extent.high
                view.camera.rect = ((x0 + x1 - SIZE[0]) / 2, (y0 + y1 - SIZE[1]) / 2, *SIZE)
                axis = next(iter(node.index))
                node.settle()
                alone = _asked(node, axis, [5])
                _turn(node, 2000)  # until it has what lies beside, too
                many = _asked(node, axis, range(8, 33))
            window.close()
            times = " | ".join(f"{ms:.0f}" for ms in (*alone[:2], many[1]))
            rows.append(f"| {name} | {latency} ms | {times} | {alone[2]} | {many[2]} | {many[3]} |")
    return rows


def _turn(node: TiledImage, ms: float) -> None:
    """Sixty times a second."""
    clock = node.pipeline.clock
    until_ms = clock.now_ms() + ms
    while clock.now_ms() < until_ms:
        node.turn()
        node.pipeline.loader.wait_until(min(until_ms, clock.now_ms() + 1000 / 60))


def _asked(node: TiledImage, axis: str, planes: Iterable[int]) -> tuple[float, float, int, int]:
    """(ms until something of the last of these planes was shown, and all of it; tiles read; of these wasted), 25 a second."""
    loader = node.pipeline.loader
    before = loader.stats()
    for number, plane in enumerate(planes):
        _turn(node, 40 * bool(number))
        request = node.go_to(**{axis: plane})
    request.wait(60)
    record, after = request.record, loader.stats()
    return (
        (record.first_ms or 0.0) - request.requested_ms,
        (record.complete_ms or 0.0) - request.requested_ms,
        after.tiles_read - before.tiles_read,
        after.reads_wasted - before.reads_wasted,
    )


class _NoVisual:
    """Planning alone: nothing is drawn."""

    def set_cover(self, *_: Any) -> None: ...

    def set_view(self, *_: Any) -> None: ...


def planning(latency_ms: float) -> str:
    """A turn's planning on the main thread with 2,000 wanted tiles of one level, the camera moving."""
    usual = default_settings()
    settings = replace(usual, render=replace(usual.render, cache_bytes=2**29, atlas_bytes=2**29))
    source: Any = Computed(1, 16384)
    request = parse_request([source], [], {"single_level": True, "clim": "0,65535"}, settings=settings)
    network = Network(latency_ms=latency_ms) if latency_ms else None
    with Pipeline(settings, network=network) as pipeline:
        tiles = open_source(source, request, labels=False)
        visual: Any = _NoVisual()
        layer = Layer(tiles, [Part(None, visual)], pipeline, first=tiles.spec, linear=False)

        class View:
            layers = (layer,)

            def close(self) -> None: ...

        pipeline.join(View())
        gc.collect()  # what is left of the runs before is none of this one's
        spent = []
        for turn in range(60):
            y, x = 100.0 + 37 * turn, 200.0 + 53 * turn
            view = Region((y, x), (y + 45 * 256, x + 45 * 256))
            begin_s = time.thread_time()
            plan = layer.plan_rect(view, (0.1, 0.1), Slicing(), motion=(2.0, 3.0), prefetch=True)
            spent.append(1000 * (time.thread_time() - begin_s))
            pipeline.take_in(wait=False)
            time.sleep(1 / 60)
        tiles.close()
    spent = sorted(spent[2:])
    return f"| {len(plan.wanted)} wanted tiles, {latency_ms:g} ms | {statistics.median(spent):.1f} | {spent[-1]:.1f} | ≤ 5 |"


def main() -> None:
    gc.set_threshold(50_000, 20, 100)  # as the command does
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("Settled films of 1024 x 768; milliseconds for each plane, medians of three, in turns.\n")
        print("| what | octree | bare loop: read, upload, draw, read back | ratio |")
        print("|---|---|---|---|")
        print("\n".join(stepping(folder)))
        print("\n| what | chunks of 64³ | chunks of one plane, 256² | ratio |")
        print("|---|---|---|---|")
        print("\n".join(chunked(folder)))
        print("\nA node that is asked for another plane, on the virtual clock; the last of 25 in a second.\n")
        print("| | latency | first, ms | complete, ms | last of 25, ms | reads | reads of 25 | wasted |")
        print("|---|---|---|---|---|---|---|---|")
        print("\n".join(asking(folder)))
    print("\nhuge, played on the virtual clock; frames of 100 planes.\n")
    print("| latency | fps | frames | with holes | complete | wrong plane | reads wasted |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(playing()))
    print("\n| planning a turn, cpu of the main thread, ms | p50 | max | aim |")
    print("|---|---|---|---|")
    print(planning(0.0))
    print(planning(500.0))


main()
