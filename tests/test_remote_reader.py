"""Arrays of remote stores by ranges: what is asked for, what is made of it, and what becomes of what nobody wants."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import zarr
from fake_values import Asked, FakeValues
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from octree.pyramid.boxes import whole
from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box, LevelInfo
from octree.pyramid.store.arrays import LevelWriter, create_level, write_context
from octree.pyramid.store.chunk_files import ChunkPlace
from octree.pyramid.store.codecs import Codec
from octree.pyramid.store.named import place_of
from octree.pyramid.store.reading import CancelledError
from octree.pyramid.store.reading import together as beginning_together
from octree.pyramid.store.remote.assembling import Assembler
from octree.pyramid.store.remote.decoding import ChunkDecoder, UnknownCodec
from octree.pyramid.store.remote.indices import IndexCache, ShardIndex
from octree.pyramid.store.remote.ranges import joined
from octree.pyramid.store.remote.reader import Fetched, RangeReader
from octree.pyramid.store.zarr_meta import ArrayMeta, read_array_meta

# ranges

SPANS = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(1, 400)).map(lambda s: (s[0], s[0] + s[1])), max_size=30
)


@given(SPANS, st.integers(0, 300), st.integers(1, 1000))
def test_each_span_comes_whole_in_just_one_request(spans: list[tuple[int, int]], gap: int, most: int) -> None:
    requests = joined(spans, gap, most)
    assert sorted(number for request in requests for number in request.members) == list(range(len(spans)))
    for start, stop, members in requests:
        assert start == min(spans[m][0] for m in members)
        assert stop == max(spans[m][1] for m in members)
        assert stop - start <= most or len(members) == 1
        ends = sorted(spans[m] for m in members)
        reached = ends[0][1]
        for first, last in ends[1:]:
            assert first - reached <= gap
            reached = max(reached, last)


@given(SPANS, st.integers(0, 300), st.integers(1, 1000))
def test_no_two_requests_could_be_one(spans: list[tuple[int, int]], gap: int, most: int) -> None:
    requests = joined(spans, gap, most)
    for one, other in itertools.pairwise(requests):
        assert other.start - one.stop > gap or max(one.stop, other.stop) - one.start > most


def test_neighbours_are_joined_across_small_gaps_only() -> None:
    assert joined([(70, 80), (0, 10), (12, 20)], 5, 100) == [(0, 20, (1, 2)), (70, 80, (0,))]
    assert joined([(0, 60), (60, 120)], 5, 100) == [(0, 60, (0,)), (60, 120, (1,))]
    assert joined([], 5, 100) == []


# arrays as they are written


def reader_of(values: FakeValues, meta: ArrayMeta, **more: Any) -> RangeReader:
    return RangeReader(values, "", meta, "level 0", "s3://bucket/array", **more)


def opened(folder: Path, **more: Any) -> tuple[RangeReader, FakeValues]:
    values = FakeValues.of(folder)
    return reader_of(values, read_array_meta(place_of(folder)), **more), values


def read(reader: RangeReader, box: Box) -> NDArray[Any]:
    return reader.start(box, ValueError).result()


def numbers(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    data = np.random.default_rng(1).integers(0, 200, shape)
    return (data % 2 == 0) if dtype == "bool" else data.astype(dtype)


BYTES_BIG = {"name": "bytes", "configuration": {"endian": "big"}}
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": True}}
V3: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "plain": ("uint16", [BYTES]),
    "bool": ("bool", [{"name": "bytes"}, ZSTD]),
    "floats": ("float32", [BYTES, {"name": "gzip", "configuration": {"level": 1}}]),
    "complex": ("complex64", [BYTES, ZSTD]),
    "checksums": ("uint8", [BYTES, {"name": "crc32c"}, ZSTD, {"name": "crc32c"}]),
    "big": ("int32", [BYTES_BIG, ZSTD]),
    "blosc": (
        "uint16",
        [
            BYTES,
            {
                "name": "blosc",
                "configuration": {
                    "cname": "lz4",
                    "clevel": 5,
                    "shuffle": "shuffle",
                    "typesize": 2,
                    "blocksize": 0,
                },
            },
            {"name": "crc32c"},
        ],
    ),
    "transposed": (
        "uint16",
        [
            {"name": "transpose", "configuration": {"order": [2, 0, 1]}},
            {"name": "transpose", "configuration": {"order": [1, 0, 2]}},
            BYTES,
            ZSTD,
        ],
    ),
}
V2: dict[str, tuple[str, dict[str, Any] | None, list[dict[str, Any]] | None, str]] = {
    "plain": ("<u2", None, None, "C"),
    "order F": ("<u2", {"id": "zlib", "level": 1}, None, "F"),
    "big": (">i4", {"id": "zstd", "level": 1}, None, "C"),
    "lz4": ("|u1", {"id": "lz4", "acceleration": 1}, None, "C"),
    "bz2": ("<f8", {"id": "bz2", "level": 1}, None, "C"),
    "lzma": ("<f4", {"id": "lzma", "format": 1, "check": -1, "preset": 1, "filters": None}, None, "C"),
    "gzip": ("<u2", {"id": "gzip", "level": 1}, None, "C"),
    "blosc": ("<u2", {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 2, "blocksize": 0}, None, "C"),
    "delta": ("<i4", {"id": "zlib", "level": 1}, [{"id": "delta", "dtype": "<i4", "astype": "<i2"}], "C"),
    "shuffled": ("<u2", None, [{"id": "shuffle", "elementsize": 2}, {"id": "crc32"}], "C"),
    "scaled": (
        "<f4",
        {"id": "zlib", "level": 1},
        [{"id": "fixedscaleoffset", "scale": 1.0, "offset": 3.0, "dtype": "<f4", "astype": "<u2"}],
        "F",
    ),
}
BOXES = [
    whole((7, 21, 18)),
    Box((0, 0, 0), (2, 8, 8)),
    Box((1, 3, 5), (6, 20, 17)),
    Box((6, 20, 17), (7, 21, 18)),
    Box((2, 8, 8), (4, 16, 16)),
    Box((3, 4, 4), (3, 9, 9)),
]


def check_boxes(folder: Path) -> None:
    reader, _ = opened(folder)
    array: Any = zarr.open_array(folder, mode="r")
    for box in BOXES:
        found = read(reader, box)
        assert found.dtype.isnative
        assert found.flags.writeable
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, np.asarray(array[box.slices]))


@pytest.mark.parametrize("sharded", ["start", "end", ""])
@pytest.mark.parametrize("name", V3)
def test_zarr_3_as_zarr_reads_it(name: str, sharded: str, tmp_path: Path) -> None:
    dtype, codecs = V3[name]
    outer = [4, 16, 16] if sharded else [2, 8, 8]
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [2, 8, 8],
            "codecs": codecs,
            "index_codecs": [BYTES, {"name": "crc32c"}],
            "index_location": sharded,
        },
    }
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [7, 21, 18],
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": outer}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": {"bool": True, "complex64": [1.0, 2.0], "float32": 3.5}.get(dtype, 3),
        "codecs": [sharding] if sharded else codecs,
    }
    (tmp_path / "zarr.json").write_text(json.dumps(document))
    array: Any = zarr.open_array(tmp_path, mode="r+")
    array[:4] = numbers((4, 21, 18), dtype)  # the rest is not stored: fill
    array[5, 9:12, :3] = numbers((3, 3), dtype)
    check_boxes(tmp_path)


@pytest.mark.parametrize("name", V2)
def test_zarr_2_as_zarr_reads_it(name: str, tmp_path: Path) -> None:
    dtype, compressor, filters, order = V2[name]
    document = {
        "zarr_format": 2, "shape": [7, 21, 18], "chunks": [2, 8, 8], "dtype": dtype, "fill_value": 7,
        "compressor": compressor, "filters": filters, "order": order, "dimension_separator": "/",
    }  # fmt: skip
    (tmp_path / ".zarray").write_text(json.dumps(document))
    array: Any = zarr.open_array(tmp_path, mode="r+")
    array[:5] = numbers((5, 21, 18), np.dtype(dtype).name)
    check_boxes(tmp_path)


@pytest.mark.parametrize("codec", [{"name": "vlen-utf8"}, {"name": "numcodecs.pickle"}, {"name": "zfpy"}])
def test_codecs_that_are_not_known_are_said(codec: dict[str, Any]) -> None:
    with pytest.raises(UnknownCodec, match=codec["name"].removeprefix("numcodecs.")):
        ChunkDecoder(meta_of((8, 8), "uint8", codec))


def test_shards_in_shards_and_odd_indices_are_said() -> None:
    with pytest.raises(UnknownCodec, match="sharding_indexed"):
        ChunkDecoder(meta_of((8, 8), "uint8", {"name": "sharding_indexed", "configuration": {}}))
    meta = ArrayMeta(**{**fields_of(meta_of((8, 8), "uint8")), "shards": (16, 16), "index_location": ""})
    with pytest.raises(UnknownCodec, match="index of shards"):
        Assembler(meta, "level 0", "s3://b/a")


# damage


def fields_of(meta: ArrayMeta) -> dict[str, Any]:
    return {name: getattr(meta, name) for name in meta.__slots__}


def meta_of(chunks: tuple[int, ...], dtype: str, *codecs: dict[str, Any]) -> ArrayMeta:
    return ArrayMeta(
        zarr_format=3, shape=chunks, dtype=np.dtype(dtype), chunks=chunks, shards=None, codec="", dimension_names=None,
        fill_value=0, separator="/", attributes={}, codecs=(BYTES, *codecs),
    )  # fmt: skip


def blosc_saying(count: int) -> bytes:
    data = bytearray(imagecodecs.blosc_encode(bytes(64), typesize=1))
    data[4:8] = count.to_bytes(4, "little")
    return bytes(data)


LONG = bytes(1 << 20)
BOMBS = {
    "zstd": imagecodecs.zstd_encode(LONG),
    "gzip": gzip.compress(LONG),
    "zlib": zlib.compress(LONG),
    "bz2": bz2.compress(LONG),
    "lzma": lzma.compress(LONG),
    "lz4": imagecodecs.lz4_encode(LONG, header=True),
    "blosc": blosc_saying(1 << 30),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_decodes_to_more_than_a_chunk_is_refused(name: str) -> None:
    decoder = ChunkDecoder(meta_of((8, 8), "uint8", {"name": name}))
    with pytest.raises(ValueError, match=r"decode to more than the 64 bytes of a chunk"):
        decoder.decode(BOMBS[name])


WHOLE = bytes(range(64))
GOOD = {
    "zstd": imagecodecs.zstd_encode(WHOLE),
    "gzip": gzip.compress(WHOLE),
    "zlib": zlib.compress(WHOLE),
    "bz2": bz2.compress(WHOLE),
    "lzma": lzma.compress(WHOLE),
    "lz4": imagecodecs.lz4_encode(WHOLE, header=True),
    "blosc": imagecodecs.blosc_encode(WHOLE, typesize=1),
    "crc32c": WHOLE + (0xFB6D36EB).to_bytes(4, "little"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_cut_short_or_changed_is_damage(name: str) -> None:
    decoder = ChunkDecoder(meta_of((8, 8), "uint8", {"name": name}))
    assert decoder.decode(GOOD[name]).tobytes() == WHOLE
    for cut in (0, 1, 3, len(GOOD[name]) // 2, len(GOOD[name]) - 1):
        with pytest.raises(ValueError, match=r"\w"):
            decoder.decode(GOOD[name][:cut])
    shorter = ChunkDecoder(meta_of((8, 9), "uint8", {"name": name}))
    with pytest.raises(ValueError, match=r"\w"):
        shorter.decode(GOOD[name])


def test_gzip_of_several_streams() -> None:
    data = gzip.compress(WHOLE[:20]) + gzip.compress(WHOLE[20:])
    decoder = ChunkDecoder(meta_of((8, 8), "uint8", {"name": "gzip"}))
    assert decoder.decode(data).tobytes() == WHOLE


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_no_bytes_are_anything_but_voxels_or_damage(name: str, data: st.DataObject) -> None:
    good = bytearray(GOOD[name])
    for _ in range(data.draw(st.integers(0, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    decoder = ChunkDecoder(meta_of((8, 8), "uint8", {"name": name}))
    with suppress(ValueError):
        assert decoder.decode(bytes(good)).shape == (8, 8)


# requests


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 chunks of 32 KiB in each of 4 shards, in C order, as builds write them."""
    folder = tmp_path_factory.mktemp("sharded")
    level = LevelInfo("0", (2048, 2048), (128, 128), (1024, 1024), (1.0, 1.0), (0.0, 0.0))
    create_level(folder, level, np.dtype("uint16"), ("y", "x"), Codec("none"), 3)
    data = np.random.default_rng(2).integers(0, 2**16, level.shape, dtype=np.uint16)
    writer = LevelWriter(folder, level, 3, write_context(1))
    writer.wait(writer.write(whole(level.shape), data))
    return folder / "0"


