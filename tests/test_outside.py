"""What a source names must lie in its own folder: no file of somebody else's making reads further, by whatever way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorstore
import tifffile
import zarr
from build_tools import octree

from octree.cli.app import run
from octree.pyramid import build, open_source
from octree.pyramid.errors import OutsideError, SourceError
from octree.pyramid.model import Box
from octree.pyramid.reach import Reach, is_below, reach_of
from octree.pyramid.sources.tiff.companions import within

SECRET = b"correct horse battery staple"  # 28 bytes, one row of the secret image
PIXELS = np.frombuffer(SECRET * 8, np.uint8).reshape(8, 28)
OWN = np.zeros_like(PIXELS)


def ome(folder: Path, name: str) -> Path:
    """An OME-TIFF of two planes, of which the second is said to be in the file ``name``."""
    xml = f"""<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a"><Image ID="Image:0"><Pixels ID="Pixels:0"
DimensionOrder="XYCZT" Type="uint8" SizeX="28" SizeY="8" SizeZ="1" SizeC="2" SizeT="1"><Channel ID="Channel:0:0"/>
<Channel ID="Channel:0:1"/><TiffData FirstC="0" IFD="0"><UUID FileName="own.ome.tif">urn:uuid:a</UUID></TiffData>
<TiffData FirstC="1" IFD="0"><UUID FileName="{name}">urn:uuid:b</UUID></TiffData></Pixels></Image></OME>"""
    tifffile.imwrite(folder / "own.ome.tif", OWN, description=xml, metadata=None)
    return folder / "own.ome.tif"


def secret_tiff(secret: Path) -> Path:
    tifffile.imwrite(secret / "secret.tif", PIXELS, metadata=None)
    return secret / "secret.tif"


def ome_absolute(folder: Path, secret: Path) -> Path:
    return ome(folder, str(secret_tiff(secret)))


def ome_above(folder: Path, secret: Path) -> Path:
    secret_tiff(secret)
    return ome(folder, "../secret/secret.tif")


def ome_through_a_linked_folder(folder: Path, secret: Path) -> Path:
    secret_tiff(secret)
    (folder / "sub").symlink_to(secret)
    return ome(folder, "sub/secret.tif")


def ome_linked_file(folder: Path, secret: Path) -> Path:
    (folder / "other.tif").symlink_to(secret_tiff(secret))
    return ome(folder, "other.tif")


def secret_hdf5(secret: Path) -> Path:
    with h5py.File(secret / "secret.h5", "w") as file:
        file["image"] = PIXELS
    return secret / "secret.h5"


def own_hdf5(folder: Path, make: Callable[[h5py.File], None]) -> Path:
    with h5py.File(folder / "own.h5", "w") as file:
        make(file)
    return Path(f"{folder}/own.h5::/image")


def external_link(folder: Path, secret: Path) -> Path:
    name = str(secret_hdf5(secret))
    return own_hdf5(folder, lambda file: file.__setitem__("image", h5py.ExternalLink(name, "/image")))


def external_link_above(folder: Path, secret: Path) -> Path:
    secret_hdf5(secret)

    def make(file: h5py.File) -> None:
        file["group"] = h5py.ExternalLink("../secret/secret.h5", "/")
        file["image"] = h5py.SoftLink("/group/image")

    return own_hdf5(folder, make)


def external_data(folder: Path, secret: Path) -> Path:
    (secret / "raw").write_bytes(PIXELS.tobytes())
    pieces = [(str(secret / "raw"), 0, PIXELS.nbytes)]
    return own_hdf5(
        folder, lambda file: file.create_dataset("image", PIXELS.shape, "u1", external=pieces) and None
    )


def virtual(folder: Path, name: str, inner: str = "image") -> Path:
    layout = h5py.VirtualLayout(PIXELS.shape, "u1")
    layout[:] = h5py.VirtualSource(name, inner, PIXELS.shape)
    return own_hdf5(folder, lambda file: file.create_virtual_dataset("image", layout) and None)


def virtual_series(folder: Path, name: str) -> Path:
    """A virtual dataset of any number of files, ``%b`` in the name being the number of each."""
    space = h5py.h5s.create_simple((8, 28), (h5py.h5s.UNLIMITED, 28))
    space.select_hyperslab((0, 0), (h5py.h5s.UNLIMITED, 1), (8, 28), (8, 28))
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_virtual(space, name.encode(), b"image", h5py.h5s.create_simple((8, 28)))
    whole = h5py.h5s.create_simple((8, 28), (h5py.h5s.UNLIMITED, 28))
    return own_hdf5(
        folder, lambda f: h5py.h5d.create(f.id, b"image", h5py.h5t.STD_U8LE, whole, made) and None
    )


def virtual_dataset_of_numbered_files(folder: Path, secret: Path) -> Path:
    (folder / "near0.h5").symlink_to(secret_hdf5(secret))
    return virtual_series(folder, "near%b.h5")


def virtual_dataset(folder: Path, secret: Path) -> Path:
    return virtual(folder, str(secret_hdf5(secret)))


def virtual_dataset_of_a_linked_file(folder: Path, secret: Path) -> Path:
    (folder / "near.h5").symlink_to(secret_hdf5(secret))
    return virtual(folder, "near.h5")


def virtual_dataset_of_a_virtual_one(folder: Path, secret: Path) -> Path:
    inner = Path(str(virtual(folder, str(secret_hdf5(secret)))).partition("::")[0])
    inner.rename(folder / "inner.h5")
    return virtual(folder, "inner.h5")


def arrays(folder: Path, secret: Path, **options: object) -> tuple[Path, Path]:
    """The Zarr arrays "own.zarr" and "secret.zarr"."""
    made = []
    for place, pixels in ((folder / "own.zarr", OWN + 1), (secret / "secret.zarr", PIXELS)):
        zarr.create_array(place, data=pixels, chunks=pixels.shape, compressors=None, **options)  # type: ignore[arg-type]  # of several types
        made.append(place)
    return made[0], made[1]


def linked_chunk(folder: Path, secret: Path) -> Path:
    own, other = arrays(folder, secret)
    (own / "c/0/0").unlink()
    (own / "c/0/0").symlink_to(other / "c/0/0")
    return own


def linked_chunk_of_zarr_2(folder: Path, secret: Path) -> Path:
    own, other = arrays(folder, secret, zarr_format=2)
    (own / "0.0").unlink()
    (own / "0.0").symlink_to(other / "0.0")
    return own


def linked_folder_of_chunks(folder: Path, secret: Path) -> Path:
    own, other = arrays(folder, secret)
    (own / "c").rename(folder / "gone")
    (own / "c").symlink_to(other / "c")
    return own


def linked_shard(folder: Path, secret: Path) -> Path:
    own, other = arrays(folder, secret, shards=PIXELS.shape)
    (own / "c/0/0").unlink()
    (own / "c/0/0").symlink_to(os.path.relpath(other / "c/0/0", own / "c/0"))
    return own


def linked_metadata(folder: Path, secret: Path) -> Path:
    own, other = arrays(folder, secret)
    (own / "zarr.json").unlink()
    (own / "zarr.json").symlink_to(other / "zarr.json")
    return own


def pyramids(folder: Path, secret: Path) -> tuple[Path, Path]:
    build(OWN + 1, folder / "own.zarr", codec="none", shard=0)
    build(PIXELS, secret / "secret.zarr", codec="none", shard=0)
    return folder / "own.zarr", secret / "secret.zarr"


def level_named(folder: Path, secret: Path, name: str) -> Path:
    own, _ = pyramids(folder, secret)
    node = json.loads((own / "zarr.json").read_text())
    node["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = name
    (own / "zarr.json").write_text(json.dumps(node))
    return own


def level_above(folder: Path, secret: Path) -> Path:
    return level_named(folder, secret, "../../secret/secret.zarr/0")


def level_absolute(folder: Path, secret: Path) -> Path:
    return level_named(folder, secret, str(secret / "secret.zarr/0"))


def linked_level(folder: Path, secret: Path) -> Path:
    own, other = pyramids(folder, secret)
    (own / "0").rename(folder / "gone")
    (own / "0").symlink_to(other / "0")
    return own


def series_above(folder: Path, secret: Path) -> Path:
    _, other = pyramids(folder, secret)
    top = folder / "many.zarr"
    for place, ome_attributes in (
        (top, {"bioformats2raw.layout": 3}),
        (top / "OME", {"series": [str(other)]}),
    ):
        place.mkdir()
        node = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome_attributes}}
        (place / "zarr.json").write_text(json.dumps(node))
    return top


WAYS = [
    ome_absolute, ome_above, ome_through_a_linked_folder, ome_linked_file, external_link, external_link_above,
    external_data, virtual_dataset, virtual_dataset_of_a_linked_file, virtual_dataset_of_a_virtual_one, virtual_dataset_of_numbered_files,
    linked_chunk, linked_chunk_of_zarr_2, linked_folder_of_chunks, linked_shard, level_above,
    level_absolute, linked_level, series_above,
]  # fmt: skip
PYRAMIDS = [linked_level, level_above, series_above]


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    folder, secret = tmp_path / "mine", tmp_path / "secret"
    folder.mkdir()
    secret.mkdir()
    return folder, secret


def holds_the_secret(dest: Path) -> bool:
    return any(SECRET in file.read_bytes() for file in dest.parent.rglob("*") if file.is_file())


@pytest.mark.parametrize("make", WAYS, ids=lambda make: make.__name__)
def test_no_way_leads_out(
    tmp_path: Path,
    places: tuple[Path, Path],
    make: Callable[[Path, Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, dest = make(*places), tmp_path / "out/p.zarr"
    command = [
        "build",
        str(source),
        str(dest),
        "--codec",
        "none",
        "--axes",
        "cyx" if "ome" in make.__name__ else "yx",
    ]
    assert run([*command, "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "outside"
    assert f"{places[1]}" in error["message"], "where it leads"
    assert f"outside of {places[0]}" in error["message"]
    assert "--allow-outside" in error["hint"]
    assert not holds_the_secret(dest)
    assert run([*command, "--overwrite", "--allow-outside", "--quiet"]) == 0
    assert holds_the_secret(dest)


@pytest.mark.parametrize("allow_outside", [False, True])
def test_a_backslash_is_part_of_a_name_not_a_way_through_a_link(
    tmp_path: Path, places: tuple[Path, Path], allow_outside: bool
) -> None:
    """To TensorStore ``link\\0`` is ``link/0``: that was read and copied, unseen by what looks for ways out."""
    folder, secret = places
    source, dest = level_named(folder, secret, "link\\0"), tmp_path / "out/p.zarr"
    (source / "0").rename(source / "link\\0")
    (source / "link").symlink_to(secret / "secret.zarr")
    more = ["--allow-outside"] * allow_outside
    assert run(["build", str(source), str(dest), "--codec", "none", "--quiet", *more]) == 0
    assert not holds_the_secret(dest)
    with open_source(dest) as built:
        assert np.array_equal(built.read(Box((0, 0), OWN.shape)), OWN + 1)


def test_a_chunk_that_leads_out_is_no_hole_to_be_filled(
    tmp_path: Path, places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, dest = linked_chunk(*places), tmp_path / "out/p.zarr"
    assert run(["build", str(source), str(dest), "--on-error", "fill"]) == 3
    assert "--allow-outside" in capsys.readouterr().err
    assert not holds_the_secret(dest)


@pytest.mark.parametrize("make", [*WAYS[1:11:3], *PYRAMIDS, linked_metadata], ids=lambda make: make.__name__)
def test_info_does_not_look_outside(
    places: tuple[Path, Path], make: Callable[[Path, Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(make(*places))
    assert run(["info", source]) == 3
    assert "--allow-outside" in capsys.readouterr().err
    assert run(["info", source, "--allow-outside"]) == 0


@pytest.mark.parametrize("make", PYRAMIDS, ids=lambda make: make.__name__)
def test_verify_does_not_look_outside(
    places: tuple[Path, Path], make: Callable[[Path, Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(make(*places))
    assert run(["verify", source]) == 3
    assert "--allow-outside" in capsys.readouterr().err
    assert run(["verify", source, "--allow-outside"]) in (0, 1)


def test_verify_opens_no_linked_chunk(places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    own, other = pyramids(*places)
    (own / "0/c/0/0").unlink()
    (own / "0/c/0/0").symlink_to(other / "0/c/0/0")
    assert run(["verify", str(own)]) == 3
    assert f"leads to {other}" in capsys.readouterr().err


@pytest.mark.parametrize("processes", [False, True])
def test_render_ends_at_a_chunk_that_leads_out(
    tmp_path: Path, places: tuple[Path, Path], processes: bool
) -> None:
    """Also where other processes read, and where holes in the picture would be allowed."""
    source, frame = linked_chunk(*places), tmp_path / "frame.png"
    (tmp_path / "settings.json").write_text(json.dumps({"loader_defaults": {"use_processes": processes}}))
    command = ["render", source, "-o", frame, "--size", "64x48", "--clim", "0,255", "--min-coverage", "0"]
    command += ["--config", tmp_path / "settings.json"]
    done = octree(*command)
    assert done.returncode == 3, done.stderr
    assert "--allow-outside" in done.stderr
    assert not frame.exists()
    assert octree(*command, "--allow-outside").returncode == 0
    assert frame.exists()


def test_render_opens_nothing_outside(tmp_path: Path, places: tuple[Path, Path]) -> None:
    done = octree("render", ome_above(*places), "-o", tmp_path / "frame.png")
    assert done.returncode == 3, done.stderr
    assert "--allow-outside" in done.stderr


@pytest.mark.parametrize("url", ["file:///etc/0", "s3://bucket/0", "https://example.org/0"])
def test_urls_are_refused_whatever_is_allowed(
    places: tuple[Path, Path], url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = level_named(*places, url)
    for options in ([], ["--allow-outside"]):
        assert run(["info", str(source), *options]) == 3
        assert url in capsys.readouterr().err


def test_companions_below_the_folder_are_read(places: tuple[Path, Path]) -> None:
    folder, _ = places
    (folder / "sub").mkdir()
    (folder / "link").symlink_to("sub")
    secret_tiff(folder / "sub")
    with open_source(ome(folder, "link/secret.tif")) as source:
        np.testing.assert_array_equal(source.read(Box((1, 0, 0), (2, 8, 28)))[0], PIXELS)
    secret_hdf5(folder / "sub")
    for make in (
        lambda: own_hdf5(
            folder, lambda f: f.__setitem__("image", h5py.ExternalLink("sub/secret.h5", "image"))
        ),
        lambda: virtual(folder, "sub/secret.h5"),
        lambda: virtual(folder, "/where/it/was/once/near.h5"),  # HDF5 looks beside the file, too
        lambda: virtual_series(folder, "near%b.h5"),
    ):
        for near in ("near.h5", "near0.h5"):
            (folder / near).unlink(missing_ok=True)
            (folder / near).symlink_to("sub/secret.h5")
        with open_source(make()) as source:
            np.testing.assert_array_equal(source.read(Box((0, 0), (8, 28))), PIXELS)


def test_external_data_lie_beside_the_file_not_where_the_process_is(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, secret = places
    (folder / "raw").write_bytes(PIXELS.tobytes())
    (secret / "raw").write_bytes(OWN.tobytes())
    pieces = [("raw", 0, PIXELS.nbytes)]
    monkeypatch.chdir(secret)
    source = own_hdf5(
        folder, lambda file: file.create_dataset("image", PIXELS.shape, "u1", external=pieces) and None
    )
    with open_source(source) as opened:
        np.testing.assert_array_equal(opened.read(Box((0, 0), (8, 28))), PIXELS)
        before = opened.fingerprint()
    (folder / "raw").write_bytes(PIXELS.tobytes()[:-1])
    with pytest.raises(SourceError, match="end too early"):
        open_source(source)
    (folder / "raw").write_bytes(PIXELS.tobytes() * 2)
    with open_source(source) as opened:
        assert opened.fingerprint() != before
    (folder / "raw").unlink()
    with pytest.raises(SourceError, match="not there"):
        open_source(source)


def test_what_a_virtual_dataset_misses_is_an_error_not_zeros(places: tuple[Path, Path]) -> None:
    folder, _ = places
    with pytest.raises(SourceError, match=r"gone\.h5, which is not there"):
        open_source(virtual(folder, "gone.h5"))
    secret_hdf5(folder)
    with pytest.raises(SourceError, match="other, which is not there"):
        open_source(virtual(folder, "secret.h5", "other"))


def test_virtual_datasets_do_not_follow_links_of_their_files(places: tuple[Path, Path]) -> None:
    folder, secret = places
    with h5py.File(folder / "near.h5", "w") as file:
        file["image"] = h5py.ExternalLink(str(secret_hdf5(secret)), "image")
    with pytest.raises(SourceError, match="a kind that octree does not follow"):
        open_source(virtual(folder, "near.h5"))


def test_links_of_hdf5_in_a_circle_end(places: tuple[Path, Path]) -> None:
    def make(file: h5py.File) -> None:
        file["image"], file["other"] = h5py.SoftLink("/other"), h5py.SoftLink("/image")

    with pytest.raises(SourceError, match="in a circle"):
        open_source(own_hdf5(places[0], make))


def test_variables_that_move_the_files_of_hdf5_are_not_trusted(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret_hdf5(places[0])
    monkeypatch.setenv("HDF5_VDS_PREFIX", str(places[1]))
    with pytest.raises(SourceError, match="HDF5_VDS_PREFIX is set"):
        open_source(virtual(places[0], "secret.h5"))


def test_whatever_tifffile_opens_is_looked_at(places: tuple[Path, Path]) -> None:
    """Micro-Manager's and NDTiff's files come by other ways than OME's, and all through one door."""
    folder, secret = places
    (folder / "NDTiff.index").symlink_to(secret / "any")
    (secret / "any").write_bytes(b"")
    with within(reach_of(folder)), pytest.raises(OutsideError):
        next(iter(tifffile.read_ndtiff_index(folder / "NDTiff.index")))
    assert list(tifffile.read_ndtiff_index(folder / "NDTiff.index")) == []


