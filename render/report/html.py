"""The HTML report of a run: one file that works offline.

Frames, coverage by level over time, frame times, loads under way, memory, failures, settings. Beside the frames
the page stays well under 2 MB however long the run was: plots get at most ``_PLOT_POINTS`` points.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from octree.render.output.files import atomic_file
from octree.render.report.pages import bytes_or_dash, data_url, human_ms, plotting, render_page, svg_of
from octree.render.report.rates import SLOWER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Picture = bytes | str | os.PathLike[str]
FRAMES_BUDGET_BYTES = 16 * 2**20
_PLOT_POINTS = 600
_PHASES = ("plan", "load_wait", "upload", "cover", "draw")
_BUDGETS_MS = (1000 / 60, 1000 / 30)


def write_html(path: str | os.PathLike[str], report: dict[str, Any], frames: Sequence[Picture]) -> None:
    """Write the page, atomically.

    ``report`` is ``RunReport.to_json()``; ``frames`` are PNGs, as bytes or paths, in the order of
    ``report["frames"]``. When they are more than ``FRAMES_BUDGET_BYTES`` together, evenly chosen ones are
    shown. Raises ``DestinationError`` or ``WriteError``, and OSError for a frame whose file cannot be read.
    """
    page = make_page(report, frames)
    with atomic_file(Path(path)) as partial:
        partial.write_text(page, encoding="utf-8")


def make_page(report: dict[str, Any], frames: Sequence[Picture]) -> str:
    """The text of the page."""
    from markupsafe import Markup

    pictures = _pictures(report["frames"], frames)
    plots = [
        {"name": name, "title": title, "text": text, "svg": Markup(_plot(name, draw, report["frames"]))}
        for name, title, text, draw in _PLOTS
        if report["frames"]
    ]
    if len(slices := report.get("slices", ())) > 1:
        plots.append(
            {"name": "slices", "title": "Planes", "text": _SLICES, "svg": Markup(_plot_slices(slices))}
        )
    paths = [Path(str(source.get("path", "?"))).name for source in report["sources"]]
    return render_page(
        "report.html.jinja",
        title=", ".join(paths) or "no source",
        report=report,
        cards=_cards(report),
        pictures=pictures,
        first=_first_shown(pictures),
        left_out=len(frames) - len(pictures),
        plots=plots,
        settings=json.dumps(report["settings"], indent=2, ensure_ascii=False),
        totals=json.dumps(report["totals"], indent=2),
    )


def _cards(report: dict[str, Any]) -> list[tuple[str, str]]:
    totals, frames = report["totals"], report["frames"]
    times = totals["frame_ms"]
    last = frames[-1]["coverage"] if frames else None
    what = "bricks" if frames and all(frame.get("volume") for frame in frames) else "tiles"
    return [
        ("frames", str(totals["frames"])),
        ("ideal coverage, last frame", f"{100 * last['ideal']:.1f} %" if last else "–"),
        ("first pixel", human_ms(totals["first_pixel_ms"])),
        ("no hole left", human_ms(totals["full_coverage_ms"])),
        ("settled", human_ms(totals["ideal_ms"])),
        ("frame time, median", human_ms(times["p50"])),
        ("frame time, 99 %", human_ms(times["p99"])),
        ("frames over 16.7 ms", str(totals["over_16_7_ms"])),
        ("frame rates", _rates(totals.get("frame_classes", {}))),
        ("jank", human_ms(totals.get("jank_ms"))),
        *(
            (name, str(totals.get(key, 0)))
            for name, key in _PLANE_COUNTS
            if totals.get(key) or len({str(frame.get("position")) for frame in frames}) > 1
        ),
        (f"{what} read", str(totals["tiles_read"])),
        ("bytes read", bytes_or_dash(totals["bytes_read"])),
        *_remote_cards(totals.get("remote", {})),
        ("most memory", bytes_or_dash(totals["peak_rss_bytes"])),
        (f"failed {what}", str(len(report["failures"]))),
        *_slice_cards(report),
    ]


def _remote_cards(remote: dict[str, int]) -> list[tuple[str, str]]:
    """Of a run that asked stores far away."""
    if not remote.get("requests"):
        return []
    tried = f", {remote['retries']} again" if remote["retries"] else ""
    return [
        ("requests", f"{remote['requests']}{tried}"),
        ("bytes that came", bytes_or_dash(remote["bytes"])),
        ("chunks not stored", str(remote["fill_tiles"])),
    ]


def _slice_cards(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Of a run that steps through planes."""
    slices, totals = report.get("slices", ()), report["totals"]
    if len(slices) < 2:
        return []
    complete = sum(each["state"] == "complete" for each in slices)
    return [
        ("planes complete", f"{complete} of {len(slices)}"),
        ("plane complete, median", human_ms(totals["slice_ms"]["p50"])),
        ("planes superseded", str(totals["superseded"])),
    ]


