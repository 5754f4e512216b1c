"""Where output goes: names from a pattern, and files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from octree.pyramid.errors import DestinationError, OctreeError, UsageError, WriteError
from octree.pyramid.options import PATH
from octree.pyramid.store.removal import probe, replacing

FIELDS = ("index", "camera")
VIDEO_SUFFIXES = (".gif", ".mp4")
_HINT_SEVERAL = (
    "use a pattern: -o 'frame-{index:04}.png', or -o '{camera}.png'; a film can also be .gif or .mp4"
)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; it becomes ``path`` at the end, or is removed if the block raises. What
    is no file, as ``/dev/stdout``, is written to at the end.

    Raises ``DestinationError`` when ``path`` cannot be a file here, ``WriteError`` for what the system says
    while writing (no space, a quota, a broken disk)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        with replacing(path) as partial:
            yield partial
    except OctreeError:
        raise
    except OSError as error:
        raise write_error(path, error) from error


_DESTINATION_ERRNOS = frozenset(
    (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EEXIST,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENOENT,
        errno.ENAMETOOLONG,
        errno.ELOOP,
    )
)


def write_error(path: Path, error: OSError) -> DestinationError | WriteError:
    """The error to raise for ``error`` met while writing ``path``."""
    why = error.strerror or str(error)
    if error.errno in _DESTINATION_ERRNOS:
        return DestinationError(
            f"cannot write {path}: {why}", hint="choose a place that exists and is yours", path=str(path)
        )
    return WriteError(f"writing {path} failed: {why}", hint="is the disk full?", path=str(path))


def check_destination(path: Path) -> None:
    """Raise ``DestinationError`` now if ``path`` cannot be written, rather than after the work is done."""
    if path.is_dir():
        raise write_error(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe(path)
    except OSError as error:
        raise write_error(path, error) from error


@dataclass(frozen=True, slots=True)
class FrameName:
    """What the files of a frame may be named by: its camera, and the ``position`` (axis, plane) on each axis that it
    stands on. ``fps`` of its film; None: nobody has said."""

    camera: str = ""
    position: tuple[tuple[str, int], ...] = ()
    fps: float | None = None

    def fields(self) -> dict[str, str | int]:
        return {"camera": _file_name(self.camera), **dict(self.position)}


def output_paths(pattern: str, frames: Sequence[FrameName]) -> list[Path]:
    """Where each frame goes.

    Raises ``UsageError`` for an unknown field or ending, or when two frames would share a name."""
    _check_pattern(pattern, frames)
    suffix = Path(pattern).suffix.lower()
    if suffix != ".png":
        allowed = f".png, {', '.join(VIDEO_SUFFIXES)} or - for stdout"
        raise UsageError(f"cannot write {pattern!r}: the name must end in {allowed}", output=pattern)
    paths = [Path(pattern.format(index=index, **frame.fields())) for index, frame in enumerate(frames)]
    named = len(set(paths))
    if named < len(paths):
        raise UsageError(
            f"{len(paths)} frames, but {pattern!r} names only {named} files",
            hint=_HINT_SEVERAL,
            output=pattern,
        )
    return paths


def film_paths(pattern: str, frames: Sequence[FrameName]) -> list[Path]:
    """The GIF or MP4 that each frame belongs to: one for the run, or with ``{camera}`` one for each camera, with ``{t}``
    for each t."""
    _check_pattern(pattern, frames)
    if "index" in _fields(pattern):
        raise UsageError(
            f"{pattern!r} would be one film per frame", hint="use {camera}, or one name", output=pattern
        )
    return [Path(pattern.format(**frame.fields())) for frame in frames]


def _fields(pattern: str) -> list[str]:
    return [field for _, field, _, _ in Formatter().parse(pattern) if field is not None]


def _check_pattern(pattern: str, frames: Sequence[FrameName]) -> None:
    if pattern:  # an empty one has no ending
        PATH.read("-o", pattern)
    first = (frames[0] if frames else FrameName("a")).fields()
    axes = "".join(f", {{{axis}}}" for axis in first if axis not in FIELDS)
    helps = "write {{ and }} for braces"
    try:
        unknown = [field for field in _fields(pattern) if field not in (*FIELDS, *first)]
        if not unknown:
            pattern.format(index=0, **first)
            return
        why = f"unknown field {{{unknown[0]}}}"
        if unknown[0] == "c":
            helps = "{c} is for frames that show one channel, as with --index c=:, and not several added up"
    except (ValueError, IndexError, KeyError) as error:
        why = str(error)
    raise UsageError(
        f"output pattern {pattern!r}: {why}",
        hint=f"fields: {{index}} (also {{index:04}}), {{camera}}{axes}; {helps}",
        output=pattern,
    )


def _file_name(camera: str) -> str:
    """A camera's name as part of a file name: no separators, no leading dot."""
    cleaned = "".join("_" if char in '/\\:*?"<>|' or ord(char) < 32 else char for char in camera)
    return cleaned.lstrip(".") or "view"
