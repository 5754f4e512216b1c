"""OME-Zarr metadata: what is written is read back, by us and by independent readers; what others write is read."""

from __future__ import annotations

import json
import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from octree.pyramid.errors import SourceError, SourceNotFound, UsageError, WriteError
from octree.pyramid.model import AXIS_ORDER, Axis, Channel, LevelInfo, PyramidSpec
from octree.pyramid.store import ngff, ngff_write
from octree.pyramid.store.json_files import finite
from octree.pyramid.store.named import place_of
from octree.pyramid.store.zarr_meta import fill_of, read_array_meta
from octree.pyramid.verify.schema import display_errors, schema_errors


def a_spec(version: str = "0.5", names: str = "cyx", **options: Any) -> PyramidSpec:
    shape = tuple({"t": 2, "c": 3, "z": 20, "y": 101, "x": 130}[a] for a in names)
    levels = []
    for k in range(3):
        factors = [1 if a in "tc" else 2**k for a in names]
        size = [1.0 if a in "tc" else 0.25 for a in names]
        levels.append(
            LevelInfo(
                path=str(k),
                shape=tuple(-(-n // f) for n, f in zip(shape, factors, strict=True)),
                chunks=tuple(min(n, 32) for n in shape),
                shards=None,
                scale=tuple(s * f for s, f in zip(size, factors, strict=True)),
                translation=tuple(s * (f - 1) / 2 for s, f in zip(size, factors, strict=True)),
            )
        )
    units = {"t": "second", "c": None}
    axes = tuple(Axis(a, units.get(a, "micrometer")) for a in names)
    given = {
        "dtype": np.dtype("uint16"),
        "name": "an image é",
        "method": "mean",
        "ome_version": version,
    } | options
    return PyramidSpec(axes=axes, levels=tuple(levels), **given)


def write(folder: Path, spec: PyramidSpec, **metadata: Any) -> Path:
    """Arrays by zarr, metadata by us."""
    folder.mkdir()
    for level in spec.levels:
        v3 = spec.ome_version == "0.5"
        zarr.create_array(
            folder / level.path,
            shape=level.shape,
            dtype=spec.dtype,
            chunks=level.chunks,
            zarr_format=3 if v3 else 2,
            dimension_names=spec.axis_names if v3 else None,
            chunk_key_encoding=None if v3 else {"name": "v2", "separator": "/"},
        )
    ngff_write.write_image_metadata(folder, spec, metadata=metadata)
    return folder


BOTH = pytest.mark.parametrize("version", ["0.4", "0.5"])
CHANNELS = (
    Channel("DAPI", "0000FF", (1.0, 500.0)),
    Channel("", "00FF00", None),
    Channel("β", None, (0.0, 9.0)),
)


@BOTH
@pytest.mark.parametrize("names", ["yx", "zyx", "cyx", "tczyx", "tyx"])
def test_what_is_written_is_read_back(tmp_path: Path, version: str, names: str) -> None:
    spec = a_spec(version, names)
    again = ngff.read_spec(write(tmp_path / "p.zarr", spec, reason="test"))
    assert again.axes == spec.axes
    assert again.ome_version == version
    assert (again.name, again.method, again.dtype) == (spec.name, spec.method, spec.dtype)
    for ours, theirs in zip(spec.levels, again.levels, strict=True):
        assert (ours.path, ours.shape, ours.chunks) == (theirs.path, theirs.shape, theirs.chunks)
        assert (ours.scale, ours.translation) == (theirs.scale, theirs.translation)
    assert again.metadata["reason"] == "test"


@BOTH
def test_channels_and_kinds_are_read_back(tmp_path: Path, version: str) -> None:
    again = ngff.read_spec(write(tmp_path / "a.zarr", a_spec(version, channels=CHANNELS)))
    assert again.channels == (
        CHANNELS[0],
        Channel("channel 1", "00FF00", (0.0, 65535.0)),
        Channel("β", "FFFFFF", (0.0, 9.0)),
    )
    assert not again.rgb
    rgb = ngff.read_spec(write(tmp_path / "b.zarr", a_spec(version, rgb=True)))
    assert rgb.rgb
    assert [c.color for c in rgb.channels] == ["FF0000", "00FF00", "0000FF"]
    labels = ngff.read_spec(write(tmp_path / "c.zarr", a_spec(version, "zyx", labels=True, method="mode")))
    assert labels.labels
    assert not rgb.labels


@BOTH
@pytest.mark.parametrize("kind", ["plain", "channels", "rgb", "labels"])
def test_independent_readers_accept_it(tmp_path: Path, version: str, kind: str) -> None:
    options: dict[str, Any] = {
        "channels": {"channels": CHANNELS},
        "rgb": {"rgb": True},
        "labels": {"labels": True},
    }.get(kind, {})
    folder = write(tmp_path / "p.zarr", a_spec(version, "zyx" if kind == "labels" else "cyx", **options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from ome_zarr.io import parse_url
        from ome_zarr.reader import Reader
        from ome_zarr_models import open_ome_zarr

    model = open_ome_zarr(zarr.open_group(folder, mode="r"))
    assert type(model).__name__ == ("ImageLabel" if kind == "labels" else "Image")
    location = parse_url(str(folder))
    assert location is not None
    nodes = list(Reader(location)())
    assert [array.shape for array in nodes[0].data] == [
        level.shape for level in a_spec(names="zyx" if kind == "labels" else "cyx").levels
    ]
    found = ngff.find_image(folder)
    assert schema_errors(found[1], version) == []


@BOTH
def test_yaozarrs_accepts_it_strictly(tmp_path: Path, version: str) -> None:
    folder = write(tmp_path / "p.zarr", a_spec(version, channels=CHANNELS))
    file = folder / ("zarr.json" if version == "0.5" else ".zattrs")
    document = json.loads(file.read_text())
    assert yaozarrs.validate_ome_object(document["attributes"]["ome"] if version == "0.5" else document)


@BOTH
def test_strict_fields_are_there(version: str) -> None:
    image = ngff_write.image_attributes(a_spec(version), metadata={"factors": [1, 2]})["multiscales"][0]
    assert image["name"] == "an image é"
    assert image["type"] == "mean"
    assert image["metadata"]["method"] == "mean"
    assert image["metadata"]["factors"] == [1, 2]
    for dataset in image["datasets"]:
        assert [step["type"] for step in dataset["coordinateTransformations"]] == ["scale", "translation"]


def test_nothing_non_finite_is_written(tmp_path: Path) -> None:
    channels = (Channel("a", None, (math.nan, math.inf)),) * 3
    spec = a_spec(channels=channels, dtype=np.dtype("float32"))
    folder = write(
        tmp_path / "p.zarr", spec, bad=[math.nan, {"inf": -math.inf}], np=np.float32(2), tuple=(1, 2)
    )

    def refuse(word: str) -> None:
        raise AssertionError(word)

    document = json.loads((folder / "zarr.json").read_text(), parse_constant=refuse)
    assert document["attributes"]["ome"]["multiscales"][0]["metadata"]["bad"] == ["nan", {"inf": "-inf"}]
    assert ngff.read_spec(folder).channels[0].window == (0.0, 1.0)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
@settings(max_examples=50, deadline=None)
def test_finite_is_json(value: Any) -> None:
    json.dumps(finite(value), allow_nan=False)


@pytest.mark.parametrize(
    ("unit", "written"),
    [("µm", "micrometer"), ("micron", "micrometer"), ("NANOMETER", "nanometer"), (None, None)],
)
def test_units_are_of_the_closed_list(unit: str | None, written: str | None) -> None:
    spec = a_spec(names="yx")
    attributes = ngff_write.image_attributes(
        PyramidSpec((Axis("y", unit), Axis("x", unit)), spec.dtype, spec.levels)
    )
    assert attributes["multiscales"][0]["axes"][0].get("unit") == written


def test_unknown_unit_names_near_matches() -> None:
    spec = a_spec(names="yx")
    with pytest.raises(UsageError) as caught:
        ngff_write.image_attributes(PyramidSpec((Axis("y", "micrometr"), Axis("x")), spec.dtype, spec.levels))
    assert "micrometer" in str(caught.value.hint)


def test_writing_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "p.zarr", a_spec())
    before, names = (folder / "zarr.json").read_bytes(), sorted(os.listdir(folder))

    def fail(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(WriteError, match="No space"):
        ngff_write.write_image_metadata(folder, a_spec(names="zyx"))
    assert (folder / "zarr.json").read_bytes() == before
    assert sorted(os.listdir(folder)) == names


# --- pyramids of others ---


def group(folder: Path, ome: dict[str, Any], version: str = "0.5") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if version == "0.5":
        node = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": "0.5", **ome}}}
        (folder / "zarr.json").write_text(json.dumps(node))
    else:
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zattrs").write_text(json.dumps(ome))
    return folder


def arrays(
    folder: Path, shapes: list[tuple[int, ...]], zarr_format: int = 3, dtype: str = "u2"
) -> list[dict[str, Any]]:
    for i, shape in enumerate(shapes):
        zarr.create_array(
            folder / str(i),
            shape=shape,
            dtype=dtype,
            chunks=tuple(min(n, 16) for n in shape),
            zarr_format=zarr_format,
        )
    return [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [2.0**i] * len(s)}]}
        for i, s in enumerate(shapes)
    ]


YX = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]


