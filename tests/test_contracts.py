"""Everything that promises to be a reader, a tile source, an engine of the loader or an executor of a build keeps the promise."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import distributed
import numpy as np
import pytest
import tifffile
import zarr
from contracts import BuildSchedulerContract, EngineContract, Make, ReaderContract, TileSourceContract
from loading_fakes import FakeSource, tile
from numpy.typing import NDArray
from PIL import Image

from octree.pyramid import build
from octree.pyramid.model import TileKey
from octree.pyramid.sources.source import ArraySource, open_source
from octree.render.loading.clock import VirtualClock
from octree.render.loading.guard import guarded
from octree.render.loading.pool import PoolGroup
from octree.render.loading.simulated import SimulatedPoolGroup
from octree.render.loading.values import TileSource
from octree.render.option_table import Projection, parse_projection
from octree.render.tiles.face import Face
from octree.render.tiles.tile_source import OpenTileSource, open_tile_source
from octree.render.view.state import Slicing, resolve

RANDOM = np.random.default_rng(7)
GRAY = RANDOM.integers(0, 60_000, (300, 410), np.uint16)


def edges(source: Face) -> list[TileKey]:
    """The first and the last tile of every level, at the last place on the axes that are not displayed."""
    lengths = dict(zip(source.spec.axis_names, source.spec.levels[0].shape, strict=True))
    others = [axis for axis in source.spec.free_axes if axis not in source.displayed]
    projection = Projection(source.projected, source.method) if source.method else None
    last = {axis: lengths[axis] - 1 for axis in others if axis != source.projected}
    lattice = source.at(resolve(Slicing.of(last, source.displayed, projection), source.spec))
    corners = []
    for level, info in enumerate(lattice.levels):
        last = tuple(count - 1 for count in info.tile_counts)
        corners += [lattice.key(level, grid) for grid in sorted({(0, 0), last})]
    return corners


class OpenSourceContract(TileSourceContract):
    """Of what ``open_tile_source`` opens: give ``opened`` only."""

    @pytest.fixture
    def tiles(self, opened: Callable[[], OpenTileSource]) -> list[TileKey]:
        with opened() as source:
            return edges(source)


class TestPyramid(OpenSourceContract):
    @pytest.fixture(params=["0.5", "0.4"])
    def opened(self, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], TileSource]:
        build(GRAY, tmp_path / "p.ome.zarr", tile=64, ome_version=request.param)
        return lambda: open_tile_source(tmp_path / "p.ome.zarr", tile=64)


class TestColours(OpenSourceContract):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], TileSource]:
        Image.fromarray(RANDOM.integers(0, 255, (200, 210, 3), np.uint8)).save(tmp_path / "rgb.png")
        return lambda: open_tile_source(tmp_path / "rgb.png", tile=64)


class TestLabels(OpenSourceContract):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], TileSource]:
        build(GRAY.astype(np.uint32) * 70_000, tmp_path / "ids", labels=True, tile=64)
        return lambda: open_tile_source(tmp_path / "ids", tile=64, labels=True)


class TestFileWithMadeLevels(OpenSourceContract):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], TileSource]:
        np.save(tmp_path / "image.npy", GRAY)
        return lambda: open_tile_source(tmp_path / "image.npy", tile=64)


class TestPlaneOfMany(OpenSourceContract):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], TileSource]:
        build(RANDOM.integers(0, 255, (2, 3, 150, 160), np.uint8), tmp_path / "tz", axes="tzyx", tile=64)
        return lambda: open_tile_source(tmp_path / "tz", tile=64)


class TestAcross(TileSourceContract):
    """Other axes than y and x, and an axis that is projected."""

    @pytest.fixture(params=["zx", "xz", "ty", "yx z=max", "yx z=mean", "zy t=sum"])
    def opened(self, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], TileSource]:
        build(RANDOM.integers(0, 255, (2, 9, 80, 90), np.uint8), tmp_path / "tz", axes="tzyx", tile=32)
        axes, _, projection = request.param.partition(" ")
        projected = parse_projection(projection) if projection else None

        def face() -> TileSource:
            source = open_tile_source(tmp_path / "tz", tile=32)
            return source.face(resolve(Slicing.of({}, axes, projected), source.spec))

        return face

    @pytest.fixture
    def tiles(self, opened: Callable[[], Face]) -> list[TileKey]:
        return edges(opened())


class TestUntiled(OpenSourceContract):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], TileSource]:
        build(GRAY, tmp_path / "p.ome.zarr", tile=64)
        return lambda: open_tile_source(tmp_path / "p.ome.zarr", untiled=True)


class TestArrayInMemory(OpenSourceContract):
    @pytest.fixture
    def opened(self) -> Callable[[], TileSource]:
        return lambda: open_tile_source(GRAY, tile=64)


class TestZarrObject(OpenSourceContract):
    @pytest.fixture
    def opened(self) -> Callable[[], TileSource]:
        array = zarr.array(GRAY, chunks=(50, 60))
        return lambda: open_tile_source(array, tile=64)


class TestForeignSource(TileSourceContract):
    """Anything that has what the protocol asks for."""

    @pytest.fixture
    def opened(self) -> Callable[[], TileSource]:
        return lambda: guarded(FakeSource())

    @pytest.fixture
    def tiles(self) -> list[TileKey]:
        return [tile(0), tile(3, 4), tile(0, level=2)]


# engines


class TestThreads(EngineContract):
    @pytest.fixture
    def make(self) -> Make:
        return PoolGroup


class TestSimulation(EngineContract):
    clock_of = VirtualClock

    @pytest.fixture
    def make(self) -> Make:
        return SimulatedPoolGroup


# executors of a build


class TestSerialBuild(BuildSchedulerContract):
    @pytest.fixture
    def scheduler(self) -> str:
        return "serial"


class TestThreadedBuild(BuildSchedulerContract):
    @pytest.fixture
    def scheduler(self) -> str:
        return "threads"


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(n_workers=2, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


class TestBuildOnACluster(BuildSchedulerContract):
    @pytest.fixture
    def scheduler(self, client: Any) -> Any:
        return client


class TestBuildInProcesses(BuildSchedulerContract):
    @pytest.fixture
    def scheduler(self) -> str:
        return "local"


# readers


class OpenedByPath(ReaderContract):
    """Give ``write``: a function that stores ``PLANES`` (z, y, x), or what it gives back, in a folder, and gives the path."""

    PLANES = RANDOM.integers(0, 60_000, (3, 40, 50), np.uint16)

    @pytest.fixture
    def stored(self, tmp_path: Path) -> tuple[Any, NDArray[Any]]:
        return self.write(tmp_path)

    def write(self, folder: Path) -> tuple[Any, NDArray[Any]]:
        raise NotImplementedError

    @pytest.fixture
    def opened(self, stored: tuple[Any, NDArray[Any]]) -> Callable[[], ArraySource]:
        return lambda: open_source(stored[0])

    @pytest.fixture
    def expected(self, stored: tuple[Any, NDArray[Any]]) -> NDArray[Any]:
        return stored[1]


class TestDecodedArray(OpenedByPath):
    def write(self, folder: Path) -> tuple[Any, NDArray[Any]]:
        Image.fromarray(self.PLANES[0].astype(np.uint8)).save(folder / "a.png")
        return folder / "a.png", self.PLANES[0].astype(np.uint8)


class TestRawFileArray(OpenedByPath):
    def write(self, folder: Path) -> tuple[Any, NDArray[Any]]:
        np.save(folder / "a.npy", self.PLANES.astype(">u2"))
        return folder / "a.npy", self.PLANES


class TestTiffArray(OpenedByPath):
    def write(self, folder: Path) -> tuple[Any, NDArray[Any]]:
        plain = {"photometric": "minisblack", "metadata": {"axes": "ZYX"}}
        tifffile.imwrite(folder / "a.tif", self.PLANES, tile=(16, 32), compression="zlib", **plain)
        return folder / "a.tif", self.PLANES


class TestConvertedArray(OpenedByPath):
    """Colours by a table."""

    def write(self, folder: Path) -> tuple[Any, NDArray[Any]]:
        numbers = (self.PLANES[0] % 256).astype(np.uint8)
        table = RANDOM.integers(0, 256, (3, 256)).astype(np.uint16) * 257
        tifffile.imwrite(folder / "a.tif", numbers, photometric="palette", colormap=table)
        return folder / "a.tif", (table[:, numbers] // 257).astype(np.uint8)


class TestMergedSamples(OpenedByPath):
    """Channels of colours: one axis."""

    def write(self, folder: Path) -> tuple[Any, NDArray[Any]]:
        pixels = RANDOM.integers(0, 255, (2, 40, 50, 3), np.uint8)
        tifffile.imwrite(folder / "a.ome.tif", pixels, photometric="rgb", metadata={"axes": "CYXS"})
        return folder / "a.ome.tif", np.moveaxis(pixels, -1, 1).reshape(6, 40, 50)


class TestHdf5Array(OpenedByPath):
    def write(self, folder: Path) -> tuple[Any, NDArray[Any]]:
        import h5py

        with h5py.File(folder / "a.h5", "w") as file:
            file.create_dataset("a", data=self.PLANES, chunks=(1, 16, 16), compression="gzip", shuffle=True)
        return folder / "a.h5", self.PLANES


class TestZarrArray(OpenedByPath):
    def write(self, folder: Path) -> tuple[Any, NDArray[Any]]:
        zarr.save_array(folder / "a.zarr", self.PLANES)
        return folder / "a.zarr", self.PLANES


class TestObjectArray(OpenedByPath):
    def write(self, folder: Path) -> tuple[Any, NDArray[Any]]:
        return self.PLANES, self.PLANES


# nothing that keeps such a promise is left out


def classes_with(room: ModuleType, *methods: str) -> set[str]:
    found = set()
    for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        for name, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            ours = kind.__module__ == module.name and not getattr(kind, "_is_protocol", False)
            if ours and all(hasattr(kind, method) for method in methods):
                found.add(name)
    return found


def test_every_reader_tile_source_engine_and_executor_is_held_to_its_contract() -> None:
    """A new one fails here until it has a test class above."""
    from octree.pyramid import building, sources
    from octree.render import loading, tiles

    tested = {name.removeprefix("Test") for name in globals() if name.startswith("Test")}
    # what turns, masks or translates pages of a TIFF is tested with the pages
    pages = {"Masked", "PagesOfTheirOwn", "Turned"}
    readers = classes_with(sources, "read", "transient_bytes", "identity", "close")
    assert {"TiffArray", "ZarrArray", "ObjectArray"} <= readers <= tested | pages
    of = {"Face": "Across", "OpenTileSource": "Pyramid", "GuardedSource": "ForeignSource"}
    known = classes_with(tiles, "read_tile", "tile_shape") | classes_with(loading, "read_tile", "tile_shape")
    assert known == of.keys()
    engines = classes_with(loading, "plan", "take", "wait_until", "counts")
    assert engines == {"PoolGroup", "SimulatedPoolGroup"}
    executors = classes_with(building, "run", "__enter__", "__exit__")
    assert executors == {"Serial", "Threads", "Processes", "Distributed"}
    assert {
        *of.values(),
        "Threads",
        "Simulation",
        "SerialBuild",
        "ThreadedBuild",
        "BuildInProcesses",
    } <= tested
