"""PNG, JPEG and other flat images: decoded as a whole, once, at the first read.

These formats have no tiles to pick from. ``held_bytes`` says what the decoded image costs.
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
from octree.pyramid.raw import Facts

_LIMIT_LOCK = threading.Lock()

# Pillow's mode → the mode it is taken in (colour spaces become RGB, alpha is kept), dtype, samples
_MODES: dict[str, tuple[str, str, int]] = {
    "1": ("1", "bool", 0), "L": ("L", "u1", 0), "I": ("I", "i4", 0), "F": ("F", "f4", 0),
    "I;16": ("I;16", "u2", 0), "I;16L": ("I;16L", "u2", 0), "I;16B": ("I;16B", "u2", 0), "I;16N": ("I;16N", "u2", 0),
    "RGB": ("RGB", "u1", 3), "RGBX": ("RGB", "u1", 3), "YCbCr": ("RGB", "u1", 3), "HSV": ("RGB", "u1", 3),
    "CMYK": ("RGB", "u1", 3), "RGBA": ("RGBA", "u1", 4), "RGBa": ("RGBA", "u1", 4), "LA": ("RGBA", "u1", 4),
    "La": ("RGBA", "u1", 4), "PA": ("RGBA", "u1", 4), "P": ("RGB", "u1", 3),
}  # fmt: skip
_SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations that swap height and width


class DecodedArray:
    """An image that ``decode`` gives as a whole; the result is kept, under a lock that one thread decodes in."""

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        decode: Callable[[], NDArray[Any]],
        *,
        engine: str,
        facts: Facts,
    ) -> None:
        self.shape, self.dtype, self.block = shape, dtype, shape
        self.engine, self.facts = engine, facts
        self.held_bytes = math.prod(shape) * dtype.itemsize
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
        return 0 if self._image is not None else self.held_bytes

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


def open_flat(path: Path) -> DecodedArray:
    """A flat image. EXIF orientation is applied, so that a photograph stands as every viewer shows it.

    Raises SourceError when nothing can decode the file.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with _no_pixel_limit(), Image.open(path) as image:
            mode, (width, height) = image.mode, image.size
            if mode == "P" and "transparency" in image.info:
                mode = "PA"
            if image.getexif().get(0x0112) in _SIDEWAYS:
                width, height = height, width
    except UnidentifiedImageError:
        return _open_imageio(path)
    except (OSError, ValueError, SyntaxError) as error:
        raise _damaged(path, error) from error
    taken, dtype, samples = _MODES.get(mode, ("RGB", "u1", 3))
    shape = (height, width, samples) if samples else (height, width)

    def decode() -> NDArray[Any]:
        from PIL import ImageOps

        try:
            with _no_pixel_limit(), Image.open(path) as image:
                upright = ImageOps.exif_transpose(image)
                return np.asarray(upright if upright.mode == taken else upright.convert(taken))
        except (OSError, ValueError, SyntaxError) as error:
            raise _damaged(path, error) from error

    return DecodedArray(
        path, shape, np.dtype(dtype), decode, engine="pillow", facts=Facts(axes="yxs" if samples else "yx")
    )


def _damaged(path: Path, error: Exception) -> SourceError:
    return SourceError(
        f"{path} cannot be decoded: {error}",
        hint="the file is damaged or not an image; copy it again",
        path=str(path),
    )


def _open_imageio(path: Path) -> DecodedArray:
    import imageio.v3 as imageio

    try:
        image = np.asarray(imageio.imread(path))
    except Exception as error:  # imageio's plug-ins raise whatever their libraries raise
        raise SourceError(
            f"{path} is no image that octree can read",
            hint="TIFF, PNG, JPEG and what else imageio reads, .npy, Zarr folders and file.h5::/dataset can be read",
            path=str(path),
        ) from error
    return DecodedArray(
        path, image.shape, image.dtype.newbyteorder("="), lambda: image, engine="imageio", facts=Facts()
    )