def tile(row: int, column: int) -> Box:
    return Box((128 * row, 128 * column), (128 * row + 128, 128 * column + 128))


def together(reader: RangeReader, boxes: Sequence[Box]) -> list[NDArray[Any]]:
    return [each.result() for each in begin(reader, boxes)]


def begin(reader: RangeReader, boxes: Sequence[Box]) -> list[Fetched]:
    with beginning_together():
        return [reader.start(box, ValueError) for box in boxes]


def test_two_requests_for_the_first_tile_of_a_shard_and_one_for_those_after(sharded: Path) -> None:
    reader, values = opened(sharded)
    read(reader, tile(1, 1))
    assert [asked.start < 0 for asked in values.asked] == [True, False]
    for place in [(7, 7), (0, 3), (5, 5)]:
        before = len(values.asked)
        read(reader, tile(*place))
        assert len(values.asked) == before + 1
    read(reader, tile(8, 0))
    assert len(values.asked) == 2 + 3 + 2


def test_sixteen_neighbours_take_five_requests(sharded: Path) -> None:
    reader, values = opened(sharded)
    array: Any = zarr.open_array(sharded, mode="r")
    boxes = [tile(row, column) for row in range(2, 6) for column in range(1, 5)]
    for box, data in zip(boxes, together(reader, boxes), strict=True):
        np.testing.assert_array_equal(data, array[box.slices])
    assert len(values.asked) <= 5
    one = len(values.asked)
    together(reader, boxes)
    assert len(values.asked) <= one + 4


