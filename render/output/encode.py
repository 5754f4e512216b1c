"""Frames to files: PNG, numbered PNGs, stdout, GIF and MP4.

Encoding runs in worker threads (zlib and Pillow release the interpreter); a file appears under its name only when it
is complete. Frames too large to be held whole come row by row, from the top: see ``FrameWriter.rows``.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import WriteError
from octree.render.output.files import (
    VIDEO_SUFFIXES,
    FrameName,
    atomic_file,
    check_destination,
    film_paths,
    output_paths,
)
from octree.render.output.png import PngRows, encode_png, read_png, write_png

if TYPE_CHECKING:
    from octree.render.output.video import Gif, Mp4

Write = Callable[[bytes], Any]
Frame = NDArray[np.uint8]
"""(height, width, 4), RGBA. Not written to after it is handed over."""

DEFAULT_FPS = 60.0
"""Of frames that are in no film, should they be written as one."""
NICENESS = 10  # of encoding threads: a tenth of the others' share, so that they get on on a busy machine too


# the writer


class _Sink(Protocol):
    """Where frames go. ``job`` may be called in a worker; jobs of an ordered sink run one after another."""

    ordered: bool

    def job(self, index: int, frame: Frame) -> None: ...

    def encoded(self, index: int, png: bytes) -> None: ...

    def finish(self) -> list[Path]: ...

    def abort(self) -> None: ...


class FrameWriter:
    """Writes the frames of one run. Owned by the thread that makes it; encoding runs in its own workers.

    ``pattern`` as ``-o``; ``frames`` what every frame that will come may be named by, in order of index. A GIF or MP4
    runs at the rate of its first frame. Whatever can be wrong with the names and places is raised by the
    constructor. Use as a context manager: leaving it normally completes the files (``paths``), leaving it
    by an exception removes what is not complete.
    """

    def __init__(
        self,
        pattern: str,
        frames: Sequence[FrameName],
        *,
        text: Mapping[str, str] | None = None,
        alpha: bool | None = None,
        stdout: IO[bytes] | None = None,
        buffer_bytes: int = 256 << 20,
    ) -> None:
        self.paths: list[Path] = []
        self._sink = _sink(pattern, frames, text, alpha, stdout)
        self._text = text
        self._pool = _encoders(1 if self._sink.ordered else 2, give_way=len(frames) > 1)
        self._pending: deque[tuple[Future[None], int]] = deque()
        self._pending_bytes = 0
        self._buffer_bytes = buffer_bytes

    def put(self, index: int, rgba: Frame) -> None:
        """Hand over one frame; it must not change afterwards. Waits only when more than ``buffer_bytes`` of
        frames are still to be encoded. Raises what an earlier frame failed with."""
        self._submit(self._sink.job, index, rgba, rgba.nbytes)

    def put_png(self, index: int, png: bytes) -> None:
        """As ``put``, of a frame that is encoded, with the same options."""
        self._submit(self._sink.encoded, index, png, len(png))

    def _submit(self, job: Callable[[int, Any], None], index: int, frame: Any, size: int) -> None:
        while self._pending and (self._pending[0][0].done() or self._pending_bytes > self._buffer_bytes):
            future, before = self._pending.popleft()
            self._pending_bytes -= before
            future.result()
        self._pending.append((self._pool.submit(job, index, frame), size))
        self._pending_bytes += size

    @property
    def takes_rows(self) -> bool:
        """``rows`` may be called: frames become PNGs."""
        return not isinstance(self._sink, _Films)

    @contextmanager
    def rows(self, index: int, size_px: tuple[int, int], alpha: bool) -> Iterator[Callable[[Frame], None]]:
        """One frame of ``size_px`` (width, height) row by row: what is given takes the next rows, (count, width, 4), from the top.
        They are encoded meanwhile; it waits for those before. The frame is complete at the end of the ``with`` block."""
        if isinstance(self._sink, _Films):
            raise ValueError("frames of films are whole")
        self._wait()
        with self._sink.target(index) as write:
            png = PngRows(write, size_px, alpha=alpha, text=self._text)
            before: Future[None] | None = None

            def put(rows: Frame) -> None:
                nonlocal before
                if before is not None:
                    before.result()
                before = self._pool.submit(png.put, rows)

            try:
                yield put
            finally:
                if before is not None:
                    before.exception()  # nobody writes any more
            if before is not None:
                before.result()
            png.finish()

    def _wait(self) -> None:
        while self._pending:
            self._pending.popleft()[0].result()
        self._pending_bytes = 0

    def close(self) -> list[Path]:
        """Wait for all frames and complete the files; the paths written, none for stdout."""
        try:
            self._wait()
            self._pool.shutdown()
            self.paths = self._sink.finish()
        except BaseException:
            self.abort()
            raise
        return self.paths

    def abort(self) -> None:
        """Drop what is not yet written and remove partial files."""
        self._pool.shutdown(cancel_futures=True)
        self._sink.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class PngKeeper:
    """Keeps the frames of a run in memory as PNGs, for the HTML report: a tenth of their pixels. Owned by the
    thread that makes it; encoding runs in a worker. Use as a context manager."""

    def __init__(self, buffer_frames: int = 32) -> None:
        self._pool = _encoders(1, give_way=True)
        self._pngs: list[Future[bytes]] = []
        self._buffer_frames = buffer_frames

    def put(self, rgba: Frame) -> None:
        """Hand over the next frame; it must not change afterwards. Waits only when ``buffer_frames`` frames
        are still to be encoded."""
        if len(self._pngs) >= self._buffer_frames:
            self._pngs[-self._buffer_frames].result()
        self._pngs.append(self._pool.submit(encode_png, rgba))

    def put_png(self, png: bytes) -> None:
        """The next frame, encoded."""
        done: Future[bytes] = Future()
        done.set_result(png)
        self._pngs.append(done)

    def pngs(self) -> list[bytes]:
        """All frames, in order; waits for the last."""
        return [png.result() for png in self._pngs]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)


def _encoders(threads: int, *, give_way: bool) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "octree-encode", _give_way if give_way else None)


def _give_way() -> None:
    """Lower this thread's priority: drawing must not wait for the encoding of earlier frames. With two cores a
    frame of a path took three times as long. Only Linux has priorities of threads."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)


