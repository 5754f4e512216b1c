"""What servers and networks do on bad days, through the commands: what is said, what is drawn, how often it is tried, and that
nothing hangs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from servers.faulty import FaultServer, Kind

from octree.cli.app import run
from octree.pyramid import build

TRIES = 2
QUICK = ["--retries", str(TRIES), "--read-timeout", "300ms"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    ramp = np.add.outer(np.arange(300), np.arange(400)).astype(np.uint16)
    build(ramp + 100, folder / "p.ome.zarr", tile=128, shard=2)
    return folder / "p.ome.zarr"


@pytest.fixture
def served(faulty: FaultServer, made: Path) -> FaultServer:
    (faulty.root / "p.ome.zarr").symlink_to(made)
    return faulty


class Seen(NamedTuple):
    code: int
    err: str
    report: dict[str, Any]
    png: bytes


def render(server: FaultServer, folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Seen:
    """A frame that needs all four tiles of one shard, but for the coarser levels."""
    report, png = folder / "report.json", folder / "f.png"
    words = ["render", f"{server.url}/p.ome.zarr", "--camera", "x=128,y=128,zoom=1", "--size", "200x200"]
    code = run([*words, "-o", str(png), "--report", str(report), *QUICK, *more])
    err = capsys.readouterr().err
    assert "Traceback" not in err
    document = json.loads(report.read_text()) if report.exists() else {}
    return Seen(code, err, document, png.read_bytes() if png.exists() else b"")


def info(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run(["info", f"{server.url}/p.ome.zarr", *QUICK])
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return code, err


@pytest.fixture
def good(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> bytes:
    """The frame of the folder itself."""
    out = tmp_path / "good.png"
    words = ["--camera", "x=128,y=128,zoom=1", "--size", "200x200", "-o", str(out)]
    assert run(["render", str(made), *words]) == 0
    capsys.readouterr()
    return out.read_bytes()


ONCE: tuple[Kind, ...] = ("429", "500", "503", "reset", "truncated", "hanging", "hanging-body")
ALWAYS: dict[Kind, str] = {
    "403": r"may not be read",
    "401": r"does not accept the credentials, or wants some",
    "429": r"busy",
    "500": r"an error of its own",
    "503": r"busy",
    "reset": r"connection was lost",
    "truncated": r"connection ended before|connection was lost",
    "hanging": r"nothing came any more",
    "hanging-body": r"nothing came any more",
    "html": r"web page|range|not JSON",
    "garbage": r"not JSON",
}
"""What is said of metadata."""


@pytest.mark.parametrize("kind", ONCE)
def test_what_goes_wrong_once_is_tried_again(
    kind: Kind, served: FaultServer, good: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.fault(kind, "/0/c/", times=1)
    served.fault(kind, "/p.ome.zarr/zarr.json", times=1)
    seen = render(served, tmp_path, capsys)
    assert (seen.code, seen.png) == (0, good), seen.err
    again = [one.fault for one in served.requests].count(kind)
    assert again == 2


@pytest.mark.parametrize("kind", ALWAYS)
def test_metadata_that_never_come_are_exit_3_and_a_sentence(
    kind: Kind, served: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    served.fault(kind, "zarr.json")
    code, err = info(served, capsys)
    assert code == 3, err
    assert "/p.ome.zarr/zarr.json" in err
    assert re.search(ALWAYS[kind], err), err
    # once ahead with all others, once by whoever says what is wrong
    tried = sum(one.path == "/p.ome.zarr/zarr.json" for one in served.requests)
    assert tried <= 2 * (1 if kind in ("401", "403") else TRIES)


@pytest.mark.parametrize(
    "kind",
    ["403", "401", "500", "503", "429", "reset", "truncated", "hanging", "hanging-body", "html", "garbage"],
)
def test_chunks_that_never_come_are_failed_tiles_that_say_why(
    kind: Kind, served: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And never black, nor anything else that looks like an image."""
    served.fault(kind, "/0/c/")
    seen = render(served, tmp_path, capsys)
    assert seen.code == 1, seen.err
    (frame,) = seen.report["frames"]
    assert frame["coverage"]["failed"] > 0
    said = r"level 0 at \S+/p\.ome\.zarr/0: chunk \d/\d cannot be read: .*/0/c/0/0"
    assert re.search(said, seen.err), seen.err
    served.wait_for(lambda server: server.unanswered == 0)


def test_chunks_that_are_not_there_are_fill(
    served: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.fault("404", "/c/")
    seen = render(served, tmp_path, capsys, "--allow-empty", "--clim", "0,1000")
    assert seen.code == 0, seen.err
    (frame,) = seen.report["frames"]
    assert frame["coverage"]["failed"] == 0
    assert {one.fault for one in served.requests if "/c/" in one.path} == {"404"}


def test_forbidden_may_mean_missing(
    served: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.fault("403", "/c/")
    seen = render(served, tmp_path, capsys, "--allow-empty", "--clim", "0,1000", "--missing", "403")
    assert seen.code == 0, seen.err
    assert seen.report["frames"][0]["coverage"]["failed"] == 0


def test_what_drips_but_comes_is_waited_for(
    served: FaultServer, good: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.fault("dripping", "/0/c/")
    seen = render(served, tmp_path, capsys)
    assert (seen.code, seen.png) == (0, good), seen.err


def test_a_server_without_ranges_is_read_whole_while_that_is_little(
    served: FaultServer, good: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.fault("range-ignored")
    seen = render(served, tmp_path, capsys)
    assert (seen.code, seen.png) == (0, good), seen.err


def test_nothing_there_and_nobody_there(served: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", f"{served.url}/none.zarr", *QUICK]) == 3
    assert "there is nothing at" in capsys.readouterr().err
    served.close()
    code, err = info(served, capsys)
    assert code == 3
    assert "nobody answers there" in err
