"""Decoding flat images: what a file says it is (``look``), and its pixels (``decode``). Runs where ``flat.py`` wants it,
in this process or in a confined one, so everything goes in and out as plain values.

Pillow opens most of these formats; imagecodecs those with 16-bit colour, which Pillow would cut to 8 bits; imageio what
is left.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.confined import Make
from octree.pyramid.errors import OctreeError, SourceError
from octree.pyramid.limits import Limits

_PILLOW_LOCK = threading.Lock()

# Pillow's mode → the mode it is taken in (colour spaces become RGB, alpha is kept), dtype, samples
_MODES: dict[str, tuple[str, str, int]] = {
    "1": ("1", "bool", 0), "L": ("L", "u1", 0), "I": ("I", "i4", 0), "F": ("F", "f4", 0),
    "I;16": ("I;16", "u2", 0), "I;16L": ("I;16L", "u2", 0), "I;16B": ("I;16B", "u2", 0), "I;16N": ("I;16N", "u2", 0),
    "RGB": ("RGB", "u1", 3), "RGBX": ("RGB", "u1", 3), "YCbCr": ("RGB", "u1", 3), "HSV": ("RGB", "u1", 3),
    "CMYK": ("RGB", "u1", 3), "RGBA": ("RGBA", "u1", 4), "RGBa": ("RGBA", "u1", 4), "LA": ("RGBA", "u1", 4),
    "La": ("RGBA", "u1", 4), "PA": ("RGBA", "u1", 4), "P": ("RGB", "u1", 3),
}  # fmt: skip
_DEEP_PNG = {"RGB;16B": 3, "LA;16B": 4, "RGBA;16B": 4}
_SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations that swap height and width
_MOVING = {"GIF", "PNG", "WEBP"}  # other formats' "frames" are previews or stereo pairs
_ORIENTATION = 0x0112
_BAND_PIXELS = 1 << 18
_CODEC_BYTES = {"WEBP": 12, "JPEG2000": 16}  # for each pixel, while it decodes; others decode row by row


@dataclass(frozen=True, slots=True)
class Look:
    """What a flat image is. ``dtype`` as numpy writes it; ``axes`` None where nothing says.

    ``decoding_bytes``  what decoding holds besides the pixels.
    ``mode``            Pillow's, in which the pixels are taken; of engine imagecodecs, its codec.
    """

    shape: tuple[int, ...]
    dtype: str
    axes: str | None
    engine: str
    codec: str = ""
    decoding_bytes: int = 0
    mode: str = ""
    frames: int = 1
    orientation: int = 1

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(facts: dict[str, Any]) -> Look:
        return Look(**{**facts, "shape": tuple(facts["shape"])})


# in a confined process


def look_confined(
    make: Make, path: str, as_stored: bool, max_pixels: int
) -> tuple[dict[str, Any], NDArray[Any] | None]:
    """``look`` at any format; imageio gives the pixels at once, as it says nothing before."""
    from PIL import Image, UnidentifiedImageError

    _obey(max_pixels)
    try:
        return look(Path(path), as_stored, Limits(max_pixels)).to_json(), None
    except UnidentifiedImageError:
        pixels = _by_imageio(Path(path))
        pixels = np.asarray(pixels, pixels.dtype.newbyteorder("="))
        return Look(pixels.shape, pixels.dtype.str, None, "imageio").to_json(), pixels
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _too_many(path, max_pixels, error) from error


def decode_confined(
    make: Make, path: str, facts: dict[str, Any], max_pixels: int
) -> tuple[None, NDArray[Any]]:
    from PIL import Image

    _obey(max_pixels)
    try:
        return None, decode(Path(path), Look.from_json(facts), make)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _too_many(path, max_pixels, error) from error


def _obey(max_pixels: int) -> None:
    """Pillow's own limit is ours: it looks at images inside of images, too (icons, frames that outgrow their canvas)."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def _too_many(path: str, max_pixels: int, error: Warning | Exception) -> OctreeError:
    from octree.pyramid.errors import LimitError

    return LimitError(
        f"{path}: an image in it has more pixels than the limit of {max_pixels} ({error})",
        hint="if you trust the file, give more --max-pixels",
        path=path,
        option="--max-pixels",
        limit=max_pixels,
    )


# anywhere


@contextmanager
def pillow_without_limit() -> Iterator[None]:
    """Pillow refuses images of more than 179 million pixels as possible attacks. Where our own limit is asked, that says
    all: the formats that are opened in this process hold one image, of the size that their header says."""
    from PIL import Image

    with _PILLOW_LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def look(path: Path, as_stored: bool, limits: Limits, formats: tuple[str, ...] | None = None) -> Look:
    """What the file says of itself; nothing is decoded. ``formats`` of Pillow to try, all by default.

    ``as_stored``: of a palette, the indices. Raises LimitError, and what Pillow raises.
    """
    from PIL import Image

    with Image.open(path, formats=formats) as image:
        frames = int(getattr(image, "n_frames", 1)) if image.format in _MOVING else 1
        width, height = image.size
        limits.check_pixels(str(path), height, width, frames)
        return _deep_color(path, image) or _by_pillow(image, frames, as_stored)


def decode(path: Path, look: Look, make: Make) -> NDArray[Any]:
    """The pixels, of ``look.shape`` when the file is what it said; in an array of ``make`` where that saves a copy."""
    if look.engine == "imagecodecs":
        return _decode_deep(path, look.mode)
    return _decode_pillow(path, look, make)


