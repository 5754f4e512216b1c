"""Decoding flat images: what a file says it is (``look``), and its pixels (``decode``). Runs where ``open.py`` wants it,
in this process or in a confined one, so everything goes in and out as plain values.

Pillow opens most of these formats; imagecodecs those whose values Pillow would change (more than 8 bits); imageio a few
that neither knows, each by the name or the first bytes of its files.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.confined import Make
from octree.pyramid.errors import OctreeError, OctreeWarning, SourceError
from octree.pyramid.limits import Limits
from octree.pyramid.sources.flat.headers import JPEG_2000_BYTES, codestream_of, look_at_header
from octree.pyramid.sources.flat.look import Look
from octree.pyramid.sources.flat.others import read_others

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
_FEW_BITS = {"L;2": 2, "L;4": 4}
"""Of grey PNG, which Pillow spreads over 8 bits."""
_PROGRAMS = {"EPS"}  # which draw, and are drawn by another program
_OPAQUE = {"1", "L", "I", "I;16", "I;16B"}  # measured values, which colours and alpha would replace
_SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations that swap height and width
_MOVING = {"GIF", "PNG", "WEBP", "AVIF", "FLI"}  # other formats' "frames" are previews or stereo pairs
_SERIES = {"DCX", "IM", "SPIDER"}  # but of these, of which the first is taken
_NESTED = {"icns", "ico", "cur", "blp"}  # icons and textures: small, and what is inside has a size of its own
_ORIENTATION = 0x0112
_WORDS = {
    r"EXIF|Tag data larger|Truncated File Read|Metadata Warning": "its EXIF notes are damaged: if they say that it is to be "
    "turned, that is not done",
    "malformed MPO": "its list of further pictures is damaged: the first one is read",
    "Invalid APNG": "its list of frames is damaged: the still picture is read",
}
"""What Pillow warns of, and what that means."""
_BAND_PIXELS = 1 << 18
_CODEC_BYTES = {
    "WEBP": 12,
    "AVIF": 12,
    "JPEG2000": 4 * JPEG_2000_BYTES,
}  # for each pixel, while it decodes; others decode row by row


# in a confined process


def look_confined(
    make: Make, path: str, as_stored: bool, max_pixels: int
) -> tuple[dict[str, Any], NDArray[Any] | None]:
    """``look`` at any format. The pixels come at once where the header does not say what decoding takes: of what imageio
    reads, and of pictures inside of pictures."""
    from PIL import UnidentifiedImageError

    pixels = None
    with _watched(path, max_pixels) as said:
        try:
            found = look(Path(path), as_stored, Limits(max_pixels))
            if found.codec in _NESTED:
                pixels = decode(Path(path), found, make)
        except UnidentifiedImageError:
            pixels, lost = read_others(Path(path))
            pixels = np.asarray(pixels, pixels.dtype.newbyteorder("="))
            found = Look(pixels.shape, pixels.dtype.str, None, "imageio", warnings=lost)
    return replace(found, warnings=(*found.warnings, *said)).to_json(), pixels


def decode_confined(
    make: Make, path: str, facts: dict[str, Any], max_pixels: int
) -> tuple[list[str], NDArray[Any]]:
    """(what libraries warned of, the pixels)."""
    with _watched(path, max_pixels) as said:
        pixels = decode(Path(path), Look.from_json(facts), make)
    return said, pixels


@contextmanager
def _watched(path: str, max_pixels: int) -> Iterator[list[str]]:
    """Pillow's own limit is ours: it looks at images inside of images, too (icons, frames that outgrow their canvas). What
    libraries warn of is in the list afterwards: nobody hears it here."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = max_pixels
    said: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield said
        said += in_our_words(found)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _too_many(path, max_pixels, error) from error


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


@contextmanager
def heard() -> Iterator[list[str]]:
    """What libraries warn of is in the list afterwards, in our words, and goes nowhere else; warnings of ours do. For one
    thread at a time."""
    from PIL import Image

    said: list[str] = []
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield said
    # others may have warned meanwhile, on other threads
    for warning in found:
        if issubclass(warning.category, OctreeWarning):
            warnings.warn_explicit(str(warning.message), warning.category, warning.filename, warning.lineno)
    said += in_our_words(found)


