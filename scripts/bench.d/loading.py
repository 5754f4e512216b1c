"""The loading pipeline by itself: planning, overhead, throughput against a bare loop, roaming, shutdown.

Prints a Markdown table. Ratios are to a bare loop over the same tiles in the same run, best of some rounds.
"""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from octree.pyramid import build
from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.cache import TileCache
from octree.render.loading.loader import TileLoader
from octree.render.loading.network import Network
from octree.render.loading.values import LoadKey, LoadRequest, Tier
from octree.render.loading.wishes import load_requests
from octree.render.tiles.tile_source import OpenTileSource, open_tile_source
from octree.render.view.plan import plan_view

ROUNDS = 5
VIEW_TILES = 512


def best(measure: Callable[[], float], rounds: int = ROUNDS) -> float:
    return min(measure() for _ in range(rounds))


def timed(work: Callable[[], object], times: int = 1) -> float:
    start_s = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start_s) / times


def pyramid(size: int, levels: int) -> Lattice:
    return Lattice(
        tuple(
            LatticeLevel((math.ceil(size / 2**k),) * 2, (256, 256), (2.0**k, 2.0**k), (0.0, 0.0))
            for k in range(levels)
        )
    )


class NoPixels:
    """A source that costs nothing: what is left is the loader."""

    token, version = "nothing", 0
    texture_dtype = np.dtype("uint16")

    def tile_shape(self, tile: TileKey) -> tuple[int, ...]:
        return (4, 4)

    def read_tile(self, tile: TileKey) -> np.ndarray:
        return np.zeros((4, 4), np.uint16)

    def worker_recipe(self) -> None:
        return None


def one_pool(workers: int) -> LoaderSettings:
    return LoaderSettings(pools=((0, PoolSettings(workers, delay_queue_ms=0)),))


def wishes(token: str, keys: list[TileKey]) -> tuple[LoadRequest, ...]:
    return tuple([LoadRequest(LoadKey(token, 0, key), Tier.IDEAL) for key in keys])


def load_all(loader: TileLoader, token: str, keys: list[TileKey]) -> None:
    """View after view of ``VIEW_TILES`` tiles, each until it is settled."""
    for start in range(0, len(keys), VIEW_TILES):
        loader.plan("view", wishes(token, keys[start : start + VIEW_TILES]), moved=False)
        while not loader.settled():
            loader.wait(1.0)
            loader.poll()


def planning() -> list[str]:
    plane = pyramid(65536, 9)
    rows = []
    for name, zoom, known, motion in (
        ("level 0 at zoom 1, nothing known", 1.0, False, 0.0),
        ("zoom 0.53, nothing known", 0.53, False, 0.0),
        ("zoom 0.53, everything known", 0.53, True, 0.0),
        ("zoom 0.53, moving, with prefetch", 0.53, True, 200.0),
    ):
        view = Region((1000.0, 1000.0), (1000 + 2160 / zoom, 1000 + 3840 / zoom))
        steps = itertools.cycle(range(0, 256 * 60, 256))

        def plan(
            zoom: float = zoom,
            known: bool = known,
            motion: float = motion,
            view: Region = view,
            steps: Iterator[int] = steps,
        ) -> object:
            return plan_view(
                plane,
                view.shifted(
                    (0.0, float(next(steps)))
                ),  # the order of tiles is remembered: each plan has its own
                (zoom, zoom),
                lacking=lambda tiles: () if known else tiles,
                motion=(0.0, motion),
                prefetch_margin=0.125,
            )

        count = len(plan_view(plane, view, (zoom, zoom)).wanted)
        ms = best(lambda: timed(plan, 20)) * 1e3
        rows.append(f"| plan 3840 × 2160, {count} tiles: {name} | {ms:.2f} ms | ≤ 1 ms |")
    return rows


def steady_frame() -> str:
    plane, source = pyramid(65536, 9), NoPixels()
    plan = plan_view(plane, Region((1000.0, 1000.0), (5075.0, 8245.0)), (0.53, 0.53))
    requests = load_requests(plan, lambda tile: (LoadKey(source.token, source.version, tile),))
    with TileLoader(one_pool(2)) as loader:
        loader.add_source(source)
        loader.plan("view", requests, moved=False)
        while not loader.settled():
            loader.wait(1.0)
            loader.poll()
        again = tuple(LoadRequest(*r) for r in requests)

        def frame() -> None:
            loader.plan("view", again, moved=False)
            loader.auto_sync()
            loader.poll()
            loader.settled("view")
            loader.stats()

        ms = best(lambda: timed(frame, 100)) * 1e3
    return f"| loader's part of a frame with nothing to do, {len(requests)} wishes | {ms:.3f} ms | ≤ 0.2 ms |"


