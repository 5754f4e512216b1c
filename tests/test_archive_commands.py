"""Archives through the commands: as SOURCE, here and on servers, and as DEST."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_tools import octree, start, tree
from servers.nginx import Nginx

from octree.cli.app import run
from octree.pyramid import build
from octree.pyramid.errors import DestinationError, SourceError
from octree.pyramid.store.arrays import open_pyramid
from octree.pyramid.verify.run import verify


def picture(rows: int = 700, columns: int = 900, seed: int = 0) -> np.ndarray:
    ramp = np.add.outer(np.arange(rows) // 3, np.arange(columns) // 5)
    return (ramp + np.random.default_rng(seed).integers(0, 50, (rows, columns))).astype(np.uint16)


OPTIONS: dict[str, Any] = {"tile": 128, "shard": 2}
WORDS = ["--tile", "128", "--shard", "2"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, and an archive of the same pyramid."""
    folder = tmp_path_factory.mktemp("built")
    np.save(folder / "a.npy", picture())
    build(folder / "a.npy", folder / "a.zarr", **OPTIONS)
    build(folder / "a.npy", folder / "a.ozx", **OPTIONS)
    return folder


def output_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run(list(map(str, words))) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refusal_of(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    assert run(list(map(str, words))) == code
    return capsys.readouterr().err


def test_an_archive_holds_the_pyramid_of_the_folder(built: Path) -> None:
    with zipfile.ZipFile(built / "a.ozx") as archive:
        assert archive.testzip() is None
        assert json.loads(archive.comment) == {"ome": {"version": "0.5"}}
        names = archive.namelist()
        found = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}
    assert found == tree(built / "a.zarr")
    assert names[:5] == ["zarr.json", *(f"{level}/zarr.json" for level in range(4))]
    assert {path.name for path in built.iterdir()} == {"a.npy", "a.zarr", "a.ozx"}