def in_our_words(found: Iterable[warnings.WarningMessage]) -> list[str]:
    """Each once; what is not known here is quoted."""
    said = []
    for warning in found:
        if not issubclass(warning.category, OctreeWarning):
            text = str(warning.message).strip()
            said.append(
                next(
                    (ours for theirs, ours in _WORDS.items() if re.search(theirs, text)),
                    f"its decoder says: {text}",
                )
            )
    return list(dict.fromkeys(said))


def look(path: Path, as_stored: bool, limits: Limits, formats: tuple[str, ...] | None = None) -> Look:
    """What the file says of itself; nothing is decoded. ``formats`` of Pillow to try, all by default.

    ``as_stored``: of a palette, the indices. Raises LimitError, and what Pillow raises.
    """
    from PIL import Image

    if found := look_at_header(path, as_stored, limits):
        return found
    with heard() as said, Image.open(path, formats=formats) as image:
        frames = int(getattr(image, "n_frames", 1)) if image.format in _MOVING else 1
        width, height = image.size
        limits.check_pixels(str(path), height, width, frames)
        _check_exact(path, image)
        found = _deep_color(path, image, frames) or _by_pillow(image, frames, as_stored)
        lost = _losses(path, image)
    return replace(found, warnings=(*lost, *said))


def decode(path: Path, look: Look, make: Make) -> NDArray[Any]:
    """The pixels, of ``look.shape`` when the file is what it said; in an array of ``make`` where that saves a copy."""
    if look.engine == "imagecodecs":
        return _decode_deep(path, look, make)
    return _decode_pillow(path, look, make)


def _check_exact(path: Path, image: Any) -> None:
    """Raises SourceError for a format whose values Pillow gives wrongly, or that is a program."""
    if image.format in _PROGRAMS:
        raise SourceError(
            f"{path} is {image.format}, a program that draws, and no image",
            hint="draw it as pixels: ghostscript, or ImageMagick: convert -density 300 IN out.png",
            path=str(path),
        )
    if (
        image.format == "FITS" and image.mode != "L"
    ):  # takes big-endian numbers for little-endian ones, scales nothing
        raise SourceError(
            f"{path} cannot be read exactly: FITS of other than 8 bits",
            hint="convert it with astropy: numpy.save('image.npy', astropy.io.fits.getdata(path))",
            path=str(path),
        )


def _losses(path: Path, image: Any) -> tuple[str, ...]:
    """What Pillow leaves out, or does by a rule."""
    lost = []
    if image.format == "SGI" and path.read_bytes()[3:4] == b"\2":
        lost.append("its samples of 16 bits become 8 bits")
    if image.format in _SERIES and (count := int(getattr(image, "n_frames", 1))) > 1:
        lost.append(f"it holds {count} images, of which the first is taken")
    if "transparency" in image.info and image.mode in _OPAQUE:
        lost.append("one of its values stands for transparent: that is not applied")
    if image.mode == "CMYK" and not _profiled(image):
        lost.append(
            "its inks (CMYK) become RGB by a rule, (1 - ink)(1 - black): it has no colour profile that could be used"
        )
    return tuple(lost)