_PLANE_COUNTS = (
    ("late frames", "late_frames"),
    ("planes never shown", "skipped_planes"),
    ("frames of a wrong plane", "wrong_plane_frames"),
)


def _rates(classes: dict[str, float]) -> str:
    """``60 Hz 90 %, 30 Hz 10 %``: the classes that there are."""
    return ", ".join(
        f"{name}{'' if name == SLOWER else ' Hz'} {100 * share:.0f} %"
        for name, share in classes.items()
        if share
    )


def _pictures(reports: Sequence[dict[str, Any]], frames: Sequence[Picture]) -> list[dict[str, Any]]:
    """What the slider shows: address, size and caption of each picture, the last one always among them."""
    sizes = [len(f) if isinstance(f, bytes) else Path(f).stat().st_size for f in frames]
    step = 1
    while sum(sizes[::-1][::step]) > FRAMES_BUDGET_BYTES and step < len(sizes):
        step += 1
    pictures = []
    for index in sorted(range(len(frames))[::-1][::step]):
        frame = frames[index]
        png = frame if isinstance(frame, bytes) else Path(frame).read_bytes()
        width, height = struct.unpack(">II", png[16:24])
        report = reports[index] if index < len(reports) else None
        pictures.append(
            {
                "index": report["number"] if report else index,
                "url": data_url(png),
                "width": width,
                "height": height,
                "caption": _caption(report) if report else f"frame {index}",
                "missing": report["coverage"]["missing"] if report else 0.0,
            }
        )
    return pictures


def _first_shown(pictures: Sequence[dict[str, Any]]) -> int:
    """Which picture the page opens on: the first that is covered, or nearest to it; films begin with black."""
    return min(
        range(len(pictures)), key=lambda k: (pictures[k]["missing"] > 0, pictures[k]["missing"], k), default=0
    )


def _caption(frame: dict[str, Any]) -> str:
    coverage, camera = frame["coverage"], frame["camera"]
    parts = [
        f"frame {frame['number']}",
        f"{frame['t_ms']:.0f} ms",
        f"{camera['name'] or 'view'} at {_at(camera)}, zoom {camera['zoom']:.4g}",
        f"level {frame['level']}" + (" (degraded)" if frame["degraded"] else ""),
        f"ideal {100 * coverage['ideal']:.1f} %",
    ]
    position = frame.get("position")
    if position and position["shown"]:
        text = ", ".join(f"{axis}={at}" for axis, at in position["shown"].items())
        if position["shown"] != position["requested"]:
            due = ", ".join(f"{axis}={at}" for axis, at in position["requested"].items())
            text = f"shows {text}, as {due} is late"
        parts.insert(1, text)
    if frame.get("late"):
        parts.append("late")
    if volume := frame.get("volume"):
        parts.insert(
            1,
            f"volume, {volume['mode']}, {volume['bricks_drawn']} brick{'s' * (volume['bricks_drawn'] != 1)}",
        )
    elif frame.get("displayed", "yx") != "yx":
        parts.insert(1, f"rows {frame['displayed'][0]}, columns {frame['displayed'][1]}")
    if projected := frame.get("projected"):
        parts.insert(
            1, f"{projected['method']} of {projected['axis']} {projected['first']}:{projected['stop']}"
        )
    parts += [
        f"{name} {100 * coverage[name]:.1f} %"
        for name in ("finer", "coarser", "missing", "failed")
        if coverage[name] > 0.0005
    ]
    return " · ".join(parts)