def _sink(
    pattern: str,
    frames: Sequence[FrameName],
    text: Mapping[str, str] | None,
    alpha: bool | None,
    stdout: IO[bytes] | None,
) -> _PngFiles | _Films | _Stdout:
    def encode(write: Write, frame: Frame) -> None:
        write_png(write, frame, text, alpha=alpha)

    if pattern == "-":
        return _Stdout(encode, stdout or sys.stdout.buffer)
    suffix = Path(pattern).suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        from octree.render.output.video import Gif, Mp4

        films = film_paths(pattern, frames)
        made: dict[Path, Gif | Mp4] = {}
        lengths = Counter(films)
        for path, frame in zip(films, frames, strict=True):
            if path not in made:
                fps = frame.fps or DEFAULT_FPS
                made[path] = Gif(path, fps, lengths[path]) if suffix == ".gif" else Mp4(path, fps)
                check_destination(path)
        return _Films([made[path] for path in films])
    paths = output_paths(pattern, frames)
    for path in {path.parent: path for path in paths}.values():
        check_destination(path)
    for path in paths:
        if path.is_dir():
            check_destination(path)
    return _PngFiles(encode, paths)


class _PngFiles:
    """One PNG per frame."""

    ordered = False

    def __init__(self, encode: Callable[[Write, Frame], None], paths: list[Path]) -> None:
        self._encode, self._paths = encode, paths
        self._written: set[Path] = set()

    def job(self, index: int, frame: Frame) -> None:
        with self.target(index) as write:
            self._encode(write, frame)

    def encoded(self, index: int, png: bytes) -> None:
        with self.target(index) as write:
            write(png)

    @contextmanager
    def target(self, index: int) -> Iterator[Write]:
        path = self._paths[index]
        with atomic_file(path) as partial, partial.open("wb") as file:
            yield file.write
        self._written.add(path)

    def finish(self) -> list[Path]:
        return [path for path in self._paths if path in self._written]

    def abort(self) -> None:
        """Complete frames stay."""


class _Films:
    """GIFs or MP4s; each film counts its frames from 0."""

    ordered = True

    def __init__(self, films: Sequence[Gif | Mp4]) -> None:
        self._films = films
        counts: Counter[int] = Counter()
        self._numbers: list[int] = []
        for film in films:
            self._numbers.append(counts[id(film)])
            counts[id(film)] += 1

    def job(self, index: int, frame: Frame) -> None:
        self._films[index].job(self._numbers[index], frame)

    def encoded(self, index: int, png: bytes) -> None:
        self.job(index, read_png(io.BytesIO(png), ("PNG",)))

    def finish(self) -> list[Path]:
        return [path for film in dict.fromkeys(self._films) for path in film.finish()]

    def abort(self) -> None:
        for film in dict.fromkeys(self._films):
            film.abort()


class _Stdout:
    """PNGs one after another, in order."""

    ordered = True

    def __init__(self, encode: Callable[[Write, Frame], None], stream: IO[bytes]) -> None:
        self._encode, self._stream = encode, stream

    def job(self, index: int, frame: Frame) -> None:
        with self.target(index) as write:
            self._encode(write, frame)

    def encoded(self, index: int, png: bytes) -> None:
        with self.target(index) as write:
            write(png)

    @contextmanager
    def target(self, index: int) -> Iterator[Write]:
        try:
            yield self._stream.write
            self._stream.flush()
        except BrokenPipeError:  # the reader has gone, as head does: the command ends quietly
            raise
        except OSError as error:
            raise WriteError(f"writing to stdout failed: {error.strerror or error}") from error

    def finish(self) -> list[Path]:
        return []

    def abort(self) -> None:
        """What is out cannot be taken back."""