def _by_pillow(image: Any, frames: int, as_stored: bool) -> Look:
    mode, (width, height) = image.mode, image.size
    if mode == "P" and "transparency" in image.info:
        mode = "PA"
    if frames > 1:  # each frame may have its own mode
        mode = "RGBA" if _MODES.get(mode, ("",))[0] == "RGBA" else "RGB"
    orientation = _orientation(image)
    if orientation in _SIDEWAYS:
        width, height = height, width
    indices = as_stored and image.mode == "P" and frames == 1
    taken, dtype, samples = ("P", "u1", 0) if indices else _MODES.get(mode, ("RGB", "u1", 3))
    shape = (height, width, samples) if samples else (height, width)
    return Look(
        shape=(frames, *shape) if frames > 1 else shape,
        dtype=dtype,
        axes=("t" if frames > 1 else "") + ("yxs" if samples else "yx"),
        engine="pillow",
        codec=str(image.format or "").lower(),
        decoding_bytes=width * height * _bytes_per_pixel(image, (samples or 1) * np.dtype(dtype).itemsize),
        mode=taken,
        frames=frames,
        orientation=orientation,
    )


def _bytes_per_pixel(image: Any, result: int) -> int:
    """What decoding holds besides ``result``, which is made when the codec is done: Pillow's image, where colour
    takes 4 bytes, and what the codec needs more than that."""
    pillow = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    codec = _CODEC_BYTES.get(str(image.format), 0)
    if "progressive" in image.info:  # a JPEG whose coefficients are all kept until the last pass
        codec = 2 * len(image.getbands())
    return pillow + max(0, codec - result)


def _orientation(image: Any) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole image to look for a note behind the pixels
    return int(image.getexif().get(_ORIENTATION) or 1)


def _pixels(image: Any, mode: str, out: NDArray[Any]) -> None:
    """Pillow's image into ``out``, band by band: at once it would take two more copies of the whole, or three."""
    width, height = image.size
    if out.shape[:2] != (height, width):
        raise ValueError(f"an image of {width} x {height} pixels, where the header says {out.shape[1::-1]}")
    rows = max(1, _BAND_PIXELS // max(1, width))
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        out[top : top + rows] = np.asarray(band if band.mode == mode else band.convert(mode))


def _lying(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A view of rows and columns as they are stored, of ``pixels`` as EXIF says that they are to be seen."""
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels.swapaxes(0, 1) if orientation in _SIDEWAYS else pixels


def _decode_pillow(path: Path, look: Look, make: Make) -> NDArray[Any]:
    from PIL import Image

    out = make(look.shape, np.dtype(look.dtype))
    with Image.open(path) as image:
        for number in range(look.frames):
            if number:
                image.seek(number)
            _pixels(image, look.mode, _lying(out if look.frames == 1 else out[number], look.orientation))
    return out


def _deep_color(path: Path, image: Any) -> Look | None:
    """Colour of more than 8 bits per sample (PNG, JPEG 2000), which Pillow would cut to 8; None when it is not."""
    width, height = image.size
    codec, samples, each = "", 0, 0
    if image.format == "PNG" and image.tile:
        codec, samples = "png", _DEEP_PNG.get(str(image.tile[0][3]), 0)
    elif image.format == "JPEG2000" and image.mode in ("RGB", "RGBA") and _jpeg2000_bits(path) > 8:
        codec, samples, each = "jpeg2k", len(image.mode), _CODEC_BYTES["JPEG2000"]
    if not samples:
        return None
    return Look(
        shape=(height, width, samples),
        dtype="u2",
        axes="yxs",
        engine="imagecodecs",
        decoding_bytes=path.stat().st_size + width * height * each,
        mode=codec,
    )


def _jpeg2000_bits(path: Path) -> int:
    """Bits of the first component, from the SIZ marker at the head of the codestream; 8 when it is not found."""
    with path.open("rb") as stream:
        head = stream.read(65536)
    place = head.find(b"\xff\x4f\xff\x51")
    bits = head[place + 42 : place + 43] if place >= 0 else b""
    return (bits[0] & 0x7F) + 1 if bits else 8


def _decode_deep(path: Path, codec: str) -> NDArray[Any]:
    import imagecodecs

    decode = {"png": imagecodecs.png_decode, "jpeg2k": imagecodecs.jpeg2k_decode}[codec]
    image: NDArray[Any] = decode(path.read_bytes())
    if image.ndim == 3 and image.shape[2] == 2:  # grey and alpha, as colour and alpha
        image = image[..., [0, 0, 0, 1]]
    return image


def _by_imageio(path: Path) -> NDArray[Any]:
    import imageio.v3 as imageio

    extension: Any = path.suffix or None  # a hint which plug-in to try
    try:
        with path.open("rb") as stream:
            return np.asarray(imageio.imread(stream, extension=extension))
    except MemoryError:
        raise
    except Exception:  # imageio's plug-ins raise whatever their libraries raise
        pass
    # some of them want a path, and leave the file open, which ends with this process; that of DICOM then looks through
    # all folders below that of the file, and may take the pixels of another one of its series
    try:
        with tempfile.TemporaryDirectory(prefix="octree-") as alone:
            link = Path(alone, "image" + path.suffix)
            link.symlink_to(path.absolute())
            return np.asarray(imageio.imread(link, extension=extension))
    except MemoryError:
        raise
    except Exception as error:
        raise SourceError(
            f"{path} is no image that octree can read",
            hint="TIFF, PNG, JPEG and what else imageio reads, .npy, Zarr folders and file.h5::/dataset can be read",
            path=str(path),
        ) from error
