"""Of channels that are added up none is said to be the one that is shown; of one alone it is said which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octree.pyramid import build
from octree.pyramid.errors import UsageError
from octree.render import render
from octree.render.scene.slice_request import SliceRequest

pytestmark = pytest.mark.usefixtures("gl_info")
LOOK = {"clim": "0,255"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tcyx: 2 times of 3 channels."""
    t, c, y, x = np.mgrid[0:2, 0:3, 0:32, 0:48]
    path = tmp_path_factory.mktemp("composites") / "stack.ome.zarr"
    build((20 + 100 * t + 30 * c + (x + y) % 9).astype(np.uint8), path, axes="tcyx", tile=32)
    return path


def octree(*words: Any) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("OCTREE_")}
    done = subprocess.run(
        [sys.executable, "-m", "octree.cli", *map(str, words)],
        capture_output=True, text=True, timeout=120, check=False, env=env,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_a_film_of_composites_names_no_channel(stack: Path, tmp_path: Path) -> None:
    log, report = tmp_path / "slices.log", tmp_path / "report.json"
    drawn = ("render", stack, "--index", "t=:", "--size", "48x32")
    done = octree(*drawn, "-o", tmp_path / "{t}.png", "--slice-log", log, "--report", report)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(report.read_text())
    assert [frame["position"] for frame in document["frames"]] == [
        {"requested": {"t": t}, "shown": {"t": t}} for t in range(2)
    ]
    assert [each["index"] for each in document["slices"]] == [{"t": 0}, {"t": 1}]
    assert [line.split("fit: ")[1].split()[0] for line in log.read_text().splitlines()] == ["t=0", "t=1"]


def test_a_name_with_the_channel_of_a_composite_is_a_usage_error(stack: Path, tmp_path: Path) -> None:
    done = octree("render", stack, "-o", tmp_path / "c{c}-{index}.png", "--size", "48x32")
    assert done.returncode == 2
    assert "unknown field {c}" in done.stderr
    assert "--index c=:, and not several added up" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_film_over_channels_names_each(stack: Path, tmp_path: Path) -> None:
    done = octree("render", stack, "--index", "c=:", "-o", tmp_path / "c{c}.png", "--size", "48x32")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c0.png", "c1.png", "c2.png"]


@pytest.mark.parametrize(
    ("options", "stands"),
    [
        ({}, {"t": 0}),
        ({"channels": "1"}, {"t": 0, "c": 1}),
        ({"channels": "2:red,0:green"}, {"t": 0}),
        ({"index": "c=2"}, {"t": 0, "c": 2}),
        ({"colormap": "viridis"}, {"t": 0, "c": 0}),
        ({"project": "c=max"}, {"t": 0}),
        ({"display": "cx"}, {"t": 0, "y": 0}),
    ],
)
def test_the_plane_that_is_said_is_the_one_that_is_shown(
    stack: Path, options: dict[str, Any], stands: dict[str, int]
) -> None:
    report = render([str(stack)], size=(48, 32), options=LOOK | options).report
    frame = report.frames[0].to_json()
    assert frame["index"] == frame["position"] == {"requested": stands, "shown": stands}
    assert [each.index for each in report.slices] == [stands]


def test_what_stands_on_no_axis_has_the_number_of_its_frame(stack: Path) -> None:
    options = LOOK | {"project": "t=max"}
    frame = render([str(stack)], size=(48, 32), options=options).report.frames[0].to_json()
    assert frame["index"] == 0
    assert frame["position"] == {"requested": {}, "shown": {}}


def test_of_several_layers_the_one_that_stands_says_where(stack: Path) -> None:
    """Two of one channel each say which; if it is not the same, none is. What is stepped stands where the view does."""
    shown = []
    for chosen in ({"channels": ["1", "1"]}, {"channels": ["0", "1"]}, {"index": "c=2"}):
        options = LOOK | chosen
        report = render([str(stack)] * 2, size=(48, 32), options=options).report
        shown.append(dict(report.frames[0].position.shown))
    assert shown == [{"t": 0, "c": 1}, {"t": 0}, {"t": 0, "c": 2}]


def test_two_options_do_not_choose_the_channel(stack: Path) -> None:
    with pytest.raises(UsageError, match=r"--channels and --index c=1 both choose"):
        render([str(stack)], options={"channels": "0", "index": "c=1"})


def test_a_montage_says_the_channel_of_each_view_alone(stack: Path) -> None:
    options = LOOK | {"montage": "3x1", "montage_by": "channel"}
    result = render([str(stack)], size=(200, 60), options=options)
    frame = result.report.frames[0].to_json()
    assert [cell["index"] for cell in frame["cells"]] == [{"t": 0, "c": c} for c in range(3)]
    assert frame["position"]["shown"] == {"t": 0}
    assert [each.index for each in result.report.slices] == [{"t": 0, "c": c} for c in range(3)]
    options = LOOK | {"montage": "2x1", "index": "t=:"}
    cells = render([str(stack)], size=(200, 60), options=options).report.frames[0].to_json()["cells"]
    assert [cell["index"] for cell in cells] == [{"t": 0}, {"t": 1}]


def test_a_node_stands_on_no_channel_that_it_adds_to_others(stack: Path) -> None:
    from vispy.scene import SceneCanvas

    from octree.render import TiledImage

    window = SceneCanvas(size=(48, 32), show=False)
    try:
        view = window.central_widget.add_view()
        asked: list[SliceRequest] = []
        for options, stands in (
            ({}, {"t": 0}),
            ({"channels": "1"}, {"t": 0, "c": 1}),
            ({"index": "c=1"}, {"t": 0, "c": 1}),
        ):
            node = TiledImage(str(stack), parent=view.scene, **LOOK, **options)
            node.events.requested.connect(lambda event: asked.append(event.request))
            assert (node.index, node.slice.index) == (stands, stands)
            node.go_to(t=1)
            assert asked.pop().index == node.index == stands | {"t": 1}
            if "index" in options:
                assert node.go_to(c=2).index == {"t": 1, "c": 2}
            else:
                with pytest.raises(UsageError, match="visual of its own"):
                    node.go_to(c=2)
            node.close()
    finally:
        window.close()