def test_frames_facts_and_builds_are_those_of_the_folder(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.zarr", "a.ozx"):
        output_of(
            capsys, "render", built / name, "--camera", "x=300,y=200,zoom=2", "--size", "256x200",
            "-o", tmp_path / f"{name}.png",
        )  # fmt: skip
    assert (tmp_path / "a.ozx.png").read_bytes() == (tmp_path / "a.zarr.png").read_bytes()
    facts, archived = (
        json.loads(output_of(capsys, "info", built / name, "--json")) for name in ("a.zarr", "a.ozx")
    )
    assert archived["path"] == str(built / "a.ozx")
    for level, other in zip(facts["levels"], archived["levels"], strict=True):
        assert other == level
    build(built / "a.ozx", tmp_path / "again.zarr", **OPTIONS)
    assert {k: v for k, v in tree(tmp_path / "again.zarr").items() if "/c/" in k} == {
        k: v for k, v in tree(built / "a.zarr").items() if "/c/" in k
    }
    assert "whole: 4 levels" in output_of(capsys, "verify", built / "a.ozx", "--deep")
    inner = json.loads(output_of(capsys, "info", f"{built / 'a.ozx'}::1", "--json"))
    assert inner["levels"][0]["shape"] == facts["levels"][1]["shape"]


def test_an_archive_on_a_server_is_read_by_ranges(
    built: Path, nginx: Nginx, www: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(built / "a.ozx", www / "ranges.ozx")
    words = ["--camera", "x=300,y=200,zoom=2", "--size", "256x200", "-o"]
    output_of(capsys, "render", f"{nginx.url}/ranges.ozx", *words, tmp_path / "a.png")
    output_of(capsys, "render", built / "a.zarr", *words, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    asked = [line for line in nginx.requests() if line.path == "/ranges.ozx"]
    assert all(line.status == 206 for line in asked)
    assert sum(line.bytes for line in asked) < 2 * (built / "a.ozx").stat().st_size


def test_zarr_2_in_an_archive(tmp_path: Path) -> None:
    build(picture(), tmp_path / "a.ozx", ome_version="0.4", tile=128)
    with zipfile.ZipFile(tmp_path / "a.ozx") as archive:
        assert json.loads(archive.comment) == {"ome": {"version": "0.4"}}
        assert set(archive.namelist()[:2]) == {".zattrs", ".zgroup"}
    pyramid = open_pyramid(tmp_path / "a.ozx")
    assert pyramid.spec.ome_version == "0.4"
    assert pyramid.engine == "ranges"
    assert verify(tmp_path / "a.ozx", deep=True).ok


def test_damage_in_an_archive_is_found(built: Path, tmp_path: Path) -> None:
    data = bytearray((built / "a.ozx").read_bytes())
    with zipfile.ZipFile(built / "a.ozx") as archive:
        info = archive.getinfo("0/c/0/0")
    data[info.header_offset + 5000] ^= 1
    (tmp_path / "a.ozx").write_bytes(data)
    found = verify(tmp_path / "a.ozx", deep=True).findings
    assert ("torn-shard", "c/0/0", "its bytes are not those that were put into the archive") in {
        (one.kind, one.where, one.what) for one in found
    }


# DEST


def test_what_is_there_stays(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, dest = built / "a.npy", tmp_path / "a.ozx"
    dest.write_bytes(b"a letter")
    assert "a.ozx exists" in refusal_of(capsys, 4, "build", source, dest)
    assert "is no archive of a pyramid" in refusal_of(capsys, 4, "build", source, dest, "--overwrite")
    with zipfile.ZipFile(dest, "w") as archive:
        archive.writestr("letter.txt", "dear reader")
    before = dest.read_bytes()
    assert "is no archive of a pyramid" in refusal_of(capsys, 4, "build", source, dest, "--overwrite")
    assert dest.read_bytes() == before
    link = tmp_path / "link.ozx"
    link.symlink_to(built / "a.ozx")
    assert "is a link" in refusal_of(capsys, 4, "build", source, link, "--overwrite")
    (tmp_path / "folder.ozx").mkdir()
    assert "is no archive" in refusal_of(capsys, 4, "build", source, tmp_path / "folder.ozx", "--overwrite")
    assert "one go" in refusal_of(capsys, 2, "build", source, tmp_path / "b.ozx", "--resume")
    assert "are the same" in refusal_of(capsys, 4, "build", built / "a.ozx", built / "a.ozx", "--overwrite")
    assert "a.ozx exists" in refusal_of(capsys, 4, "build", source, dest, "--dry-run")
    strange = tmp_path / ".c.ozx.octree-unpacked"
    strange.mkdir()
    (strange / "letter.txt").write_text("dear reader")
    assert "no pyramid to overwrite" in refusal_of(capsys, 4, "build", source, tmp_path / "c.ozx")
    assert (strange / "letter.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".c.ozx.octree-unpacked", "a.ozx", "folder.ozx", "link.ozx",
    ]  # fmt: skip


def test_dest_may_be_a_url_of_this_machine_only(
    tmp_path: Path, built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output_of(capsys, "build", built / "a.npy", f"file://{tmp_path}/b.ozx", *WORDS)
    assert (tmp_path / "b.ozx").read_bytes() == (built / "a.ozx").read_bytes()
    said = refusal_of(capsys, 2, "build", built / "a.npy", "s3://bucket/b.ozx")
    assert "s3://bucket/b.ozx is an archive in a store" in said


def test_overwrite_replaces_an_archive_of_a_pyramid(tmp_path: Path) -> None:
    build(picture(), tmp_path / "a.ozx", **OPTIONS)
    build(picture(seed=1), tmp_path / "a.ozx", overwrite=True, **OPTIONS)
    build(picture(seed=1), tmp_path / "b.ozx", **OPTIONS)
    assert (tmp_path / "a.ozx").read_bytes() == (tmp_path / "b.ozx").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ozx", "b.ozx"]


def test_what_comes_to_lie_at_dest_meanwhile_stays(tmp_path: Path) -> None:
    dest = tmp_path / "a.ozx"

    def put(progress: Any) -> None:
        dest.write_bytes(b"a letter")

    with pytest.raises(DestinationError, match="has been put there meanwhile"):
        build(picture(), dest, progress=put, **OPTIONS)
    assert dest.read_bytes() == b"a letter"
    dest.unlink()
    build(picture(), dest, **OPTIONS)
    with pytest.raises(DestinationError, match="is no archive of a pyramid"):
        build(picture(), dest, progress=put, overwrite=True, **OPTIONS)
    assert dest.read_bytes() == b"a letter"


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    class Broken:
        shape, dtype = (700, 900), np.dtype("uint16")

        def __getitem__(self, place: Any) -> Any:
            raise ValueError("no such luck")

    with pytest.raises(SourceError) as raised:
        build(Broken(), tmp_path / "a.ozx", **OPTIONS)
    assert "--resume" not in (raised.value.hint or "")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_build_leaves_no_archive_and_the_next_one_takes_its_place(
    built: Path, tmp_path: Path
) -> None:
    """Killed while it writes, and while it packs: DEST is there whole, or not at all."""
    dest = tmp_path / "a.ozx"
    words = ["build", built / "a.npy", dest, *WORDS, "--progress", "json"]
    for lines in (1, 3):
        process = start(*words)
        assert process.stderr is not None
        with process:
            for _ in range(lines):
                process.stderr.readline()
            os.kill(process.pid, signal.SIGKILL)
        assert not dest.exists() or dest.read_bytes() == (built / "a.ozx").read_bytes()
        dest.unlink(missing_ok=True)
    done = octree(*words)
    assert done.returncode == 0, done.stderr
    assert dest.read_bytes() == (built / "a.ozx").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["a.ozx"]