def overhead() -> str:
    source, keys = NoPixels(), [TileKey(0, (), (r, c)) for r in range(64) for c in range(64)]

    def run() -> float:
        with TileLoader(one_pool(10)) as loader:
            loader.add_source(source)
            return timed(lambda: load_all(loader, "nothing", keys)) / len(keys)

    return f"| Python overhead of the loader per tile, 10 workers | {best(run) * 1e3:.3f} ms | ≤ 0.1 ms |"


def throughput(source: OpenTileSource) -> list[str]:
    rows, cols = source.lattice.levels[0].tile_counts
    keys = [TileKey(0, (), (r, c)) for r in range(rows) for c in range(cols)]

    def bare(workers: int) -> float:
        with ThreadPoolExecutor(workers) as pool:
            return timed(lambda: list(map(np.size, pool.map(source.read_tile, keys))))

    def loader(workers: int) -> float:
        with TileLoader(one_pool(workers), cache=TileCache(64 * 2**20)) as own:
            own.add_source(source)
            return timed(lambda: load_all(own, source.token, keys))

    bare(2)  # the page cache is warm from here on
    lines = []
    for workers in (2, 4, 10):
        pairs = [(bare(workers), loader(workers)) for _ in range(ROUNDS)]
        ratio = statistics.median(ours / base for base, ours in pairs)
        base_s, ours_s = min(p[0] for p in pairs), min(p[1] for p in pairs)
        lines.append(
            f"| tiles of 256² uint16 per second through the loader, {workers} workers | {len(keys) / ours_s:,.0f} "
            f"(bare loop {len(keys) / base_s:,.0f}; {ratio:.2f} times its time) | ≥ 3,000 |"
        )
    return lines


def roaming(source: OpenTileSource) -> str:
    rows, cols = source.lattice.levels[0].tile_counts
    all_keys = itertools.cycle([TileKey(0, (), (r, c)) for r in range(rows) for c in range(cols)])
    keys = list(itertools.islice(all_keys, 10_000))
    budget = 64 * 2**20
    tracemalloc.start()
    with TileLoader(one_pool(10), cache=TileCache(budget)) as loader:
        loader.add_source(source)
        for start in range(0, len(keys), 100):
            loader.plan("view", wishes(source.token, keys[start : start + 100]), moved=True)
            while not loader.settled():
                loader.wait(1.0)
                loader.poll()
        peak = tracemalloc.get_traced_memory()[1]
        cache_peak = loader.stats().peak_cache_bytes
    tracemalloc.stop()
    left = [t.name for t in threading.enumerate() if t.name.startswith("octree")]
    return (
        f"| roaming 10,000 tiles with a 64 MiB cache: cache peak, all Python memory at peak, threads left | "
        f"{cache_peak / 2**20:.1f} MiB, {peak / 2**20:.1f} MiB, {len(left)} | budget plus what is in flight, 0 |"
    )


def shutdown() -> str:
    source = NoPixels()
    loader = TileLoader(one_pool(10), network=Network(latency_ms=60_000))
    loader.add_source(source)
    loader.plan("view", wishes("nothing", [TileKey(0, (), (i, 0)) for i in range(100)]), moved=False)
    while loader.stats().loading < 10:
        loader.wait(0.001)
    return f"| shutdown with 100 loads of a minute queued | {timed(loader.close) * 1e3:.1f} ms | ≤ 1,000 ms |"


def main() -> None:
    print("| what | measured | target |")
    print("|---|---|---|")
    for row in [*planning(), steady_frame(), overhead()]:
        print(row, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        smooth = np.add.outer(np.arange(16384) % 4096, np.arange(16384) % 5000).astype(np.uint16)
        smooth += np.random.default_rng(0).integers(0, 16, smooth.shape, dtype=np.uint16)
        build(smooth, Path(folder) / "p.zarr")
        del smooth
        with open_tile_source(Path(folder) / "p.zarr") as source:
            for row in [*throughput(source), roaming(source), shutdown()]:
                print(row, flush=True)


if __name__ == "__main__":
    main()
