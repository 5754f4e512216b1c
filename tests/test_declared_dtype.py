"""What a source declares is what it returns, or it is an error: nothing is cast without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from build_tools import image, octree, octree_json

from octree.pyramid import build, open_source
from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box
from octree.pyramid.sources.protocol import RawArray
from octree.pyramid.sources.source import ArraySource
from octree.render.frames import render

PIXELS = image((300, 400))
MASK = np.zeros(PIXELS.shape, bool)
MASK[7, 9] = True


class Liar:
    """Declares uint16, and returns what it likes."""

    def __init__(self, lie: Callable[[Any], Any], dtype: Any = np.uint16) -> None:
        self.shape, self.dtype, self.ndim = PIXELS.shape, np.dtype(dtype), 2
        self._lie = lie

    def __getitem__(self, place: Any) -> Any:
        return self._lie(np.asarray(PIXELS[place]))


LIES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "float64": (lambda part: part + 70000.0, "float64"),
    "float32 with NaN": (lambda part: np.where(part > 0, np.nan, part).astype("f4"), "float32"),
    "wider": (lambda part: part.astype(np.uint32), "uint32"),
    "signed": (lambda part: part.astype(np.int16), "int16"),
    "bool": (lambda part: part > 10, "bool"),
    "object": (lambda part: part.astype(object), "object"),
    "list": (lambda part: part.tolist(), "int64"),
    "masked": (lambda part: np.ma.masked_greater(part, 0), "masked"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_build_of_another_dtype_than_declared_fails(lie: str, tmp_path: Path) -> None:
    returned, came = LIES[lie]
    with pytest.raises(SourceError, match=came) as caught:
        build(Liar(returned), tmp_path / "out.zarr")
    assert "uint16" in f"{caught.value}"
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.usefixtures("gl_info")
@pytest.mark.parametrize("lie", LIES)
def test_a_tile_of_another_dtype_than_declared_has_failed(lie: str) -> None:
    returned, came = LIES[lie]
    result = render([Liar(returned)], ["fit"], size=(80, 60), options={"clim": "0,100"})
    assert result.report.frames[0].coverage.failed == 1
    assert came in result.report.failures[0]["error"]
    assert "uint16" in result.report.failures[0]["error"]


def test_what_may_be_converted_without_loss_still_is(tmp_path: Path) -> None:
    """The other byte order is the same type; masked floats are NaN; a mask that hides nothing is none."""
    swapped = Liar(lambda part: part.astype(">u2"))
    with open_source(swapped) as source:
        assert (source.read(Box((0, 0), PIXELS.shape)) == PIXELS).all()
    nothing = Liar(lambda part: np.ma.MaskedArray(part, mask=np.zeros(part.shape, bool)))
    with open_source(nothing) as source:
        assert (source.read(Box((0, 0), PIXELS.shape)) == PIXELS).all()
    masked = Liar(lambda part: np.ma.masked_equal(part.astype("f4"), 7), np.float32)
    with open_source(masked) as source:
        assert (np.isnan(source.read(Box((0, 0), PIXELS.shape))) == (PIXELS == 7)).all()


def test_holes_are_listed_with_what_came(tmp_path: Path) -> None:
    result = build(Liar(lambda part: part * 1.0), tmp_path / "out.zarr", on_error="fill")
    assert result.holes
    assert "float64" in result.holes[0].error


def _npy(folder: Path) -> Path:
    np.save(folder / "a.npy", PIXELS)
    return folder / "a.npy"


def _zarr(folder: Path) -> Path:
    zarr.save_array(folder / "a.zarr", PIXELS)
    return folder / "a.zarr"


def _hdf5(folder: Path) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file["a"] = PIXELS
    return folder / "a.h5"


def _tiff(folder: Path) -> Path:
    import tifffile

    tifffile.imwrite(folder / "a.tif", PIXELS, tile=(64, 64))
    return folder / "a.tif"


def _png(folder: Path) -> Path:
    from PIL import Image

    Image.fromarray(PIXELS.astype(np.uint8)).save(folder / "a.png")
    return folder / "a.png"


@pytest.mark.parametrize("make", [_npy, _zarr, _hdf5, _tiff, _png])
def test_every_kind_of_source_is_held_to_it(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of any format whose values come in another type than it said: nothing is cast on the way."""
    with open_source(make(tmp_path)) as source:
        raw: RawArray = source._raw
        monkeypatch.setattr(
            type(raw), "read", lambda self, box: np.zeros(box.shape, np.float64), raising=True
        )
        with pytest.raises(SourceError, match=f"declares {source.dtype}.*float64"):
            source.read(Box((0, 0), (5, 5)))
    assert isinstance(source, ArraySource)


@pytest.mark.usefixtures("gl_info")
def test_a_level_of_another_dtype_is_no_picture(tmp_path: Path) -> None:
    """Through the command: level 1 holds floats, level 0 says int32."""
    pixels = image((600, 600)).astype(np.int32)
    build(pixels, tmp_path / "a.zarr")
    level = zarr.open_array(tmp_path / "a.zarr" / "1", mode="r")[:]
    zarr.create_array(
        tmp_path / "a.zarr" / "1", data=level.astype(np.float64), chunks=(256, 256), overwrite=True
    )
    run = ["render", tmp_path / "a.zarr", "--camera", "x=300,y=300,zoom=0.5", "--clim", "0,100"]
    document = octree_json(*run, code=1)
    assert document["frames"][0]["coverage"]["failed"] == 1
    assert "float64" in document["failures"][0]["error"]
    assert octree("verify", tmp_path / "a.zarr").returncode == 1