def test_no_translation_floor_shapes_no_omero(tmp_path: Path) -> None:
    datasets = arrays(tmp_path, [(101, 99), (50, 49), (25, 24)])
    spec = ngff.read_spec(group(tmp_path, {"multiscales": [{"axes": YX, "datasets": datasets}]}))
    assert [level.shape for level in spec.levels] == [(101, 99), (50, 49), (25, 24)]
    assert spec.levels[2].translation == (0.0, 0.0)
    assert (spec.channels, spec.method, spec.name, spec.rgb) == ((), "", "", False)


def test_transformations_of_the_whole_image_come_after_the_levels(tmp_path: Path) -> None:
    datasets = arrays(tmp_path, [(32, 32)])
    datasets[0]["coordinateTransformations"].append({"type": "translation", "translation": [1.0, 2.0]})
    outer = [{"type": "scale", "scale": [0.5, 3.0]}, {"type": "translation", "translation": [10.0, 0.0]}]
    image = {"axes": YX, "datasets": datasets, "coordinateTransformations": outer}
    level = ngff.read_spec(group(tmp_path, {"multiscales": [image]})).levels[0]
    assert level.scale == (0.5, 3.0)
    assert level.translation == (10.5, 6.0)


def test_older_versions_without_axes_or_transformations(tmp_path: Path) -> None:
    arrays(tmp_path, [(1, 2, 3, 64, 48), (1, 2, 3, 32, 24)], zarr_format=2)
    datasets = [{"path": "0"}, {"path": "1"}]
    spec = ngff.read_spec(group(tmp_path, {"multiscales": [{"version": "0.2", "datasets": datasets}]}, "0.4"))
    assert spec.axis_names == tuple("tczyx")
    assert spec.levels[1].scale == (1.0, 1.0, 1.0, 2.0, 2.0)
    assert spec.ome_version == "0.2"
    named = group(
        tmp_path, {"multiscales": [{"version": "0.3", "axes": list("tczyx"), "datasets": datasets}]}, "0.4"
    )
    assert ngff.read_spec(named).axis_names == tuple("tczyx")


