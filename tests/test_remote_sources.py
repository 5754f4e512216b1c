"""Sources that are URLs: what is asked for, and that it is the same image as on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import Loopback, serving

from octree.cli.app import run
from octree.pyramid import build, open_pyramid, open_source
from octree.pyramid.errors import OutsideError, SourceError, SourceNotFound, UsageError
from octree.pyramid.model import Box
from octree.pyramid.store.remote.options import RemoteOptions
from octree.pyramid.verify.run import verify
from octree.render.frames import render
from octree.render.tiles.open_levels import open_levels

PIXELS = np.random.default_rng(1).integers(0, 60_000, (700, 900)).astype(np.uint16)
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup")
LEVELS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("www")
    build(PIXELS, folder / "v3.zarr", tile=128, shard=4)
    build(PIXELS, folder / "v2.zarr", tile=128, ome_version="0.4")
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[Loopback]:
    with serving(folder) as server:
        yield server


def metadata_asked(server: Loopback) -> list[str]:
    return [one.path for one in server.asked if one.path.endswith(METADATA)]


@pytest.mark.parametrize("name", ["v3.zarr", "v2.zarr"])
def test_a_frame_is_that_of_the_same_files_here(name: str, folder: Path, server: Loopback) -> None:
    here, there = render([str(folder / name)]), render([f"{server.url}/{name}"])
    np.testing.assert_array_equal(here.frames[0], there.frames[0])
    assert there.report.failures == []
    assert here.report.sources[0]["digest"] == there.report.sources[0]["digest"]
    assert max(Counter(metadata_asked(server)).values()) == 1


@pytest.mark.parametrize(("name", "more"), [("v3.zarr", 0), ("v2.zarr", 1)])
def test_opening_asks_for_each_level_once_and_all_together(name: str, more: int, server: Loopback) -> None:
    server.together = lambda asked: LEVELS if asked.path.count("/") == 2 else 0
    opened = open_levels(f"{server.url}/{name}")
    assert len(opened.levels.spec.levels) == LEVELS
    assert len(server.asked) == 1 + LEVELS + more
    before = len(server.asked)
    server.together = lambda asked: 0
    opened.digest()
    assert 0 < len(server.asked) - before <= 4


def test_pyramids_arrays_and_groups_inside_are_read(server: Loopback) -> None:
    pyramid = open_pyramid(f"{server.url}/v3.zarr")
    np.testing.assert_array_equal(pyramid.read(0, Box((0, 0), PIXELS.shape)), PIXELS)
    for url in (f"{server.url}/v3.zarr/0", f"{server.url}/v2.zarr::0", f"{server.url}/v3.zarr/"):
        with open_source(url) as source:
            np.testing.assert_array_equal(source.read(Box((0, 0), PIXELS.shape)), PIXELS)
            assert source.fingerprint() == open_source(url).fingerprint()


@pytest.mark.parametrize("name", ["v3.zarr", "v2.zarr"])
def test_the_zarr_library_reads_the_same(name: str, server: Loopback) -> None:
    """As it does for codecs that only it knows."""
    with open_source(f"{server.url}/{name}", engine="zarr") as source:
        assert source.engine == "zarr"
        np.testing.assert_array_equal(source.read(Box((100, 100), (400, 500))), PIXELS[100:400, 100:500])


def test_a_build_from_far_is_that_from_here(folder: Path, server: Loopback, tmp_path: Path) -> None:
    build(f"{server.url}/v3.zarr", tmp_path / "far.zarr", tile=64)
    build(folder / "v3.zarr", tmp_path / "near.zarr", tile=64)
    far, near = open_pyramid(tmp_path / "far.zarr"), open_pyramid(tmp_path / "near.zarr")
    for level, info in enumerate(near.spec.levels):
        whole = Box((0, 0), info.shape)
        np.testing.assert_array_equal(far.read(level, whole), near.read(level, whole))


def test_chunks_that_are_not_there_are_fill(server: Loopback) -> None:
    del server.values["v2.zarr/0/0/0"]
    with open_source(f"{server.url}/v2.zarr") as source:
        data = source.read(Box((0, 0), PIXELS.shape))
    assert (data[:128, :128] == 0).all()
    np.testing.assert_array_equal(data[128:], PIXELS[128:])


def test_names_that_lead_out_are_refused(server: Loopback) -> None:
    root = json.loads(server.values["v3.zarr/zarr.json"])
    for path in ("../v2.zarr/0", "https://example.org/x", "/v3.zarr/0"):
        root["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = path
        server.values["v3.zarr/zarr.json"] = json.dumps(root).encode()
        with pytest.raises(OutsideError):
            open_pyramid(f"{server.url}/v3.zarr")


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (None, SourceNotFound, "there is nothing at"),
        (b"not an image", SourceError, "neither Zarr, OME-Zarr nor TIFF"),
    ],
)
def test_what_is_no_image(server: Loopback, value: bytes | None, error: Any, words: str) -> None:
    if value is not None:
        server.values["x"] = value
    with pytest.raises(error, match=words):
        open_source(f"{server.url}/x")


def test_a_login_page_instead_of_metadata_is_said(server: Loopback) -> None:
    server.rule = lambda asked: "html"
    with pytest.raises(SourceError, match="a web page came instead"):
        open_source(f"{server.url}/v3.zarr")


def test_file_urls_are_paths(folder: Path) -> None:
    with open_source(f"file://{folder}/v3.zarr") as source:
        assert source.path == str(folder / "v3.zarr")
    assert run(["info", f"file://{folder}/v3.zarr"]) == 0
    with pytest.raises(UsageError):
        open_source("file://elsewhere/v3.zarr")


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "https://me:s3cr3t@host/x", "https://host/x?sig=s3cr3t", "http://host/x"]
)
@pytest.mark.parametrize("command", [["info"], ["verify"], ["render", "--json"], ["build"]])
def test_urls_that_are_refused(
    command: list[str], url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    dest = [str(tmp_path / "dest.zarr")] if command == ["build"] else []
    assert run([*command, url, *dest]) == 2
    said = capsys.readouterr()
    assert "s3cr3t" not in said.out + said.err


def test_commands_of_a_url(server: Loopback, tmp_path: Path) -> None:
    """Each as a process, as users start it."""

    def octree(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "octree.cli", *words], capture_output=True, text=True)

    url = f"{server.url}/v3.zarr"
    facts = json.loads(octree("info", url, "--json").stdout)
    assert (facts["path"], facts["kind"], facts["levels"][0]["shape"]) == (url, "pyramid", [700, 900])
    assert facts["stored_bytes"] is None
    done = octree("render", url, "-o", str(tmp_path / "a.png"), "--retries", "2", "--read-timeout", "5s")
    assert (done.returncode, done.stderr) == (0, "")
    missing = octree("info", f"{server.url}/none.zarr")
    assert (missing.returncode, "there is nothing at" in missing.stderr) == (3, True)


def test_options_reach_the_client(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """An S3 store on this machine, forbidden to others."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEYID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    for name in list(server.values):
        server.values[f"bucket/{name}"] = server.values.pop(name)
    with open_source("s3://bucket/v3.zarr", remote=RemoteOptions(endpoint=server.url)) as source:
        assert source.path == "s3://bucket/v3.zarr"
    assert all("authorization" in one.headers for one in server.asked)
    server.asked.clear()
    with open_source("s3://bucket/v3.zarr", remote=RemoteOptions(endpoint=server.url, anonymous=True)):
        assert not any("authorization" in one.headers for one in server.asked)


