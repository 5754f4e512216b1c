"""Reports made up for tests."""

from __future__ import annotations

from typing import Any

from octree.render.report.values import (
    ByteCounts,
    FrameReport,
    Gauges,
    RunReport,
    SliceReport,
    TileCounts,
    Timings,
    totals_of,
)
from octree.render.view.camera import Camera, CameraPath
from octree.render.view.camera_text import parse_camera
from octree.render.view.coverage import Coverage

RENDERER: dict[str, Any] = {
    "platform": "null",
    "vendor": "Mesa",
    "renderer": "llvmpipe (made up)",
    "version": "4.5",
    "max_texture_size": 16384,
    "fingerprint": "llvmpipe-made-up-x86_64",
    "family": "llvmpipe-x86_64",
}
SOURCE: dict[str, Any] = {
    "path": "/data/a <b> & 'c'.zarr",
    "digest": "0" * 16,
    "dtype": "uint16",
    "axes": ["y", "x"],
    "tile": [256, 256],
    "levels": [{"shape": [10000, 20000], "scale": [1.0, 1.0], "translation": [0.0, 0.0]}],
}


def frame(index: int = 0, t_ms: float = 0.0, coverage: Coverage | None = None, **values: Any) -> FrameReport:
    values = {"level": 0, "visible_px": 48, "timings_ms": Timings(total=10.0)} | values
    return FrameReport(
        index, Camera(4, 3, 1, "view"), (8, 6), t_ms, coverage=coverage or Coverage(), **values
    )


def refining_frames(count: int = 60) -> list[FrameReport]:
    """Frames of a tour in which tiles arrive bit by bit."""
    path = parse_camera("tour", extent=(20000, 10000), size_px=(64, 48))
    assert isinstance(path, CameraPath)
    timed = path.frames()
    frames = []
    for index in range(count):
        t_ms, camera = timed[index * (len(timed) - 1) // max(count - 1, 1)]
        part = index / max(count - 1, 1)
        missing, failed = max(0.0, 0.4 - part), 0.02 if part > 0.5 else 0.0
        ideal = part * (1 - missing - failed)
        coarser = 1 - missing - failed - ideal
        frames.append(
            FrameReport(
                index=index,
                camera=camera,
                size_px=(64, 48),
                t_ms=t_ms,
                level=2,
                visible_px=64 * 48,
                coverage=Coverage(ideal, 0.0, coarser, failed, missing, {2: ideal, 4: coarser}),
                tiles=TileCounts(wanted=12, ideal=3, drawn=12),
                bytes=ByteCounts(1000, 2000, 0),
                timings_ms=Timings(0.3, 0.1, 2.0, 0.5, 5.0 + index % 3, 3.0, 8.0 + index % 3),
                gauges=Gauges(20 - index % 20, 4, 3, index << 20, index << 19),
            )
        )
    return frames


def run_report(frames: list[FrameReport] | None = None, **values: Any) -> RunReport:
    frames = refining_frames() if frames is None else frames
    facts: dict[str, Any] = {
        "command": "octree render 'a <b>.zarr' --camera tour",
        "renderer": RENDERER,
        "sources": [SOURCE],
        "settings": {"clim": "auto"},
        "started_utc": "2026-01-02T03:04:05Z",
        "frames": frames,
        "totals": totals_of(frames, seconds=1.5, peak_rss_bytes=300 << 20),
        "slices": [SliceReport({"t": 3}, 0.0, 5.0, 9.5, None, "partial", 4)],
        "failures": [{"source": "a", "key": {"level": 1, "grid": [0, 1]}, "error": "<script>boom</script>"}],
    }
    return RunReport(**(facts | values))