def test_reads_that_are_waited_for_are_not_held_back(sharded: Path) -> None:
    reader, values = opened(sharded)
    with beginning_together():
        first = reader.start(tile(0, 0), ValueError)
        assert not values.asked
        with beginning_together():
            second = reader.start(tile(0, 1), ValueError)
        assert first.result().any()
        assert second.wait(20)
        third = reader.start(tile(0, 2), ValueError)
        third.cancel()
    with pytest.raises(CancelledError):
        third.result()
    assert len(values.asked) == 2


def test_a_box_of_many_chunks_is_read_in_few_requests(sharded: Path) -> None:
    reader, values = opened(sharded)
    box = Box((0, 0), (1024, 2048))
    array: Any = zarr.open_array(sharded, mode="r")
    np.testing.assert_array_equal(read(reader, box), array[box.slices])
    assert len(values.asked) == 2 + 2
    stored = 128 * 128 * 2 + 4  # with its checksum
    assert sum((asked.stop or 0) - asked.start for asked in values.asked if asked.start >= 0) == 128 * stored


def test_tiles_of_one_shard_ask_for_its_index_once(sharded: Path) -> None:
    """Whichever thread begins them."""
    reader, values = opened(sharded)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: read(reader, tile(n % 8, n // 8)), range(64)))
    assert sum(asked.start < 0 for asked in values.asked) == 1


def test_indices_that_were_asked_for_last_are_kept() -> None:
    cache = IndexCache(most_bytes=3 * 160)
    for number in range(4):
        cache.put(number, ShardIndex(np.zeros((10, 2), np.uint64), 0, None))
        cache.get(0)
    assert [cache.get(number) is not None for number in range(4)] == [True, False, True, True]
    cache.put("large", ShardIndex(np.zeros((1000, 2), np.uint64), 0, None))
    assert cache.get("large") is not None
    assert cache.get(3) is None


def test_a_shard_that_is_written_anew_is_looked_at_again(sharded: Path) -> None:
    reader, values = opened(sharded)
    expected = read(reader, tile(0, 0))
    values.etag = "two"
    np.testing.assert_array_equal(read(reader, tile(0, 0)), expected)
    starts = [asked.start for asked in values.asked]
    assert [start < 0 for start in starts] == [True, False, False, True, False]

    class Always(FakeValues):
        @property
        def etag(self) -> str:
            return str(len(self.asked))

        @etag.setter
        def etag(self, value: str) -> None:
            pass

    changing = Always(values.values)
    with pytest.raises(
        SourceError, match=r"level 0 at s3://bucket/array: chunk 0/0 .* changed again and again"
    ):
        read(reader_of(changing, read_array_meta(place_of(sharded))), tile(0, 0))


# what is not there, and what is wrong


def test_values_that_are_not_there_are_fill_and_counted(sharded: Path) -> None:
    reader, values = opened(sharded)
    del values.values["c/0/0"]
    assert not together(reader, [tile(0, 0), tile(1, 1)])[0].any()
    assert values.fills == 2
    assert read(reader, tile(8, 8)).any()


def test_an_array_that_is_gone_is_not_black(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path, shape=(64, 8), chunks=(1, 8), dtype="uint16")
    array[:] = 1
    reader, values = opened(tmp_path)
    rows = [Box((row, 0), (row + 1, 8)) for row in range(64)]
    values.values.clear()
    with pytest.raises(SourceError, match="level 0 at s3://bucket/array is no longer there"):
        together(reader, rows)
    # where it still is, nothing is wrong with chunks that are not stored
    reader, values = opened(tmp_path)
    values.values = {"zarr.json": values.values["zarr.json"]}
    assert not np.concatenate(together(reader, rows)).any()
    assert sum(asked.key == "zarr.json" for asked in values.asked) == 3


def test_errors_name_array_chunk_and_object(sharded: Path) -> None:
    reader, values = opened(sharded)
    values.values["c/0/0"] = values.values["c/0/0"][:-2]
    with pytest.raises(
        SourceError, match=r"level 0 at s3://bucket/array: chunk 3/5 .*index is damaged.*c/0/0\)"
    ) as raised:
        read(reader, tile(3, 5))
    assert raised.value.details == {
        "array": "s3://bucket/array",
        "chunk": "3/5",
        "file": "s3://bucket/array/c/0/0",
    }
    assert read(reader, tile(8, 8)).any()


def test_a_chunk_of_bytes_without_end_is_not_asked_for(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path, shape=(8, 8), chunks=(8, 8), dtype="uint8")
    array[:] = 1
    reader, values = opened(tmp_path)
    values.values["c/0/0"] = bytes(10 << 20)
    with pytest.raises(SourceError, match="10485760 bytes are stored for it"):
        read(reader, whole((8, 8)))
    (asked,) = values.asked
    assert asked.stop is not None
    assert asked.stop < 1 << 20


def test_an_entry_of_an_index_without_end_is_not_asked_for(tmp_path: Path) -> None:
    """An index whose checksum is right may still say anything."""
    array = zarr.create_array(tmp_path, shape=(16, 16), chunks=(8, 8), shards=(16, 16), dtype="uint8")
    array[:] = 1
    reader, values = opened(tmp_path)
    data = values.values["c/0/0"]
    import google_crc32c

    index = np.frombuffer(data[-68:-4], "<u8").copy()
    index[:2] = 0, 20 << 20
    body = index.tobytes()
    values.values["c/0/0"] = bytes(20 << 20) + body + google_crc32c.value(body).to_bytes(4, "little")
    with pytest.raises(SourceError, match="20971520 bytes are stored for it"):
        read(reader, Box((0, 0), (8, 8)))
    assert len(values.asked) == 1


# cancelling


def never(asked: Asked) -> bool:
    return True


def test_requests_that_nobody_waits_for_end(sharded: Path) -> None:
    reader, values = opened(sharded)
    values.hold = never
    begun = begin(reader, [tile(0, n) for n in range(4)])
    values.wait_for(lambda v: v.held == 1)  # the index, for all of them
    for each in begun[:3]:
        each.cancel()
        with pytest.raises(CancelledError):
            each.result()
    assert not begun[3].wait(0.01)
    assert values.held == 1
    begun[3].cancel()
    values.wait_for(lambda v: v.held == 0)
    assert begun[3].wait(0)


def test_a_request_for_several_tiles_goes_on_until_none_is_wanted(sharded: Path) -> None:
    reader, values = opened(sharded)
    read(reader, tile(7, 7))
    values.hold = never
    begun = begin(reader, [tile(0, n) for n in range(4)])
    values.wait_for(lambda v: v.held == 1)
    begun[0].cancel()
    begun[2].cancel()
    begun[2].cancel()
    # another one that is held tells when the loop has heard of these
    other = reader.start(tile(5, 5), ValueError)
    values.wait_for(lambda v: v.held == 2)
    begun[1].cancel()
    begun[3].cancel()
    values.wait_for(lambda v: v.held == 1)
    other.cancel()
    values.wait_for(lambda v: v.held == 0)


def test_what_is_wanted_again_while_it_ends_is_asked_for_again(sharded: Path) -> None:
    reader, values = opened(sharded)
    for _ in range(20):
        values.hold = never
        given_up = reader.start(tile(0, 0), ValueError)
        values.wait_for(lambda v: v.held == 1)
        values.hold = lambda asked: False
        given_up.cancel()
        assert reader.start(tile(0, 0), ValueError).result().any()
        reader, values = opened(sharded)


def test_one_that_waits_is_woken_by_another_that_cancels(sharded: Path) -> None:
    reader, values = opened(sharded)
    values.hold = never
    begun = reader.start(tile(0, 0), ValueError)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(begun.result)
        values.wait_for(lambda v: v.held == 1)
        begun.cancel()
        with pytest.raises(CancelledError):
            waiting.result(timeout=20)
    assert ChunkPlace("c/0/0", 0, (0, 0)) in begun.places
