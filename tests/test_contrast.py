"""Automatic contrast limits: damage in one place is no end, and no wait is without one."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_tools import image, levels_of, octree
from PIL import Image

from octree.pyramid import build
from octree.pyramid.errors import OctreeWarning
from octree.render.config import Settings, default_settings
from octree.render.frames import render
from octree.render.tiles import open_levels

pytestmark = pytest.mark.usefixtures("gl_info")


def built(dest: Path, pixels: np.ndarray) -> Path:
    """A pyramid that records no window."""
    build(pixels, dest)
    document = json.loads((dest / "zarr.json").read_text())
    del document["attributes"]["ome"]["omero"]
    (dest / "zarr.json").write_text(json.dumps(document))
    return dest


def damage(pyramid: Path, level: str) -> None:
    for file in (pyramid / level).rglob("*"):
        if file.is_file() and file.name != "zarr.json":
            file.write_bytes(b"\xff" * file.stat().st_size)


def test_a_damaged_root_is_no_end(tmp_path: Path) -> None:
    """Through the command: what is in view is whole, and limits are those of the next level."""
    dest, out = tmp_path / "a.zarr", tmp_path / "a.png"
    built(dest, image((900, 1000)) * 50)
    levels = levels_of(dest)
    low, high = levels[1].min(), levels[1].max()
    assert (low, high) != (levels[2].min(), levels[2].max()), "or this test shows nothing"
    damage(dest, "2")
    done = octree("render", dest, "--camera", "x=500,y=450,zoom=1", "--size", "200x100", "-o", out)
    assert (done.returncode, done.stderr) == (0, "")
    told = render([dest], ["x=500,y=450,zoom=1"], size=(200, 100), options={"clim": f"{low},{high}"})
    assert (np.asarray(Image.open(out).convert("RGBA")) == told.frames[0]).all()


def test_where_nothing_can_be_read_the_range_of_the_type_is_taken_and_said(tmp_path: Path) -> None:
    dest = built(tmp_path / "a.zarr", image((300, 400)))
    for level in ("0", "1"):
        damage(dest, level)
    done = octree("render", dest, "--camera", "fit", "-o", tmp_path / "a.png")
    assert done.returncode == 1
    assert "warning: " in done.stderr
    assert "0 to 65535, the range of uint16, is taken" in done.stderr
    assert "OctreeWarning" not in done.stderr


class Slow:
    """Every read of it waits until ``end`` is set, and says first that it does."""

    def __init__(self, told: Callable[[], object] = lambda: None) -> None:
        self.shape, self.dtype, self.ndim = (300, 400), np.dtype(np.int16), 2
        self.end, self._told = threading.Event(), told

    def __getitem__(self, place: Any) -> Any:
        self._told()
        self.end.wait()
        return np.zeros(self.shape, self.dtype)[place]


def in_time(read_timeout_ms: float) -> Settings:
    usual = default_settings()
    return replace(usual, loader=replace(usual.loader, read_timeout_ms=read_timeout_ms, retries=1))


def test_a_look_takes_no_longer_than_a_read_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the digest in the report wait for ever."""
    monkeypatch.setattr(open_levels, "DIGEST_S", 0.05)
    slow = Slow()
    try:
        with pytest.warns(OctreeWarning, match="-32768 to 32767, the range of int16"):
            result = render([slow], size=(40, 30), options={"timeout": "100ms"}, settings=in_time(50.0))
    finally:
        slow.end.set()
    assert result.report.frames[0].coverage.ideal == 0


def test_a_look_ends_with_ctrl_c() -> None:
    slow = Slow(lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt):
            render([slow], size=(40, 30), settings=in_time(0.0))
    finally:
        slow.end.set()