def test_several_multiscales_give_the_first(tmp_path: Path) -> None:
    datasets = arrays(tmp_path, [(32, 32), (16, 16)])
    images = [
        {"name": "first", "axes": YX, "datasets": datasets},
        {"name": "second", "axes": YX, "datasets": datasets[1:]},
    ]
    assert ngff.read_spec(group(tmp_path, {"multiscales": images})).name == "first"


@pytest.mark.parametrize("series", [None, ["1", "0"]])
def test_bioformats2raw_gives_its_first_image(tmp_path: Path, series: list[str] | None) -> None:
    group(tmp_path, {"bioformats2raw.layout": 3})
    for i in range(2):
        datasets = arrays(tmp_path / str(i), [(32 + i, 32)])
        group(tmp_path / str(i), {"multiscales": [{"axes": YX, "datasets": datasets}]})
    if series:
        group(tmp_path / "OME", {"series": series})
    assert ngff.read_spec(tmp_path).levels[0].shape == ((33, 32) if series else (32, 32))


@pytest.mark.parametrize(
    ("ome", "hint"),
    [
        ({"plate": {"wells": [{"path": "B/2"}]}}, "B/2/0"),
        ({"well": {"images": []}}, "well"),
        ({"labels": ["nuclei"]}, "nuclei"),
        ({}, "octree build"),
    ],
)
def test_groups_that_are_no_image_say_what_they_are(tmp_path: Path, ome: dict[str, Any], hint: str) -> None:
    with pytest.raises(SourceError, match="without a multiscale image") as caught:
        ngff.read_spec(group(tmp_path, ome))
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("names", ["xyz", "yxc", "zxy"])
def test_another_order_of_axes_is_read_as_a_source_only(tmp_path: Path, names: str) -> None:
    from octree.pyramid.sources.source import open_source

    datasets = arrays(tmp_path, [(8, 9, 10)])
    axes = [{"name": a, "type": "channel" if a == "c" else "space"} for a in names]
    folder = group(tmp_path, {"multiscales": [{"axes": axes, "datasets": datasets}]})
    with pytest.raises(SourceError, match="order"):
        ngff.read_spec(folder)
    with open_source(folder) as source:
        assert [axis.name for axis in source.axes] == sorted(names, key=AXIS_ORDER.index)


