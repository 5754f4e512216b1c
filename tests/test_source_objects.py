"""Sources that are objects, and what is the same for all sources: axes, order, measures."""

from __future__ import annotations

import itertools
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import tensorstore as ts
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from octree.pyramid.axes import guess_axes, name_axes, parse_axes
from octree.pyramid.errors import SourceError, UsageError
from octree.pyramid.model import AXIS_ORDER, Box
from octree.pyramid.sources.source import ArraySource, open_source


def letters(source: ArraySource) -> str:
    return "".join(axis.name for axis in source.axes)


def whole(source: ArraySource) -> np.ndarray:
    return source.read(Box((0,) * len(source.shape), source.shape))


PIXELS = np.random.default_rng(0).integers(0, 60000, (7, 33, 47)).astype("uint16")


def as_tensorstore(pixels: np.ndarray) -> Any:
    return ts.array(pixels)


NUMBERS = itertools.count()


def as_h5py(pixels: np.ndarray) -> Any:
    file = h5py.File(f"memory{next(NUMBERS)}.h5", "w", driver="core", backing_store=False)
    return file.create_dataset("d", data=pixels, chunks=(2, 16, 16))


class OnlyTheProtocol:
    """shape, dtype and slicing, nothing else."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.shape, self.dtype, self._pixels = pixels.shape, str(pixels.dtype), pixels

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        return self._pixels[key]


MAKERS: dict[str, Any] = {
    "numpy": lambda p: p,
    "numpy, big endian": lambda p: p.astype(">u2"),
    "numpy, not contiguous": lambda p: np.asfortranarray(p)[:, ::1],
    "dask": lambda p: da.from_array(p, chunks=(2, 16, 20)),
    "zarr": lambda p: zarr.array(p, chunks=(2, 16, 16)),
    "xarray": lambda p: xr.DataArray(p, dims=("z", "y", "x")),
    "xarray of dask": lambda p: xr.DataArray(da.from_array(p, chunks=(2, 16, 20)), dims=("z", "y", "x")),
    "tensorstore": as_tensorstore,
    "h5py": as_h5py,
    "protocol": OnlyTheProtocol,
}


@pytest.mark.parametrize("maker", MAKERS)
def test_every_kind_of_object(maker: str) -> None:
    with open_source(MAKERS[maker](PIXELS)) as source:
        assert letters(source) == "zyx"
        assert source.dtype == np.uint16
        assert source.nbytes == PIXELS.nbytes
        rng = np.random.default_rng(5)
        for _ in range(10):
            start = [int(rng.integers(0, n)) for n in source.shape]
            stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, source.shape, strict=True)]
            box = Box(tuple(start), tuple(stop))
            part = source.read(box)
            assert isinstance(part, np.ndarray)
            assert part.dtype == source.dtype
            np.testing.assert_array_equal(part, PIXELS[box.slices])
            assert source.transient_bytes(box) >= 0
        assert source.fingerprint() == open_source(MAKERS[maker](PIXELS)).fingerprint()


def test_chunks_are_the_cheap_block() -> None:
    assert open_source(da.from_array(PIXELS, chunks=(2, 16, 20))).read_shape == (2, 16, 20)
    assert open_source(zarr.array(PIXELS, chunks=(2, 16, 16))).read_shape == (2, 16, 16)
    assert open_source(zarr.array(PIXELS, chunks=(100, 100, 100))).read_shape == PIXELS.shape


def test_dask_is_computed_by_the_synchronous_scheduler() -> None:
    asked: list[Any] = []

    def scheduler(graph: Any, keys: Any, **options: Any) -> Any:
        asked.append(options)
        return dask.get(graph, keys, **options)

    with dask.config.set(scheduler=scheduler):
        for lazy in (da.from_array(PIXELS), xr.DataArray(da.from_array(PIXELS), dims=("z", "y", "x"))):
            np.testing.assert_array_equal(whole(open_source(lazy)), PIXELS)
    assert asked == []


@pytest.mark.parametrize("maker", ["zarr", "tensorstore", "h5py"])
def test_names_that_objects_give_their_axes(maker: str) -> None:
    array: Any
    if maker == "zarr":
        store = zarr.storage.MemoryStore()
        array = zarr.create_array(store, shape=PIXELS.shape, dtype="u2", dimension_names=("time", "y", "x"))
        array[:] = PIXELS
    elif maker == "tensorstore":
        array = as_tensorstore(PIXELS)[ts.d[:].label["time", "y", "x"]]
    else:
        array = as_h5py(PIXELS)
        array.dims[0].label, array.dims[1].label, array.dims[2].label = "time", "y", "x"
    source = open_source(array)
    assert letters(source) == "tyx"
    np.testing.assert_array_equal(whole(source), PIXELS)


def test_a_tensorstore_may_begin_anywhere() -> None:
    moved = as_tensorstore(PIXELS)[ts.d[:].translate_by[5, -3, 0]]
    np.testing.assert_array_equal(whole(open_source(moved)), PIXELS)


def test_bools_of_any_byte_are_0_or_1() -> None:
    odd = (PIXELS[0] % 256).astype("u1").view(bool)
    source = open_source(odd)
    bits = whole(source).view(np.uint8)
    np.testing.assert_array_equal(bits, (PIXELS[0] % 256 != 0).astype("u1"))
    assert source.transient_bytes(Box((0, 0), (2, 3))) == 6


def test_numpy_is_not_copied() -> None:
    assert np.shares_memory(whole(open_source(PIXELS)), PIXELS)
    assert open_source(PIXELS).transient_bytes(Box((0, 0, 0), (1, 1, 1))) == 0


def test_fingerprint_of_other_values_is_another() -> None:
    other = PIXELS.copy()
    other[0, 0, 0] += 1
    assert open_source(other).fingerprint() != open_source(PIXELS).fingerprint()


def test_xarray_names_and_coordinates_are_kept() -> None:
    array = xr.DataArray(
        np.zeros((4, 2, 5, 6)),
        dims=("frame", "band", "row", "col"),
        coords={
            "frame": [0.0, 1.5, 3.0, 4.5],
            "row": ("row", 10 + 0.5 * np.arange(5), {"units": "um"}),
            "col": ("col", [0.0, 1.0, 4.0, 9.0, 16.0, 25.0]),
        },
        name="stack",
    )
    source = open_source(array)
    assert letters(source) == "tcyx"
    assert source.voxel_size == (1.5, 1.0, 0.5, 1.0), "uneven coordinates are no voxel size"
    assert source.translation == (0.0, 0.0, 10.0, 0.0)
    assert source.axes[2].unit == "micrometer"
    assert source.name == "stack"
    assert not source.voxel_size_known


@pytest.mark.parametrize("source", [[[1, 2], [3, 4]], 5, None, object(), {"a": 1}])
def test_what_is_no_array_is_a_usage_error(source: Any) -> None:
    with pytest.raises(UsageError, match="shape, dtype and slicing"):
        open_source(source)


def test_masked_arrays_are_nan_or_refused() -> None:
    masked = np.ma.masked_equal(np.arange(6.0).reshape(2, 3), 4)
    np.testing.assert_array_equal(whole(open_source(masked)), [[0, 1, 2], [3, np.nan, 5]])
    with pytest.raises(UsageError, match="masked"):
        open_source(np.ma.masked_equal(np.arange(6).reshape(2, 3), 4))
    assert open_source(np.ma.array(np.arange(6).reshape(2, 3))).shape == (2, 3)


def test_a_dataset_of_several_images_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="several images"):
        open_source(xr.Dataset({"a": (("y", "x"), np.zeros((2, 2)))}))


def test_unknown_shapes_and_engines_are_usage_errors() -> None:
    lazy = da.from_array(PIXELS)
    with pytest.raises(UsageError, match="not known") as caught:
        open_source(lazy[lazy[:, 0, 0] > 5])
    assert "compute_chunk_sizes" in str(caught.value.hint)
    with pytest.raises(UsageError, match="no engine"):
        open_source(PIXELS, engine="zar")


def test_an_object_that_cannot_be_read_is_a_source_error() -> None:
    class Failing(OnlyTheProtocol):
        def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
            raise KeyError("chunk 7 is gone")

    with pytest.raises(SourceError, match="chunk 7 is gone"):
        open_source(Failing(PIXELS)).read(Box((0, 0, 0), (1, 5, 5)))


def test_slicing_that_gives_another_shape_is_an_error() -> None:
    class Squeezing(OnlyTheProtocol):
        def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
            return super().__getitem__(key).squeeze()

    with pytest.raises(SourceError, match="gave shape"):
        open_source(Squeezing(PIXELS)).read(Box((0, 0, 0), (1, 5, 5)))


# --- axes ---


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((5, 6), "uint8", "yx"),
        ((3, 4), "uint8", "yx"),
        ((7, 5, 6), "uint8", "zyx"),
        ((7, 5, 3), "uint8", "yxs"),
        ((7, 5, 4), "uint16", "yxs"),
        ((7, 5, 3), "float32", "zyx"),
        ((3, 7, 5), "uint8", "zyx"),
        ((7, 5, 2), "uint8", "zyx"),
        ((2, 7, 5, 6), "uint8", "czyx"),
        ((2, 7, 5, 3), "uint8", "zyxs"),
        ((2, 2, 7, 5, 6), "uint8", "tczyx"),
        ((2, 2, 7, 5, 4), "uint8", "tzyxs"),
    ],
)
def test_guess_by_rank(shape: tuple[int, ...], dtype: str, expected: str) -> None:
    assert guess_axes(shape, np.dtype(dtype)) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["T", "C", "Z", "Y", "X"], "tczyx"),
        (["time", "Channel", "y", "x"], "tcyx"),
        (["I", "Y", "X"], "zyx"),
        (["Q", "Q", "Y", "X"], "czyx"),
        (["Q", "Q", "Y", "X", "S"], "tzyxs"),
        (["dim_0", "z", "y", "x"], "czyx"),
        (["a", "b", "c2", "y", "x"], "tczyx"),
        (["a", "b", "c2", "d", "y", "x"], None),
        (["lat", "lon"], "yx"),
        (["x", "x"], None),
        (["a", "b"], None),
        (["y", "x", "sample"], "yxs"),
    ],
)
def test_names_of_axes(names: list[str], expected: str | None) -> None:
    assert name_axes(names) == expected


@pytest.mark.parametrize("text", ["zyx", "ZYX", "z,y,x", "z y x", " z, y, x ", ("z", "Y", "x"), list("zyx")])
def test_ways_to_write_axes(text: Any) -> None:
    assert parse_axes(text, (1, 2, 3)) == "zyx"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("qyx", "no axis is called 'q'"),
        ("yyx", "y given twice"),
        ("yx", "names 2 axes"),
        ("tcz", "both y and x"),
        ("1yx", "'1'"),
    ],
)
def test_wrong_axes_say_why(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_axes(text, (1, 2, 3))
    assert "--axes" in str(caught.value.hint)


def declarations() -> list[str]:
    """Every order of every set of axes with y and x, up to 4 letters, and some of 5 and 6."""
    sets = [c for n in range(3) for c in itertools.combinations("tczs", n)]
    orders = ["".join(p) for extra in sets for p in itertools.permutations((*extra, "y", "x"))]
    return [*orders, "tczyx", "xyzct", "yxczt", "tzyxs", "tczyxs", "syxzct"]


@pytest.mark.parametrize("axes", declarations())
def test_any_declared_order(axes: str) -> None:
    lengths = {"t": 2, "c": 3, "z": 4, "y": 5, "x": 6, "s": 3}
    pixels = np.arange(np.prod([lengths[a] for a in axes])).reshape([lengths[a] for a in axes])
    source = open_source(pixels, axes=axes)
    # the same by one transposition to t c s z y x, then c and s together
    full = sorted(range(len(axes)), key=lambda i: "tcszyx".index(axes[i]))
    expected = pixels.transpose(full)
    if "c" in axes and "s" in axes:
        place = sorted(axes, key="tcszyx".index).index("c")
        expected = expected.reshape(*expected.shape[:place], -1, *expected.shape[place + 2 :])
    assert letters(source) == "".join(a for a in AXIS_ORDER if a in axes.replace("s", "c"))
    assert source.rgb == ("s" in axes and "c" not in axes)
    np.testing.assert_array_equal(whole(source), expected)
    box = Box(tuple(n // 3 for n in source.shape), source.shape)
    np.testing.assert_array_equal(source.read(box), expected[box.slices])
    assert len(source.read_shape) == len(source.shape)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_channels_of_samples_any_box(data: st.DataObject) -> None:
    axes = "".join(data.draw(st.permutations("csyx")))
    lengths = {"c": data.draw(st.integers(1, 3)), "s": data.draw(st.integers(1, 4)), "y": 3, "x": 4}
    pixels = np.arange(np.prod(list(lengths.values()))).reshape([lengths[a] for a in axes])
    source = open_source(pixels, axes=axes)
    expected = pixels.transpose([axes.index(a) for a in "csyx"]).reshape(-1, 3, 4)
    assert source.rgb == (lengths["c"] == 1 and lengths["s"] in (3, 4))
    start = data.draw(st.integers(0, len(expected) - 1))
    stop = data.draw(st.integers(start + 1, len(expected)))
    np.testing.assert_array_equal(source.read(Box((start, 1, 0), (stop, 3, 4))), expected[start:stop, 1:])


def test_samples_that_are_no_colour_are_channels() -> None:
    for count in (1, 2, 5):
        source = open_source(np.zeros((4, 5, count), np.uint8), axes="yxs")
        assert letters(source) == "cyx"
        assert not source.rgb
        assert source.channels == ()


def test_voxel_sizes_and_unit_of_the_user() -> None:
    source = open_source(PIXELS, voxel_size={"z": 2, "y": 0.5, "x": 0.25}, unit="µm")
    assert source.voxel_size == (2.0, 0.5, 0.25)
    assert [axis.unit for axis in source.axes] == ["micrometer"] * 3
    assert source.voxel_size_known
    assert not open_source(PIXELS, voxel_size={"y": 0.5, "x": 0.25}).voxel_size_known
    assert open_source(PIXELS).voxel_size == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("dtype", ["U3", "O", "datetime64[s]", "timedelta64[s]", "S4", [("a", "u1")]])
def test_what_is_no_number_is_refused(dtype: Any) -> None:
    with pytest.raises(SourceError, match=r"structured|dtype") as caught:
        open_source(np.zeros((3, 3), dtype))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("shape", [(), (5,), (0, 5), (5, 0), (1,) * 6])
def test_shapes_that_are_no_image_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SourceError):
        open_source(np.zeros(shape))


def test_six_declared_axes_with_samples_are_an_image() -> None:
    assert open_source(np.zeros((2, 3, 4, 5, 6, 3)), axes="tczyxs").shape == (2, 9, 4, 5, 6)


def test_an_object_without_chunks_may_be_larger_than_memory() -> None:
    class Endless:
        shape, dtype = (300_000, 300_000), np.dtype("u2")

        def __getitem__(self, slices: tuple[slice, ...]) -> Any:
            return np.zeros([s.stop - s.start for s in slices], "u2")

    with open_source(Endless()) as source:
        assert source.transient_bytes(Box((0, 0), (2048, 2048))) <= 2 * 2048 * 2048 * 2
    swapped = np.zeros((3000, 3000), ">u2")
    with open_source(swapped) as source:
        assert source.transient_bytes(Box((0, 0), (20, 20))) <= 2 * 20 * 20 * 2
