"""The store: what is written is read, by either engine; errors name array, chunk and file."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from build_tools import image

from octree.pyramid import build, open_pyramid
from octree.pyramid.errors import SourceError, SourceNotFound, WriteError
from octree.pyramid.model import Box, LevelInfo
from octree.pyramid.store import arrays
from octree.pyramid.store.arrays import open_array, read_context, unit_keys
from octree.pyramid.store.codecs import parse_codec


@pytest.fixture
def pyramid(tmp_path: Path) -> Path:
    build(image((300, 200)), tmp_path / "p", tile=32, shard=4)
    return tmp_path / "p"


@pytest.mark.parametrize("engine", ["tensorstore", "zarr"])
def test_any_box_of_any_level_is_what_slicing_gives(pyramid: Path, engine: str) -> None:
    opened = open_pyramid(pyramid, engine=engine)
    assert opened.engine == engine
    rng = np.random.default_rng(0)
    for level, info in enumerate(opened.spec.levels):
        whole = np.asarray(zarr.open_array(pyramid / info.path, mode="r"))
        for _ in range(10):
            start = [int(rng.integers(0, n)) for n in info.shape]
            stop = [int(rng.integers(a, n)) + 1 for a, n in zip(start, info.shape, strict=True)]
            box = Box(tuple(start), tuple(stop))
            found = opened.read(level, box)
            assert found.dtype == np.uint16
            np.testing.assert_array_equal(found, whole[box.slices])


def test_threads_read_at_once(pyramid: Path) -> None:
    opened, wrong = open_pyramid(pyramid), []
    expected = image((300, 200))

    def read(row: int) -> None:
        if not np.array_equal(opened.read(0, Box((row, 0), (row + 7, 200))), expected[row : row + 7]):
            wrong.append(row)

    threads = [threading.Thread(target=read, args=(row,)) for row in range(0, 290, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_build_decodes_its_source_with_its_workers_only(
    pyramid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def recorded(threads: int | None = None) -> Any:
        opened.append(context := read_context(threads))
        return context

    monkeypatch.setattr(arrays, "read_context", recorded)
    build(pyramid, tmp_path / "again", workers=1)
    source = opened[0]  # later ones read windows of the finished levels
    assert source["data_copy_concurrency"].to_json() == {"limit": 1}


def test_missing_chunks_are_the_fill_value(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", shape=(10, 10), chunks=(5, 5), dtype="i2", fill_value=-3)
    for engine in ("tensorstore", "zarr"):
        assert (open_array(tmp_path / "a", engine=engine).read(Box((0, 0), (10, 10))) == -3).all()


def test_other_byte_order_comes_out_native(tmp_path: Path) -> None:
    z = zarr.create_array(tmp_path / "a", shape=(6, 4), chunks=(5, 5), dtype=">u2", zarr_format=2)
    z[:] = np.arange(24).reshape(6, 4)
    for engine in ("tensorstore", "zarr"):
        data = open_array(tmp_path / "a", engine=engine).read(Box((1, 0), (3, 4)))
        assert data.dtype == np.dtype("u2")
        assert data.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_codec_that_tensorstore_lacks_falls_back_to_zarr_and_says_so(tmp_path: Path) -> None:
    import numcodecs

    z = zarr.create_array(
        tmp_path / "a", shape=(8, 8), chunks=(4, 4), dtype="u2", zarr_format=2,
        compressors=numcodecs.LZ4(), filters=[numcodecs.Delta(dtype="u2")],
    )  # fmt: skip
    z[:] = image((8, 8))
    array = open_array(tmp_path / "a")
    assert array.engine == "zarr"
    np.testing.assert_array_equal(array.read(Box((0, 0), (8, 8))), image((8, 8)))
    with pytest.raises(SourceError, match="TensorStore cannot open"):
        open_array(tmp_path / "a", engine="tensorstore")
    result = build(str(tmp_path / "a"), tmp_path / "p")
    assert result.engine == "zarr"


def test_a_torn_shard_is_named(pyramid: Path) -> None:
    shard = pyramid / "1/c/0/0"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(SourceError, match="level 1") as caught:
        open_pyramid(pyramid).read(1, Box((0, 0), (10, 10)))
    assert caught.value.details["chunk"] == "c/0/0"
    assert caught.value.details["file"] == str(shard)
    assert str(shard) in caught.value.message


def test_a_torn_chunk_is_named_by_zarr_too(tmp_path: Path) -> None:
    z = zarr.create_array(tmp_path / "a", shape=(8, 8), chunks=(4, 4), dtype="u2")
    z[:] = 7
    (tmp_path / "a/c/1/0").write_bytes(b"nothing good")
    with pytest.raises(SourceError) as caught:
        open_array(tmp_path / "a", engine="zarr").read(Box((4, 0), (8, 4)))
    assert caught.value.details["chunk"] == "1/0"


def test_errors_of_tensorstore_come_without_its_whole_spec(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a", shape=(8, 8), chunks=(4, 4), dtype="u2")
    level = LevelInfo("a", (9, 9), (4, 4), None, (1.0, 1.0), (0.0, 0.0))
    with pytest.raises(WriteError) as caught:
        arrays.create_level(tmp_path, level, array.dtype, ("y", "x"), parse_codec("none"), 3)
    assert "9" in caught.value.message
    assert "tensorstore_spec" not in caught.value.message


def test_what_is_no_pyramid_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound):
        open_pyramid(tmp_path / "nowhere")
    with pytest.raises(SourceError):
        open_pyramid(tmp_path)
    with pytest.raises(SourceNotFound):
        open_array(tmp_path)


def test_keys_of_write_units() -> None:
    level = LevelInfo("0", (100, 100), (10, 10), (40, 20), (1.0, 1.0), (0.0, 0.0))
    assert unit_keys(level, Box((40, 0), (80, 40)), v3=True) == ["c/1/0", "c/1/1"]
    plain = LevelInfo("0", (100, 100), (10, 10), None, (1.0, 1.0), (0.0, 0.0))
    assert unit_keys(plain, Box((90, 80), (100, 100)), v3=False) == ["9/8", "9/9"]