@pytest.mark.parametrize(
    ("colors", "window", "dtype", "rgb"),
    [
        (["FF0000", "00FF00", "0000FF"], (0, 255), "u1", True),
        (["ff0000", "00ff00", "0000ff"], (0, 255), "u1", True),
        (["FF0000", "00FF00", "0000FF"], (10, 200), "u1", False),
        (["FF0000", "00FF00", "0000FF"], (0, 255), "u2", False),
        (["FF0000", "0000FF", "00FF00"], (0, 255), "u1", False),
    ],
)
def test_colour_images_of_others(
    tmp_path: Path, colors: list[str], window: tuple[int, int], dtype: str, rgb: bool
) -> None:
    datasets = arrays(tmp_path, [(3, 32, 32)], dtype=dtype)
    omero = {
        "channels": [
            {"color": c, "window": {"start": window[0], "end": window[1], "min": 0, "max": 255}}
            for c in colors
        ]
    }
    axes = [{"name": "c", "type": "channel"}, *YX]
    assert (
        ngff.read_spec(
            group(tmp_path, {"multiscales": [{"axes": axes, "datasets": datasets}], "omero": omero})
        ).rgb
        == rgb
    )


@pytest.mark.parametrize(
    "omero",
    [None, 5, [], {}, {"channels": None}, {"channels": [5]}, {"channels": [{"color": 3, "window": 1}]}],
)
def test_odd_display_facts_do_no_harm(tmp_path: Path, omero: Any) -> None:
    datasets = arrays(tmp_path, [(32, 32)])
    folder = group(tmp_path, {"multiscales": [{"axes": YX, "datasets": datasets}], "omero": omero})
    assert all(channel.color is None for channel in ngff.read_spec(folder).channels)
    assert isinstance(display_errors({"omero": omero}, 1), list)


BROKEN: list[tuple[str, Any]] = [
    ("are not an image's", {"axes": [{"name": "a"}, {"name": "b"}]}),
    ("2 axes|3 axes", {"axes": [*YX, {"name": "z"}]}),
    ("broken", {"axes": [{}, {}]}),
    ("broken|no levels", {"datasets": []}),
    ("broken", {"datasets": [{}]}),
    ("broken", {"datasets": 5}),
    ("not supported", {"coordinateTransformations": [{"type": "rotation", "rotation": []}]}),
    ("does not fit", {"coordinateTransformations": [{"type": "scale", "scale": [1, 2, 3]}]}),
    ("does not fit", {"coordinateTransformations": [{"type": "scale", "scale": [1, math.inf]}]}),
    ("not above 0", {"coordinateTransformations": [{"type": "scale", "scale": [1, 0]}]}),
    ("level 0", {"datasets": [{"path": "7"}]}),
]


@pytest.mark.parametrize(("words", "change"), BROKEN, ids=range(len(BROKEN)))
def test_broken_metadata_are_source_errors(tmp_path: Path, words: str, change: dict[str, Any]) -> None:
    image = {"axes": YX, "datasets": arrays(tmp_path, [(32, 32)])} | change
    with pytest.raises(SourceError, match=words) as caught:
        ngff.read_spec(group(tmp_path, {"multiscales": [image]}))
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "\x00\xff"])
def test_what_is_no_json_object_is_a_source_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "zarr.json").write_bytes(text.encode("latin1"))
    with pytest.raises(SourceError):
        ngff.read_spec(tmp_path)
    assert not ngff.is_pyramid(tmp_path)