# what goes wrong, and what it cost


def chunk_of(asked: Any) -> bool:
    return not asked.path.endswith(METADATA)


def test_the_report_counts_requests(server: Loopback, tmp_path: Path) -> None:
    busy = iter(["503", "503"])
    # of what is wanted: reads of stand-ins may be given up before they are tried again
    server.rule = lambda asked: next(busy, None) if asked.path.startswith("v2.zarr/0/") else None
    del server.values["v2.zarr/0/0/0"]
    config = tmp_path / "settings.json"
    config.write_text(json.dumps({"loader_defaults": {"log_path": f"{tmp_path}/log.txt"}}))
    done = render([f"{server.url}/v2.zarr"], ["x=450,y=350,zoom=1"], options={"config": str(config)})
    totals = done.report.to_json()["totals"]
    assert totals["remote"] == {
        "requests": len(server.asked),
        "bytes": totals["remote"]["bytes"],
        "retries": 2,
        "fill_tiles": 1,
    }
    assert totals["remote"]["bytes"] > PIXELS.nbytes // 2
    assert "remote    requests=" in (tmp_path / "log.txt").read_text()
    assert render([PIXELS]).report.to_json()["totals"]["remote"]["requests"] == 0


@pytest.mark.parametrize(
    ("rule", "words"),
    [("403", "it may not be read (HTTP 403"), ("503", "the store is busy (HTTP 503, 2 tries)")],
)
def test_a_tile_that_cannot_be_read_is_tried_in_one_layer(server: Loopback, rule: str, words: str) -> None:
    server.rule = lambda asked: rule if chunk_of(asked) else None
    done = render([f"{server.url}/v2.zarr"], ["x=450,y=350,zoom=1"], options={"retries": 2, "clim": "0,1"})
    assert done.report.failures
    assert all(words in each["error"] for each in done.report.failures)
    asked = Counter(one.path for one in server.asked if chunk_of(one))
    tries = 2 if rule == "503" else 1
    assert max(asked.values()) <= 2 * tries  # for a tile, and for the digest


