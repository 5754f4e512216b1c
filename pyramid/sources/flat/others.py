"""Flat formats that imageio reads: DICOM, SPE, BSDF, Lytro. Runs in a confined process.

Each is asked for by what its files begin with or are called: imageio itself tries one plug-in after the other, and one of
them takes any file for a picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import SourceError

_FILMS = {".avi", ".h264", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
_LYTRO = b"\x89LFP\r\n\x1a\n"
_SPE_HEADER_BYTES = 4100
_COLOUR_HINT = (
    "convert it with dcm2img or gdcm2pnm, or with pydicom: numpy.save('image.npy', dataset.pixel_array)"
)


def read_others(path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The pixels, and what is lost or kept as it is. Raises SourceError."""
    with path.open("rb") as stream:
        head = stream.read(_SPE_HEADER_BYTES)
    if head[128:132] == b"DICM":
        return _dicom(path)
    suffix = path.suffix.lower()
    plugin = None
    if head[:4] == b"BSDF":
        plugin = "BSDF"
    elif suffix == ".spe" and len(head) == _SPE_HEADER_BYTES:
        plugin = "SPE"
    elif head.startswith(_LYTRO) and suffix in (".lfr", ".lfp"):
        plugin = "LYTRO-" + suffix[1:].upper()
    if plugin is None:
        if suffix in _FILMS:
            hint = f"take its pictures out: ffmpeg -i {path.name} frame-%05d.png"
        else:
            hint = "docs/sources.md lists the formats; convert it to TIFF, PNG or .npy"
        raise SourceError(f"{path} is no image that octree can read", hint=hint, path=str(path))
    import imageio.v3 as imageio

    # a path, which some of these plug-ins ask for; what they leave open ends with this process
    return np.asarray(imageio.imread(path, plugin=plugin)), ()


def _dicom(path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The values that the header gives a meaning to: stored ones, times slope plus intercept.

    One file alone: imageio's own plug-in looks through all folders below that of the file. It also casts to too few bits
    when it rescales, and takes interleaved colours for planes: neither is asked for here.
    """
    from imageio.plugins._dicom import SimpleDicomReader

    class Stored(SimpleDicomReader):
        def _apply_slope_and_offset(self, data: Any) -> Any:
            return data

    try:
        reader: Any = Stored(str(path))  # type: ignore[no-untyped-call]  # none of it has types
        facts = dict(reader.info)
        if facts.get("SamplesPerPixel", 1) != 1:
            raise SourceError(
                f"{path} cannot be read exactly: DICOM in colour", hint=_COLOUR_HINT, path=str(path)
            )
        stored: NDArray[Any] = reader.get_numpy_array()
    except SourceError:
        raise
    except (MemoryError, OSError):
        raise
    except Exception as error:  # of any kind: it is compressed, a report, or damaged
        raise SourceError(
            f"{path} is DICOM that cannot be read: {error}",
            hint="compressed files: gdcmconv --raw IN OUT, or dcmdjpeg IN OUT",
            path=str(path),
        ) from error
    said = []
    if b"MONOCHROME1" in _beginning(path):
        said.append("its lowest value is white (MONOCHROME1); values are kept as they are")
    return _rescaled(stored, float(facts.get("RescaleSlope", 1)), float(facts.get("RescaleIntercept", 0))), (
        *said,
        "of its header, only size and scale of the values are kept",
    )


def _beginning(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(1 << 16)


def _rescaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    if (slope, intercept) == (1, 0) or not stored.size:
        return stored
    if not (slope.is_integer() and intercept.is_integer()):
        return stored * np.float64(slope) + np.float64(intercept)
    ends = [int(end) * int(slope) + int(intercept) for end in (stored.min(), stored.max())]
    kinds = (np.dtype(name) for name in ("i2", "i4", "i8"))
    kind = next(k for k in kinds if np.iinfo(k).min <= min(ends) and max(ends) <= np.iinfo(k).max)
    return np.asarray(stored.astype(np.int64) * int(slope) + int(intercept)).astype(kind)