@pytest.mark.parametrize("attributes", ["x", 1.5, [], {"ome": 3}, {"ome": {"plate": []}}])
def test_attributes_of_another_kind_are_none(tmp_path: Path, attributes: Any) -> None:
    node = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (tmp_path / "zarr.json").write_text(json.dumps(node))
    with pytest.raises(SourceError, match="without a multiscale image"):
        ngff.read_spec(tmp_path)
    assert not ngff.is_pyramid(tmp_path)


@pytest.mark.parametrize("series", [["."], [".."], ["gone"], 5, {}])
def test_a_folder_of_images_that_are_none(tmp_path: Path, series: Any) -> None:
    for place, ome in ((tmp_path, {"bioformats2raw.layout": 3}), (tmp_path / "OME", {"series": series})):
        place.mkdir(exist_ok=True)
        node = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
        (place / "zarr.json").write_text(json.dumps(node))
    with pytest.raises(SourceError, match=r"folder of images|its first image"):
        ngff.read_spec(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound):
        ngff.read_spec(tmp_path / "gone")
    assert not ngff.is_pyramid(tmp_path / "gone")


# --- arrays' own metadata ---


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["bool", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16"])
def test_arrays_are_read_as_zarr_reads_them(tmp_path: Path, zarr_format: int, dtype: str) -> None:
    made = zarr.create_array(
        tmp_path / "a", shape=(30, 40), dtype=dtype, chunks=(8, 16), zarr_format=zarr_format, fill_value=1
    )
    meta = read_array_meta(place_of(tmp_path / "a"))
    assert (meta.shape, meta.chunks, meta.shards, meta.dtype) == (made.shape, made.chunks, None, made.dtype)
    assert meta.zarr_format == zarr_format
    assert fill_of(meta) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -2.5])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_fill_values_that_json_cannot_write(tmp_path: Path, zarr_format: int, value: float) -> None:
    zarr.create_array(
        tmp_path / "a", shape=(3, 4), dtype="f4", chunks=(3, 4), zarr_format=zarr_format, fill_value=value
    )
    np.testing.assert_equal(fill_of(read_array_meta(place_of(tmp_path / "a"))), np.float32(value))


@pytest.mark.parametrize(
    "change",
    [
        {"chunks": [0, 4]},
        {"chunks": [4]},
        {"chunks": [-1, 4]},
        {"shape": [5]},
        {"shape": [3, 10**30]},
        {"dtype": "|O"},
        {"dtype": 5},
    ],
)
def test_lengths_that_fit_no_array(tmp_path: Path, change: dict[str, Any]) -> None:
    zarr.create_array(tmp_path / "a", shape=(3, 4), dtype="f4", chunks=(3, 4), zarr_format=2)
    file = tmp_path / "a/.zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    words = "has dtype object" if change.get("dtype") == "|O" else "metadata"
    with pytest.raises(SourceError, match=words):
        read_array_meta(place_of(tmp_path / "a"))


def test_shards_and_codecs(tmp_path: Path) -> None:
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

    for name, codec, text in (
        ("a", ZstdCodec(level=3), "zstd:3"),
        ("b", GzipCodec(level=5), "gzip:5"),
        ("c", BloscCodec(cname="lz4", clevel=5), "blosc-lz4:5"),
    ):
        zarr.create_array(
            tmp_path / name, shape=(64, 64), dtype="u2", chunks=(8, 8), shards=(32, 16), compressors=[codec]
        )
        meta = read_array_meta(place_of(tmp_path / name))
        assert (meta.chunks, meta.shards, meta.codec, meta.index_location) == ((8, 8), (32, 16), text, "end")
    zarr.create_array(tmp_path / "d", shape=(64, 64), dtype="u2", chunks=(8, 8), compressors=None)
    assert read_array_meta(place_of(tmp_path / "d")).codec == "none"


def test_reading_metadata_imports_no_zarr(tmp_path: Path) -> None:
    import subprocess
    import sys

    folder = write(tmp_path / "p.zarr", a_spec())
    script = "import sys; from octree.pyramid.store import ngff; ngff.read_spec(sys.argv[1]); print([m for m in ('zarr', 'tensorstore', 'pydantic', 'dask') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