def test_forbidden_chunks_can_be_fill(server: Loopback) -> None:
    server.rule = lambda asked: "403" if asked.path == "v2.zarr/0/0/0" else None
    assert (
        open_pyramid(f"{server.url}/v2.zarr", remote=RemoteOptions(missing_403=True))
        .read(0, Box((0, 0), (9, 9)))
        .max()
        == 0
    )
    with pytest.raises(SourceError, match="may not be read") as caught:
        open_pyramid(f"{server.url}/v2.zarr").read(0, Box((0, 0), (9, 9)))
    assert "--missing 403" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["v3.zarr", "v2.zarr"])
def test_verify_lists_nothing(name: str, server: Loopback) -> None:
    result = verify(f"{server.url}/{name}")
    assert (result.ok, result.levels) == (True, LEVELS)
    assert {one.method for one in server.asked} <= {"GET", "HEAD"}
    assert verify(f"{server.url}/{name}", deep=True).ok


def test_verify_finds_what_is_damaged_far_away(server: Loopback) -> None:
    shard = "v3.zarr/0/c/0/0"
    server.values[shard] = server.values[shard][:-1] + b"\0"
    assert "torn-shard" in {finding.kind for finding in verify(f"{server.url}/v3.zarr").findings}
    del server.values["v2.zarr/1/0/0"]
    assert "missing-chunk" in {
        finding.kind for finding in verify(f"{server.url}/v2.zarr", deep=True).findings
    }


@pytest.mark.parametrize("where", ["v3.zarr/zarr.json", "v3.zarr/1/zarr.json"])
def test_metadata_that_are_forbidden_are_asked_for_once(where: str, server: Loopback) -> None:
    """By whatever asks: the first answer is the error."""
    server.rule = lambda asked: "403" if asked.path == where else None
    for command in (["info"], ["verify"], ["render", "--json"]):
        server.asked.clear()
        assert run([*command, f"{server.url}/v3.zarr"]) == 3
        assert Counter(one.path for one in server.asked)[where] == 1
