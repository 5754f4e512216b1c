"""The demo, as a newcomer runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

from octree.pyramid.sources.sample import GeneratedImage


def test_the_demo_makes_what_it_says(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "octree.cli", "demo", str(tmp_path / "a demo"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    files = [Path(name) for name in document["files"]]
    assert all(path.is_file() for path in files)
    pictures = [path for path in files if path.suffix == ".png"]
    assert len(pictures) == 5
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.size == (1024, 768)
            assert len(picture.getcolors(1 << 20) or range(99)) > 50, f"{path} is blank"
    with Image.open(next(path for path in files if path.suffix == ".gif")) as film:
        durations_ms = [(film.seek(n), film.info["duration"])[1] for n in range(film.n_frames)]
        assert len(durations_ms) > 10, "tiles arrive one after another"
        assert abs(sum(durations_ms) - 2667) < 100, "pictures that are equal may be one that lasts longer"
    for path, name, count in zip(files[-2:], ("through.gif", "turntable.gif"), (49, 36), strict=True):
        with Image.open(path) as film:
            assert (path.name, film.n_frames) == (name, count)
    assert "<html" in next(path for path in files if path.suffix == ".html").read_text()


def test_the_generated_image_is_the_same_however_it_is_sliced() -> None:
    image = GeneratedImage(2048, seed=3)
    whole = image[0:2048, 0:2048]
    assert (image[500:1300, 90:777] == whole[500:1300, 90:777]).all()
    assert (image[1023:1025, 0:2048] == whole[1023:1025]).all()
    assert whole.std() > 100
