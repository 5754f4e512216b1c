"""PNG, JPEG and other flat images: decoded as a whole, once, at the first read.

These formats have no tiles to pick from. ``held_bytes`` says what the decoded image costs, decoding included. Pillow opens most of
them; imagecodecs those with 16-bit colour, which Pillow would cut to 8 bits; imageio what is left.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box
from octree.pyramid.sources.protocol import Facts

_LIMIT_LOCK = threading.Lock()

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


class DecodedArray:
    """An image that ``decode`` gives as a whole; the result is kept, under a lock in which one thread decodes."""

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: str,
        decode: Callable[[], NDArray[Any]],
        *,
        engine: str,
        axes: str | None,
        codec: str = "",
        decoding_bytes: int = 0,
    ) -> None:
        self.shape, self.dtype, self.block = shape, np.dtype(dtype), shape
        self.engine, self.facts = engine, Facts(axes=axes, codec=codec)
        # decoding happens once, while everyone else waits: it is no part of what each read needs
        self.held_bytes = math.prod(shape) * self.dtype.itemsize + decoding_bytes
        self._path, self._decode = path, decode
        self._image: NDArray[Any] | None = None
        self._lock = threading.Lock()

    def _whole(self) -> NDArray[Any]:
        with self._lock:
            if self._image is None:
                image = self._decode()
                if image.shape != self.shape:
                    raise SourceError(
                        f"{self._path} decodes to shape {image.shape}; its header says {self.shape}",
                        hint="the file is damaged; copy it again",
                        path=str(self._path),
                    )
                self._image = image.astype(self.dtype, copy=False)
            return self._image

    def read(self, box: Box) -> NDArray[Any]:
        return self._whole()[box.slices]

    def transient_bytes(self, box: Box) -> int:
        """Nothing: a read is a view."""
        return 0

    def identity(self) -> dict[str, Any]:
        facts = self._path.stat()
        return {"path": str(self._path.absolute()), "size": facts.st_size, "mtime_ns": facts.st_mtime_ns}

    def close(self) -> None:
        self._image = None


@contextmanager
def _no_pixel_limit() -> Iterator[None]:
    """Pillow refuses images of more than 179 million pixels as possible attacks; big images are what we are for."""
    from PIL import Image

    with _LIMIT_LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def open_flat(path: Path, *, as_stored: bool = False) -> DecodedArray:
    """A flat image; moving ones (GIF, PNG, WebP) have an axis t. ``as_stored``: of a palette, the indices.

    EXIF orientation is applied, so that a photograph stands as every viewer shows it.
    Raises SourceError when nothing can decode the file.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with _no_pixel_limit(), Image.open(path) as image:
            deep = _deep_color(path, image)
            return deep or _by_pillow(path, image, as_stored)
    except UnidentifiedImageError:
        return _by_imageio(path)
    except MemoryError:
        raise
    except Exception as error:  # each of Pillow's readers fails in its own way
        raise _damaged(path, error) from error


