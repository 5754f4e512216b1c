"""Every kind of damage is planted in a good pyramid, and found; a good pyramid has no findings."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from build_tools import image, octree

from octree.cli.app import run
from octree.pyramid import build
from octree.pyramid.errors import SourceError, SourceNotFound
from octree.pyramid.store.named import place_of
from octree.pyramid.store.zarr_meta import read_array_meta
from octree.pyramid.verify.chunk_lengths import wrong_length
from octree.pyramid.verify.files import Stored
from octree.pyramid.verify.run import VerifyResult, verify
from octree.pyramid.verify.structure import integer_factor


def picture() -> np.ndarray:
    """Noise, with one corner of zeros: chunks of it are not stored."""
    pixels = np.random.default_rng(0).integers(1, 60000, (700, 900)).astype(np.uint16)
    pixels[:300, :300] = 0
    return pixels


@pytest.fixture(scope="module", params=["0.5", "0.4", "0.5 without shards"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    dest = tmp_path_factory.mktemp("made") / "good.zarr"
    version = request.param[:3]
    shard = 0 if "without" in request.param else 2
    build(
        picture(),
        dest,
        tile=64,
        shard=shard,
        ome_version=version,
        voxel_size={"y": 0.5, "x": 0.5},
        unit="um",
        workers=1,
    )
    return dest


@pytest.fixture
def good(made: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "p.zarr"
    shutil.copytree(made, copy)
    return copy


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    dest = tmp_path / "s.zarr"
    build(picture(), dest, tile=64, shard=2, workers=1)
    return dest


def kinds(result: VerifyResult) -> set[tuple[str, int | None]]:
    return {(finding.kind, finding.level) for finding in result.findings}


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def edit_image(group: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the OME attributes, wherever this version keeps them."""
    if (group / "zarr.json").exists():
        edit(group / "zarr.json", lambda node: change(node["attributes"]["ome"]))
    else:
        edit(group / ".zattrs", change)


def chunk_files(level: Path) -> list[Path]:
    return sorted(
        p for p in level.rglob("*") if p.is_file() and p.name not in ("zarr.json", ".zarray", ".zattrs")
    )


def open_level(path: Path) -> Any:
    return zarr.open_array(path, mode="r+")


@pytest.mark.parametrize("deep", [False, True])
def test_what_octree_builds_is_whole(good: Path, deep: bool) -> None:
    result = verify(good, deep=deep)
    assert result.findings == ()
    assert result.ok
    assert result.levels == 5
    assert result.notes == ()
    assert result.compared == result.total or not deep
    assert result.compared > 10