# plots


def _plot(name: str, draw: Callable[[Axes, list[dict[str, Any]]], None], frames: list[dict[str, Any]]) -> str:
    step = max(1, -(-len(frames) // _PLOT_POINTS))
    with plotting() as (figure, axes):
        draw(axes, frames[::step] if (len(frames) - 1) % step == 0 else [*frames[::step], frames[-1]])
        if not _is_timed(frames) and len(frames) <= 30:
            axes.set_xticks(np.arange(len(frames)) + 0.5, [str(frame["number"]) for frame in frames])
        axes.margins(x=0)
        axes.grid(axis="y", color="#888888", alpha=0.25, linewidth=0.6)
        return svg_of(figure, prefix=name)


def _steps(frames: list[dict[str, Any]]) -> tuple[Any, Any]:
    """Edges of the frames in time (a frame is what is shown until the next), and which frame each edge shows.
    A single frame is shown for a moment."""
    if _is_timed(frames):
        times = np.array([frame["t_ms"] for frame in frames], float)
        last = times[-1] + (times[-1] - times[0]) / (len(times) - 1)
    else:
        times = np.arange(len(frames), dtype=float)
        last = float(len(frames))
    return np.append(times, last), np.append(np.arange(len(frames)), len(frames) - 1)


def _is_timed(frames: list[dict[str, Any]]) -> bool:
    """Whether the frames follow one another in time; else plots count frames."""
    times = [frame["t_ms"] for frame in frames]
    return len(times) > 1 and times[-1] > times[0] and all(b >= a for a, b in pairwise(times))


def _x_label(frames: list[dict[str, Any]]) -> str:
    return "ms since the start" if _is_timed(frames) else "frame"


def _draw_coverage(axes: Axes, frames: list[dict[str, Any]]) -> None:
    import matplotlib

    edges, shown = _steps(frames)
    levels = sorted({int(level) for frame in frames for level in frame["coverage"]["by_level"]})
    colours = matplotlib.colormaps["viridis_r"](np.linspace(0.05, 0.95, max(len(levels), 2)))
    rows, labels, fills = [], [], []
    for number, level in enumerate(levels):
        rows.append([frame["coverage"]["by_level"].get(str(level), 0.0) for frame in frames])
        labels.append(f"level {level}")
        fills.append(colours[number])
    for name, colour in (("failed", "#c0392b"), ("missing", "#b9bec7")):
        rows.append([frame["coverage"][name] for frame in frames])
        labels.append(name)
        fills.append(matplotlib.colors.to_rgba(colour))
    values = np.array(rows)[:, shown]
    axes.stackplot(edges, values, labels=labels, colors=fills, step="post", linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("of the visible image")
    axes.set_xlabel(_x_label(frames))
    _legend(axes)


def _draw_times(axes: Axes, frames: list[dict[str, Any]]) -> None:
    edges, shown = _steps(frames)
    rows = np.array([[frame["timings_ms"][phase] for frame in frames] for phase in _PHASES])[:, shown]
    axes.stackplot(edges, rows, labels=list(_PHASES), step="post", linewidth=0, alpha=0.85)
    totals = np.array([frame["timings_ms"]["total"] for frame in frames])[shown]
    axes.step(edges, totals, where="post", color="#000000", linewidth=0.8, label="total")
    for budget_ms in _BUDGETS_MS:
        axes.axhline(budget_ms, color="#b3261e", linewidth=0.8, linestyle="--")
        axes.annotate(
            f"{budget_ms:.1f} ms",
            (0.0, budget_ms),
            xycoords=("axes fraction", "data"),
            xytext=(3, 1),
            textcoords="offset points",
            color="#b3261e",
            fontsize=7,
        )
    # one slow first frame must not flatten the rest
    top = max(1.3 * _BUDGETS_MS[1], 1.5 * float(np.percentile(totals, 95)))
    axes.set_ylim(0, top)
    axes.set_ylabel("ms")
    axes.set_xlabel(_x_label(frames))
    _legend(axes)


def _draw_loads(axes: Axes, frames: list[dict[str, Any]]) -> None:
    edges, shown = _steps(frames)
    names = ("loading", "queued", "delayed")
    rows = np.array([[frame.get("gauges", {}).get(name, 0) for frame in frames] for name in names])[:, shown]
    axes.stackplot(edges, rows, labels=list(names), step="post", linewidth=0, alpha=0.85)
    axes.set_ylim(0, max(1.0, 1.1 * float(rows.sum(0).max())))
    axes.set_ylabel("loads")
    axes.set_xlabel(_x_label(frames))
    _legend(axes)


def _draw_memory(axes: Axes, frames: list[dict[str, Any]]) -> None:
    edges, shown = _steps(frames)
    most = 0.0
    for name, label in (("cache_bytes", "tile cache"), ("atlas_bytes", "texture atlas")):
        values = np.array([frame.get("gauges", {}).get(name, 0) for frame in frames])[shown] / 2**20
        axes.step(edges, values, where="post", label=label, linewidth=1.4)
        most = max(most, float(values.max()))
    axes.set_ylim(0, max(1.0, 1.1 * most))
    axes.set_ylabel("MiB")
    axes.set_xlabel(_x_label(frames))
    _legend(axes)


_SLICES = "How soon each plane that was asked for had a pixel, had no hole, and was all there. No bar: it never was."


def _plot_slices(slices: Sequence[dict[str, Any]]) -> str:
    shown = slices[:: max(1, -(-len(slices) // _PLOT_POINTS))]
    numbers = np.arange(len(shown)) + 0.5
    with plotting() as (figure, axes):
        for name, label in (("complete_ms", "complete"), ("full_ms", "no hole"), ("first_ms", "first pixel")):
            late = [0.0 if each[name] is None else each[name] - each["requested_ms"] for each in shown]
            axes.bar(numbers, late, width=0.9, label=label)
        if len(shown) <= 30:
            axes.set_xticks(numbers, [_place(each["index"]) for each in shown], rotation=45, ha="right")
        axes.set_ylabel("ms since it was asked for")
        axes.set_xlabel("plane")
        axes.margins(x=0)
        axes.grid(axis="y", color="#888888", alpha=0.25, linewidth=0.6)
        _legend(axes)
        return svg_of(figure, prefix="slices")


def _at(camera: dict[str, Any]) -> str:
    """Where it stands; around a volume with the angles that are not 0."""
    place = ", ".join(f"{axis} {camera[axis]:.1f}" for axis in ("x", "y", "z") if axis in camera)
    angles = [name for name in ("azimuth", "elevation", "roll", "fov") if camera.get(name)]
    return ", ".join([place, *(f"{name} {camera[name]:.4g}°" for name in angles)])


def _place(index: dict[str, int]) -> str:
    return ",".join(f"{axis}={at}" for axis, at in index.items())


def _legend(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8, borderaxespad=0.2)


_PLOTS: tuple[tuple[str, str, str, Callable[[Axes, list[dict[str, Any]]], None]], ...] = (
    (
        "coverage",
        "Coverage by level",
        "Which level each part of the visible image was drawn from; level 0 is the finest.",
        _draw_coverage,
    ),
    (
        "frame-times",
        "Frame times",
        "Main thread, from the plan to the end of drawing. Dashed: what 60 and 30 frames a second allow.",
        _draw_times,
    ),
    (
        "loads",
        "Loads under way",
        "Reads in progress, waiting for a worker, and wanted too briefly to be started.",
        _draw_loads,
    ),
    ("memory", "Cache and atlas", "Bytes held in the tile cache and in textures.", _draw_memory),
)
