"""``octree info``: what a pyramid or a SOURCE is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from octree.cli.options import Debug, Json, given_of, with_options
from octree.pyramid.limits import LIMITS
from octree.pyramid.reach import OUTSIDE
from octree.pyramid.store.remote.options import REMOTE, read_remote
from octree.pyramid.units import bytes_text


@with_options(LIMITS, OUTSIDE, REMOTE)
def info(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A pyramid, or any SOURCE of build.")],
    json_: Json = False,
    debug: Debug = False,
    **given: Any,
) -> None:
    """Print levels, shapes, chunks, shards, codec, scales and sizes."""
    from octree.cli.console import print_json
    from octree.pyramid.limits import make_limits
    from octree.pyramid.sources.describe import describe

    limits = make_limits(**given_of(LIMITS, given))
    remote = read_remote(given_of(REMOTE, given))
    facts = describe(path, limits=limits, remote=remote, **given_of(OUTSIDE, given))
    if json_:
        print_json(facts)
    else:
        _print_facts(facts)


def _print_facts(facts: dict[str, Any]) -> None:
    from octree.cli.console import put

    for name, value in _head(facts):
        put(f"{name:<11} {value}")
    # not rich's table: it cuts columns to the width of the terminal, and of a pipe
    rows: list[tuple[str, ...]] = [
        ("level", "shape", "chunks", "shards", "codec", "scale", "offset", "bytes", "on disk", "files")
    ]
    rows += [_row(number, level) for number, level in enumerate(facts["levels"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    put()
    for row in rows:
        cells = [
            c.rjust(w) if i > 6 else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        put("  ".join(cells).rstrip())


def _row(number: int, level: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(number),
        _times(level["shape"]),
        _times(level["chunks"]),
        _times(level["shards"]) if level["shards"] else "-",
        level["codec"] or "-",
        _numbers(level["scale"]),
        _numbers(level["translation"]),
        bytes_text(level["bytes"]),
        "-" if level["stored_bytes"] is None else bytes_text(level["stored_bytes"]),
        "-" if level["files"] is None else str(level["files"]),
    )


def _head(facts: dict[str, Any]) -> list[tuple[str, str]]:
    kind = (
        f"OME-Zarr {facts['ome_version']} pyramid"
        if facts["kind"] == "pyramid"
        else f"source, read by {facts['engine']}"
    )
    what = ", ".join([kind, *(word for word in ("rgb", "labels") if facts[word])])
    lines = [("path", facts["path"]), ("kind", what), ("name", facts["name"] or "-")]
    lines.append(("image", f"{facts['axes']} {_times(facts['levels'][0]['shape'])} {facts['dtype']}"))
    sizes = [
        f"{axis} {size:g} {facts['units'].get(axis, '')}".rstrip()
        for axis, size in facts["voxel_size"].items()
    ]
    lines.append(("voxel size", ", ".join(sizes)))
    if facts.get("method"):
        lines.append(("method", facts["method"]))
    if facts.get("others"):
        lines.append(("also here", ", ".join(facts["others"])))
    for reason, count in facts.get("missing_planes", {}).items():
        lines.append(("missing", f"{count} plane{'s' if count > 1 else ''}: {reason}"))
    for number, channel in enumerate(facts["channels"]):
        window = "" if channel["window"] is None else f" {channel['window'][0]:g} to {channel['window'][1]:g}"
        lines.append((f"channel {number}", f"{channel['label']} {channel['color'] or ''}{window}".strip()))
    size = bytes_text(facts["bytes"])
    if facts["stored_bytes"] is not None:
        size += f", {bytes_text(facts['stored_bytes'])} on disk in {facts['files']} file" + (
            "" if facts["files"] == 1 else "s"
        )
    return [*lines, ("size", size)]


def _times(lengths: list[int]) -> str:
    return "x".join(map(str, lengths))


def _numbers(values: list[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
