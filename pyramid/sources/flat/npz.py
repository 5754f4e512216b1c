"""``.npz`` of one array: what its directory and the array's header say is compared before anything is decoded."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import OctreeError, SourceError
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.sources.flat.array import DecodedArray
from octree.pyramid.sources.plain import PositionedFile, RawFileArray, npy_header
from octree.pyramid.sources.protocol import Facts, RawArray

_PIECE_BYTES = 1 << 20
_LOCAL_HEADER_BYTES = 30


def open_npz(path: Path, limits: Limits = DEFAULT_LIMITS) -> RawArray:
    """The only array of ``path``: read by position where it is stored as it is, decoded whole where it is deflated.

    Raises SourceError for anything else, LimitError when it takes more than ``limits``.
    """
    if path.suffix.lower() != ".npz":
        raise SourceError(
            f"{path} is a ZIP archive", hint="unpack it, and name what it holds", path=str(path)
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return _open_member(path, archive, _only_member(path, archive), limits)
    except (OctreeError, MemoryError):
        raise
    except Exception as error:  # a damaged archive and a damaged header fail in many ways
        raise _damaged(path, str(error)) from error


def _only_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = archive.infolist()
    if len(members) != 1:
        names = [member.filename.removesuffix(".npy") for member in members[:8]]
        raise SourceError(
            f"{path} holds {len(members)} arrays: {', '.join(names)}",
            hint="save the one that is the image as .npy",
            path=str(path),
        )
    return members[0]


def _open_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, limits: Limits) -> RawArray:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
        raise SourceError(
            f"{path}: its array is encrypted, or compressed in a way that numpy does not write",
            hint="save it with numpy.savez_compressed",
            path=str(path),
        )
    with archive.open(member) as stream:
        shape, fortran, dtype = npy_header(cast("Any", stream))
        offset = stream.tell()
    if dtype.hasobject:
        raise SourceError(
            f"{path} holds Python objects, not numbers", hint="save it with a numeric dtype", path=str(path)
        )
    count = math.prod(shape) * dtype.itemsize
    if offset + count != member.file_size:
        raise _damaged(
            path,
            f"its array of shape {shape} takes {count} bytes, of which {member.file_size - offset} are there",
        )
    if member.compress_type == zipfile.ZIP_STORED:
        return _stored(path, member, offset, shape, dtype, fortran)
    limits.check_bytes(str(path), "this array", count)
    return DecodedArray(
        path,
        shape,
        dtype.newbyteorder("=").str,
        lambda: _decode(path, member, offset, shape, dtype, fortran),
        engine="npz",
        facts=Facts(codec="deflate"),
        decoding_bytes=_PIECE_BYTES,
    )


def _stored(
    path: Path,
    member: zipfile.ZipInfo,
    offset: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    fortran: bool,
) -> RawArray:
    file = PositionedFile(path)
    try:
        local = file.read_at(member.header_offset, _LOCAL_HEADER_BYTES)
        lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
        begin = member.header_offset + _LOCAL_HEADER_BYTES + lengths + offset
        facts = Facts(codec="none")
        return RawFileArray(file, begin, shape, dtype, engine="npz", facts=facts, reversed_axes=fortran)
    except BaseException:
        file.close()
        raise


def _decode(
    path: Path,
    member: zipfile.ZipInfo,
    offset: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    fortran: bool,
) -> NDArray[Any]:
    """All of it, straight into the array: never more than was promised."""
    out = np.empty(shape[::-1] if fortran else shape, dtype)
    target = out.reshape(-1).view(np.uint8).data
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
            stream.read(offset)
            _fill(stream, target)
            stream.read(1)  # its end, at which the checksum is compared
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    own = out.astype(dtype.newbyteorder("="), copy=False)
    return own.T if fortran else own


def _fill(stream: IO[bytes], target: memoryview) -> None:
    place = 0
    while place < len(target):
        part = stream.read(min(_PIECE_BYTES, len(target) - place))
        if not part:
            raise EOFError("it ends too early")
        target[place : place + len(part)] = part
        place += len(part)


def _damaged(path: Path, why: str) -> SourceError:
    return SourceError(f"{path} is damaged: {why}", hint="copy it again", path=str(path))
