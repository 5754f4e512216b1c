"""Where things lie: the same promises of local folders and of a store in memory, and a pyramid that lies in memory."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import zarr
from memory_place import MemoryPlace, in_memory

from octree.pyramid import build, open_pyramid, open_source
from octree.pyramid.building.options import BuildOptions
from octree.pyramid.building.plan import BuildPlan, make_plan
from octree.pyramid.building.task import Task, TaskRunner
from octree.pyramid.errors import OutsideError, SourceError, SourceNotFound, WriteError
from octree.pyramid.model import Box
from octree.pyramid.store import ngff
from octree.pyramid.store.arrays import create_level, open_array
from octree.pyramid.store.images import images_of
from octree.pyramid.store.json_files import read_json, write_json
from octree.pyramid.store.named import place_of
from octree.pyramid.store.ngff_write import write_image_metadata
from octree.pyramid.store.place import Place, values_below
from octree.pyramid.store.reading import CancelledError, Later, Started
from octree.render.tiles.open_levels import open_levels
from octree.render.tiles.tile_source import open_tile_source

PIXELS = np.random.default_rng(1).integers(0, 999, (3, 150, 170)).astype(np.uint16)


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "memory":
        return in_memory("top")
    (tmp_path / "top").mkdir()
    return place_of(tmp_path / "top", anywhere=False)


def filled(place: Place, names: dict[str, bytes]) -> Place:
    for name, data in names.items():
        below = place.child(name)
        if not isinstance(place, MemoryPlace):
            below.local().parent.mkdir(parents=True, exist_ok=True)
        below.write(data)
    return place


# what every place promises


def test_a_value_is_read_whole_or_in_part(place: Place) -> None:
    value = filled(place, {"a": b"0123456789"}).child("a")
    assert value.read() == b"0123456789"
    assert value.read(3) == b"3456789"
    assert value.read(2, 5) == b"234"
    assert value.read(8, 99) == b"89"
    assert value.name == "a"


def test_what_is_not_there_is_none_and_a_folder_is_no_value(place: Place) -> None:
    filled(place, {"folder/a": b"1"})
    for name in ("gone", "gone/deeper", "folder", "folder/a/deeper"):
        assert place.child(name).read() is None, name
        assert place.child(name).stamp() is None, name
    kinds = [place.child(name).kind() for name in ("folder", "folder/a", "gone")]
    assert kinds == ["folder", "value", "nothing"]


def test_names_are_sorted_and_folders_are_marked(place: Place) -> None:
    filled(place, {"b": b"", "a/x/y": b"", "a/b": b"", "a.b": b""})
    assert place.names() == ["a/", "a.b", "b"]
    assert place.child("a").names() == ["b", "x/"]
    assert place.child("gone").names() == []
    assert [str(value).rpartition("top/")[2] for value in values_below(place)] == ["a/b", "a/x/y", "a.b", "b"]


def test_a_stamp_changes_with_the_value(place: Place) -> None:
    value = filled(place, {"a": b"1"}).child("a")
    before = value.stamp()
    assert before is not None
    assert before.size == 1
    value.write(b"22")
    assert value.stamp() not in (before, None)


def test_sizes_and_removal_are_of_those_that_are_there(place: Place) -> None:
    filled(place, {"0/c/0": b"12", "0/c/1": b"12345"})
    assert place.child("0").ends(["c/1", "c/7", "c/0"]) == [(5, b"2345"), (2, b"12")]


@pytest.mark.parametrize("name", ["..", "../other", "a/../../other", "/etc", "s3://bucket/key"])
def test_a_name_from_metadata_may_not_lead_out(place: Place, name: str) -> None:
    with pytest.raises(OutsideError, match="level 0"):
        place.child(name, "level 0")


def test_names_lead_down_and_up_again(place: Place) -> None:
    filled(place, {"a/b": b"1"})
    assert place.child("a/../a/./b").read() == b"1"
    assert place.child("a").child("../a/b").read() == b"1"
    assert place.child("a").child("../a/b").identity == place.child("a/b").identity
    assert place.child("a/b").identity != place.child("a").identity


def test_json_is_written_and_read_and_its_damage_is_named(place: Place) -> None:
    document = {"x": [1, "µ"], "y": None}
    write_json(place.child("a.json"), document)
    assert read_json(place.child("a.json")) == document
    assert read_json(place.child("gone.json")) is None
    for data in (b"{", b"[1]", b"\xff", b"[" * 100_000):
        place.child("bad.json").write(data)
        with pytest.raises(SourceError, match=r"bad\.json"):
            read_json(place.child("bad.json"))


# local folders


def test_links_of_local_folders_may_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    folder = tmp_path / "folder"
    folder.mkdir()
    os.symlink("../secret", folder / "link")
    os.symlink(tmp_path, folder / "up")
    for name in ("link", "up", "up/secret"):
        with pytest.raises(OutsideError):
            place_of(folder, anywhere=False).child(name)
    assert place_of(folder, anywhere=True).child("link").read() == b"s"
    # made after the name was checked
    value = place_of(folder, anywhere=False).child("later")
    os.symlink("../secret", folder / "later")
    with pytest.raises(OutsideError):
        value.read()
    with pytest.raises(OutsideError):
        value.stamp()


@pytest.mark.parametrize("name", ["a\0b", "n" * 300])
def test_a_name_that_no_file_can_have_is_no_image(tmp_path: Path, name: str) -> None:
    node = {"node_type": "group", "attributes": {"ome": {"bioformats2raw.layout": 3}}}
    write_json(place_of(tmp_path).child("zarr.json"), node)
    (tmp_path / "OME").mkdir()
    series = {"node_type": "group", "attributes": {"ome": {"series": [name]}}}
    write_json(place_of(tmp_path).child("OME/zarr.json"), series)
    with pytest.raises(SourceError):
        ngff.find_image(tmp_path)
    assert not ngff.is_pyramid(tmp_path)


def test_a_pipe_is_no_value(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "zarr.json")
    assert place_of(tmp_path).child("zarr.json").read() is None
    assert not ngff.is_pyramid(tmp_path)


def test_a_folder_that_refuses_writing_is_named(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="gone"):
        write_json(place_of(tmp_path).child("gone").child("a.json"), {})


# a pyramid in memory


def planned(pixels: np.ndarray[Any, Any], **options: Any) -> BuildPlan:
    with open_source(pixels) as source:
        checked = BuildOptions.read({"tile": 32, "shard": 2, "workers": 1, **options})
        return make_plan(checked.request(source), source.transient_bytes)


def build_in(place: Place, **options: Any) -> BuildPlan:
    """The tasks of a build and its metadata, as ``build`` does, into any place."""
    plan = planned(PIXELS, **options)
    for level in plan.spec.levels:
        create_level(place, level, plan.spec.dtype, plan.spec.axis_names, plan.codec, plan.zarr_format)
    with open_source(PIXELS) as source:
        runner = TaskRunner(plan, source, place)
        for number, steps in enumerate(plan.rounds):
            for at in range(steps.tasks):
                (result,) = runner.run([Task(number, at)])
                assert result.files
                assert result.bytes_written
    write_image_metadata(place, plan.spec, metadata={"nodata": None})
    return plan


@pytest.fixture(params=["0.5", "0.4"])
def stored(request: pytest.FixtureRequest) -> MemoryPlace:
    place = in_memory("a/p.zarr")
    build_in(place, ome_version=request.param)
    return place


def test_a_pyramid_in_memory_is_that_of_a_local_build(stored: MemoryPlace, tmp_path: Path) -> None:
    version = ngff.read_spec(stored).ome_version
    build(PIXELS, tmp_path / "p", tile=32, shard=2, workers=1, ome_version=version)
    there, here = open_pyramid(stored), open_pyramid(tmp_path / "p")
    assert there.spec.levels == here.spec.levels
    assert there.spec.axes == here.spec.axes
    assert there.engine == "tensorstore"
    for level, info in enumerate(here.spec.levels):
        box = Box((0, 0, 0), info.shape)
        np.testing.assert_array_equal(there.read(level, box), here.read(level, box))
        part = Box((1, 3, 5), (2, min(40, info.shape[1]), min(41, info.shape[2])))
        np.testing.assert_array_equal(there.read(level, part), here.read(level, part))


def test_a_pyramid_in_memory_is_drawn_as_a_local_one(stored: MemoryPlace, tmp_path: Path) -> None:
    opened = open_levels(stored)
    assert opened.path == "memory://a/p.zarr"
    assert opened.levels.spec == ngff.read_spec(stored)
    with open_tile_source(stored, tile=32) as source, open_tile_source(PIXELS, tile=32) as plain:
        from octree.pyramid.model import TileKey

        for tile in (TileKey(0, (2,), (1, 3)), TileKey(0, (0,), (4, 5))):
            np.testing.assert_array_equal(source.read_tile(tile), plain.read_tile(tile))
        assert source.describe()["digest"] == opened.digest()
    # other pixels, another digest; other metadata, another identity
    again = open_levels(stored)
    assert again.identity == opened.identity
    coarsest = stored.child(opened.levels.spec.levels[-1].path)
    digest, (value, *_) = (
        opened.digest(),
        [v for v in values_below(coarsest) if not v.name.startswith((".z", "zarr."))],
    )
    value.write(b"1" + (value.read() or b"")[1:])
    assert open_levels(stored).digest() != digest
    write_image_metadata(stored, ngff.read_spec(stored))
    assert open_levels(stored).identity != opened.identity


def test_a_store_that_cannot_list_is_opened_all_the_same() -> None:
    build_in(seeing := in_memory("p"))
    blind = in_memory("p", seeing.store, can_list=False)
    assert open_pyramid(blind).read(0, Box((0, 0, 0), PIXELS.shape)).shape == PIXELS.shape
    assert len(images_of(blind)) == 1
    assert open_levels(blind).digest()
    with pytest.raises(SourceError, match="no OME-Zarr pyramid"):
        open_pyramid(in_memory("nothing", seeing.store, can_list=False))


def test_what_is_wrong_in_memory_is_named() -> None:
    top = in_memory()
    with pytest.raises(SourceNotFound, match="memory://gone"):
        open_pyramid(top.child("gone"))
    build_in(top.child("p"))
    node = read_json(top.child("p/zarr.json"))
    assert node is not None
    node["attributes"]["ome"]["multiscales"][0]["datasets"][1]["path"] = "../../q"
    write_json(top.child("p/zarr.json"), node)
    with pytest.raises(OutsideError, match="level 1"):
        open_pyramid(top.child("p"))
    top.child("p/0/c/0/0/0").write(b"short")
    with pytest.raises(SourceError, match="chunk 0/0/0"):
        open_array(top.child("p/0")).read(Box((0, 0, 0), (1, 9, 9)))
    with pytest.raises(SourceError, match="no local folder"):
        open_array(top.child("p/0"), engine="zarr")


def test_images_in_a_folder_in_memory_are_listed() -> None:
    top = in_memory()
    for name in ("0", "1", "10", "2"):
        build_in(top.child(name))
    write_json(
        top.child("zarr.json"), {"node_type": "group", "attributes": {"ome": {"bioformats2raw.layout": 3}}}
    )
    assert [image.name for image in images_of(top)] == ["0", "1", "2", "10"]
    assert open_pyramid(top).group == top.child("0")


# reads that have begun


@pytest.mark.parametrize("engine", ["tensorstore", "zarr"])
def test_a_read_is_begun_and_waited_for(tmp_path: Path, engine: str) -> None:
    zarr.create_array(tmp_path / "a", data=PIXELS, chunks=(1, 64, 64))
    array = open_array(tmp_path / "a", engine=engine)
    begun = [array.start(Box((z, 0, 0), (z + 1, 150, 170))) for z in range(3)]
    for z, reading in enumerate(begun):
        np.testing.assert_array_equal(reading.result()[0], PIXELS[z])
        reading.cancel()  # too late: nothing happens


@pytest.mark.parametrize("engine", ["tensorstore", "zarr"])
def test_errors_of_a_read_that_was_begun_are_those_of_a_read(tmp_path: Path, engine: str) -> None:
    zarr.create_array(tmp_path / "a", data=PIXELS, chunks=(1, 64, 64))
    (tmp_path / "a/c/1/0/0").write_bytes(b"broken")
    reading = open_array(tmp_path / "a", engine=engine).start(Box((1, 0, 0), (2, 9, 9)))
    with pytest.raises(SourceError, match="chunk"):
        reading.result()


def test_who_waits_for_a_read_that_is_cancelled_waits_no_longer() -> None:
    _, never = ts.Promise.new()
    reading, found, waits = Started(never, ValueError), [], threading.Event()

    def wait() -> None:
        waits.set()
        try:
            reading.result()
        except BaseException as error:
            found.append(type(error))

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    waits.wait()
    reading.cancel()
    waiting.join(20)
    assert found == [CancelledError]


def test_a_read_in_the_callers_thread_can_be_cancelled_before() -> None:
    read = Later(lambda: PIXELS)
    assert read.result() is PIXELS
    read.cancel()
    with pytest.raises(CancelledError):
        read.result()


def test_levels_begin_reads_too(tmp_path: Path) -> None:
    """Stored levels, made levels, and arrays that have no levels."""
    build(PIXELS, tmp_path / "p", tile=32, workers=1)
    box = Box((0, 0, 0), (1, 32, 32))
    for source in (tmp_path / "p", PIXELS):
        levels = open_levels(source).levels
        np.testing.assert_array_equal(levels.start(0, box).result(), levels.read(0, box))
    with open_tile_source(PIXELS, tile=32) as tiles:
        made = tiles._levels
        assert len(made.spec.levels) > tiles.stored_levels
        np.testing.assert_array_equal(made.start(1, box).result(), made.read(1, box))


def test_opening_reads_each_document_once(stored: MemoryPlace) -> None:
    asked: list[str] = []

    class Counting:
        def read(self, key: str) -> Any:
            asked.append(key)
            return stored.store.read(key)

    spec = ngff.read_spec(in_memory(stored.key, Counting(), can_list=False))
    read = [key for key in asked if stored.store.read(key).result().state == "value"]
    assert sorted(set(read)) == sorted(read)
    assert len(read) == len(spec.levels) + 1


def test_a_path_with_dots_is_read_by_tensorstore_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no ``..``: such paths were read by the zarr library, tile by tile many times slower."""
    build(PIXELS, tmp_path / "p.zarr", axes="zyx")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    array = open_array(place_of("../p.zarr/0"))
    assert array.engine == "tensorstore"
    assert np.array_equal(array.read(Box((0, 0, 0), (3, 150, 170))), PIXELS)