def test_a_linked_source_counts_as_where_it_really_is(places: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = places
    secret_tiff(folder)
    ome(folder, "secret.tif")
    link = tmp_path / "elsewhere.ome.tif"
    link.symlink_to(folder / "own.ome.tif")
    with open_source(link) as source:
        np.testing.assert_array_equal(source.read(Box((1, 0, 0), (2, 8, 28)))[0], PIXELS)
    own, _ = arrays(folder, folder)
    (tmp_path / "link.zarr").symlink_to(own)
    with open_source(tmp_path / "link.zarr") as source:
        assert source.read(Box((0, 0), (8, 28))).all()


def test_a_folder_with_a_link_to_itself_has_an_end(places: tuple[Path, Path]) -> None:
    own, _ = arrays(*places)
    (own / "c/again").symlink_to(own)
    with open_source(own) as source:
        assert source.fingerprint()["digest"]


def test_an_archive_that_names_what_lies_outside_is_refused(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    import zipfile

    with zipfile.ZipFile(places[0] / "x.zip", "w") as archive:
        archive.writestr("../zarr.json", "{}")
    assert run(["info", str(places[0] / "x.zip")]) == 3
    assert "a name that leads out of it" in capsys.readouterr().err


def test_a_suite_does_not_grant_itself_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "suite.toml").write_text(
        '[[case]]\nname = "a"\nsource = "x"\noptions = {allow_outside = true}\n'
    )
    assert run(["check", str(tmp_path / "suite.toml"), "--output", str(tmp_path / "o")]) == 2
    assert "unknown option" in capsys.readouterr().err


def test_check_does_not_look_outside(tmp_path: Path, places: tuple[Path, Path]) -> None:
    source = ome_above(*places)
    (tmp_path / "suite.toml").write_text(f'[[case]]\nname = "a"\nsource = "{source}"\nsize = "64x48"\n')
    command = ["check", tmp_path / "suite.toml", "--output", tmp_path / "o"]
    refused = octree(*command)
    assert (refused.returncode, "outside of" in refused.stdout + refused.stderr) == (1, True)
    allowed = octree(*command, "--allow-outside")
    assert "outside of" not in allowed.stdout + allowed.stderr
    assert (tmp_path / "o/actual/a").exists()


@pytest.mark.parametrize(
    ("real", "root", "below"),
    [
        ("/a/b", "/a", True),
        ("/a", "/a", True),
        ("/ab", "/a", False),
        ("/", "/a", False),
        ("/a/b", "/", True),
        ("/etc/passwd", "/home/u", False),
    ],
)
def test_below(real: str, root: str, below: bool) -> None:
    assert is_below(real, root) == below
    assert Reach(root, anywhere=True).allows(real)


def test_tensorstore_is_asked_for_nothing_outside(places: tuple[Path, Path]) -> None:
    """The link is what TensorStore would have followed: the test is of a danger that is there."""
    own = linked_chunk(*places)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{own}/"}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), PIXELS)
    with pytest.raises(OutsideError), open_source(own) as source:
        source.read(Box((0, 0), (8, 28)))