def _profiled(image: Any) -> Any:
    """From CMYK to sRGB by the image's own profile; None when it has none, or none for that."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if image.mode != "CMYK" or not profile:
        return None
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def _by_pillow(image: Any, frames: int, as_stored: bool) -> Look:
    mode, (width, height) = image.mode, image.size
    if mode in ("P", "RGB") and "transparency" in image.info:
        mode += "A"
    if frames > 1:  # each frame may have its own mode
        mode = "RGBA" if _MODES.get(mode, ("",))[0] == "RGBA" else "RGB"
    orientation = _orientation(image)
    if orientation in _SIDEWAYS:
        width, height = height, width
    indices = as_stored and image.mode == "P" and frames == 1
    taken, dtype, samples = ("P", "u1", 0) if indices else _MODES.get(mode, ("RGB", "u1", 3))
    few = (
        _FEW_BITS.get(str(image.tile[0][3]), 8) if image.format == "PNG" and image.tile and frames == 1 else 8
    )
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
        top=(1 << few) - 1 if few < 8 else 0,
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


def _pixels(image: Any, mode: str, out: NDArray[Any], profile: Any = None) -> None:
    """Pillow's image into ``out``, band by band: at once it would take two more copies of the whole, or three."""
    width, height = image.size
    if out.shape[:2] != (height, width):
        raise ValueError(f"an image of {width} x {height} pixels, where the header says {out.shape[1::-1]}")
    rows = max(1, _BAND_PIXELS // max(1, width))
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        if profile is not None:
            out[top : top + rows] = np.asarray(profile.apply(band))
        else:
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

    for theirs in _WORDS:  # said when it was looked at; many threads may decode, so nothing is caught here
        warnings.filterwarnings("ignore", f"(?s).*({theirs})", UserWarning, r"PIL\.")
    out = make(look.shape, np.dtype(look.dtype))
    with Image.open(path) as image:
        profile = _profiled(image)
        for number in range(look.frames):
            if number:
                image.seek(number)
            frame = out if look.frames == 1 else out[number]
            _pixels(image, look.mode, _lying(frame, look.orientation), profile)
    if look.top:  # grey of few bits, which Pillow spreads over 8
        out //= 255 // look.top
    return out


def _deep_color(path: Path, image: Any, frames: int) -> Look | None:
    """Of more than 8 bits per sample (PNG, AVIF), which Pillow would cut to 8; None when it is not."""
    width, height = image.size
    codec, samples, bits = "", 0, 16
    if image.format == "PNG" and image.tile:
        codec, samples = "png", _DEEP_PNG.get(str(image.tile[0][3]), 0)
        if samples and "transparency" in image.info:
            samples = 4  # one of its colours is
        if frames > 1 and image.mode.startswith("I"):
            samples = 1
    elif image.format == "AVIF" and (bits := _avif_bits(path)) > 8:
        codec, samples = "avif", _MODES[image.mode][2] or 1
    if not samples:
        return None
    if frames > 1 and codec == "png":
        raise SourceError(
            f"{path} cannot be read exactly: a film of 16-bit PNG",
            hint="take its pictures out: ffmpeg -i IN frame-%05d.png",
            path=str(path),
        )
    orientation = _orientation(image)
    plane = (width, height) if orientation in _SIDEWAYS else (height, width)
    shape = (*plane, samples) if samples > 1 else plane
    coloured = samples > 1 and bits < 16
    return Look(
        shape=(frames, *shape) if frames > 1 else shape,
        dtype="u2",
        axes=("t" if frames > 1 else "") + ("yxs" if samples > 1 else "yx"),
        engine="imagecodecs",
        codec=codec,
        decoding_bytes=path.stat().st_size
        + width * height * (_CODEC_BYTES["AVIF"] if codec == "avif" else 0),
        mode=codec,
        frames=frames,
        orientation=orientation,
        top=(1 << bits) - 1 if coloured else 0,
    )


def _avif_bits(path: Path) -> int:
    """Bits of a sample, by the deepest of the AV1 streams in the file; 8 when none says."""
    # the box av1C: marker and version, profile and level, then: tier, "high", "twelve", …
    flags = (found[1][0] for found in re.finditer(rb"av1C\x81.(.)", path.read_bytes(), re.DOTALL))
    return max((12 if flag & 0x20 else 10 if flag & 0x40 else 8 for flag in flags), default=8)


def _decode_deep(path: Path, look: Look, make: Make) -> NDArray[Any]:
    import imagecodecs

    data = path.read_bytes()
    decoders: dict[str, Callable[[bytes], NDArray[Any]]] = {
        "png": imagecodecs.png_decode,
        "avif": imagecodecs.avif_decode,
        "jpeg2k": imagecodecs.jpeg2k_decode,
        "jpeg2k-indices": lambda data: imagecodecs.jpeg2k_decode(codestream_of(data)),
        "rgbe": imagecodecs.rgbe_decode,
        "dds": lambda data: np.asarray(imagecodecs.dds_decode(data)),
    }
    image: NDArray[Any] = decoders[look.mode](data)
    if look.shape[-1] == 4 and image.shape[-1] == 2:  # grey and alpha, as colour and alpha
        image = image[..., [0, 0, 0, 1]]
    if look.orientation == 1:
        return image
    seen = make(look.shape, np.dtype(look.dtype))
    for number in range(look.frames):
        frame, stored = (seen, image) if look.frames == 1 else (seen[number], image[number])
        _lying(frame, look.orientation)[...] = stored
    return seen