@pytest.mark.parametrize("method", ["mode", "median", "min", "max", "nearest"])
def test_every_method_is_recomputed(tmp_path: Path, method: str) -> None:
    build(picture(), tmp_path / "p.zarr", tile=64, shard=2, method=method, workers=1)
    assert verify(tmp_path / "p.zarr", deep=True).findings == ()
    other = "max" if method != "max" else "min"
    edit_image(tmp_path / "p.zarr", lambda ome: ome["multiscales"][0].update(type=other))
    assert ("reduction", 1) in kinds(verify(tmp_path / "p.zarr"))


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 1), {}),
        ((3, 300, 5), {"axes": "cyx"}),
        ((70, 90, 110), {"axes": "zyx", "voxel_size": {"z": 2.0, "y": 1.0, "x": 1.0}}),
        ((2, 3, 4, 90, 70), {}),
        ((130, 150, 3), {"axes": "yxs"}),
        ((200, 150), {"labels": True}),
    ],
)
def test_shapes_of_all_kinds_are_whole(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    build(pixels, tmp_path / "p.zarr", tile=32, shard=2, workers=1, **options)
    assert verify(tmp_path / "p.zarr", deep=True).findings == ()


@pytest.mark.parametrize("nodata", ["NaN", "x", 10**9, -1, [1], {}, None])
def test_odd_nodata_in_the_metadata_does_no_harm(tmp_path: Path, nodata: Any) -> None:
    build(picture()[:100, :100] // 256, tmp_path / "p.zarr", tile=32, workers=1)
    edit_image(tmp_path / "p.zarr", lambda ome: ome["multiscales"][0]["metadata"].update(nodata=nodata))
    assert verify(tmp_path / "p.zarr", deep=True).ok


def test_nodata_is_taken_from_the_metadata(tmp_path: Path) -> None:
    for number, nodata in enumerate((7, 7.0)):
        pixels = np.random.default_rng(0).integers(0, 10, (100, 90)).astype(np.uint8)
        build(pixels, tmp_path / f"{number}.zarr", tile=32, nodata=nodata, workers=1)
        assert verify(tmp_path / f"{number}.zarr", deep=True).ok
    edit_image(tmp_path / "0.zarr", lambda ome: ome["multiscales"][0]["metadata"].update(nodata=None))
    assert ("reduction", 1) in kinds(verify(tmp_path / "0.zarr", deep=True))


def test_complex_nodata_is_taken_from_the_metadata(tmp_path: Path) -> None:
    parts = picture()[:100, :100] % 3
    build(parts + 1j, tmp_path / "p.zarr", tile=32, nodata="1+1j", workers=1)
    result = verify(tmp_path / "p.zarr", deep=True)
    assert result.ok, result.findings


def test_nan_and_infinity_are_no_damage(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).normal(size=(200, 150)).astype(np.float32)
    pixels[10:50, 10:50], pixels[60:80] = np.nan, np.inf
    build(pixels, tmp_path / "p.zarr", tile=32, workers=1)
    assert verify(tmp_path / "p.zarr", deep=True).findings == ()


@pytest.mark.parametrize("level", [0, 1, 4])
def test_missing_chunk(good: Path, level: int) -> None:
    files = chunk_files(good / str(level))
    gone = files[len(files) // 2]
    gone.unlink()
    result = verify(good)
    assert ("missing-chunk", level) in kinds(result)
    first = next(f for f in result.findings if f.kind == "missing-chunk")
    assert gone.relative_to(good).as_posix() in first.where


def test_chunk_missing_inside_a_shard(sharded: Path) -> None:
    array = open_level(sharded / "0")
    array[512:576, 640:704] = 0  # a whole chunk of fill value: zarr leaves it out of the shard
    result = verify(sharded, deep=True)
    assert ("missing-chunk", 0) in kinds(result)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_torn_shard(sharded: Path, keep: float) -> None:
    file = chunk_files(sharded / "0")[5]
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    result = verify(sharded, sample=0)
    assert ("torn-shard", 0) in kinds(result)
    assert file.relative_to(sharded / "0").as_posix() in {f.where for f in result.findings}


def test_shard_with_a_hole_in_its_middle(sharded: Path) -> None:
    file = max(chunk_files(sharded / "0"), key=lambda f: f.stat().st_size)
    content = file.read_bytes()
    file.write_bytes(content[:1000] + content[5000:])  # the index at the end is whole
    found = [f for f in verify(sharded, sample=0).findings if f.kind == "torn-shard"]
    assert "beyond the end" in found[0].what


def test_shard_whose_index_points_elsewhere(sharded: Path) -> None:
    file = max(chunk_files(sharded / "0"), key=lambda f: f.stat().st_size)
    content = bytearray(file.read_bytes())
    content[-20] ^= 1  # the last chunk's length, by one: still inside the file
    file.write_bytes(content)
    found = [f for f in verify(sharded, sample=0).findings if f.kind == "torn-shard"]
    assert "index is damaged" in found[0].what


def test_damaged_chunk_is_found_by_reading(good: Path) -> None:
    file = chunk_files(good / "1")[0]
    content = bytearray(file.read_bytes())
    content[: len(content) // 2] = b"\x5a" * (len(content) // 2)
    file.write_bytes(content)
    result = verify(good, deep=True)
    assert ("unreadable", 1) in kinds(result)


@pytest.mark.parametrize("codec", ["zstd:1", "zstd:19", "none", "blosc-lz4", "blosc-zstd:5"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_chunk_cut_short_is_found_without_reading_it(tmp_path: Path, codec: str, version: str) -> None:
    folder = tmp_path / "p.zarr"
    build(picture()[200:], folder, tile=64, shard=0, codec=codec, ome_version=version, workers=1)
    assert verify(folder, sample=0).ok
    for change in (lambda c: c[:-1], lambda c: c[: len(c) // 2], lambda c: c[:3], lambda c: c + b"x"):
        file = max(chunk_files(folder / "0"), key=lambda f: f.stat().st_size)
        content = file.read_bytes()
        file.write_bytes(change(content))
        assert ("torn-chunk", 0) in kinds(verify(folder, sample=0))
        file.write_bytes(content)


def test_frames_of_large_and_constant_chunks(tmp_path: Path) -> None:
    """Several blocks in a frame, and blocks that repeat one byte."""
    for number, data in enumerate(
        (
            np.full((512, 512), 7, np.uint16),
            np.random.default_rng(0).integers(0, 9, (512, 512)).astype(np.uint16),
        )
    ):
        for zarr_format in (2, 3):
            path = tmp_path / f"{number}-{zarr_format}"
            array = zarr.create_array(path, data=data, chunks=(512, 512), zarr_format=zarr_format)
            assert (
                wrong_length(
                    functools.partial(chunk_files(path)[0].open, "rb"),
                    chunk_files(path)[0].stat().st_size,
                    read_array_meta(place_of(path)),
                )
                is None
            )
            assert array.shape == (512, 512)
            assert read_array_meta(place_of(path)).frame == "zstd"


def test_frames_with_more_around_them_are_not_judged(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "a",
        data=np.ones((64, 64)),
        chunks=(64, 64),
        compressors=[zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()],
    )
    file = chunk_files(tmp_path / "a")[0]
    assert (
        wrong_length(
            functools.partial(file.open, "rb"), file.stat().st_size, read_array_meta(place_of(tmp_path / "a"))
        )
        is None
    )


def test_empty_chunk_file(good: Path) -> None:
    chunk_files(good / "0")[-1].write_bytes(b"")
    assert kinds(verify(good, sample=0)) & {("torn-chunk", 0), ("torn-shard", 0)}


@pytest.mark.parametrize("level", [1, 2, 4])
def test_level_that_is_not_the_reduction(good: Path, level: int) -> None:
    array = open_level(good / str(level))
    array[-1, -1] = int(array[-1, -1]) ^ 1
    result = verify(good)
    found = next(f for f in result.findings if f.kind == "reduction")
    assert found.level == level
    assert "1 pixels are not the mean" in found.what


def test_one_wrong_pixel_anywhere_needs_deep(good: Path) -> None:
    array = open_level(good / "1")
    array[250, 200] = int(array[250, 200]) + 1
    assert ("reduction", 1) in kinds(verify(good, deep=True))


def test_metadata_of_levels(good: Path) -> None:
    def scaled(ome: dict[str, Any]) -> None:
        ome["multiscales"][0]["datasets"][2]["coordinateTransformations"][0]["scale"] = [2.5, 2.0]

    edit_image(good, scaled)
    result = verify(good)
    assert ("scale", 2) in kinds(result)
    assert "axis y" in next(f for f in result.findings if f.kind == "scale").what


@pytest.mark.parametrize("shift", [0.0, 0.5, -0.25, 1e-3])
def test_wrong_translation(good: Path, shift: float) -> None:
    def moved(ome: dict[str, Any]) -> None:
        ome["multiscales"][0]["datasets"][1]["coordinateTransformations"][1]["translation"] = [0.25, shift]

    edit_image(good, moved)
    result = verify(good)
    assert kinds(result) == {("translation", 1)}
    assert "axis x" in result.findings[0].what
    assert "0.25" in result.findings[0].what


def test_nearest_has_no_translation(tmp_path: Path) -> None:
    build(picture(), tmp_path / "p.zarr", tile=64, method="nearest", workers=1)
    assert verify(tmp_path / "p.zarr").ok
    edit_image(
        tmp_path / "p.zarr",
        lambda ome: ome["multiscales"][0]["datasets"][1]["coordinateTransformations"][1].update(
            translation=[0.5, 0.5]
        ),
    )
    assert ("translation", 1) in kinds(verify(tmp_path / "p.zarr"))


@pytest.mark.parametrize(
    "break_it",
    [
        lambda ome: ome["multiscales"][0].pop("axes"),
        lambda ome: ome["multiscales"][0]["axes"][0].update(type="channel"),
        lambda ome: ome["multiscales"][0]["axes"].pop(),
        lambda ome: ome["multiscales"][0].update(datasets=[]),
        lambda ome: ome.update(multiscales=[]),
        lambda ome: ome.update(multiscales="none"),
        lambda ome: ome["multiscales"][0]["datasets"][1].pop("coordinateTransformations"),
        lambda ome: ome["multiscales"][0]["datasets"][1].pop("path"),
        lambda ome: ome["multiscales"][0]["datasets"].reverse(),
        lambda ome: ome["multiscales"][0]["datasets"][0]["coordinateTransformations"].reverse(),
        lambda ome: ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0].update(scale=[1.0]),
        lambda ome: ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0].update(
            scale=["a", "b"]
        ),
        lambda ome: ome["omero"]["channels"][0].update(color="red"),
        lambda ome: ome["omero"]["channels"].append(ome["omero"]["channels"][0]),
        lambda ome: ome["omero"]["channels"][0]["window"].update(start="low"),
        lambda ome: ome["omero"]["channels"][0]["window"].update(start=5, end=1),
        lambda ome: ome["omero"]["channels"][0].pop("window"),
        lambda ome: ome["multiscales"][0].update(name=5),
        lambda ome: ome["multiscales"][0].pop("type"),
        lambda ome: ome["multiscales"][0]["axes"].reverse(),
        lambda ome: ome["multiscales"][0]["axes"][0].update(unit="furlong"),
        lambda ome: ome["multiscales"][0]["axes"][0].update(unit="second"),
        lambda ome: ome["multiscales"][0]["datasets"].append(ome["multiscales"][0]["datasets"][-1]),
        lambda ome: (ome if "version" in ome else ome["multiscales"][0]).update(version="0.9"),
    ],
    ids=lambda _: "",
)
def test_metadata_that_break_the_schema(good: Path, break_it: Callable[[dict[str, Any]], None]) -> None:
    edit_image(good, break_it)
    result = verify(good)
    assert not result.ok
    assert {kind for kind, _ in kinds(result)} & {"schema", "metadata", "shape", "scale"}


def test_a_group_of_zarr_v2_says_that_it_is_one(tmp_path: Path) -> None:
    build(picture()[:100, :100], tmp_path / "p.zarr", tile=64, ome_version="0.4", workers=1)
    (tmp_path / "p.zarr/.zgroup").unlink()
    assert [finding.where for finding in verify(tmp_path / "p.zarr").findings] == [".zgroup"]


def test_what_others_need_not_do_is_noted(tmp_path: Path) -> None:
    base = picture()[300:400, 300:400]
    folder = foreign(tmp_path, "mean", [base])

    def odd(ome: dict[str, Any]) -> None:
        ome["multiscales"][0]["axes"][1]["unit"] = "furlong"

    edit_image(folder, odd)
    result = verify(folder)
    assert result.ok
    assert any("furlong" in note for note in result.notes)


def test_shape_that_is_not_the_ceil(tmp_path: Path) -> None:
    pixels = picture()[:701, :]
    folder = tmp_path / "floor.zarr"
    build(np.vstack([pixels, pixels[:1]]), folder, tile=64, shard=0, workers=1)  # 701 rows
    level = open_level(folder / "1")
    lost = level[:350]
    shutil.rmtree(folder / "1")
    zarr.create_array(folder / "1", data=lost, chunks=(64, 64), dimension_names=("y", "x"))
    result = verify(folder)
    assert ("shape", 1) in kinds(result)
    assert "the last 1 out" in next(f for f in result.findings if f.kind == "shape").what


def test_dtype_that_differs(good: Path) -> None:
    old = open_level(good / "2")
    data, names = old[:].astype("uint8"), getattr(old.metadata, "dimension_names", None)
    zarr_format, chunks = old.metadata.zarr_format, old.chunks
    shutil.rmtree(good / "2")
    zarr.create_array(good / "2", data=data, chunks=chunks, zarr_format=zarr_format, dimension_names=names)
    assert ("dtype", 2) in kinds(verify(good))


@pytest.mark.parametrize("names", [None, ["x", "y"], ["Y", "X"]])
def test_dimension_names(sharded: Path, names: list[str] | None) -> None:
    def change(node: dict[str, Any]) -> None:
        node.pop("dimension_names")
        if names:
            node["dimension_names"] = names

    edit(sharded / "1/zarr.json", change)
    assert kinds(verify(sharded)) == {("dimension-names", 1)}


@pytest.mark.parametrize(
    "place", ["1/c/0/0.partial", "zarr.json.partial", "0/zarr.json.1f3.partial", "1/c/0/1.__lock", ".tmp-42"]
)
def test_leftovers(sharded: Path, place: str) -> None:
    (sharded / place).write_bytes(b"x")
    result = verify(sharded)
    assert {kind for kind, _ in kinds(result)} == {"leftover"}
    assert place.rpartition("/")[2] in result.findings[0].where


def test_leftover_beside_the_pyramid(sharded: Path) -> None:
    (sharded.parent / f".{sharded.name}.octree-journal").write_text("{}")
    (sharded.parent / f".{sharded.name}2.octree-journal").write_text("another pyramid's")
    result = verify(sharded)
    assert [finding.where for finding in result.findings] == [f"../.{sharded.name}.octree-journal"]


def test_interrupted_build_is_no_pyramid(sharded: Path) -> None:
    (sharded / ".octree-partial").write_text("word")
    assert kinds(verify(sharded)) == {("leftover", None)}
    (sharded / "zarr.json").unlink()
    with pytest.raises(SourceError):
        verify(sharded)


def test_chunk_outside_the_array(good: Path) -> None:
    file = chunk_files(good / "4")[0]
    name = file.with_name("99")
    name.write_bytes(file.read_bytes())
    assert kinds(verify(good)) == {("leftover", 4)}


def test_level_that_is_gone(good: Path) -> None:
    shutil.rmtree(good / "3")
    result = verify(good)
    assert not result.ok
    assert any("3" in finding.what for finding in result.findings)


def test_broken_array_metadata(good: Path) -> None:
    file = next(f for f in (good / "1/zarr.json", good / "1/.zarray") if f.exists())
    file.write_text("{")
    assert not verify(good).ok


def foreign(folder: Path, method: str | None, levels: list[np.ndarray], translate: bool = True) -> Path:
    """A pyramid of somebody else's, Zarr v3."""
    datasets = []
    for i, data in enumerate(levels):
        zarr.create_array(folder / str(i), data=data, chunks=(32, 32), dimension_names=("y", "x"))
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": [2.0**i] * 2}]
        if translate:
            steps.append({"type": "translation", "translation": [(2.0**i - 1) / 2] * 2})
        datasets.append({"path": str(i), "coordinateTransformations": steps})
    image: dict[str, Any] = {
        "axes": [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}],
        "datasets": datasets,
    }
    if method:
        image["type"] = method
    ome = {"version": "0.5", "multiscales": [image]}
    (folder / "zarr.json").write_text(
        json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}})
    )
    return folder


def test_unknown_method_is_not_compared_and_says_so(tmp_path: Path) -> None:
    base = picture()[300:400, 300:400]
    result = verify(foreign(tmp_path, "gaussian", [base, base[1::2, ::2]], translate=False), deep=True)
    assert result.ok
    assert result.compared == 0
    assert any("gaussian" in note for note in result.notes)
    assert any("half a pixel" in note for note in result.notes)


def test_blur_over_a_chunk_that_is_not_stored_is_no_damage(tmp_path: Path) -> None:
    from scipy.ndimage import gaussian_filter

    base = np.zeros((128, 128))
    base[32:96, 32:64] = 50000
    blurred = gaussian_filter(base, 1.0)[::2, ::2].astype(np.uint16)
    folder = foreign(tmp_path, "gaussian", [base.astype(np.uint16), blurred])
    assert len(chunk_files(folder / "0")) < 16
    assert verify(folder).ok


def test_missing_chunk_is_found_without_knowing_the_method(tmp_path: Path) -> None:
    base = picture()[300:428, 300:428]
    folder = foreign(tmp_path, None, [base, base[::2, ::2]])
    assert verify(folder).ok
    (folder / "0/c/1/1").unlink()
    assert kinds(verify(folder)) == {("missing-chunk", 0)}


def test_a_mean_that_rounds_another_way_is_accepted_of_others(tmp_path: Path) -> None:
    base = picture()[300:428, 300:428]
    down = (base.reshape(64, 2, 64, 2).astype(int).sum((1, 3)) // 4).astype(np.uint16)
    folder = foreign(tmp_path / "a", "mean", [base, down])
    result = verify(folder, deep=True)
    assert result.ok
    assert any("rounding" in note for note in result.notes)
    assert not verify(foreign(tmp_path / "b", "mean", [base, down + np.uint16(2)])).ok


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_floats_that_round_another_way_are_accepted_of_others(tmp_path: Path, dtype: str) -> None:
    base = np.random.default_rng(0).normal(size=(128, 128)).astype(dtype)
    base[::2] = -base[1::2]  # sums near 0
    base[0, 0] += 1
    down = base.reshape(64, 2, 64, 2).astype("f8").mean((1, 3)).astype(dtype)
    near = (down * (1 + 3 * np.finfo(dtype).eps) + np.finfo(dtype).eps).astype(dtype)
    assert verify(foreign(tmp_path / "a", "mean", [base, near]), deep=True).ok
    near[5, 5] += 1
    assert kinds(verify(foreign(tmp_path / "b", "mean", [base, near]), deep=True)) == {("reduction", 1)}


@pytest.mark.parametrize("method", ["nearest", "median", "mode"])
def test_choices_of_others_are_accepted_within_the_block(tmp_path: Path, method: str) -> None:
    base = picture()[300:428, 300:428]
    down = base[1::2, 1::2] if method == "nearest" else base.reshape(64, 2, 64, 2).max((1, 3))
    assert verify(foreign(tmp_path / "a", method, [base, down]), deep=True).ok
    wrong = down.copy()
    wrong[5, 5] = 65535
    assert kinds(verify(foreign(tmp_path / "b", method, [base, wrong]), deep=True)) == {("reduction", 1)}


@pytest.mark.parametrize("what", ["missing", "empty folder", "file", "array", "broken group"])
def test_no_pyramid_is_a_source_error(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x"
    if what == "empty folder":
        path.mkdir()
    elif what == "file":
        path.write_text("hello")
    elif what == "array":
        zarr.create_array(path, shape=(4, 4), dtype="u1")
    elif what == "broken group":
        path.mkdir()
        (path / "zarr.json").write_text("{not json")
    with pytest.raises(SourceNotFound if what == "missing" else SourceError):
        verify(path)
    assert run(["verify", str(path)]) == 3


def test_command(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(good)]) == 0
    assert "whole" in capsys.readouterr().out
    assert run(["verify", str(good), "--json", "--deep"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"]
    assert document["findings"] == []
    chunk_files(good / "0")[-1].unlink()
    assert run(["verify", str(good), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert not document["ok"]
    assert document["findings"][0]["kind"] == "missing-chunk"
    assert document["error"]["kind"] == "check"
    assert run(["verify", str(good)]) == 1
    captured = capsys.readouterr()
    assert "missing-chunk" in captured.out
    assert "wrong" in captured.err


def test_progress_reaches_the_end(good: Path) -> None:
    seen: list[tuple[int, int]] = []
    verify(good, deep=True, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_many_findings_are_counted_not_listed(sharded: Path) -> None:
    for file in chunk_files(sharded / "0"):
        file.write_bytes(b"")
    torn = [f for f in verify(sharded, sample=0).findings if f.kind == "torn-shard"]
    assert len(torn) == 21
    assert "more of the same kind" in torn[-1].what


def test_missing_units() -> None:
    units = Stored((10, 10), (3, 4), np.array([0, 3, 4, 11]))
    assert units.missing(None).tolist() == [1, 2, 5, 6, 7, 8, 9, 10]
    assert units.missing(2).tolist() == [1, 10]
    assert Stored((10,), (2,), np.array([0, 1])).missing(None).tolist() == []
    huge = Stored((1,), (10**15,), np.array([5, 6]))
    assert huge.missing(3).tolist() == [0, huge.missing(3)[1], 10**15 - 1]
    assert units.box(11, (25, 38)).stop == (25, 38)


@pytest.mark.parametrize(
    ("before", "after", "factor"),
    [
        (100, 50, 2),
        (101, 51, 2),
        (101, 50, 3),
        (7, 7, 1),
        (1, 1, 1),
        (10, 4, 3),
        (10, 6, 2),
        (10, 7, 2),
        (10, 0, None),
        (4, 5, 1),
    ],
)
def test_integer_factor(before: int, after: int, factor: int | None) -> None:
    expected = factor if factor and -(-before // factor) == after else None
    assert integer_factor(before, after) == expected


def test_flipped_bytes_anywhere_are_found_or_harmless(sharded: Path, tmp_path: Path) -> None:
    """Whatever is flipped, verify answers: findings, or no pyramid; never another error."""
    rng = np.random.default_rng(7)
    files = [p for p in sharded.rglob("*") if p.is_file()]
    files += [p for p in files if p.name == "zarr.json"] * 5
    for number in range(20):
        copy = tmp_path / f"{number}.zarr"
        shutil.copytree(sharded, copy)
        file = copy / files[int(rng.integers(0, len(files)))].relative_to(sharded)
        content = bytearray(file.read_bytes())
        for _ in range(3):
            content[int(rng.integers(0, len(content)))] = int(rng.integers(0, 256))
        file.write_bytes(content)
        try:
            result = verify(copy, deep=True)
        except SourceError:
            continue
        json.dumps(result.to_json(), allow_nan=False)
        if file.name != "zarr.json":
            assert not result.ok, f"{file} was damaged in three places"


def test_levels_that_are_not_in_order_are_refused_by_all(tmp_path: Path) -> None:
    """Coarse first: verify says so, and nobody takes the coarse one for level 0 without a word."""
    dest = tmp_path / "out.zarr"
    build(image((600, 700)), dest)
    file = dest / "zarr.json"
    document = json.loads(file.read_text())
    document["attributes"]["ome"]["multiscales"][0]["datasets"].reverse()
    file.write_text(json.dumps(document))
    assert octree("verify", dest).returncode == 1
    commands = [("info", dest), ("build", dest, tmp_path / "b.zarr")]
    commands.append(("render", dest, "--camera", "fit", "-o", tmp_path / "a.png"))
    for command in commands:
        done = octree(*command)
        assert done.returncode == 3, done.stderr
        assert "level 1 is finer than level 0" in done.stderr
