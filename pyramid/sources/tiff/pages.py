"""TIFF, BigTIFF, OME-TIFF and slides that tifffile parses: decoded tile by tile, from bytes read by position.

tifffile reads the structure and gives each page's decoder; the bytes of a tile (or strip) are read here, so that
threads share no file position, and never more than the tiles that a box meets.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.declared import declared_frame, declared_pixels, is_animated
from octree.pyramid.errors import OctreeError, SourceError
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.model import Box
from octree.pyramid.reach import Reach, reach_of
from octree.pyramid.sources.nodata import without
from octree.pyramid.sources.plain import Positioned, RawFileArray
from octree.pyramid.sources.protocol import Facts, RawArray
from octree.pyramid.sources.tiff.checks import DAMAGED, check_chain, check_counts, check_imagej, check_planes
from octree.pyramid.sources.tiff.codecs import OLD_JPEG, check_readable, decompressed, in_parts, inflated
from octree.pyramid.sources.tiff.companions import within
from octree.pyramid.sources.tiff.dimensions import check_dimensions
from octree.pyramid.sources.tiff.facts import companion_xml, ome_image, series_facts
from octree.pyramid.sources.tiff.far import FarFile, FilePath, positioned
from octree.pyramid.sources.tiff.fax import AT_ONCE_BYTES, FAX, FaxRows
from octree.pyramid.sources.tiff.missing import Masked, mask_series, nodata_of
from octree.pyramid.sources.tiff.orientation import ORIENTATION, OneWayRound
from octree.pyramid.sources.tiff.planes import UNNAMED, absent_planes, summary
from octree.pyramid.sources.tiff.segments import SegmentCache
from octree.pyramid.sources.tiff.subsampled import ToRgb, is_subsampled, unit_bytes, unpacked
from octree.pyramid.sources.tiff.unread import unread
from octree.pyramid.sources.tiff.values import (
    PALETTE,
    PagesOfTheirOwn,
    is_turned,
    shown_values,
    stores_ycbcr,
)
from octree.pyramid.sources.views import Said, Turned

_JPEG = {6, 7, 34892, 33007}
_IMAGE_CODECS = {
    *_JPEG,
    *(33003, 33004, 33005, 34712),
    34887,
    *(22610, 34934),
    34933,
    *(34927, 50001),
    *(50002, 52546),
}
"""JPEG, JPEG 2000, LERC, JPEG XR, PNG, WebP, JPEG XL: they decode what their own header says. tifffile tells all others how
much to decode at most."""
_SMALL_PIXELS = 1 << 16
_NATIVE = "<" if sys.byteorder == "little" else ">"
_TILE_CACHE_BYTES = 32 << 20
_STRIP_CACHE_BYTES = (16 << 20, 128 << 20)
_BAND_ROWS = 2048
_SILENT = logging.NullHandler()


def open_tiff(
    path: FilePath,
    reach: Reach | None = None,
    *,
    as_stored: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> RawArray:
    """Level 0 of the first image of a TIFF; ``as_stored``: samples as they are, whatever colours they stand for.

    Raises SourceError for a file that is none, or is damaged; LimitError when a tile or strip is above ``limits``;
    OutsideError for one that names files out of ``reach`` (its folder by default).
    """
    if reach is None:
        # what a file in a store names is looked for nowhere on this machine
        reach = Reach(f"{path}\0") if isinstance(path, FarFile) else reach_of(path)
    with within(reach):
        return _open_tiff(path, reach, as_stored, limits)


def _open_tiff(path: FilePath, reach: Reach, as_stored: bool, limits: Limits) -> RawArray:
    import tifffile

    # what it has to say about a damaged file, it says by raising; a second voice on stderr helps nobody
    logging.getLogger("tifffile").addHandler(_SILENT)
    tiff = None
    try:
        tiff = tifffile.TiffFile(path.stream() if isinstance(path, FarFile) else path)
        if isinstance(path, FarFile):
            pass  # its companions stay where they are
        elif companion := companion_xml(tiff.ome_metadata or "", Path(tiff.filehandle.dirname), reach):
            tiff.close()
            tiff = tifffile.TiffFile(path, omexml=companion)
    except OctreeError:
        if tiff is not None:
            tiff.close()
        raise
    except Exception as error:  # tifffile raises many kinds for a damaged file
        raise SourceError(f"{path} cannot be read as TIFF: {error}", hint=DAMAGED, path=str(path)) from error
    try:
        check_planes(path, tiff)
        return _open_series(path, tiff, reach, as_stored, limits)
    except OctreeError:
        tiff.close()
        raise
    except Exception as error:
        tiff.close()
        raise SourceError(
            f"{path} has a structure that cannot be read: {type(error).__name__}: {error}",
            hint=DAMAGED,
            path=str(path),
        ) from error


def _open_series(path: FilePath, tiff: Any, reach: Reach, as_stored: bool, limits: Limits) -> RawArray:
    check_dimensions(path, tiff)
    if not len(tiff.pages) or not tiff.series:
        raise SourceError(f"{path} holds no image", hint=DAMAGED, path=str(path))
    number = _own_series(tiff)
    series = tiff.series[number]
    for file in {_path_of(page, path) for page in series if page is not None} if series.is_multifile else ():
        reach.real(str(file), f"{path}: its file {file.name}")
    check_chain(path, tiff)
    check_imagej(path, tiff)
    if series.dtype is None or series.keyframe.dtype is None:
        page = series.keyframe
        raise SourceError(
            f"{path}: samples of {page.bitspersample} bits in format {page.sampleformat} cannot be read",
            hint="convert it to 8, 16 or 32 bits per sample",
            path=str(path),
        )
    image = ome_image(tiff.ome_metadata or "", number, len(tiff.series)) if series.kind == "ome" else None
    absent = absent_planes(path, Path(tiff.filehandle.dirname), series, image)
    check_readable(path, series)
    facts = dataclasses.replace(series_facts(tiff, series, image), missing=summary(absent))
    nodata, said = nodata_of(series.keyframe, np.dtype(series.dtype))
    said = (*facts.warnings, *said, *unread(tiff, series), *check_counts(path, series))
    facts = dataclasses.replace(facts, nodata=nodata, warnings=said)
    block = _contiguous(path, tiff, series, facts)
    stored = block or TiffArray(path, tiff, series, facts, absent, limits)
    raw: RawArray = stored
    try:
        if not as_stored:
            raw = shown_values(stored, path, tiff, series)
        shown = _as_seen(_where_there_is_something(raw, path, tiff, series, limits), path, tiff, series)
    except BaseException:
        stored.close()
        raise
    # these read more of it, and close it
    if block and not isinstance(raw, PagesOfTheirOwn) and mask_series(tiff, series) is None:
        tiff.close()
    return shown


def _where_there_is_something(
    raw: RawArray, path: FilePath, tiff: Any, series: Any, limits: Limits
) -> RawArray:
    """``raw`` without the pixels that are said to be none: NaN in floats, the nodata value in integers."""
    page, facts, kind = series.keyframe, raw.facts, raw.dtype.kind
    value, lost = facts.nodata, []
    if value is not None and page.photometric == PALETTE and raw.shape != tuple(series.shape):
        lost.append(f"its nodata value {value} is a palette index: its colour counts like the others")
        value = None
    elif value is not None and is_turned(tiff, page) and kind == "u":
        value = (1 << int(page.bitspersample)) - 1 - int(value)
    elif value is not None and kind == "f":
        raw, value = without(raw, float(value)), math.nan
    mask = mask_series(tiff, series)
    if mask is not None:
        fill = math.nan if kind == "f" else value
        if fill is None or raw.shape != tuple(series.shape):
            lost.append("its mask is not applied: integers need a nodata value for that")
        else:
            own = TiffArray(path, tiff, mask, Facts(), {}, limits)
            axes = series.axes.upper()
            raw, value = Masked(raw, own, axes.index("Y"), axes.index("X"), fill), fill
    said = dataclasses.replace(raw.facts, nodata=value, warnings=(*facts.warnings, *lost))
    return raw if said == facts else Said(raw, said)


def _as_seen(raw: RawArray, path: FilePath, tiff: Any, series: Any) -> RawArray:
    """``raw`` as its tag Orientation has it; measured images (OME, ImageJ, slides) are as they are stored."""
    tag = series.keyframe.tags.get(ORIENTATION)
    orientation = int(tag.value) if tag is not None and isinstance(tag.value, int) else 1
    axes = series.axes.upper()
    as_tagged = series.kind in ("generic", "uniform") and "Y" in axes and "X" in axes
    if as_tagged and len(series) > 1:
        raw = OneWayRound(raw, path, tiff, series, orientation)
    if orientation not in range(2, 9):
        return raw
    if as_tagged:
        return Turned(raw, axes.index("Y"), axes.index("X"), orientation)
    said = f"its orientation tag ({orientation}) is not applied"
    return Said(raw, dataclasses.replace(raw.facts, warnings=(*raw.facts.warnings, said)))


def _path_of(page: Any, path: FilePath) -> FilePath:
    """The page's own file: others of an OME-TIFF at ``path`` may hold pages too, but for one in a store."""
    if isinstance(path, FarFile):
        return path
    handle = page.parent.filehandle
    return Path(handle.dirname, handle.name)