def _by_pillow(path: Path, image: Any, as_stored: bool) -> DecodedArray:
    mode, (width, height) = image.mode, image.size
    if mode == "P" and "transparency" in image.info:
        mode = "PA"
    frames = int(getattr(image, "n_frames", 1)) if image.format in _MOVING else 1
    if frames > 1:  # each frame may have its own mode
        mode = "RGBA" if _MODES.get(mode, ("",))[0] == "RGBA" else "RGB"
    orientation = _orientation(image)
    if orientation in _SIDEWAYS:
        width, height = height, width
    indices = as_stored and image.mode == "P" and frames == 1
    taken, dtype, samples = ("P", "u1", 0) if indices else _MODES.get(mode, ("RGB", "u1", 3))
    shape = (height, width, samples) if samples else (height, width)
    if frames > 1:
        shape = (frames, *shape)
    axes = ("t" if frames > 1 else "") + ("yxs" if samples else "yx")
    return DecodedArray(
        path,
        shape,
        dtype,
        lambda: _decode_pillow(path, taken, frames, orientation),
        engine="pillow",
        axes=axes,
        codec=str(image.format or "").lower(),
        decoding_bytes=width * height * _bytes_per_pixel(image, (samples or 1) * np.dtype(dtype).itemsize),
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


def _pixels(image: Any, mode: str) -> NDArray[Any]:
    """Pillow's image as an array, band by band: at once it would take two more copies of the whole, or three."""
    width, height = image.size
    rows = max(1, _BAND_PIXELS // max(1, width))
    out: NDArray[Any] | None = None
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        part = np.asarray(band if band.mode == mode else band.convert(mode))
        if out is None:
            out = np.empty((height, *part.shape[1:]), part.dtype)
        out[top : top + rows] = part
    assert out is not None  # Pillow opens no image without a row
    return out


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A view of rows and columns as EXIF says that they are to be seen."""
    if orientation in _SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def _decode_pillow(path: Path, mode: str, frames: int, orientation: int) -> NDArray[Any]:
    from PIL import Image

    try:
        with _no_pixel_limit(), Image.open(path) as image:
            first = _upright(_pixels(image, mode), orientation)
            if frames == 1:
                return first
            planes = np.empty((frames, *first.shape), first.dtype)
            planes[0] = first
            for number in range(1, frames):
                image.seek(number)
                planes[number] = _upright(_pixels(image, mode), orientation)
            return planes
    except MemoryError:
        raise
    except Exception as error:  # each of Pillow's readers fails in its own way
        raise _damaged(path, error) from error


def _deep_color(path: Path, image: Any) -> DecodedArray | None:
    """Colour of more than 8 bits per sample (PNG, JPEG 2000), which Pillow would cut to 8; None when it is not."""
    width, height = image.size
    if image.format == "PNG" and image.tile and (samples := _DEEP_PNG.get(str(image.tile[0][3]), 0)):
        return DecodedArray(
            path,
            (height, width, samples),
            "u2",
            lambda: _decode_deep(path, "png"),
            engine="imagecodecs",
            axes="yxs",
            decoding_bytes=path.stat().st_size,
        )
    if image.format == "JPEG2000" and image.mode in ("RGB", "RGBA") and _jpeg2000_bits(path) > 8:
        samples = len(image.mode)
        return DecodedArray(
            path,
            (height, width, samples),
            "u2",
            lambda: _decode_deep(path, "jpeg2k"),
            engine="imagecodecs",
            axes="yxs",
            decoding_bytes=path.stat().st_size + width * height * _CODEC_BYTES["JPEG2000"],
        )
    return None


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
    try:
        image: NDArray[Any] = decode(path.read_bytes())
    except Exception as error:  # imagecodecs raises its own kind per codec
        raise _damaged(path, error) from error
    if image.ndim == 3 and image.shape[2] == 2:  # grey and alpha, as colour and alpha
        image = image[..., [0, 0, 0, 1]]
    return image


def _damaged(path: Path, error: Exception) -> SourceError:
    return SourceError(
        f"{path} cannot be decoded: {error}",
        hint="the file is damaged or not an image; copy it again",
        path=str(path),
    )


def _by_imageio(path: Path) -> DecodedArray:
    import imageio.v3 as imageio

    extension: Any = path.suffix or None  # a hint which plug-in to try
    try:
        with path.open("rb") as stream:  # given a path, imageio may leave the file open
            image = np.asarray(imageio.imread(stream, extension=extension))
    except Exception as error:  # imageio's plug-ins raise whatever their libraries raise
        raise SourceError(
            f"{path} is no image that octree can read",
            hint="TIFF, PNG, JPEG and what else imageio reads, .npy, Zarr folders and file.h5::/dataset can be read",
            path=str(path),
        ) from error
    dtype = image.dtype.newbyteorder("=").str
    return DecodedArray(path, image.shape, dtype, lambda: image, engine="imageio", axes=None)