def _own_series(tiff: Any) -> int:
    """The first image with planes in this very file: files of an OME-TIFF describe the images of all of them."""
    for number, series in enumerate(tiff.series):
        if any(page is not None and page.parent.filename == tiff.filename for page in series):
            return number
    return 0


def _contiguous(path: FilePath, tiff: Any, series: Any, facts: Facts) -> RawArray | None:
    """The image as one block of bytes, when it is stored so; None otherwise."""
    page = series.keyframe
    stored = np.dtype(page.parent.byteorder + page.dtype.char)
    plain = page.compression == 1 and page.predictor == 1 and page.fillorder == 1 and not page.is_tiled
    offset = series.dataoffset
    if stores_ycbcr(page):
        return None
    if not plain or offset is None or page.bitspersample != stored.itemsize * 8 or series.is_multifile:
        return None
    file = positioned(_path_of(page, path))
    try:
        raw = RawFileArray(file, offset, tuple(series.shape), stored, engine="tiff", facts=facts)
    except BaseException:
        file.close()
        raise
    return raw


class _Segments(NamedTuple):
    """Where the bytes of one page's segments lie."""

    offsets: Sequence[int]
    counts: Sequence[int]
    file: Positioned
    jpeg_tables: bytes | None


class TiffArray:
    """Pages of one series, each in tiles or strips. Owns the open file and the cache of decoded segments.

    A page's pixels have the normal axes (separate sample, depth, row, column, sample) of tifffile; ``_kept``
    says which of these five the page's own shape has.
    """

    def __init__(
        self,
        path: FilePath,
        tiff: Any,
        series: Any,
        facts: Facts,
        absent: Mapping[int, str],
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._path, self._tiff, self._series, self._absent = path, tiff, series, absent
        self._page = page = series.keyframe
        self.shape, self.dtype = tuple(series.shape), np.dtype(page.dtype).newbyteorder("=")
        self.engine, self.facts = "tiff", facts
        self._steps = tuple(page.subsampling) if is_subsampled(page) else None
        self._to_rgb = ToRgb(page) if self._steps or stores_ycbcr(page) else None
        self._normal: tuple[int, ...] = tuple(page.shaped)
        self._kept = [i for i, n in enumerate(self._normal) if i in (2, 3) or n > 1]
        self._lead = self.shape[: len(self.shape) - len(self._kept)]
        own = tuple(self._normal[i] for i in self._kept)
        if self.shape[len(self._lead) :] != own or math.prod(self._lead) != len(series):
            raise SourceError(
                f"{path}: pages of shape {own} do not make an image of shape {self.shape}",
                hint="convert it to OME-TIFF or Zarr",
                path=str(path),
            )
        depth, rows, columns, samples = self._normal[1:]
        if page.is_tiled:
            self._segment = (page.tiledepth or 1, page.tilelength, page.tilewidth, samples)
        else:
            self._segment = (1, min(page.rowsperstrip or rows, rows), columns, samples)
        self._grid = tuple(
            -(-n // edge) for n, edge in zip((depth, rows, columns), self._segment[:3], strict=True)
        )
        self._segment_bytes = math.prod(self._segment) * self.dtype.itemsize
        limits.check_bytes(str(path), "one tile" if page.is_tiled else "one strip", self._decoding_bytes())
        self._cache = SegmentCache(max(self._cache_bytes(), self._segment_bytes))
        self.held_bytes = self._cache.budget_bytes
        self._pages_lock = threading.Lock()
        self._files: dict[FilePath, Positioned] = {}
        pages = (page for page in series if page is not None) if series.is_multifile else ()
        self._others = sorted(
            {_path_of(page, path) for page in pages} - {_path_of(tiff.pages[0], path)}, key=str
        )
        if isinstance(path, FarFile) and page.compression in FAX:
            raise SourceError(
                f"{path} is coded as fax, which is read from files of this machine only",
                hint="copy it here first",
                path=str(path),
            )
        self._fax = FaxRows(page) if page.compression in FAX else None
        self._decode_page = page.decode  # made at its first use, which is not thread-safe

    def _decoding_bytes(self) -> int:
        """What one segment takes while it is decoded: its pixels, again where a predictor, another order of bytes or bits, or
        of colours is undone, and its encoded bytes, which may be more."""
        page, segment_bytes = self._page, int(self._segment_bytes)
        undone = page.predictor != 1 or page.fillorder != 1 or self._to_rgb is not None
        swapped = page.parent.byteorder != _NATIVE and self.dtype.itemsize > 1
        encoded = min(int(max(page.databytecounts, default=0)), 2 * segment_bytes)
        return (1 + bool(undone) + bool(swapped)) * segment_bytes + encoded

    def _cache_bytes(self) -> int:
        if self._page.is_tiled:
            return _TILE_CACHE_BYTES
        low, high = _STRIP_CACHE_BYTES
        row_bytes: int = self._normal[3] * self._normal[4] * self.dtype.itemsize
        return min(max(low, _BAND_ROWS * row_bytes), high)

    @property
    def block(self) -> tuple[int, ...]:
        edges = (1, *self._segment)
        own = tuple(min(edges[i], self._normal[i]) for i in self._kept)
        return (1,) * len(self._lead) + own

    def read(self, box: Box) -> NDArray[Any]:
        out = np.empty(box.shape, self.dtype)
        lead = len(self._lead)
        start, stop = [0] * 5, list(self._normal)
        for place, a, b in zip(self._kept, box.start[lead:], box.stop[lead:], strict=True):
            start[place], stop[place] = a, b
        normal_shape = [b - a for a, b in zip(start, stop, strict=True)]
        for index in np.ndindex(out.shape[:lead]):
            position = tuple(a + i for a, i in zip(box.start[:lead], index, strict=True))
            number = int(np.ravel_multi_index(position, self._lead)) if lead else 0
            self._read_page(number, start, stop, out[index].reshape(normal_shape))
        return out

    def _segments(self, number: int) -> _Segments | None:
        with self._pages_lock:  # tifffile reads page headers lazily, through one file position
            page = self._series[number]
            if page is None:
                return None
            tables = page.jpegtables if self._page.compression in _JPEG else None
            return _Segments(page.dataoffsets, page.databytecounts, self._file_of(page), tables)

    def _read_page(self, number: int, start: list[int], stop: list[int], out: NDArray[Any]) -> None:
        source = self._segments(number)
        if source is None:
            raise SourceError(
                f"{self._path}: plane {number} is missing: {self._absent.get(number, UNNAMED)}",
                hint="put all its files into one folder",
                path=str(self._path),
                plane=number,
            )
        depths, rows, columns = (
            range(a // edge, -(-b // edge))
            for a, b, edge in zip(start[1:4], stop[1:4], self._segment[:3], strict=True)
        )
        places = list(itertools.product(range(start[0], stop[0]), depths, rows, columns))
        if isinstance(source.file, FarFile):
            self._prefetch(number, source, source.file, places)
        for place in places:
            low = (place[0], *(i * edge for i, edge in zip(place[1:], self._segment[:3], strict=True)), 0)
            edge = (1, *self._segment)
            a = [max(p, q) for p, q in zip(start, low, strict=True)]
            b = [min(p, q + e, n) for p, q, e, n in zip(stop, low, edge, self._normal, strict=True)]
            target = out[tuple(slice(p - s, q - s) for p, q, s in zip(a, b, start, strict=True))]
            whole = all(
                q - p == min(e, n - f) for p, q, e, n, f in zip(a, b, edge, self._normal, low, strict=True)
            )
            segment = self._segment_of(number, place, source, keep=not whole)
            inner = tuple(slice(p - f, q - f) for p, q, f in zip(a[1:], b[1:], low[1:], strict=True))
            target[0] = self._page.nodata if segment is None else segment[inner]

    def _prefetch(
        self, number: int, source: _Segments, file: FarFile, places: Sequence[tuple[int, ...]]
    ) -> None:
        """What is not in the cache, of the first so many segments: the others are read as they come."""
        wanted = []
        for place in places:
            index = self._index_of(place)
            stored = index < min(len(source.offsets), len(source.counts)) and source.offsets[index]
            if stored and self._cache.peek((number, index)) is None:
                wanted.append((int(source.offsets[index]), int(source.counts[index])))
        file.prefetch(wanted)

    def _index_of(self, place: tuple[int, ...]) -> int:
        """Of the segment at (separate sample, its place in the grid)."""
        grid = self._grid
        return int(((place[0] * grid[0] + place[1]) * grid[1] + place[2]) * grid[2] + place[3])

    def _file_of(self, page: Any) -> Positioned:
        path = _path_of(page, self._path)
        if path not in self._files:
            self._files[path] = positioned(path)
        return self._files[path]

    def _segment_of(
        self, number: int, place: tuple[int, ...], source: _Segments, *, keep: bool
    ) -> NDArray[Any] | None:
        """The decoded segment at ``place`` (separate sample, and its place in the grid); None when it is sparse."""
        offsets, counts, file, tables = source
        index = self._index_of(place)
        if index >= len(offsets) or index >= len(counts):
            raise self._damage(number, index, file, f"its page lists only {len(offsets)} of them")
        if counts[index] == 0 or offsets[index] == 0:
            return None  # a sparse file: nothing was written there

        def make() -> NDArray[Any]:
            data = file.read_at(offsets[index], counts[index])
            return self._decode(number, index, data, file, offsets[index], tables)

        try:
            if keep:
                return self._cache.get((number, index), make)
            kept = self._cache.peek((number, index))
            return kept if kept is not None else make()
        except SourceError as error:
            if "segment" in error.details:
                raise
            raise self._damage(number, index, file, error.message) from error

    def _decode(
        self, number: int, index: int, data: bytes, file: Positioned, offset: int, tables: Any
    ) -> NDArray[Any]:
        options = (
            {"jpegtables": tables, "jpegheader": self._page.jpegheader}
            if self._page.compression in _JPEG
            else {}
        )
        self._check_declared(number, index, file, data)
        try:
            if self._steps is not None:
                segment = self._subsampled(data, index, self._steps)
            else:
                segment = self._decoded(data, index, options)
        except Exception as error:  # every codec raises its own kind
            raise self._damage(number, index, file, f"{type(error).__name__}: {error}") from error
        if self._fax is not None:
            rows = np.asarray(segment).reshape(-1, self._segment[2])
            fewer = self._fax.fewer_than(rows, file, offset, data)
            if fewer is not None:
                why = f"its fax code breaks off after {fewer} of {len(rows)} rows"
                raise self._damage(number, index, file, why)
        decoded: NDArray[Any] = np.asarray(segment)
        if self.dtype.kind != "b" and not np.can_cast(decoded.dtype, self.dtype, "safe"):
            why = f"it decodes to {decoded.dtype}, the page says {self.dtype}"
            raise self._damage(number, index, file, why)
        decoded = decoded.astype(self.dtype, copy=False)
        return self._to_rgb(decoded) if self._to_rgb is not None else decoded

    def _rows_of(self, index: int) -> int:
        """Rows of a segment; the last strip has those that are left."""
        rows = self._segment[1]
        if self._page.is_tiled:
            return int(rows)
        return int(min(rows, self._normal[2] - index // self._grid[2] % self._grid[1] * rows))

    def _decoded(self, data: bytes, index: int, options: dict[str, Any]) -> Any:
        try:
            return self._decode_page(data, index, **options)[0]
        except Exception:  # every codec raises its own kind
            # some writers deflate more than belongs to the segment, and all other readers take what does
            bits = self._segment[2] * self._segment[3] * int(np.max(self._page.bitspersample))
            whole = inflated(self._page, data, -(-bits // 8) * self._segment[0] * self._rows_of(index))
            if whole is None:
                raise
            return self._decode_page(whole, index, **options)[0]

    def _subsampled(self, data: bytes, index: int, steps: tuple[int, int]) -> NDArray[Any]:
        rows, columns = self._rows_of(index), self._segment[2]
        plain = decompressed(self._page, data, unit_bytes(rows, columns, steps))
        return unpacked(plain, rows, columns, steps)

    def _check_declared(self, number: int, index: int, file: Positioned, data: bytes) -> None:
        """Codecs of whole images decode what their own header says, whatever the page says of its segments."""
        if self._page.compression not in _IMAGE_CODECS:
            return
        if is_animated(data):
            raise self._damage(
                number, index, file, "it holds frames one after another, where one picture belongs"
            )
        header = self._page.jpegheader if self._page.compression in _JPEG else None
        declared = max(declared_pixels(part) or 0 for part in (header or b"", data))
        frame = declared_frame(data)
        if frame is not None:
            self._check_frame(number, index, file, frame)
        # strips may hold more rows than there are left, and tiles of subsampled colour whole blocks
        if declared > 2 * math.prod(self._segment) + _SMALL_PIXELS:
            shape = " x ".join(map(str, self._segment[1:3]))
            why = f"its own header says that it holds {declared} pixels, the page says {shape}"
            raise self._damage(number, index, file, why)

    def _check_frame(self, number: int, index: int, file: Positioned, frame: tuple[int, int, int]) -> None:
        """A picture of more columns or samples than its segment would be cut, and of more samples come out as other pixels;
        the last strip may hold rows that no longer belong to the image."""
        _, rows, columns, samples = self._segment
        taller = frame[0] > rows and (self._page.is_tiled or self._rows_of(index) == rows < self._normal[2])
        # cameras code mosaics as half as many columns of two samples
        other = (frame[1] > columns or frame[2] > samples) and frame[1] * frame[2] != columns * samples
        if taller or other:
            held = "{} x {} pixels of {} samples".format(*frame)
            why = f"its own header says {held}, the page {rows} x {columns} of {samples}"
            raise self._damage(number, index, file, why)

    def _damage(self, number: int, index: int, file: Positioned, why: str) -> SourceError:
        what = "tile" if self._page.is_tiled else "strip"
        return SourceError(
            f"{file.path}: {what} {index} of page {number} cannot be read: {why}",
            hint=DAMAGED if self._page.compression != OLD_JPEG else in_parts(file.path),
            path=str(file.path),
            page=number,
            segment=index,
        )

    def transient_bytes(self, box: Box) -> int:
        """One segment at a time is decoded: its bytes, the decoded pixels and a copy for the predictor."""
        return 3 * int(self._segment_bytes) + (AT_ONCE_BYTES if self._fax is not None else 0)

    def identity(self) -> dict[str, Any]:
        facts = [path.stat() for path in [self._path, *self._others]]
        sizes, times = [f.st_size for f in facts], [f.st_mtime_ns for f in facts]
        whole = (
            {"size": sizes, "mtime_ns": times} if self._others else {"size": sizes[0], "mtime_ns": times[0]}
        )
        return {"path": str(self._path.absolute()), **whole}

    def close(self) -> None:
        self._cache.clear()
        for file in self._files.values():
            file.close()
        self._tiff.close()
